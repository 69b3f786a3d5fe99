//! The tables of a graph under construction.
//!
//! The tape is below the families of operations in the import order but needs their rules, which it receives as function pointers.

use super::args::{Arg, Args, Outputs};
use super::choice::{HyperInput, Recompute, Rule};
use super::error::{GraphError, GraphErrorKind as E};
use super::op::{Effect, InPlace, MAX_INPUTS, MAX_OUTPUTS, Op};
use super::program::ProgramInfo;
use super::record::NodeRecord;
use super::tensor::{Columns, Role, Tensor, TensorRecord};
use crate::params::Params;

/// The shapes of the outputs of an operation, or the error in its inputs.
pub(super) type Infer = fn(&Op, &Args<'_, E>) -> Result<Outputs, E>;

/// Computes output 0 of a node again if that is cheap.
pub(super) type Again = fn(&Op, &mut Tape<'_>, &NodeRecord) -> Result<Option<Tensor>, E>;

/// The tables while they are filled.
pub(super) struct Tape<'a> {
    pub(super) infer: Infer,
    /// Provided by the backward pass, so that a graph without one does not link it.
    pub(super) again: Option<Again>,
    pub(super) params: Params<'a>,
    pub(super) tensors: &'a mut [TensorRecord],
    pub(super) nodes: &'a mut [NodeRecord],
    pub(super) info: ProgramInfo,
    pub(super) backward_done: bool,
    pub(super) update_begun: bool,
    /// The recomputation policy of the backward pass.
    pub(super) recompute: Recompute,
    /// The updates in the backward pass, with [`super::Graph::backward_updating`].
    pub(super) updates: Option<Updates>,
    pub(super) sites: u32,
    /// The operation that errors name: the one being appended, or the one whose gradient is.
    pub(super) operation: Option<&'static str>,
    pub(super) error: Option<GraphError>,
}

/// The updates that a backward pass makes.
#[derive(Clone, Copy)]
pub(super) struct Updates {
    pub(super) rule: Rule,
    pub(super) hyper: HyperInput,
    /// Whether the backward pass is being appended.
    pub(super) open: bool,
}

impl Tape<'_> {
    pub(super) fn tensor(&self, t: Tensor) -> Result<&TensorRecord, E> {
        self.tensors.get(..self.info.tensors.into()).and_then(|all| all.get(t.index())).ok_or(E::UnknownTensor)
    }

    pub(super) fn tensor_mut(&mut self, t: Tensor) -> Result<&mut TensorRecord, E> {
        self.tensors.get_mut(..self.info.tensors.into()).and_then(|all| all.get_mut(t.index())).ok_or(E::UnknownTensor)
    }

    pub(super) fn add_tensor(&mut self, mut record: TensorRecord) -> Result<Tensor, E> {
        let t = Tensor(self.info.tensors);
        let slot = self.tensors.get_mut(t.index()).filter(|_| t.is_some()).ok_or(E::TooManyTensors)?;
        if !record.root.is_some() {
            record.root = t;
        }
        *slot = record;
        self.info.tensors = self.info.tensors.saturating_add(1);
        Ok(t)
    }

    pub(super) fn node(&self, i: usize) -> Option<NodeRecord> {
        self.nodes.get(..self.info.nodes.into())?.get(i).copied()
    }

    /// Replaces the operation of node `i`, where a backward pass makes the forward pass compute more.
    pub(super) fn rewrite(&mut self, i: usize, op: Op) -> Option<&mut NodeRecord> {
        let node = self.nodes.get_mut(..self.info.nodes.into())?.get_mut(i)?;
        node.opcode = op.opcode();
        node.attributes = op.attributes();
        Some(node)
    }

    /// Appends a node with the outputs that are `wanted`.
    pub(super) fn push(&mut self, op: Op, inputs: &[Columns], wanted: [bool; MAX_OUTPUTS]) -> Result<[Tensor; MAX_OUTPUTS], E> {
        let around = self.operation.replace(op.name());
        let outputs = self.append(op, inputs, wanted)?;
        self.operation = around;
        Ok(outputs)
    }

    fn append(&mut self, op: Op, inputs: &[Columns], wanted: [bool; MAX_OUTPUTS]) -> Result<[Tensor; MAX_OUTPUTS], E> {
        let mut record = NodeRecord { opcode: op.opcode(), attributes: op.attributes(), dead: false, ..NodeRecord::EMPTY };
        let args = self.arguments(&op, inputs, &mut record)?;
        let shapes = (self.infer)(&op, &Args::new(&args))?;
        if self.updates.is_some() && record.reads_grads() {
            return Err(E::NoGradientBuffer);
        }
        if op.effect() == Effect::Update && !self.update_begun && !self.updates.is_some_and(|u| u.open) {
            self.update_begun = true;
            self.info.update = self.info.nodes;
        }
        let alias = match op.in_place() {
            InPlace::Alias(i) => Some(record.input(i.into())),
            InPlace::Inputs(_) | InPlace::Never => None,
        };
        for ((to, shape), wanted) in record.outputs.iter_mut().zip(shapes).zip(wanted) {
            if let Some(shape) = shape.filter(|_| wanted) {
                let own = TensorRecord { shape, producer: self.info.nodes, ..TensorRecord::EMPTY };
                *to = self.add_tensor(match alias {
                    Some(source) => own.sharing(self.tensor(source)?),
                    None => own,
                })?;
            }
        }
        if op.effect() == Effect::State {
            self.supersede(alias.unwrap_or(Tensor::NONE), record.output(0))?;
        }
        let node = self.nodes.get_mut(usize::from(self.info.nodes)).ok_or(E::TooManyNodes)?;
        *node = record;
        self.info.nodes = self.info.nodes.checked_add(1).ok_or(E::TooManyNodes)?;
        Ok(record.outputs)
    }

    /// Writes the inputs into the record of their node; returns them as the shape rule sees them.
    fn arguments(&self, op: &Op, inputs: &[Columns], record: &mut NodeRecord) -> Result<[Option<Arg>; MAX_INPUTS], E> {
        let mut args = [None; MAX_INPUTS];
        if inputs.len() > MAX_INPUTS {
            return Err(E::UnknownTensor);
        }
        let slots = args.iter_mut().zip(&mut record.inputs).zip(record.columns.iter_mut().zip(inputs));
        for (i, ((arg, to), (column, &Columns { tensor, first }))) in slots.enumerate() {
            if !tensor.is_some() {
                continue;
            }
            let r = self.tensor(tensor)?;
            if r.role == Role::State && r.successor.is_some() {
                return Err(E::StaleState);
            }
            if first > 0 && !op.reads_columns(i) {
                let cols = r.shape.cols() as u32;
                return Err(E::Columns { first, count: cols, cols });
            }
            (*to, *column) = (tensor, first);
            *arg = Some(Arg { tensor, shape: r.shape, dtype: r.dtype, column: first, bounds: r.bounds });
        }
        Ok(args)
    }

    /// From here on the state `old` is read as `written`.
    fn supersede(&mut self, old: Tensor, written: Tensor) -> Result<(), E> {
        let old = self.tensor_mut(old)?;
        if old.role != Role::State {
            return Err(E::StaleState);
        }
        old.successor = written;
        Ok(())
    }
}
