//! The head of a language model with its loss: cross-entropy of softmax(x Wᵀ + b), without materialising the logits of all rows.

use core::panic::Location;

use super::super::adjoint::Step;
use super::super::args::{Args, Outputs};
use super::super::builder::Graph;
use super::super::error::GraphErrorKind as E;
use super::super::family::{Differentiable, Operation};
use super::super::tape::Tape;
use super::super::tensor::{Columns, Tensor, TensorRecord};
use super::super::work::Work;
use super::{Op, of};
use crate::shape::Shape;

impl Graph<'_> {
    /// Cross-entropy of softmax(x Wᵀ + b) against targets, per row, in nats; 0 for a negative target (PyTorch's `ignore_index`). The logits of all
    /// rows are never in memory together. x (…, C), W (V, C), b (V), targets (…) i32; result (…).
    #[track_caller]
    pub fn head_loss(&self, x: Tensor, w: Tensor, b: Option<Tensor>, targets: Tensor, smoothing: f64) -> Tensor {
        self.head(x, w, b, targets, smoothing, false)[0]
    }

    /// [`Self::head_loss`] and the entropy −Σ p ln p of softmax(x Wᵀ + b) per row, in nats, for every row. Both results (…).
    #[track_caller]
    pub fn head_loss_and_entropy(&self, x: Tensor, w: Tensor, b: Option<Tensor>, targets: Tensor) -> [Tensor; 2] {
        let [losses, _, entropy] = self.head(x, w, b, targets, 0.0, true);
        [losses, entropy]
    }

    /// Log-probability `ln softmax(x Wᵀ + b)[target]` per row, in nats; 0 for a negative target. x (…, C), W (V, C), b (V), targets (…) i32; result
    /// (…).
    #[track_caller]
    pub fn token_logprob(&self, x: Tensor, w: Tensor, b: Option<Tensor>, targets: Tensor) -> Tensor {
        self.scale(self.head_loss(x, w, b, targets, 0.0), -1.0)
    }

    #[track_caller]
    fn head(&self, x: Tensor, w: Tensor, b: Option<Tensor>, targets: Tensor, smoothing: f64, entropy: bool) -> [Tensor; 3] {
        let inputs = [x.into(), w.into(), b.into(), targets.into()];
        let location = Location::caller();
        let node = self.with(location, |tape| tape.push(Op::HeadLoss { smoothing }, &inputs, [true, true, entropy]));
        node.unwrap_or([Tensor::NONE; 3])
    }
}

/// Checks x, W, b and the targets; returns the shape of the head's per-row values.
fn rows<F: From<E>>(args: &Args<'_, F>, smoothing: f64) -> Result<Shape, F> {
    if !(0.0..1.0).contains(&smoothing) {
        return Err(F::from(E::Attribute { name: "smoothing", value: smoothing }));
    }
    let (x, w) = (args.real(0)?, args.weight(1)?);
    if w.shape.rank() != 2 || w.shape.cols() != x.shape.cols() {
        let expected = Shape::new(&[w.shape.rows(), x.shape.cols()]).ok_or(F::from(E::ShapeTooLarge))?;
        return Err(F::from(E::Shape { input: 1, found: w.shape, expected }));
    }
    args.optional_shape(2, Shape::new(&[w.shape.rows()]).ok_or(F::from(E::ShapeTooLarge))?)?;
    let rows = x.shape.without_cols();
    args.expect(3, args.selectors(3, w.shape.rows(), true)?, rows)?;
    Ok(rows)
}

/// Checks the upstream gradient, input `i`.
fn upstream<F: From<E>>(args: &Args<'_, F>, i: usize, rows: Shape) -> Result<(), F> {
    let arg = args.real(i)?;
    if arg.shape.len() == 1 { Ok(()) } else { args.expect(i, arg, rows) }
}

/// The shapes of dx, dW, db, after checking everything but the upstream gradients.
fn gradients<F: From<E>>(args: &Args<'_, F>, rows: Shape) -> Result<Outputs, F> {
    args.expect(5, args.real(5)?, rows)?;
    let w = args.weight(1)?.shape;
    Ok([Some(args.real(0)?.shape), Some(w), Shape::new(&[w.rows()])])
}

