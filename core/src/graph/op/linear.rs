//! Linear layers: y = act(x Wᵀ + b) + r.
//!
//! The residual is in the output before the product is added, by reuse of its memory or by a copy. Both give the same bits, and so all recomputation
//! policies do. Without recomputation the forward node stores the derivative of its activation instead of the pre-activation: f and f′ share their
//! exponential, and the gradient is one product; both variants give the same bits. dX reuses the memory of x, since kernels compute dW before dX: at
//! the memory peak of a GPT's backward pass x is the widest tensor, the hidden layer after its activation. A layer with a frozen weight does not keep
//! x, which only dW reads.

use super::super::adjoint::Step;
use super::super::args::{Args, Outputs};
use super::super::attribute::{Activation, BinaryKind, Over};
use super::super::builder::Graph;
use super::super::choice::Recompute;
use super::super::error::GraphErrorKind as E;
use super::super::family::{Cheap, Differentiable, Operation};
use super::super::record::NodeRecord;
use super::super::tape::Tape;
use super::super::tensor::{Columns, Tensor};
use super::super::work::Work;
use super::{Op, of};
use crate::shape::Shape;

impl Graph<'_> {
    /// x Wᵀ + b. x (…, K), W (N, K), b (N); result (…, N).
    #[track_caller]
    pub fn linear(&self, x: Tensor, w: Tensor, b: Option<Tensor>) -> Tensor {
        self.linear_with(x, w, b, Activation::None, None)
    }

    /// act(x Wᵀ + b) + residual. x (…, K), W (N, K), b (N), residual (…, N); result (…, N). An absent b or residual counts as 0.
    #[track_caller]
    pub fn linear_with(
        &self,
        x: Tensor,
        w: Tensor,
        b: Option<Tensor>,
        activation: Activation,
        residual: Option<Tensor>,
    ) -> Tensor {
        let [y, ..] = self.push(Op::Linear { activation, slope: false }, &[x.into(), w.into(), b.into(), residual.into()]);
        y
    }
}

impl Operation for of::Linear {
    fn shapes<F: From<E>>(self, args: &Args<'_, F>) -> Result<Outputs, F> {
        let x = args.real(0)?;
        let w = args.weight(1)?;
        if w.shape.rank() != 2 || w.shape.cols() != x.shape.cols() || x.shape.rank() == 0 {
            let expected = Shape::new(&[w.shape.rows(), x.shape.cols()]).ok_or(F::from(E::ShapeTooLarge))?;
            return Err(F::from(E::Shape { input: 1, found: w.shape, expected }));
        }
        let n = w.shape.rows();
        let y = x.shape.with_cols(n).ok_or(F::from(E::ShapeTooLarge))?;
        args.optional_shape(2, Shape::new(&[n]).ok_or(F::from(E::ShapeTooLarge))?)?;
        args.optional_shape(3, y)?;
        Ok([Some(y), (self.activation != Activation::None).then_some(y), None])
    }

    fn flops(self, work: &Work<'_>) -> u64 {
        work.product_flops([0, 1])
    }
}

impl Differentiable for of::Linear {
    fn gradient(self, tape: &mut Tape<'_>, step: &Step) -> Result<(), E> {
        let dy = tape.upstream(step, 0)?;
        let [x, w, b, residual] = [0, 1, 2, 3].map(|i| step.input(i));
        if residual.is_some() {
            tape.contribute(residual, dy)?;
        }
        let wanted = [0, 1, 2].map(|i| tape.wants(step, i));
        if wanted == [false; 3] {
            return Ok(());
        }
        let dpre = match self.activation.unary() {
            Some(_) if tape.recompute == Recompute::None => {
                // The forward node stores f′ with f: they share their exponential, which f′ alone would compute again.
                tape.rewrite(step.index, Op::Linear { activation: self.activation, slope: true });
                tape.one(Op::Binary { kind: BinaryKind::Mul, over: Over::Same }, &[dy, step.output(1)])?
            }
            Some(kind) => {
                let pre = tape.saved(step.output(1))?;
                tape.one(Op::UnaryBackward { kind, a: 0.0, b: 0.0 }, &[dy, pre])?
            }
            None => dy,
        };
        let [wants_x, wants_w, _] = wanted;
        let addend = if wants_x { tape.addend(x)? } else { Tensor::NONE };
        // Only the gradient of the weight reads x: with a frozen weight x need not be kept until here.
        let saved = if wants_w { tape.saved(x)? } else { Tensor::NONE };
        let w_saved = tape.saved(w)?;
        let [dx, dw, db] = tape.push(Op::LinearBackward, &[dpre, saved, w_saved, addend].map(Columns::from), wanted)?;
        tape.replace(x, dx)?;
        tape.settle(w, dw)?;
        tape.settle(b, db)
    }
}

impl Cheap for of::Linear {
    /// The activation alone, from its argument.
    fn again(self, tape: &mut Tape<'_>, node: &NodeRecord) -> Result<Option<Tensor>, E> {
        match self.activation.unary().filter(|_| !node.input(3).is_some()) {
            Some(kind) => Ok(Some(tape.one(Op::Unary { kind, a: 0.0, b: 0.0 }, &[node.output(1)])?)),
            None => Ok(None),
        }
    }
}

impl Operation for of::LinearBackward {
    fn shapes<F: From<E>>(self, args: &Args<'_, F>) -> Result<Outputs, F> {
        let (dy, x, w) = (args.real(0)?, args.optional(1)?, args.weight(2)?);
        let dx = match x {
            Some(x) => x.shape,
            None => dy.shape.with_cols(w.shape.cols()).ok_or(F::from(E::ShapeTooLarge))?,
        };
        args.expect(0, dy, dx.with_cols(w.shape.rows()).ok_or(F::from(E::ShapeTooLarge))?)?;
        args.optional_shape(1, dx.with_cols(w.shape.cols()).ok_or(F::from(E::ShapeTooLarge))?)?;
        args.optional_shape(3, dx)?;
        Ok([Some(dx), x.map(|_| w.shape), Shape::new(&[w.shape.rows()])])
    }

    fn flops(self, work: &Work<'_>) -> u64 {
        work.product_flops([0, 2]).saturating_mul(work.wants_of_two(0))
    }

    fn bytes(self, work: &Work<'_>) -> u64 {
        let unread = [(1, !work.wants(1)), (2, !work.wants(0))];
        unread.iter().filter(|(_, unread)| *unread).fold(work.all(), |sum, (i, _)| sum.saturating_sub(work.read(*i)))
    }
}
