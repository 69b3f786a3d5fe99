//! Building blocks of gradients: upstream gradients, contributions to gradients, and small nodes.

use super::attribute::{BinaryKind, Over, ReduceKind};
use super::error::GraphErrorKind as E;
use super::op::{MAX_INPUTS, MAX_OUTPUTS, Op};
use super::record::NodeRecord;
use super::tape::Tape;
use super::tensor::{Columns, Role, Tensor, TensorRecord};
use crate::shape::Shape;

/// A forward node whose gradient is being built.
pub(super) struct Step {
    pub(super) index: usize,
    pub(super) node: NodeRecord,
}

impl Step {
    /// Input `i`.
    pub(super) fn input(&self, i: usize) -> Tensor {
        self.node.input(i)
    }

    /// Output `i`.
    pub(super) fn output(&self, i: usize) -> Tensor {
        self.node.output(i)
    }
}

impl Tape<'_> {
    /// Whether input `i` requires a gradient.
    pub(super) fn wants(&self, step: &Step, i: usize) -> bool {
        self.tensor(step.input(i)).is_ok_and(|r| r.requires_grad)
    }

    /// The gradient of output `i`, spread to its full shape.
    pub(super) fn upstream(&mut self, step: &Step, i: usize) -> Result<Tensor, E> {
        let record = *self.tensor(step.output(i))?;
        self.spread(record.successor, record.shape)
    }

    /// `g` broadcast to shape `to` if it has one element.
    pub(super) fn spread(&mut self, g: Tensor, to: Shape) -> Result<Tensor, E> {
        if self.tensor(g)?.shape.len() == to.len() {
            return Ok(g);
        }
        let (dims, rank) = to.padded();
        self.one(Op::Broadcast { over: Over::Scalar, dims, rank }, &[g])
    }

    /// `t` reshaped to `to`, which has as many elements.
    pub(super) fn reshaped(&mut self, t: Tensor, to: Shape) -> Result<Tensor, E> {
        if self.tensor(t)?.shape == to {
            return Ok(t);
        }
        let (dims, rank) = to.padded();
        self.one(Op::Reshape { dims, rank }, &[t])
    }

    /// Appends a node of which output 0 is wanted.
    pub(super) fn one(&mut self, op: Op, inputs: &[Tensor]) -> Result<Tensor, E> {
        let mut columns = [Columns::from(Tensor::NONE); MAX_INPUTS];
        for (to, &from) in columns.iter_mut().zip(inputs) {
            *to = from.into();
        }
        let mut wanted = [false; MAX_OUTPUTS];
        if let Some(first) = wanted.first_mut() {
            *first = true;
        }
        let [y, ..] = self.push(op, columns.get(..inputs.len()).unwrap_or(&[]), wanted)?;
        Ok(y)
    }

    /// Adds `g` to the gradient of `t`, if `t` requires one.
    pub(super) fn contribute(&mut self, t: Tensor, g: Tensor) -> Result<(), E> {
        let record = *self.tensor(t)?;
        if !record.requires_grad {
            return Ok(());
        }
        if self.in_grads(t) {
            let g = self.spread(g, record.shape)?;
            let out = self.one(Op::AccumulateGrad, &[g])?;
            return self.make_grad(t, out);
        }
        let sum = if record.successor.is_some() {
            let old = self.spread(record.successor, record.shape)?;
            let new = self.spread(g, record.shape)?;
            self.one(Op::Binary { kind: BinaryKind::Add, over: Over::Same }, &[old, new])?
        } else {
            g
        };
        self.tensor_mut(t)?.successor = sum;
        Ok(())
    }

    /// Adds `g`, if it is present, to the gradient of `t`.
    pub(super) fn contribute_if(&mut self, t: Tensor, g: Tensor) -> Result<(), E> {
        if g.is_some() { self.contribute(t, g) } else { Ok(()) }
    }

    /// Adds the sum of `g` over the broadcast dimensions of `over` to the gradient of `t`, in the shape of `t`.
    pub(super) fn contribute_reduced(&mut self, t: Tensor, g: Tensor, over: Over) -> Result<(), E> {
        let record = *self.tensor(t)?;
        if !record.requires_grad {
            return Ok(());
        }
        let reduced = if over == Over::Same { g } else { self.one(Op::Reduce { kind: ReduceKind::Sum, over }, &[g])? };
        let shaped = self.reshaped(reduced, record.shape)?;
        self.contribute(t, shaped)
    }

    /// Makes output `out` of a node that can accumulate a contribution to parameter `t`, or adds it to the gradient of an activation.
    pub(super) fn settle(&mut self, t: Tensor, out: Tensor) -> Result<(), E> {
        if !out.is_some() {
            return Ok(());
        }
        if self.in_grads(t) { self.make_grad(t, out) } else { self.contribute(t, out) }
    }

    /// The gradient of `t` so far, for an operation that adds to it; afterwards [`Tape::replace`] sets the sum.
    pub(super) fn addend(&mut self, t: Tensor) -> Result<Tensor, E> {
        let record = *self.tensor(t)?;
        if !record.requires_grad || record.role == Role::Trainable || !record.successor.is_some() {
            return Ok(Tensor::NONE);
        }
        self.spread(record.successor, record.shape)
    }

    /// Makes `out`, to which [`Tape::addend`] was added, the gradient of `t`.
    pub(super) fn replace(&mut self, t: Tensor, out: Tensor) -> Result<(), E> {
        if !out.is_some() {
            return Ok(());
        }
        let record = self.tensor_mut(t)?;
        if record.role == Role::Trainable {
            return self.contribute(t, out);
        }
        record.successor = out;
        Ok(())
    }

    /// Whether `t` has its value before node `index` runs.
    pub(super) fn is_known_before(&self, t: Tensor, index: usize) -> Result<bool, E> {
        let TensorRecord { producer, late, .. } = *self.tensor(t)?;
        Ok(!late && (producer == u16::MAX || usize::from(producer) < index))
    }

    /// Whether the gradient of `t` has its place in the gradient buffer.
    pub(super) fn in_grads(&self, t: Tensor) -> bool {
        self.updates.is_none() && self.tensor(t).is_ok_and(|r| r.role == Role::Trainable)
    }

    fn make_grad(&mut self, param: Tensor, out: Tensor) -> Result<(), E> {
        let TensorRecord { index, offset, .. } = *self.tensor(param)?;
        let record = self.tensor_mut(out)?;
        record.role = Role::Grad;
        (record.index, record.offset) = (index, offset);
        self.tensor_mut(param)?.successor = out;
        Ok(())
    }
}
