//! Broadcasts and reductions.

use super::super::adjoint::Step;
use super::super::args::{Args, Outputs, reduced, shape_of};
use super::super::attribute::{Over, ReduceKind};
use super::super::builder::Graph;
use super::super::error::GraphErrorKind as E;
use super::super::family::{Differentiable, Operation};
use super::super::tape::Tape;
use super::super::tensor::Tensor;
use super::super::work::{Work, product};
use super::{Op, of};
use crate::shape::Shape;

impl Graph<'_> {
    /// Broadcasts x to shape `to`, which is the result's: x is one element, a row (C), a column (rows), or an item of a batch, as [`Over`] specifies.
    #[track_caller]
    pub fn broadcast(&self, x: Tensor, over: Over, to: Shape) -> Tensor {
        let (dims, rank) = to.padded();
        let [y, ..] = self.push(Op::Broadcast { over, dims, rank }, &[x.into()]);
        y
    }

    /// Sum or maximum over the dimensions of `over`. x (…, C); result: a scalar (1), a row (C), a column (…) or an item of the batch.
    #[track_caller]
    pub fn reduce(&self, kind: ReduceKind, over: Over, x: Tensor) -> Tensor {
        let [y, ..] = self.push(Op::Reduce { kind, over }, &[x.into()]);
        y
    }

    /// The sum of all elements; result a scalar.
    #[track_caller]
    pub fn sum(&self, x: Tensor) -> Tensor {
        self.reduce(ReduceKind::Sum, Over::Scalar, x)
    }
}

impl Operation for of::Broadcast {
    fn shapes<F: From<E>>(self, args: &Args<'_, F>) -> Result<Outputs, F> {
        let out = shape_of(self.dims, self.rank)?;
        args.spread(0, self.over, out)?;
        Ok([Some(out), None, None])
    }

    fn flops(self, _: &Work<'_>) -> u64 {
        0
    }
}

impl Differentiable for of::Broadcast {
    fn gradient(self, tape: &mut Tape<'_>, step: &Step) -> Result<(), E> {
        let dy = tape.upstream(step, 0)?;
        tape.contribute_reduced(step.input(0), dy, self.over)
    }
}

impl Operation for of::Reduce {
    fn shapes<F: From<E>>(self, args: &Args<'_, F>) -> Result<Outputs, F> {
        Ok([Some(reduced(args.real(0)?.shape, self.over)?), None, None])
    }

    fn flops(self, work: &Work<'_>) -> u64 {
        work.input_len(0) as u64
    }
}

impl Differentiable for of::Reduce {
    fn gradient(self, tape: &mut Tape<'_>, step: &Step) -> Result<(), E> {
        let over = self.over;
        let dy = tape.upstream(step, 0)?;
        let x = step.input(0);
        let dx = match self.kind {
            ReduceKind::Sum => {
                let (dims, rank) = tape.tensor(x)?.shape.padded();
                tape.one(Op::Broadcast { over, dims, rank }, &[dy])?
            }
            ReduceKind::Max => {
                let saved = tape.saved(x)?;
                let y = tape.saved(step.output(0))?;
                tape.one(Op::ReduceMaxBackward { over }, &[dy, saved, y])?
            }
        };
        tape.contribute(x, dx)
    }
}

impl Operation for of::ReduceMaxBackward {
    fn shapes<F: From<E>>(self, args: &Args<'_, F>) -> Result<Outputs, F> {
        let x = args.real(1)?.shape;
        let small = reduced(x, self.over)?;
        args.expect(0, args.real(0)?, small)?;
        args.expect(2, args.real(2)?, small)?;
        Ok([Some(x), None, None])
    }

    fn flops(self, work: &Work<'_>) -> u64 {
        product(&[2, work.output_len(0)])
    }
}
