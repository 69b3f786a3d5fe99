//! The graph under construction: leaves, marks, nodes.
//!
//! Methods take `&self`, so that calls nest. Errors are sticky, so that model code needs no `?`: [`Graph::finish`] returns the first one with its
//! line of model code. The methods that append an operation are in the file of its family.

use core::cell::RefCell;
use core::panic::Location;

use super::error::{GraphError, GraphErrorKind};
use super::op::{MAX_OUTPUTS, Op};
use super::tape::Tape;
use super::tensor::{Columns, Role, Tensor, TensorRecord};
use crate::dtype::DType;
use crate::params::{Layout, ParamId, Params};
use crate::shape::{Shape, UNIT};

/// A graph under construction in lent storage.
pub struct Graph<'a> {
    pub(super) inner: RefCell<Tape<'a>>,
}

impl<'a> Graph<'a> {
    /// The registry; an empty one while the graph is borrowed.
    pub(super) fn params(&self) -> Params<'a> {
        self.inner.try_borrow().map_or(Params::from_parts(&[], Layout::default()), |tape| tape.params)
    }

    /// A parameter's tensor.
    pub fn param(&self, id: ParamId) -> Tensor {
        Tensor(id.index() as u16)
    }

    /// A floating-point tensor of this shape that the host writes before a run.
    #[track_caller]
    pub fn input(&self, extents: &[usize]) -> Tensor {
        self.leaf(|tape| {
            let shape = Shape::new(extents).ok_or(GraphErrorKind::ShapeTooLarge)?;
            tape.add_tensor(TensorRecord { shape, role: Role::Input, pinned: true, ..TensorRecord::EMPTY })
        })
    }

    /// An integer tensor of this shape with values in `low..=high` that the host writes before a run.
    #[track_caller]
    pub fn ints(&self, extents: &[usize], low: i32, high: i32) -> Tensor {
        self.leaf(|tape| {
            let shape = Shape::new(extents).ok_or(GraphErrorKind::ShapeTooLarge)?;
            let offset = tape.info.ints_len;
            tape.info.ints_len = offset.checked_add(shape.len() as u32).ok_or(GraphErrorKind::BufferTooLarge)?;
            let bounds = [low, high];
            tape.add_tensor(TensorRecord { shape, role: Role::Ints, dtype: DType::I32, offset, bounds, ..TensorRecord::EMPTY })
        })
    }

    /// A tensor that persists between runs, in the state buffer. Programs that declare the same states in the same order share them.
    #[track_caller]
    pub fn state(&self, extents: &[usize]) -> Tensor {
        self.state_of(DType::Real, extents)
    }

    /// As [`Self::state`] with another element type, written by [`Graph::cache_write`] and read by [`Graph::cache_read`]. For quantised types the
    /// last extent must be a multiple of the quantisation block.
    #[track_caller]
    pub fn state_of(&self, dtype: DType, extents: &[usize]) -> Tensor {
        self.leaf(|tape| {
            let shape = Shape::new(extents).ok_or(GraphErrorKind::ShapeTooLarge)?;
            let offset = tape.info.state_units;
            let record = TensorRecord { shape, role: Role::State, dtype, offset, ..TensorRecord::EMPTY };
            if dtype.bytes(shape.cols(), size_of::<f32>()).is_none() {
                return Err(GraphErrorKind::Attribute { name: "columns of a quantised state", value: shape.cols() as f64 });
            }
            let units = record.state_len().div_ceil(UNIT) as u32;
            tape.info.state_units = offset.checked_add(units).ok_or(GraphErrorKind::BufferTooLarge)?;
            tape.add_tensor(record)
        })
    }

    /// A new dropout site: it separates the random streams of different places in the model.
    pub fn site(&self) -> u32 {
        self.inner.try_borrow_mut().map_or(0, |mut tape| {
            tape.sites = tape.sites.saturating_add(1);
            tape.sites
        })
    }

    /// Keeps the value of `t` until the end of the program, so that the host can read it.
    pub fn output(&self, t: Tensor) -> Tensor {
        self.mark(t, |r| r.pinned = true);
        t
    }

    /// Marks `t` as the input of a block of the model: with [`super::Recompute::Blocks`] it is kept, and what follows is recomputed in the backward
    /// pass.
    pub fn checkpoint(&self, t: Tensor) -> Tensor {
        self.mark(t, |r| r.checkpoint = true);
        t
    }

    /// The first tensor after `t` in graph order that is marked with [`Self::checkpoint`]; without `t`, the first of all. Models mark the input of
    /// each of their blocks.
    pub fn next_checkpoint(&self, t: Option<Tensor>) -> Option<Tensor> {
        let tape = self.inner.try_borrow().ok()?;
        let first = t.map_or(0, |t| t.index().saturating_add(1));
        let marked = tape.tensors.iter().enumerate().skip(first).find(|(_, record)| record.checkpoint);
        marked.map(|(i, _)| Tensor(i as u16))
    }

    /// The shape of a tensor.
    pub fn shape(&self, t: Tensor) -> Shape {
        self.inner.try_borrow().ok().and_then(|tape| tape.tensors.get(t.index()).map(|r| r.shape)).unwrap_or(Shape::SCALAR)
    }

    /// The number of nodes so far: a boundary between two ranges, at which the host can act.
    pub fn position(&self) -> usize {
        self.inner.try_borrow().map_or(0, |tape| tape.info.nodes.into())
    }

    /// Appends a node and returns its outputs. Checks shapes; errors name the caller of the model-level method.
    #[track_caller]
    pub fn push(&self, op: Op, inputs: &[Columns]) -> [Tensor; MAX_OUTPUTS] {
        let location = Location::caller();
        self.with(location, |tape| tape.push(op, inputs, [true; MAX_OUTPUTS])).unwrap_or([Tensor::NONE; MAX_OUTPUTS])
    }

    fn mark(&self, t: Tensor, f: impl FnOnce(&mut TensorRecord)) {
        if let Ok(mut tape) = self.inner.try_borrow_mut()
            && let Some(record) = tape.tensors.get_mut(t.index())
        {
            f(record);
        }
    }

    /// Requests at least `count` moment buffers.
    #[track_caller]
    pub(super) fn needs_moments(&self, count: usize) {
        self.with(Location::caller(), |tape| {
            tape.info.moments = tape.info.moments.max(count as u32);
            Ok(())
        });
    }

    #[track_caller]
    fn leaf(&self, f: impl FnOnce(&mut Tape<'a>) -> Result<Tensor, GraphErrorKind>) -> Tensor {
        self.with(Location::caller(), f).unwrap_or(Tensor::NONE)
    }

    /// Runs `f` unless an error came before, and keeps its error.
    pub(super) fn with<T>(
        &self,
        location: &'static Location<'static>,
        f: impl FnOnce(&mut Tape<'a>) -> Result<T, GraphErrorKind>,
    ) -> Option<T> {
        let Ok(mut tape) = self.inner.try_borrow_mut() else { return None };
        if tape.error.is_some() {
            return None;
        }
        tape.operation = None;
        match f(&mut tape) {
            Ok(value) => Some(value),
            Err(kind) => {
                tape.error = Some(GraphError { kind, operation: tape.operation, location });
                None
            }
        }
    }
}
