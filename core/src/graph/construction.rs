//! The beginning and the end of a graph's construction.

use core::cell::RefCell;
use core::panic::Location;

use super::builder::Graph;
use super::choice::Recompute;
use super::error::{GraphError, GraphErrorKind};
use super::op::Effect;
use super::program::{Program, ProgramInfo};
use super::record::NodeRecord;
use super::rules::infer;
use super::tape::Tape;
use super::tensor::{Role, TensorRecord};
use crate::params::Params;
use crate::shape::{UNIT, UNIT_BYTES};

impl<'a> Graph<'a> {
    /// An empty graph over a registry. Every parameter is a tensor from the start; see [`Graph::param`].
    #[track_caller]
    pub fn new(params: Params<'a>, tensors: &'a mut [TensorRecord], nodes: &'a mut [NodeRecord]) -> Self {
        let mut tape = Tape {
            infer: infer::<GraphErrorKind>,
            again: None,
            params,
            tensors,
            nodes,
            info: ProgramInfo::default(),
            backward_done: false,
            update_begun: false,
            recompute: Recompute::None,
            updates: None,
            sites: 0,
            operation: None,
            error: None,
        };
        let location = Location::caller();
        for (i, p) in params.infos().iter().enumerate() {
            let role = if p.frozen { Role::Frozen } else { Role::Trainable };
            let index = i as u32;
            let offset = u32::try_from(p.offset / if p.frozen { UNIT_BYTES } else { UNIT }).unwrap_or(u32::MAX);
            let record = TensorRecord { shape: p.shape, dtype: p.dtype, role, index, offset, ..TensorRecord::EMPTY };
            if let Err(kind) = tape.add_tensor(record) {
                tape.error = tape.error.or(Some(GraphError { kind, operation: None, location }));
            }
        }
        Self { inner: RefCell::new(tape) }
    }

    /// Finishes construction: removes dead nodes, marks the first and later contributions to gradients, and returns the program or the first error.
    ///
    /// # Errors
    ///
    /// The first error of any method of the graph, with the operation and the line of model code; calls after it had no effect.
    pub fn finish(self) -> Result<Program<'a>, GraphError> {
        let mut tape = self.inner.into_inner();
        if let Some(error) = tape.error {
            return Err(error);
        }
        if !tape.update_begun {
            tape.info.update = tape.info.nodes;
        }
        if !tape.backward_done {
            tape.info.backward = tape.info.update;
        }
        tape.mark_dead();
        tape.mark_later();
        let Tape { params, tensors, nodes, info, .. } = tape;
        Ok(Program::from_parts(params, tensors, nodes, info))
    }
}

impl Tape<'_> {
    /// Marks dead nodes: their outputs are read neither by the host nor by a live node, and they write no gradient, state or parameter.
    fn mark_dead(&mut self) {
        let (tensors, info) = (&mut *self.tensors, self.info);
        let tensors = tensors.get_mut(..info.tensors.into()).unwrap_or(&mut []);
        for t in tensors.iter_mut() {
            t.needed = t.pinned;
        }
        for node in self.nodes.get_mut(..info.nodes.into()).unwrap_or(&mut []).iter_mut().rev() {
            let lasting = |t: &TensorRecord| t.needed || matches!(t.role, Role::Grad | Role::State);
            let needed = node.op().is_some_and(|op| op.effect() == Effect::Update)
                || node.outputs.iter().filter_map(|t| tensors.get(t.index())).any(lasting);
            node.dead = !needed;
            if needed {
                for input in node.inputs {
                    if let Some(t) = tensors.get_mut(input.index()) {
                        t.needed = true;
                    }
                }
            }
        }
    }

    /// Marks contributions to gradients after the first one.
    fn mark_later(&mut self) {
        let tensors = self.tensors.get_mut(..self.info.tensors.into()).unwrap_or(&mut []);
        for node in self.nodes.get_mut(..self.info.nodes.into()).unwrap_or(&mut []).iter_mut().filter(|n| !n.dead) {
            for (i, output) in node.outputs.iter().enumerate() {
                let Some(id) = tensors.get(output.index()).filter(|t| t.role == Role::Grad).map(|t| t.index) else { continue };
                if let Some(param) = tensors.get_mut(id as usize) {
                    node.later |= u8::from(param.contributed) << i;
                    param.contributed = true;
                }
            }
        }
    }
}
