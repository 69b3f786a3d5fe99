//! The graph under construction.
//!
//! Methods take `&self`, so that calls nest, and errors are sticky, so that model code has no `?`: the first one is returned by
//! [`Graph::finish`] with the line of model code that made it.

use core::cell::RefCell;
use core::panic::Location;

use super::error::{GraphError, GraphErrorKind};
use super::grad::Updates;
use super::op::{Effect, InPlace, MAX_INPUTS, MAX_OUTPUTS, Op};
use super::program::{Program, ProgramInfo};
use super::record::{Columns, NodeRecord, Role, Tensor, TensorRecord};
use super::rules::{Arg, Args, infer};
use crate::dtype::DType;
use crate::params::{ParamId, Params};
use crate::shape::Shape;

/// A graph under construction in lent storage.
pub struct Graph<'a> {
    inner: RefCell<Inner<'a>>,
}

/// The tables while they are filled.
pub(super) struct Inner<'a> {
    pub(super) params: Params<'a>,
    pub(super) tensors: &'a mut [TensorRecord],
    pub(super) nodes: &'a mut [NodeRecord],
    pub(super) info: ProgramInfo,
    pub(super) backward_done: bool,
    pub(super) update_begun: bool,
    /// The updates that the backward pass makes, once there is one that does.
    pub(super) updates: Option<Updates>,
    sites: u32,
    error: Option<GraphError>,
}

impl<'a> Graph<'a> {
    /// An empty graph over a registry. Every parameter is a tensor from the start; see [`Graph::param`].
    #[track_caller]
    pub fn new(params: Params<'a>, tensors: &'a mut [TensorRecord], nodes: &'a mut [NodeRecord]) -> Self {
        let mut inner = Inner {
            params,
            tensors,
            nodes,
            info: ProgramInfo::default(),
            backward_done: false,
            update_begun: false,
            updates: None,
            sites: 0,
            error: None,
        };
        let location = Location::caller();
        for (i, p) in params.infos().iter().enumerate() {
            let role = if p.frozen { Role::Frozen } else { Role::Trainable };
            let (index, offset) = (i as u32, p.offset);
            let record = TensorRecord { shape: p.shape, dtype: p.dtype, role, index, offset, ..TensorRecord::EMPTY };
            if let Err(kind) = inner.add_tensor(record) {
                inner.error = inner.error.or(Some(GraphError { kind, location }));
            }
        }
        Self { inner: RefCell::new(inner) }
    }

    /// A parameter's tensor.
    pub fn param(&self, id: ParamId) -> Tensor {
        Tensor(id.index() as u16)
    }

    /// A tensor of numbers that the host writes before a run.
    #[track_caller]
    pub fn input(&self, extents: &[usize]) -> Tensor {
        self.leaf(|inner| {
            let shape = Shape::new(extents).ok_or(GraphErrorKind::ShapeTooLarge)?;
            inner.add_tensor(TensorRecord { shape, role: Role::Input, pinned: true, ..TensorRecord::EMPTY })
        })
    }

    /// A tensor of integers in `low..=high` that the host writes before a run.
    #[track_caller]
    pub fn ints(&self, extents: &[usize], low: i32, high: i32) -> Tensor {
        self.leaf(|inner| {
            let shape = Shape::new(extents).ok_or(GraphErrorKind::ShapeTooLarge)?;
            let offset = inner.info.ints_len;
            inner.info.ints_len = offset.saturating_add(shape.len() as u32);
            let bounds = [low, high];
            inner.add_tensor(TensorRecord { shape, role: Role::Ints, dtype: DType::I32, offset, bounds, ..TensorRecord::EMPTY })
        })
    }

    /// A tensor that keeps its value from run to run, in the state buffer. Programs that declare the same states in the same order share them.
    #[track_caller]
    pub fn state(&self, extents: &[usize]) -> Tensor {
        self.state_of(DType::Real, extents)
    }

    /// The same with elements of another type, which [`Graph::cache_write`] writes and [`Graph::cache_read`] reads. Rows must fall into blocks.
    #[track_caller]
    pub fn state_of(&self, dtype: DType, extents: &[usize]) -> Tensor {
        self.leaf(|inner| {
            let shape = Shape::new(extents).ok_or(GraphErrorKind::ShapeTooLarge)?;
            let offset = inner.info.state_len;
            let record = TensorRecord { shape, role: Role::State, dtype, offset, ..TensorRecord::EMPTY };
            if dtype.bytes(shape.cols(), size_of::<f32>()).is_none() {
                return Err(GraphErrorKind::Attribute { name: "columns of a state in blocks", value: shape.cols() as f64 });
            }
            inner.info.state_len = offset.saturating_add(record.state_len().next_multiple_of(crate::params::ALIGN) as u32);
            inner.add_tensor(record)
        })
    }