impl Operation for of::HeadLoss {
    fn shapes<F: From<E>>(self, args: &Args<'_, F>) -> Result<Outputs, F> {
        let rows = rows(args, self.smoothing)?;
        Ok([Some(rows), Some(rows), Some(rows)])
    }

    fn flops(self, work: &Work<'_>) -> u64 {
        work.product_flops([0, 1])
    }
}

impl Differentiable for of::HeadLoss {
    fn gradient(self, tape: &mut Tape<'_>, step: &Step) -> Result<(), E> {
        let [x, w, b, targets] = [0, 1, 2, 3].map(|i| step.input(i));
        let losses = *tape.tensor(step.output(0))?;
        let lse = *tape.tensor(step.output(1))?;
        let upstream = losses.successor;
        let is_fusible = !b.is_some() && !lse.pinned && !step.output(2).is_some();
        if is_fusible && tape.is_known_before(upstream, step.index)? {
            let [dx, dw] = self.fuse(tape, step, upstream)?;
            tape.contribute_if(x, dx)?;
            return tape.settle(w, dw);
        }
        let wanted = [0, 1, 2].map(|i| tape.wants(step, i));
        let saved = tape.saved(x)?;
        let of_entropy = if step.output(2).is_some() { tape.tensor(step.output(2))?.successor } else { Tensor::NONE };
        let inputs = [saved, w, b, targets, upstream, step.output(1), of_entropy].map(Columns::from);
        let smoothing = self.smoothing;
        let op = if of_entropy.is_some() { Op::HeadEntropyBackward { smoothing } } else { Op::HeadLossBackward { smoothing } };
        let [dx, dw, db] = tape.push(op, &inputs, wanted)?;
        tape.contribute_if(x, dx)?;
        tape.settle(w, dw)?;
        tape.settle(b, db)
    }
}

impl of::HeadLoss {
    /// Replaces the forward node by one that computes losses and gradients in the same pass.
    fn fuse(self, tape: &mut Tape<'_>, step: &Step, upstream: Tensor) -> Result<[Tensor; 2], E> {
        let mut gradients = [Tensor::NONE; 2];
        for (i, gradient) in gradients.iter_mut().enumerate() {
            if tape.wants(step, i) {
                let shape = tape.tensor(step.input(i))?.shape;
                *gradient = tape.add_tensor(TensorRecord { shape, producer: step.index as u16, ..TensorRecord::EMPTY })?;
            }
        }
        if let Some(node) = tape.rewrite(step.index, Op::HeadLossTrain { smoothing: self.smoothing }) {
            let [dx, dw] = gradients;
            node.outputs = [step.output(0), dx, dw];
            if let Some(input) = node.inputs.get_mut(4) {
                *input = upstream;
            }
        }
        Ok(gradients)
    }
}

impl Operation for of::HeadLossTrain {
    fn shapes<F: From<E>>(self, args: &Args<'_, F>) -> Result<Outputs, F> {
        let rows = rows(args, self.smoothing)?;
        upstream(args, 4, rows)?;
        Ok([Some(rows), Some(args.real(0)?.shape), Some(args.weight(1)?.shape)])
    }

    fn flops(self, work: &Work<'_>) -> u64 {
        work.product_flops([0, 1]).saturating_mul(1 + work.wants_of_two(1))
    }
}

impl Operation for of::HeadLossBackward {
    fn shapes<F: From<E>>(self, args: &Args<'_, F>) -> Result<Outputs, F> {
        let rows = rows(args, self.smoothing)?;
        upstream(args, 4, rows)?;
        gradients(args, rows)
    }

    fn flops(self, work: &Work<'_>) -> u64 {
        // The logits again, and the products of the gradients.
        work.product_flops([0, 1]).saturating_mul(1 + work.wants_of_two(0))
    }
}

impl Operation for of::HeadEntropyBackward {
    fn shapes<F: From<E>>(self, args: &Args<'_, F>) -> Result<Outputs, F> {
        let rows = rows(args, self.smoothing)?;
        // Without a gradient of the losses there is that of the entropy alone.
        if args.get(4).is_some() {
            upstream(args, 4, rows)?;
        }
        upstream(args, 6, rows)?;
        gradients(args, rows)
    }

    fn flops(self, work: &Work<'_>) -> u64 {
        work.product_flops([0, 1]).saturating_mul(1 + work.wants_of_two(0))
    }
}
