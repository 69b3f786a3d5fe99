//! Reverse-mode differentiation: the gradient is appended to the graph as ordinary nodes.

use core::ops::Range;
use core::panic::Location;

use super::builder::{Graph, Inner};
use super::error::GraphErrorKind as E;
use super::op::{Activation, BinaryKind, Epsilon, MAX_OUTPUTS, Momentum, Op, Over, ReduceKind, UnaryKind};
use super::record::{Columns, NodeRecord, Role, Tensor, TensorRecord};
use crate::params::Group;
use crate::shape::Shape;

/// What is computed a second time in the backward pass instead of being kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Recompute {
    /// Nothing.
    #[default]
    None,
    /// Layer norms and functions of one number, activations among them: cheap to compute, large to keep.
    Cheap,
    /// Everything between two checkpoints but for the last part, and within each part what is cheap. See [`Graph::checkpoint`].
    Blocks,
}

impl Recompute {
    /// All of them, the fastest first.
    pub const ALL: [Self; 3] = [Self::None, Self::Cheap, Self::Blocks];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Cheap => "cheap",
            Self::Blocks => "blocks",
        }
    }
}

/// With respect to what gradients are taken.
#[derive(Clone, Copy, Debug)]
pub enum Wrt<'a> {
    /// Every trainable parameter.
    Trainable,
    /// These parameters and inputs.
    Tensors(&'a [Tensor]),
}

/// The rule by which an optimizer changes parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// Adam with decoupled weight decay, see [`Graph::adamw`].
    AdamW(Epsilon),
    /// Stochastic gradient descent, see [`Graph::sgd`].
    Sgd(Momentum),
}

impl Rule {
    /// Moment buffers that it needs, each as long as the trainable parameters.
    pub const fn moments(self) -> usize {
        match self {
            Self::AdamW(_) => 2,
            Self::Sgd(Momentum::Classical | Momentum::Nesterov) => 1,
            Self::Sgd(Momentum::None) => 0,
        }
    }

    /// The operation on a range of the trainable parameters, which are in this group.
    pub(super) fn op(self, range: Range<usize>, group: Group) -> Op {
        let (start, len, decay) = (range.start as u32, range.len() as u32, group == Group::Decay);
        match self {
            Self::AdamW(epsilon) => Op::AdamW { start, len, decay, epsilon },
            Self::Sgd(momentum) => Op::Sgd { start, len, decay, momentum },
        }
    }
}

/// The updates that a backward pass makes.
#[derive(Clone, Copy)]
pub(super) struct Updates {
    rule: Rule,
    hyper: Tensor,
    /// Whether the backward pass is being appended.
    pub(super) open: bool,
}

impl Graph<'_> {
    /// Appends the gradient of Σ ⟨tensor, upstream⟩ over all pairs, pruned to what leads to `wrt`. Once per program.
    ///
    /// Gradients of trainable parameters go to the gradient buffer; others are found with [`Graph::gradient`].
    /// An upstream gradient has its tensor's shape or is one number for all elements. When the upstream gradient of a head loss is known before
    /// the head runs, losses and gradients are computed in one pass, in the forward range.
    #[track_caller]
    pub fn backward(&self, pairs: &[(Tensor, Tensor)], wrt: Wrt<'_>, recompute: Recompute) {
        self.with(Location::caller(), |inner| inner.backward(pairs, wrt, recompute));
    }

    /// The same for every trainable parameter, which is changed by `rule` as soon as its gradient is complete and nobody reads its old value any
    /// more. Once per program, instead of [`Graph::backward`] and an update.
    ///
    /// Gradients are values in the arena like all others, so that one takes the place of another and the gradient buffer is empty
    /// ([`super::Program::grads_len`]). That leaves nothing to take a norm of and nothing to add micro-batches in: every run of the backward range
    /// is a step, gradients are not clipped, and the largest norm in `hyper` (as for [`Graph::adamw`]) is ignored.
    ///
    /// Contributions to one parameter, as those of a token embedding that is also the head, are summed in the arena, where they stand until the
    /// first node of the forward pass that reads the parameter has its gradient. A parameter that no gradient reaches is not changed at all, by
    /// weight decay neither.
    #[track_caller]
    pub fn backward_updating(&self, pairs: &[(Tensor, Tensor)], rule: Rule, hyper: Tensor, recompute: Recompute) {
        self.needs_moments(rule.moments());
        self.with(Location::caller(), |inner| {
            inner.updates = Some(Updates { rule, hyper, open: true });
            inner.backward(pairs, Wrt::Trainable, recompute)?;
            inner.updates = Some(Updates { rule, hyper, open: false });
            Ok(())
        });
    }

    /// The gradient of `t` after [`Graph::backward`], in its shape; `None` when none reaches it.
    #[track_caller]
    pub fn gradient(&self, t: Tensor) -> Option<Tensor> {
        let mut found = None;
        self.with(Location::caller(), |inner| {
            let record = *inner.tensor(t)?;
            if record.successor.is_some() {
                found = Some(inner.spread(record.successor, record.shape)?);
            }
            Ok(())
        });
        found
    }
}

