//! Convolution of images in (N, H, W, C) order, as a product of windows with a weight (O, kh·kw·C).

use super::super::adjoint::Step;
use super::super::args::{Args, Outputs};
use super::super::attribute::{Over, UnaryKind, Window};
use super::super::builder::Graph;
use super::super::error::GraphErrorKind as E;
use super::super::family::{Differentiable, Operation};
use super::super::tape::Tape;
use super::super::tensor::{Columns, Tensor};
use super::super::work::{Work, product};
use super::{Op, of};
use crate::shape::Shape;

/// What a convolution does to its sums.
#[derive(Clone, Copy, Debug, Default)]
pub struct ConvEpilogue {
    /// A factor for each output channel (O): with a bias, a batch norm whose statistics are fixed.
    pub scale: Option<Tensor>,
    /// An offset for each output channel (O).
    pub bias: Option<Tensor>,
    /// Added before the activation, in the shape of the result.
    pub residual: Option<Tensor>,
    /// Whether max(·, 0) is the last step.
    pub relu: bool,
}

impl Graph<'_> {
    /// act(s ⊙ (x ∗ W) + b + r): the sum over a window of x, zeros outside of the image. x (N, H, W, C), weight (O, kh·kw·C) in the order (row, column,
    /// channel) of a window; result (N, Ho, Wo, O) with [`Window::extents`].
    #[track_caller]
    pub fn conv2d(&self, x: Tensor, w: Tensor, window: Window, epilogue: ConvEpilogue) -> Tensor {
        let ConvEpilogue { scale, bias, residual, relu } = epilogue;
        let [y, ..] = self.push(Op::Conv2d { window, relu }, &[x.into(), w.into(), scale.into(), bias.into(), residual.into()]);
        y
    }
}

/// The shape (N, Ho, Wo, channels) of the windows of x, input `i`.
pub(super) fn windows<F: From<E>>(args: &Args<'_, F>, i: usize, window: Window, channels: usize) -> Result<Shape, F> {
    let x = args.real(i)?.shape;
    if x.rank() != 4 {
        let expected = Shape::new(&[1, x.rows(), 1, x.cols()]).ok_or(F::from(E::ShapeTooLarge))?;
        return Err(F::from(E::Shape { input: i as u8, found: x, expected }));
    }
    let [height, width] =
        window.extents([x.dim(1), x.dim(2)]).ok_or(F::from(E::Window { height: x.dim(1) as u32, width: x.dim(2) as u32 }))?;
    Shape::new(&[x.dim(0), height, width, channels]).ok_or(F::from(E::ShapeTooLarge))
}

/// Checks that the weight, input `i`, has a column for each value of a window of `channels`; returns its shape.
fn weight<F: From<E>>(args: &Args<'_, F>, i: usize, window: Window, channels: usize) -> Result<Shape, F> {
    let w = args.real(i)?.shape;
    let expected = Shape::new(&[w.rows(), window.taps().saturating_mul(channels)]).ok_or(F::from(E::ShapeTooLarge))?;
    if w != expected {
        return Err(F::from(E::Shape { input: i as u8, found: w, expected }));
    }
    Ok(w)
}

impl Operation for of::Conv2d {
    fn shapes<F: From<E>>(self, args: &Args<'_, F>) -> Result<Outputs, F> {
        let w = weight(args, 1, self.window, args.real(0)?.shape.cols())?;
        let y = windows(args, 0, self.window, w.rows())?;
        let channels = Shape::new(&[w.rows()]).ok_or(F::from(E::ShapeTooLarge))?;
        args.optional_shape(2, channels)?;
        args.optional_shape(3, channels)?;
        args.optional_shape(4, y)?;
        Ok([Some(y), None, None])
    }

    fn flops(self, work: &Work<'_>) -> u64 {
        product(&[2, work.node.output_shape(0).rows(), work.input_len(1)])
    }
}

impl Differentiable for of::Conv2d {
    fn gradient(self, tape: &mut Tape<'_>, step: &Step) -> Result<(), E> {
        let dy = tape.upstream(step, 0)?;
        let [x, w, scale, bias, residual] = [0, 1, 2, 3, 4].map(|i| step.input(i));
        let dpre = if self.relu {
            // The slope of max(·, 0) is that at its result.
            let y = tape.saved(step.output(0))?;
            tape.one(Op::UnaryBackward { kind: UnaryKind::Relu, a: 0.0, b: 0.0 }, &[dy, y])?
        } else {
            dy
        };
        for (input, over) in [(residual, Over::Same), (bias, Over::Row)] {
            if input.is_some() {
                tape.contribute_reduced(input, dpre, over)?;
            }
        }
        let wanted = [0, 1, 2].map(|i| tape.wants(step, i));
        if wanted == [false; 3] {
            return Ok(());
        }
        let [wants_x, wants_w, wants_scale] = wanted;
        let addend = if wants_x { tape.addend(x)? } else { Tensor::NONE };
        let saved = tape.saved(x)?;
        let w_saved = tape.saved(w)?;
        // x is an input without dW as well: the shape of dx is taken from it.
        let inputs = [dpre, saved, w_saved, scale, addend].map(Columns::from);
        let op = Op::Conv2dBackward { window: self.window };
        let [dx, dw, dscale] = tape.push(op, &inputs, [wants_x, wants_w, wants_scale])?;
        tape.replace(x, dx)?;
        tape.settle(w, dw)?;
        tape.settle(scale, dscale)
    }
}

impl Operation for of::Conv2dBackward {
    fn shapes<F: From<E>>(self, args: &Args<'_, F>) -> Result<Outputs, F> {
        let x = args.real(1)?.shape;
        let w = weight(args, 2, self.window, x.cols())?;
        args.expect(0, args.real(0)?, windows(args, 1, self.window, w.rows())?)?;
        let channels = Shape::new(&[w.rows()]).ok_or(F::from(E::ShapeTooLarge))?;
        args.optional_shape(3, channels)?;
        args.optional_shape(4, x)?;
        Ok([Some(x), Some(w), Some(channels)])
    }

    fn flops(self, work: &Work<'_>) -> u64 {
        let one = product(&[2, work.node.input_shape(0).rows(), work.input_len(2)]);
        // dW and dscale come from the same product.
        one.saturating_mul(u64::from(work.wants(0)) + u64::from(work.wants(1) || work.wants(2)))
    }
}
