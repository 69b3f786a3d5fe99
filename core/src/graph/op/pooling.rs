//! The maximum of windows of images in (N, H, W, C) order.

use super::super::adjoint::Step;
use super::super::args::{Args, Outputs};
use super::super::attribute::Window;
use super::super::builder::Graph;
use super::super::error::GraphErrorKind as E;
use super::super::family::{Differentiable, Operation};
use super::super::tape::Tape;
use super::super::tensor::Tensor;
use super::super::work::{Work, product};
use super::convolution::windows;
use super::{Op, of};

impl Graph<'_> {
    /// The maximum of every window and channel; places outside of the image do not count. x (N, H, W, C); result (N, Ho, Wo, C).
    #[track_caller]
    pub fn max_pool(&self, x: Tensor, window: Window) -> Tensor {
        let [y, ..] = self.push(Op::MaxPool { window }, &[x.into()]);
        y
    }
}

/// The comparisons of a pass over all windows of `outputs` elements.
fn comparisons(window: Window, outputs: usize) -> u64 {
    product(&[window.taps(), outputs])
}

impl Operation for of::MaxPool {
    fn shapes<F: From<E>>(self, args: &Args<'_, F>) -> Result<Outputs, F> {
        Ok([Some(windows(args, 0, self.window, args.real(0)?.shape.cols())?), None, None])
    }

    fn flops(self, work: &Work<'_>) -> u64 {
        comparisons(self.window, work.output_len(0))
    }
}

impl Differentiable for of::MaxPool {
    fn gradient(self, tape: &mut Tape<'_>, step: &Step) -> Result<(), E> {
        let dy = tape.upstream(step, 0)?;
        let x = tape.saved(step.input(0))?;
        let dx = tape.one(Op::MaxPoolBackward { window: self.window }, &[dy, x])?;
        tape.contribute(step.input(0), dx)
    }
}

impl Operation for of::MaxPoolBackward {
    fn shapes<F: From<E>>(self, args: &Args<'_, F>) -> Result<Outputs, F> {
        let x = args.real(1)?.shape;
        args.expect(0, args.real(0)?, windows(args, 1, self.window, x.cols())?)?;
        Ok([Some(x), None, None])
    }

    fn flops(self, work: &Work<'_>) -> u64 {
        comparisons(self.window, work.input_len(0))
    }
}