/// A forward node whose gradient is being built.
struct Step {
    index: usize,
    node: NodeRecord,
    recompute: Recompute,
}

impl Step {
    fn input(&self, i: usize) -> Tensor {
        self.node.input(i)
    }
}

impl Inner<'_> {
    fn backward(&mut self, pairs: &[(Tensor, Tensor)], wrt: Wrt<'_>, recompute: Recompute) -> Result<(), E> {
        if self.backward_done || self.update_begun {
            return Err(E::Sections);
        }
        let end = usize::from(self.info.nodes);
        self.mark_requires_grad(wrt, end)?;
        self.backward_done = true;
        self.info.backward = self.info.nodes;
        for &(t, upstream) in pairs {
            let (record, found) = (*self.tensor(t)?, self.tensor(upstream)?.shape);
            if found.len() != record.shape.len() && found.len() != 1 {
                return Err(E::Upstream { found, expected: record.shape });
            }
            let upstream = if found.len() == record.shape.len() { self.reshaped(upstream, record.shape)? } else { upstream };
            self.contribute(t, upstream)?;
        }
        let mut segment = end;
        for index in (0..end).rev() {
            let Some(node) = self.node(index) else { continue };
            let reached = node.outputs.iter().any(|&t| self.tensor(t).is_ok_and(|r| r.requires_grad && r.successor.is_some()));
            if reached {
                if let Some(output) = (1..MAX_OUTPUTS).find(|&i| self.tensor(node.output(i)).is_ok_and(|r| r.successor.is_some()))
                {
                    return Err(E::NoGradientThroughOutput { output: output as u8 });
                }
                if recompute == Recompute::Blocks && index < segment {
                    segment = self.recompute_segment(index, end)?;
                }
                self.differentiate(&Step { index, node, recompute })?;
            }
            self.update_read_first_by(index, &node)?;
        }
        self.update_unread(end)
    }

    /// Updates the parameters that node `index` reads and no node before it. Their gradients are complete, and nobody reads their old values any
    /// more: gradients of nodes before it do not, and what is computed again stands before the gradients that read it.
    fn update_read_first_by(&mut self, index: usize, node: &NodeRecord) -> Result<(), E> {
        for (i, t) in node.inputs.iter().enumerate() {
            if !node.inputs.iter().take(i).any(|other| other == t) {
                self.update_unless_read(*t, index)?;
            }
        }
        Ok(())
    }

    /// Updates the parameters that none of the first `end` nodes reads: their gradients are what the caller gave.
    fn update_unread(&mut self, end: usize) -> Result<(), E> {
        (0..self.params.infos().len()).try_for_each(|number| self.update_unless_read(Tensor(number as u16), end))
    }

    /// Appends the update of `t` if the backward pass makes updates, `t` is a trainable parameter with a gradient, and none of the first `end`
    /// nodes reads it.
    fn update_unless_read(&mut self, t: Tensor, end: usize) -> Result<(), E> {
        let Some(updates) = self.updates else { return Ok(()) };
        let Some(&info) = self.params.infos().get(t.index()).filter(|info| !info.frozen) else { return Ok(()) };
        let gradient = self.tensor(t)?.successor;
        if !gradient.is_some() || (0..end).filter_map(|i| self.node(i)).any(|node| node.inputs.contains(&t)) {
            return Ok(());
        }
        let gradient = self.spread(gradient, info.shape)?;
        let op = updates.rule.op(info.range(), info.group);
        self.push(op, &[updates.hyper, Tensor::NONE, gradient].map(Columns::from), [false; MAX_OUTPUTS])?;
        Ok(())
    }

    /// Whether the gradient of `t` has its place in the gradient buffer.
    fn in_grads(&self, t: Tensor) -> bool {
        self.updates.is_none() && self.tensor(t).is_ok_and(|r| r.role == Role::Trainable)
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
                .any(|(i, &t)| differentiable(&op, i) && self.tensor(t).is_ok_and(|r| r.requires_grad));
            for &t in node.outputs.iter().filter(|t| t.is_some() && flows) {
                self.tensor_mut(t)?.requires_grad = true;
            }
        }
        Ok(())
    }

    /// Whether a gradient flows into input `i`.
    fn wants(&self, step: &Step, i: usize) -> bool {
        self.tensor(step.input(i)).is_ok_and(|r| r.requires_grad)
    }

    /// The gradient of output `i`, spread to its full shape.
    fn upstream(&mut self, step: &Step, i: usize) -> Result<Tensor, E> {
        let record = *self.tensor(step.node.output(i))?;
        self.spread(record.successor, record.shape)
    }

    /// `g` in shape `to` when it is one number for many elements.
    fn spread(&mut self, g: Tensor, to: Shape) -> Result<Tensor, E> {
        if self.tensor(g)?.shape.len() == to.len() {
            return Ok(g);
        }
        let (dims, rank) = to.padded();
        self.one(Op::Broadcast { over: Over::Scalar, dims, rank }, &[g])
    }

    /// Appends a node with one wanted output.
    fn one(&mut self, op: Op, inputs: &[Tensor]) -> Result<Tensor, E> {
        let mut columns = [Columns::from(Tensor::NONE); super::op::MAX_INPUTS];
        for (to, &from) in columns.iter_mut().zip(inputs) {
            *to = from.into();
        }
        let [y, ..] = self.push(op, columns.get(..inputs.len()).unwrap_or(&[]), [true, false, false])?;
        Ok(y)
    }

    /// Adds `g` to the gradient of `t`, if one flows there.
    fn contribute(&mut self, t: Tensor, g: Tensor) -> Result<(), E> {
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

    /// Turns output `out` of a node that can add to gradients into a contribution to parameter `t`, or adds it to the gradient of an activation.
    fn settle(&mut self, t: Tensor, out: Tensor) -> Result<(), E> {
        if !out.is_some() {
            return Ok(());
        }
        if self.in_grads(t) { self.make_grad(t, out) } else { self.contribute(t, out) }
    }

    fn make_grad(&mut self, param: Tensor, out: Tensor) -> Result<(), E> {
        let TensorRecord { index, offset, .. } = *self.tensor(param)?;
        let record = self.tensor_mut(out)?;
        record.role = Role::Grad;
        (record.index, record.offset) = (index, offset);
        self.tensor_mut(param)?.successor = out;
        Ok(())
    }

    /// The gradient that `t` has so far, for an operation that adds to it; afterwards [`Inner::replace`] sets the sum.
    fn addend(&mut self, t: Tensor) -> Result<Tensor, E> {
        let record = *self.tensor(t)?;
        if !record.requires_grad || record.role == Role::Trainable || !record.successor.is_some() {
            return Ok(Tensor::NONE);
        }
        self.spread(record.successor, record.shape)
    }

    fn replace(&mut self, t: Tensor, out: Tensor) -> Result<(), E> {
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

    /// The value of `t` for the backward pass: kept, or computed again.
    fn saved(&mut self, t: Tensor, recompute: Recompute) -> Result<Tensor, E> {
        let copy = self.tensor(t)?.recomputed;
        // In the copy of a block, too, what is cheap need not stand from the copy's forward part to its use.
        let t = if recompute == Recompute::Blocks && copy.is_some() { copy } else { t };
        let record = *self.tensor(t)?;
        if record.recomputed.is_some() {
            return Ok(record.recomputed);
        }
        let kept = record.pinned || (record.checkpoint && recompute == Recompute::Blocks);
        if kept || recompute == Recompute::None {
            return Ok(t);
        }
        let Some(again) = self.cheaply_again(t, recompute)? else { return Ok(t) };
        self.tensor_mut(t)?.recomputed = again;
        // Its own copy: nothing is computed a third time.
        self.tensor_mut(again)?.recomputed = again;
        Ok(again)
    }

    /// Computes `t` from what its producer's gradient reads anyway, when that costs little beside a product: norms and functions of one number.
    fn cheaply_again(&mut self, t: Tensor, recompute: Recompute) -> Result<Option<Tensor>, E> {
        let Some(node) = self.node(self.tensor(t)?.producer.into()).filter(|node| node.output(0) == t) else { return Ok(None) };
        Ok(match node.op() {
            Some(op @ Op::LayerNorm { .. }) => {
                let x = self.saved(node.input(0), recompute)?;
                Some(self.one(op, &[x, node.input(1), node.input(2)])?)
            }
            Some(op @ Op::Unary { kind, .. }) if !matches!(kind, UnaryKind::Scale | UnaryKind::Offset) => {
                let x = self.saved(node.input(0), recompute)?;
                Some(self.one(op, &[x])?)
            }
            Some(Op::Linear { activation, .. }) if !node.input(3).is_some() => match activation.unary() {
                Some(kind) => Some(self.one(Op::Unary { kind, a: 0.0, b: 0.0 }, &[node.output(1)])?),
                None => None,
            },
            _ => None,
        })
    }

    /// Appends copies of the forward nodes between the checkpoint before node `index` and that node; returns the first node of the segment.
    fn recompute_segment(&mut self, index: usize, end: usize) -> Result<usize, E> {
        let produces_checkpoint = |inner: &Self, i: usize| {
            inner.node(i).is_some_and(|n| n.outputs.iter().any(|&t| inner.tensor(t).is_ok_and(|r| r.checkpoint)))
        };
        let first = (0..index).rev().find(|&i| produces_checkpoint(self, i)).map_or(0, |i| i + 1);
        let is_last = !(index..end).any(|i| produces_checkpoint(self, i));
        if is_last {
            return Ok(first);
        }
        for i in first..=index {
            let Some(node) = self.node(i) else { continue };
            let Some(op) = node.op() else { continue };
            if matches!(op, Op::CacheWrite) {
                continue;
            }
            let mut inputs = [Columns::from(Tensor::NONE); super::op::MAX_INPUTS];
            for ((to, &tensor), &first) in inputs.iter_mut().zip(&node.inputs).zip(&node.columns) {
                let again = self.tensor(tensor).map_or(Tensor::NONE, |r| r.recomputed);
                *to = Columns { tensor: if again.is_some() { again } else { tensor }, first };
            }
            let mut wanted = [false; MAX_OUTPUTS];
            for (w, t) in wanted.iter_mut().zip(&node.outputs) {
                *w = t.is_some();
            }
            let copies = self.push(op, &inputs, wanted)?;
            for (&t, copy) in node.outputs.iter().zip(copies) {
                if self.tensor(t).is_ok_and(|r| !r.checkpoint && !r.pinned) {
                    self.tensor_mut(t)?.recomputed = copy;
                }
            }
        }
        Ok(first)
    }

    /// Appends the gradient of one node. No wildcard arm: an operation without a decision here does not compile.
    fn differentiate(&mut self, step: &Step) -> Result<(), E> {
        let Some(op) = step.node.op() else { return Ok(()) };
        match op {
            Op::Linear { activation, .. } => self.linear_gradient(step, activation),
            Op::LayerNorm { .. } => self.layer_norm_gradient(step),
            Op::Embedding => self.embedding_gradient(step),
            Op::Attention(spec) => self.attention_gradient(step, spec),
            Op::HeadLoss { smoothing } => self.head_gradient(step, smoothing),
            Op::Dropout { .. } => {
                let dy = self.upstream(step, 0)?;
                let dx = self.one(op, &[dy, step.input(1)])?;
                self.contribute(step.input(0), dx)
            }
            Op::Unary { kind, a, b } => {
                let dy = self.upstream(step, 0)?;
                let dx = match kind {
                    UnaryKind::Scale => self.one(op, &[dy])?,
                    UnaryKind::Offset => dy,
                    _ => {
                        let x = self.saved(step.input(0), step.recompute)?;
                        self.one(Op::UnaryBackward { kind, a, b }, &[dy, x])?
                    }
                };
                self.contribute(step.input(0), dx)
            }
            Op::Binary { kind, over } => self.binary_gradient(step, kind, over),
            Op::Broadcast { over, .. } => {
                let dy = self.upstream(step, 0)?;
                self.contribute_reduced(step.input(0), dy, over)
            }
            Op::Reduce { kind, over } => self.reduce_gradient(step, kind, over),
            Op::TokenSlice { first, .. } => {
                let dy = self.upstream(step, 0)?;
                let tokens = self.tensor(step.input(0))?.shape.dim(1) as u32;
                let dx = self.one(Op::TokenPad { first, tokens }, &[dy])?;
                self.contribute(step.input(0), dx)
            }
            Op::TokenPad { first, .. } => self.contribute_tokens(step, 0, first),
            Op::TokenConcat => {
                let tokens = self.tensor(step.input(0))?.shape.dim(1) as u32;
                self.contribute_tokens(step, 0, 0)?;
                self.contribute_tokens(step, 1, tokens)
            }
            Op::TokenReplace { first } => {
                let dy = self.upstream(step, 0)?;
                self.contribute_tokens(step, 1, first)?;
                if self.wants(step, 0) {
                    let (dims, rank) = self.tensor(step.input(1))?.shape.padded();
                    let zeros = self.one(Op::Constant { value: 0.0, dims, rank }, &[])?;
                    let dx = self.one(op, &[dy, zeros])?;
                    self.contribute(step.input(0), dx)?;
                }
                Ok(())
            }
            Op::Reshape { .. } => {
                let dy = self.upstream(step, 0)?;
                let dx = self.reshaped(dy, self.tensor(step.input(0))?.shape)?;
                self.contribute(step.input(0), dx)
            }
            // Nothing is differentiated twice, constants and state end the flow, and updates come after the backward pass.
            Op::LinearBackward
            | Op::LayerNormBackward
            | Op::EmbeddingBackward { .. }
            | Op::AttentionBackward(_)
            | Op::CacheWrite
            | Op::CacheRead
            | Op::HeadLossTrain { .. }
            | Op::HeadLossBackward { .. }
            | Op::UnaryBackward { .. }
            | Op::SelectBackward { .. }
            | Op::ReduceMaxBackward { .. }
            | Op::AccumulateGrad
            | Op::Constant { .. }
            | Op::GlobalNorm
            | Op::AdamW { .. }
            | Op::Sgd { .. }
            | Op::Ema { .. } => Ok(()),
        }
    }

    fn linear_gradient(&mut self, step: &Step, activation: Activation) -> Result<(), E> {
        let dy = self.upstream(step, 0)?;
        let [x, w, b, residual] = [0, 1, 2, 3].map(|i| step.input(i));
        if residual.is_some() {
            self.contribute(residual, dy)?;
        }
        let wanted = [0, 1, 2].map(|i| self.wants(step, i));
        if wanted == [false; 3] {
            return Ok(());
        }
        let dpre = match activation.unary() {
            Some(_) if step.recompute == Recompute::None => {
                self.keep_slope(step, activation);
                self.one(Op::Binary { kind: BinaryKind::Mul, over: Over::Same }, &[dy, step.node.output(1)])?
            }
            Some(kind) => {
                let pre = self.saved(step.node.output(1), step.recompute)?;
                self.one(Op::UnaryBackward { kind, a: 0.0, b: 0.0 }, &[dy, pre])?
            }
            None => dy,
        };
        let [wants_x, wants_w, _] = wanted;
        let addend = if wants_x { self.addend(x)? } else { Tensor::NONE };
        // Only the gradient of the weight reads x: where the weight is frozen, x need not stand until here.
        let saved = if wants_w { self.saved(x, step.recompute)? } else { Tensor::NONE };
        let w_saved = self.saved(w, step.recompute)?;
        let [dx, dw, db] = self.push(Op::LinearBackward, &[dpre, saved, w_saved, addend].map(Columns::from), wanted)?;
        self.replace(x, dx)?;
        self.settle(w, dw)?;
        self.settle(b, db)
    }

    /// Has a forward node keep the derivative of its activation: it is computed beside the activation for little, and from its argument for much.
    fn keep_slope(&mut self, step: &Step, activation: Activation) {
        if let Some(node) = self.nodes.get_mut(step.index) {
            node.attributes = Op::Linear { activation, slope: true }.attributes();
        }
    }

    fn layer_norm_gradient(&mut self, step: &Step) -> Result<(), E> {
        let dy = self.upstream(step, 0)?;
        let [x, w, b] = [0, 1, 2].map(|i| step.input(i));
        let wanted = [0, 1, 2].map(|i| self.wants(step, i));
        let addend = if wanted.first() == Some(&true) { self.addend(x)? } else { Tensor::NONE };
        let saved = self.saved(x, step.recompute)?;
        let statistics = self.saved(step.node.output(1), step.recompute)?;
        let inputs = [dy, saved, w, statistics, addend].map(Columns::from);
        let [dx, dw, db] = self.push(Op::LayerNormBackward, &inputs, wanted)?;
        self.replace(x, dx)?;
        self.settle(w, dw)?;
        self.settle(b, db)
    }

    fn embedding_gradient(&mut self, step: &Step) -> Result<(), E> {
        let dy = self.upstream(step, 0)?;
        let [ids, table, addend] = [0, 1, 2].map(|i| step.input(i));
        if addend.is_some() {
            self.contribute(addend, dy)?;
        }
        if self.wants(step, 1) {
            let vocab = self.tensor(table)?.shape.rows() as u32;
            let out = self.one(Op::EmbeddingBackward { vocab }, &[ids, dy])?;
            let shape = self.tensor(table)?.shape;
            if self.in_grads(table) {
                return self.settle(table, out);
            }
            let out = self.reshaped(out, shape)?;
            self.contribute(table, out)?;
        }
        Ok(())
    }

    fn attention_gradient(&mut self, step: &Step, spec: super::op::AttentionSpec) -> Result<(), E> {
        let [q, k, v, q_segments, k_segments, live, control] = [0, 1, 2, 3, 4, 5, 6].map(|i| step.input(i));
        if live.is_some() {
            return Err(E::NoGradientThroughLiveLengths);
        }
        let dy = self.upstream(step, 0)?;
        let o = self.saved(step.node.output(0), step.recompute)?;
        let lse = self.saved(step.node.output(1), step.recompute)?;
        let mut inputs = [dy, q, k, v, o, lse, q_segments, k_segments, control].map(Columns::from);
        let columns = [0, 1, 2].map(|i| step.node.columns.get(i).copied().unwrap_or(0));
        for (input, first) in inputs.iter_mut().skip(1).zip(columns) {
            *input = Columns { tensor: self.saved(input.tensor, step.recompute)?, first };
        }
        let outputs = self.push(Op::AttentionBackward(spec), &inputs, [true; MAX_OUTPUTS])?;
        let slots = super::record::attention_grad_outputs(q, k, v);
        let mut done = [false; MAX_OUTPUTS];
        for (slot, t) in slots.into_iter().zip([q, k, v]) {
            if let (Some(&out), Some(done)) = (outputs.get(slot), done.get_mut(slot))
                && !core::mem::replace(done, true)
            {
                self.contribute(t, out)?;
            }
        }
        Ok(())
    }

    fn head_gradient(&mut self, step: &Step, smoothing: f64) -> Result<(), E> {
        let [x, w, b, targets] = [0, 1, 2, 3].map(|i| step.input(i));
        let losses = *self.tensor(step.node.output(0))?;
        let lse = *self.tensor(step.node.output(1))?;
        let upstream = losses.successor;
        let producer = self.tensor(upstream)?.producer;
        let known_before = producer == u16::MAX || usize::from(producer) < step.index;
        if known_before && !b.is_some() && !lse.pinned {
            let [dx, dw] = self.fuse_head(step, smoothing, upstream)?;
            self.contribute_if(x, dx)?;
            return self.settle(w, dw);
        }
        let wanted = [0, 1, 2].map(|i| self.wants(step, i));
        let saved = self.saved(x, step.recompute)?;
        let inputs = [saved, w, b, targets, upstream, step.node.output(1)].map(Columns::from);
        let [dx, dw, db] = self.push(Op::HeadLossBackward { smoothing }, &inputs, wanted)?;
        self.contribute_if(x, dx)?;
        self.settle(w, dw)?;
        self.settle(b, db)
    }

    fn contribute_if(&mut self, t: Tensor, g: Tensor) -> Result<(), E> {
        if g.is_some() { self.contribute(t, g) } else { Ok(()) }
    }

    /// Turns a forward head into one that computes losses and gradients in the same pass.
    fn fuse_head(&mut self, step: &Step, smoothing: f64, upstream: Tensor) -> Result<[Tensor; 2], E> {
        let mut gradients = [Tensor::NONE; 2];
        for (i, gradient) in gradients.iter_mut().enumerate() {
            if self.wants(step, i) {
                let shape = self.tensor(step.input(i))?.shape;
                *gradient = self.add_tensor(TensorRecord { shape, producer: step.index as u16, ..TensorRecord::EMPTY })?;
            }
        }
        let op = Op::HeadLossTrain { smoothing };
        if let Some(node) = self.nodes.get_mut(step.index) {
            let [dx, dw] = gradients;
            node.opcode = op.opcode();
            node.attributes = op.attributes();
            node.outputs = [step.node.output(0), dx, dw];
            if let Some(input) = node.inputs.get_mut(4) {
                *input = upstream;
            }
        }
        Ok(gradients)
    }

    fn binary_gradient(&mut self, step: &Step, kind: BinaryKind, over: Over) -> Result<(), E> {
        let dy = self.upstream(step, 0)?;
        let [a, b] = [step.input(0), step.input(1)];
        let binary = |kind| Op::Binary { kind, over };
        let same = |kind| Op::Binary { kind, over: Over::Same };
        match kind {
            BinaryKind::Add => {
                self.contribute(a, dy)?;
                self.contribute_reduced(b, dy, over)
            }
            BinaryKind::Sub => {
                self.contribute(a, dy)?;
                if !self.wants(step, 1) {
                    return Ok(());
                }
                let negative = self.one(Op::Unary { kind: UnaryKind::Scale, a: -1.0, b: 0.0 }, &[dy])?;
                self.contribute_reduced(b, negative, over)
            }
            BinaryKind::Mul => {
                if self.wants(step, 0) {
                    let b = self.saved(b, step.recompute)?;
                    let da = self.one(binary(BinaryKind::Mul), &[dy, b])?;
                    self.contribute(a, da)?;
                }
                if self.wants(step, 1) {
                    let a = self.saved(a, step.recompute)?;
                    let product = self.one(same(BinaryKind::Mul), &[dy, a])?;
                    self.contribute_reduced(b, product, over)?;
                }
                Ok(())
            }
            BinaryKind::Div => {
                let b_saved = self.saved(b, step.recompute)?;
                let da = self.one(binary(BinaryKind::Div), &[dy, b_saved])?;
                if self.wants(step, 1) {
                    let y = self.saved(step.node.output(0), step.recompute)?;
                    let product = self.one(same(BinaryKind::Mul), &[da, y])?;
                    let negative = self.one(Op::Unary { kind: UnaryKind::Scale, a: -1.0, b: 0.0 }, &[product])?;
                    self.contribute_reduced(b, negative, over)?;
                }
                self.contribute(a, da)
            }
            BinaryKind::Min | BinaryKind::Max => {
                let (a_saved, b_saved) = (self.saved(a, step.recompute)?, self.saved(b, step.recompute)?);
                let da = self.one(Op::SelectBackward { max: kind == BinaryKind::Max, over }, &[dy, a_saved, b_saved])?;
                if self.wants(step, 1) {
                    let rest = self.one(same(BinaryKind::Sub), &[dy, da])?;
                    self.contribute_reduced(b, rest, over)?;
                }
                self.contribute(a, da)
            }
        }
    }

    fn reduce_gradient(&mut self, step: &Step, kind: ReduceKind, over: Over) -> Result<(), E> {
        let dy = self.upstream(step, 0)?;
        let x = step.input(0);
        let dx = match kind {
            ReduceKind::Sum => {
                let (dims, rank) = self.tensor(x)?.shape.padded();
                self.one(Op::Broadcast { over, dims, rank }, &[dy])?
            }
            ReduceKind::Max => {
                let saved = self.saved(x, step.recompute)?;
                let y = self.saved(step.node.output(0), step.recompute)?;
                self.one(Op::ReduceMaxBackward { over }, &[dy, saved, y])?
            }
        };
        self.contribute(x, dx)
    }

    /// Contributes the sum of `g` over what `over` spread, in the shape of `t`.
    fn contribute_reduced(&mut self, t: Tensor, g: Tensor, over: Over) -> Result<(), E> {
        let record = *self.tensor(t)?;
        if !record.requires_grad {
            return Ok(());
        }
        let reduced = if over == Over::Same { g } else { self.one(Op::Reduce { kind: ReduceKind::Sum, over }, &[g])? };
        let shaped = self.reshaped(reduced, record.shape)?;
        self.contribute(t, shaped)
    }

    /// Contributes the tokens of the upstream gradient that came from input `i`, which began at token `first`.
    fn contribute_tokens(&mut self, step: &Step, i: usize, first: u32) -> Result<(), E> {
        if !self.wants(step, i) {
            return Ok(());
        }
        let dy = self.upstream(step, 0)?;
        let count = self.tensor(step.input(i))?.shape.dim(1) as u32;
        let dx = self.one(Op::TokenSlice { first, count }, &[dy])?;
        self.contribute(step.input(i), dx)
    }

    fn reshaped(&mut self, t: Tensor, to: Shape) -> Result<Tensor, E> {
        if self.tensor(t)?.shape == to {
            return Ok(t);
        }
        let (dims, rank) = to.padded();
        self.one(Op::Reshape { dims, rank }, &[t])
    }
}

/// Whether a gradient can flow into input `i`.
fn differentiable(op: &Op, i: usize) -> bool {
    match op {
        Op::Linear { .. } => i < 4,
        Op::LayerNorm { .. } | Op::Attention(_) | Op::HeadLoss { .. } => i < 3,
        Op::Embedding => i == 1 || i == 2,
        Op::Dropout { .. } | Op::Unary { .. } | Op::Broadcast { .. } | Op::Reduce { .. } | Op::Reshape { .. } => i == 0,
        Op::TokenSlice { .. } | Op::TokenPad { .. } => i == 0,
        Op::Binary { .. } | Op::TokenConcat | Op::TokenReplace { .. } => i < 2,
        Op::LinearBackward
        | Op::LayerNormBackward
        | Op::EmbeddingBackward { .. }
        | Op::AttentionBackward(_)
        | Op::CacheWrite
        | Op::CacheRead
        | Op::HeadLossTrain { .. }
        | Op::HeadLossBackward { .. }
        | Op::UnaryBackward { .. }
        | Op::SelectBackward { .. }
        | Op::ReduceMaxBackward { .. }
        | Op::AccumulateGrad
        | Op::Constant { .. }
        | Op::GlobalNorm
        | Op::AdamW { .. }
        | Op::Sgd { .. }
        | Op::Ema { .. } => false,
    }
}