    /// A number for one place in the model where random numbers are drawn.
    pub fn site(&self) -> u32 {
        self.inner.try_borrow_mut().map_or(0, |mut inner| {
            inner.sites = inner.sites.saturating_add(1);
            inner.sites
        })
    }

    /// Keeps the value of `t` until the end of the program, for the host to read.
    pub fn output(&self, t: Tensor) -> Tensor {
        self.mark(t, |r| r.pinned = true);
        t
    }

    /// Says that a block of the model begins with `t`: with [`super::Recompute::Blocks`] it is kept, and what follows is computed again in the
    /// backward pass.
    pub fn checkpoint(&self, t: Tensor) -> Tensor {
        self.mark(t, |r| r.checkpoint = true);
        t
    }

    /// The shape of a tensor.
    pub fn shape(&self, t: Tensor) -> Shape {
        self.inner.try_borrow().ok().and_then(|inner| inner.tensors.get(t.index()).map(|r| r.shape)).unwrap_or(Shape::SCALAR)
    }

    /// The number of nodes so far: a place where the host can step in between two runs.
    pub fn position(&self) -> usize {
        self.inner.try_borrow().map_or(0, |inner| inner.info.nodes.into())
    }

    /// Appends a node and returns its outputs. Shapes are checked; the caller of the model-level method is named in errors.
    #[track_caller]
    pub fn push(&self, op: Op, inputs: &[Columns]) -> [Tensor; MAX_OUTPUTS] {
        let location = Location::caller();
        self.with(location, |inner| inner.push(op, inputs, [true; MAX_OUTPUTS])).unwrap_or([Tensor::NONE; MAX_OUTPUTS])
    }

