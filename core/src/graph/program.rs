//! A finished graph: immutable records that backends walk.

use core::fmt;
use core::ops::Range;

use bytemuck::{Pod, Zeroable};

use super::op::Op;
use super::record::NodeRecord;
use super::tensor::{Role, Tensor, TensorRecord};
use crate::params::{ParamId, ParamInfo, Params};
use crate::shape::{Shape, UNIT};

/// Sizes and counts of a program that are not in its tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Pod, Zeroable)]
#[repr(C)]
pub struct ProgramInfo {
    /// Used tensor records.
    pub tensors: u16,
    /// Used node records.
    pub nodes: u16,
    /// The first node of the backward range.
    pub backward: u16,
    /// The first node of the update range.
    pub update: u16,
    /// Elements of the buffer of integers.
    pub ints_len: u32,
    /// Units ([`UNIT`]) of the state; see [`ProgramInfo::state_len`].
    pub state_units: u32,
    /// Moment buffers that the update needs, each as long as the trainable parameters.
    pub moments: u32,
}

impl ProgramInfo {
    /// Elements of the state.
    pub const fn state_len(&self) -> usize {
        (self.state_units as usize).saturating_mul(UNIT)
    }
}

/// A finished graph over a registry of parameters.
#[derive(Clone, Copy, Debug)]
pub struct Program<'a> {
    params: Params<'a>,
    tensors: &'a [TensorRecord],
    nodes: &'a [NodeRecord],
    info: ProgramInfo,
}

impl<'a> Program<'a> {
    /// Assembles a program from [`Program::tensors`], [`Program::nodes`] and [`Program::info`] of one program.
    pub fn from_parts(params: Params<'a>, tensors: &'a [TensorRecord], nodes: &'a [NodeRecord], info: ProgramInfo) -> Self {
        Self {
            params,
            tensors: tensors.get(..info.tensors.into()).unwrap_or(tensors),
            nodes: nodes.get(..info.nodes.into()).unwrap_or(nodes),
            info,
        }
    }

    /// The registry.
    pub const fn params(&self) -> &Params<'a> {
        &self.params
    }

    /// The table of tensors.
    pub const fn tensors(&self) -> &'a [TensorRecord] {
        self.tensors
    }

    /// The table of nodes.
    pub const fn nodes(&self) -> &'a [NodeRecord] {
        self.nodes
    }

    /// The sizes and counts beside the tables.
    pub const fn info(&self) -> ProgramInfo {
        self.info
    }

    /// A tensor's record.
    pub fn tensor(&self, t: Tensor) -> Option<&'a TensorRecord> {
        self.tensors.get(t.index())
    }

    /// A tensor's shape, empty for [`Tensor::NONE`].
    pub fn shape(&self, t: Tensor) -> Shape {
        self.tensor(t).map_or(Shape::SCALAR, |r| r.shape)
    }

    /// A view of node `i`.
    pub fn node(&self, i: usize) -> Option<Node<'a>> {
        Some(Node { record: self.nodes.get(i)?, tensors: self.tensors, params: self.params.infos() })
    }

    /// The forward nodes.
    pub fn forward(&self) -> Range<usize> {
        0..self.info.backward.into()
    }

    /// The nodes of the backward pass, up to the first update after it. They include the updates of [`super::Graph::backward_updating`]: running this
    /// range then changes the parameters, and the update range is empty or holds a moving average.
    pub fn backward(&self) -> Range<usize> {
        self.info.backward.into()..self.info.update.into()
    }

    /// The nodes that update parameters.
    pub fn update(&self) -> Range<usize> {
        self.info.update.into()..self.info.nodes.into()
    }

    /// Elements of the gradient buffer: 0 when no live node writes or reads a gradient there.
    pub fn grads_len(&self) -> usize {
        let writes = |n: &NodeRecord| n.outputs.iter().any(|&t| self.tensor(t).is_some_and(|r| r.role == Role::Grad));
        let used = self.nodes.iter().any(|n| !n.dead && (n.reads_grads() || writes(n)));
        if used { self.params.trainable_len() } else { 0 }
    }

    /// Trainable parameters whose gradient no live node overwrites: the caller zeroes them before a step that accumulates.
    pub fn untouched(&self) -> impl Iterator<Item = ParamId> + '_ {
        let touched = |id: usize| {
            self.nodes
                .iter()
                .filter(|n| !n.dead)
                .flat_map(|n| n.outputs)
                .any(|t| self.tensor(t).is_some_and(|r| r.role == Role::Grad && r.index as usize == id))
        };
        let first = ParamId::FIRST;
        self.params.infos().iter().enumerate().filter(move |(i, p)| !p.frozen && !touched(*i)).map(move |(i, _)| first.plus(i))
    }
}

/// A node with the shapes of its tensors.
#[derive(Clone, Copy)]
pub struct Node<'a> {
    record: &'a NodeRecord,
    tensors: &'a [TensorRecord],
    params: &'a [ParamInfo],
}

impl<'a> Node<'a> {
    /// The record.
    pub const fn record(&self) -> &'a NodeRecord {
        self.record
    }

    /// The operation; `None` in a damaged record.
    pub fn op(&self) -> Option<Op> {
        self.record.op()
    }

    /// The record of input `i`.
    #[inline(never)]
    pub fn input(&self, i: usize) -> Option<&'a TensorRecord> {
        self.tensors.get(self.record.input(i).index())
    }

    /// The record of output `i`.
    pub fn output(&self, i: usize) -> Option<&'a TensorRecord> {
        self.tensors.get(self.record.output(i).index())
    }

    /// Whether input `i` is present.
    pub fn has_input(&self, i: usize) -> bool {
        self.record.input(i).is_some()
    }

    /// The shape of input `i`; a scalar when it is absent.
    #[inline(never)]
    pub fn input_shape(&self, i: usize) -> Shape {
        self.input(i).map_or(Shape::SCALAR, |t| t.shape)
    }

    /// The shape of output `i`; a scalar when it is absent.
    pub fn output_shape(&self, i: usize) -> Shape {
        self.output(i).map_or(Shape::SCALAR, |t| t.shape)
    }

    /// The first column of input `i`.
    pub fn column(&self, i: usize) -> usize {
        self.record.columns.get(i).map_or(0, |&c| c as usize)
    }
}

impl fmt::Display for Node<'_> {
    /// The operation and the first parameter that it reads or whose gradient it writes, as in `linear h.3.mlp.c_fc.weight`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.op().map_or("unknown operation", |op| op.name()))?;
        let is_param = |r: &TensorRecord| matches!(r.role, Role::Trainable | Role::Frozen | Role::Grad);
        let tensors = self.record.inputs.iter().chain(&self.record.outputs);
        let param = tensors.filter_map(|t| self.tensors.get(t.index())).find(|r| is_param(r));
        match param.and_then(|r| self.params.get(r.index as usize)) {
            Some(info) => write!(f, " {}", info.name),
            None => Ok(()),
        }
    }
}
