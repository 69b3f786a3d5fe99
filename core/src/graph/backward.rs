//! Reverse-mode differentiation: the gradient is appended to the graph as ordinary nodes.

use core::panic::Location;

use super::adjoint::Step;
use super::builder::Graph;
use super::choice::{HyperInput, Recompute, Rule, Upstream, Wrt};
use super::error::GraphErrorKind as E;
use super::op::MAX_OUTPUTS;
use super::rules::{again, differentiate};
use super::tape::{Tape, Updates};
use super::tensor::{Role, Tensor};

impl Graph<'_> {
    /// Appends the gradient of Σ ⟨tensor, upstream⟩ over all pairs, pruned to the paths to `wrt`. Once per program.
    ///
    /// Gradients of trainable parameters go to the gradient buffer; [`Graph::gradient`] finds others. An upstream gradient has the shape of its
    /// tensor, or is one element that applies to all. When the upstream gradient of a head loss is known before the head runs, losses and gradients
    /// are computed in one pass, in the forward range; never with [`Upstream::After`].
    #[track_caller]
    pub fn backward<U: Into<Upstream> + Copy>(&self, pairs: &[(Tensor, U)], wrt: Wrt<'_>, recompute: Recompute) {
        let mut pairs = pairs.iter().map(|&(t, upstream)| (t, upstream.into()));
        self.with(Location::caller(), |tape| tape.backward(&mut pairs, wrt, recompute));
    }

    /// [`Self::backward`] for every trainable parameter, each updated by `rule` as soon as its gradient is complete and its old value has no more
    /// readers. Once per program, instead of [`Graph::backward`] and an update.
    ///
    /// Gradients are ordinary values in the arena whose memory is reused, and the gradient buffer is empty ([`super::Program::grads_len`]). So there
    /// is no global norm and no accumulation over micro-batches: every run of the backward range is a step, gradients are not clipped, and the
    /// largest norm in `hyper` (as for [`Graph::adamw`]) is ignored.
    ///
    /// Several contributions to one parameter, such as a token embedding tied to the head, are summed in the arena, where the sum stays until the
    /// first forward node that reads the parameter has its gradient. A parameter without a gradient is not changed, not even by weight decay.
    #[track_caller]
    pub fn backward_updating<U: Into<Upstream> + Copy>(
        &self,
        pairs: &[(Tensor, U)],
        rule: Rule,
        hyper: impl Into<HyperInput>,
        recompute: Recompute,
    ) {
        let (mut pairs, hyper) = (pairs.iter().map(|&(t, upstream)| (t, upstream.into())), hyper.into());
        self.needs_moments(rule.moments());
        self.with(Location::caller(), |tape| {
            tape.updates = Some(Updates { rule, hyper, open: true });
            tape.backward(&mut pairs, Wrt::Trainable, recompute)?;
            tape.updates = Some(Updates { rule, hyper, open: false });
            Ok(())
        });
    }

    /// The gradient of `t` after [`Graph::backward`], in its shape; `None` when none reaches it.
    #[track_caller]
    pub fn gradient(&self, t: Tensor) -> Option<Tensor> {
        let mut found = None;
        self.with(Location::caller(), |tape| {
            let record = *tape.tensor(t)?;
            if record.successor.is_some() {
                found = Some(tape.spread(record.successor, record.shape)?);
            }
            Ok(())
        });
        found
    }
}

impl Tape<'_> {
    fn backward(
        &mut self,
        pairs: &mut dyn Iterator<Item = (Tensor, Upstream)>,
        wrt: Wrt<'_>,
        recompute: Recompute,
    ) -> Result<(), E> {
        if self.backward_done || self.update_begun {
            return Err(E::Sections);
        }
        let end = usize::from(self.info.nodes);
        self.mark_requires_grad(wrt, end)?;
        self.backward_done = true;
        self.recompute = recompute;
        self.again = Some(again);
        self.info.backward = self.info.nodes;
        for (t, upstream) in pairs {
            self.begin(t, upstream, end)?;
        }
        let mut segment = end;
        for index in (0..end).rev() {
            let Some(node) = self.node(index) else { continue };
            let has_gradient = |t: Tensor| self.tensor(t).is_ok_and(|r| r.successor.is_some());
            let reached = node.outputs.iter().any(|&t| has_gradient(t) && self.tensor(t).is_ok_and(|r| r.requires_grad));
            if reached {
                let op = node.op();
                let is_through = |i| op.is_some_and(|op| op.differentiable_through(i));
                let beyond = (1..MAX_OUTPUTS).find(|&i| has_gradient(node.output(i)) && !is_through(i));
                self.operation = op.map(|op| op.name());
                if let Some(output) = beyond {
                    return Err(E::NoGradientThroughOutput { output: output as u8 });
                }
                if recompute == Recompute::Blocks && index < segment {
                    segment = self.recompute_segment(index, end)?;
                }
                if let Some(op) = op {
                    differentiate(&op, self, &Step { index, node })?;
                }
                self.operation = None;
            }
            self.update_read_first_by(index, &node)?;
        }
        self.update_unread(end)
    }

    /// Contributes an upstream gradient from the caller; the forward range is the first `end` nodes.
    fn begin(&mut self, t: Tensor, upstream: Upstream, end: usize) -> Result<(), E> {
        if let Upstream::After(late) = upstream {
            let is_read = (0..end).filter_map(|i| self.node(i)).any(|node| node.inputs.contains(&late));
            let record = self.tensor_mut(late)?;
            if record.role != Role::Input || is_read {
                return Err(E::LateUpstream);
            }
            record.late = true;
        }
        let upstream = upstream.tensor();
        let (record, found) = (*self.tensor(t)?, self.tensor(upstream)?.shape);
        if found.len() != record.shape.len() && found.len() != 1 {
            return Err(E::Upstream { found, expected: record.shape });
        }
        let upstream = if found.len() == record.shape.len() { self.reshaped(upstream, record.shape)? } else { upstream };
        self.contribute(t, upstream)
    }

    fn mark_requires_grad(&mut self, wrt: Wrt<'_>, end: usize) -> Result<(), E> {
        match wrt {
            Wrt::Trainable => {
                for t in self.tensors.iter_mut().filter(|t| t.role == Role::Trainable) {
                    t.requires_grad = true;
                }
            }
            Wrt::Tensors(list) => {
                for &t in list {
                    self.tensor_mut(t)?.requires_grad = true;
                }
            }
        }
        for index in 0..end {
            let Some(node) = self.node(index) else { continue };
            let Some(op) = node.op() else { continue };
            let flows = node
                .inputs
                .iter()
                .enumerate()
                .any(|(i, &t)| op.differentiable(i) && self.tensor(t).is_ok_and(|r| r.requires_grad));
            for &t in node.outputs.iter().filter(|t| t.is_some() && flows) {
                self.tensor_mut(t)?.requires_grad = true;
            }
        }
        Ok(())
    }
}
