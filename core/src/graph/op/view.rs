//! Shapes of tensors, and tensors of a shape.

use super::super::adjoint::Step;
use super::super::args::{Args, Outputs, shape_of};
use super::super::builder::Graph;
use super::super::error::GraphErrorKind as E;
use super::super::family::{Differentiable, Operation};
use super::super::tape::Tape;
use super::super::tensor::Tensor;
use super::super::work::Work;
use super::{Op, of};
use crate::shape::{MAX_RANK, Shape};

impl Graph<'_> {
    /// The same elements with the extents `to`; no work at run time.
    #[track_caller]
    pub fn reshape(&self, x: Tensor, to: &[usize]) -> Tensor {
        let (dims, rank) = padded(to);
        let [y, ..] = self.push(Op::Reshape { dims, rank }, &[x.into()]);
        y
    }

    /// A tensor with the extents `to`, filled with one value.
    #[track_caller]
    pub fn constant(&self, value: f64, to: &[usize]) -> Tensor {
        let (dims, rank) = padded(to);
        let [y, ..] = self.push(Op::Constant { value, dims, rank }, &[]);
        y
    }
}

/// Extents as attributes; an invalid shape gets a rank that the shape rule refuses.
fn padded(extents: &[usize]) -> ([u32; MAX_RANK], u32) {
    Shape::new(extents).map_or(([1; MAX_RANK], u32::MAX), |shape| shape.padded())
}

impl Operation for of::Reshape {
    fn shapes<F: From<E>>(self, args: &Args<'_, F>) -> Result<Outputs, F> {
        let out = shape_of(self.dims, self.rank)?;
        let x = args.any(0)?;
        if out.len() != x.shape.len() {
            return Err(F::from(E::Shape { input: 0, found: x.shape, expected: out }));
        }
        Ok([Some(out), None, None])
    }

    fn flops(self, _: &Work<'_>) -> u64 {
        0
    }

    fn bytes(self, _: &Work<'_>) -> u64 {
        0
    }
}

impl Differentiable for of::Reshape {
    fn gradient(self, tape: &mut Tape<'_>, step: &Step) -> Result<(), E> {
        let dy = tape.upstream(step, 0)?;
        let shape = tape.tensor(step.input(0))?.shape;
        let dx = tape.reshaped(dy, shape)?;
        tape.contribute(step.input(0), dx)
    }
}

impl Operation for of::Constant {
    fn shapes<F: From<E>>(self, _: &Args<'_, F>) -> Result<Outputs, F> {
        Ok([Some(shape_of(self.dims, self.rank)?), None, None])
    }

    fn flops(self, _: &Work<'_>) -> u64 {
        0
    }
}