    /// Ends construction: drops what nobody needs, marks first and later contributions to gradients, and returns the program or the first error.
    pub fn finish(self) -> Result<Program<'a>, GraphError> {
        let mut inner = self.inner.into_inner();
        if let Some(error) = inner.error {
            return Err(error);
        }
        if !inner.update_begun {
            inner.info.update = inner.info.nodes;
        }
        if !inner.backward_done {
            inner.info.backward = inner.info.update;
        }
        inner.mark_dead();
        inner.mark_later();
        let Inner { params, tensors, nodes, info, .. } = inner;
        Ok(Program::from_parts(params, tensors, nodes, info))
    }

    fn mark(&self, t: Tensor, f: impl FnOnce(&mut TensorRecord)) {
        if let Ok(mut inner) = self.inner.try_borrow_mut()
            && let Some(record) = inner.tensors.get_mut(t.index())
        {
            f(record);
        }
    }

    #[track_caller]
    fn leaf(&self, f: impl FnOnce(&mut Inner<'a>) -> Result<Tensor, GraphErrorKind>) -> Tensor {
        self.with(Location::caller(), f).unwrap_or(Tensor::NONE)
    }

    /// Runs `f` unless an error came before, and keeps its error.
    pub(super) fn with<T>(
        &self,
        location: &'static Location<'static>,
        f: impl FnOnce(&mut Inner<'a>) -> Result<T, GraphErrorKind>,
    ) -> Option<T> {
        let Ok(mut inner) = self.inner.try_borrow_mut() else { return None };
        if inner.error.is_some() {
            return None;
        }
        match f(&mut inner) {
            Ok(value) => Some(value),
            Err(kind) => {
                inner.error = Some(GraphError { kind, location });
                None
            }
        }
    }
}

impl Inner<'_> {
    pub(super) fn tensor(&self, t: Tensor) -> Result<&TensorRecord, GraphErrorKind> {
        self.tensors.get(..self.info.tensors.into()).and_then(|all| all.get(t.index())).ok_or(GraphErrorKind::UnknownTensor)
    }

    pub(super) fn tensor_mut(&mut self, t: Tensor) -> Result<&mut TensorRecord, GraphErrorKind> {
        self.tensors
            .get_mut(..self.info.tensors.into())
            .and_then(|all| all.get_mut(t.index()))
            .ok_or(GraphErrorKind::UnknownTensor)
    }

    pub(super) fn add_tensor(&mut self, mut record: TensorRecord) -> Result<Tensor, GraphErrorKind> {
        let t = Tensor(self.info.tensors);
        let slot = self.tensors.get_mut(t.index()).filter(|_| t.is_some()).ok_or(GraphErrorKind::TooManyTensors)?;
        if !record.root.is_some() {
            record.root = t;
        }
        *slot = record;
        self.info.tensors = self.info.tensors.saturating_add(1);
        Ok(t)
    }

    /// Appends a node with the outputs that are `wanted`.
    pub(super) fn push(
        &mut self,
        op: Op,
        inputs: &[Columns],
        wanted: [bool; MAX_OUTPUTS],
    ) -> Result<[Tensor; MAX_OUTPUTS], GraphErrorKind> {
        let mut record = NodeRecord { opcode: op.opcode(), attributes: op.attributes(), dead: false, ..NodeRecord::EMPTY };
        let mut args = [None; MAX_INPUTS];
        if inputs.len() > MAX_INPUTS {
            return Err(GraphErrorKind::UnknownTensor);
        }
        for (((i, arg), to), (column, input)) in
            args.iter_mut().enumerate().zip(&mut record.inputs).zip(record.columns.iter_mut().zip(inputs))
        {
            if !input.tensor.is_some() {
                continue;
            }
            let r = *self.tensor(input.tensor)?;
            if r.role == Role::State && r.successor.is_some() {
                return Err(GraphErrorKind::StaleState);
            }
            if input.first > 0 && !op.reads_columns(i) {
                return Err(GraphErrorKind::Columns {
                    first: input.first,
                    count: r.shape.cols() as u32,
                    cols: r.shape.cols() as u32,
                });
            }
            *to = input.tensor;
            *column = input.first;
            *arg = Some(Arg { tensor: input.tensor, shape: r.shape, dtype: r.dtype, column: input.first, bounds: r.bounds });
        }
        let shapes = infer(&op, &Args::<GraphErrorKind>::new(&args))?;
        if self.updates.is_some() && record.reads_grads() {
            return Err(GraphErrorKind::NoGradientBuffer);
        }
        if op.effect() == Effect::Update && !self.update_begun && !self.updates.is_some_and(|u| u.open) {
            self.update_begun = true;
            self.info.update = self.info.nodes;
        }
        for ((to, shape), wanted) in record.outputs.iter_mut().zip(shapes).zip(wanted) {
            if let Some(shape) = shape.filter(|_| wanted) {
                let mut t = TensorRecord { shape, producer: self.info.nodes, ..TensorRecord::EMPTY };
                if let InPlace::Alias(i) = op.in_place() {
                    let source = *self.tensor(record.inputs.get(usize::from(i)).copied().unwrap_or(Tensor::NONE))?;
                    t = TensorRecord {
                        root: source.root,
                        role: source.role,
                        dtype: source.dtype,
                        index: source.index,
                        offset: source.offset,
                        bounds: source.bounds,
                        ..t
                    };
                }
                *to = self.add_tensor(t)?;
            }
        }
        if matches!(op, Op::CacheWrite) {
            let [_, _, state, ..] = record.inputs;
            let [written, ..] = record.outputs;
            let old = self.tensor_mut(state)?;
            if old.role != Role::State {
                return Err(GraphErrorKind::StaleState);
            }
            old.successor = written;
        }
        let node = self.nodes.get_mut(usize::from(self.info.nodes)).ok_or(GraphErrorKind::TooManyNodes)?;
        *node = record;
        self.info.nodes = self.info.nodes.checked_add(1).ok_or(GraphErrorKind::TooManyNodes)?;
        Ok(record.outputs)
    }

    pub(super) fn node(&self, i: usize) -> Option<NodeRecord> {
        self.nodes.get(..self.info.nodes.into())?.get(i).copied()
    }

    /// Marks nodes whose outputs nobody needs: neither the host, nor a live node, nor a gradient, state or parameter.
    fn mark_dead(&mut self) {
        // `requires_grad` has served its purpose and now says that a tensor is needed.
        let (tensors, info) = (&mut *self.tensors, self.info);
        let tensors = tensors.get_mut(..info.tensors.into()).unwrap_or(&mut []);
        for t in tensors.iter_mut() {
            t.requires_grad = t.pinned;
        }
        for node in self.nodes.get_mut(..info.nodes.into()).unwrap_or(&mut []).iter_mut().rev() {
            let lasting = |t: &TensorRecord| t.requires_grad || matches!(t.role, Role::Grad | Role::State);
            let needed = node.op().is_some_and(|op| op.effect() == Effect::Update)
                || node.outputs.iter().filter_map(|t| tensors.get(t.index())).any(lasting);
            node.dead = !needed;
            if needed {
                for input in node.inputs {
                    if let Some(t) = tensors.get_mut(input.index()) {
                        t.requires_grad = true;
                    }
                }
            }
        }
    }

    /// Marks contributions to gradients after the first one.
    fn mark_later(&mut self) {
        let tensors = self.tensors.get_mut(..self.info.tensors.into()).unwrap_or(&mut []);
        let params = self.params.infos().len();
        for t in tensors.iter_mut().take(params) {
            t.requires_grad = false;
        }
        for node in self.nodes.get_mut(..self.info.nodes.into()).unwrap_or(&mut []).iter_mut().filter(|n| !n.dead) {
            for (i, output) in node.outputs.iter().enumerate() {
                let Some(id) = tensors.get(output.index()).filter(|t| t.role == Role::Grad).map(|t| t.index) else { continue };
                if let Some(param) = tensors.get_mut(id as usize) {
                    node.later |= u8::from(param.requires_grad) << i;
                    param.requires_grad = true;
                }
            }
        }
    }
}
