//! Values of the forward pass that the backward pass reads: kept, or recomputed.

use super::choice::Recompute;
use super::error::GraphErrorKind as E;
use super::op::{Effect, MAX_INPUTS, MAX_OUTPUTS};
use super::tape::Tape;
use super::tensor::{Columns, Tensor};

impl Tape<'_> {
    /// The value of `t` for the backward pass: kept, or recomputed.
    pub(super) fn saved(&mut self, t: Tensor) -> Result<Tensor, E> {
        let blocks = self.recompute == Recompute::Blocks;
        let copy = self.tensor(t)?.recomputed;
        // Within the copy of a block, too, cheap values are not kept between the copy's forward nodes and their use.
        let t = if blocks && copy.is_some() { copy } else { t };
        let record = *self.tensor(t)?;
        if record.recomputed.is_some() {
            return Ok(record.recomputed);
        }
        let kept = record.pinned || (record.checkpoint && blocks);
        if kept || self.recompute == Recompute::None {
            return Ok(t);
        }
        let Some(node) = self.node(record.producer.into()).filter(|node| node.output(0) == t) else { return Ok(t) };
        let Some(op) = node.op() else { return Ok(t) };
        let Some(rule) = self.again else { return Ok(t) };
        let Some(again) = rule(&op, self, &node)? else { return Ok(t) };
        self.tensor_mut(t)?.recomputed = again;
        // The node is itself a copy: no value is computed a third time.
        self.tensor_mut(again)?.recomputed = again;
        Ok(again)
    }

    /// Appends copies of the forward nodes between the checkpoint before node `index` and that node; returns the first node of the segment.
    pub(super) fn recompute_segment(&mut self, index: usize, end: usize) -> Result<usize, E> {
        let produces_checkpoint = |tape: &Self, i: usize| {
            tape.node(i).is_some_and(|n| n.outputs.iter().any(|&t| tape.tensor(t).is_ok_and(|r| r.checkpoint)))
        };
        let first = (0..index).rev().find(|&i| produces_checkpoint(self, i)).map_or(0, |i| i + 1);
        let is_last = !(index..end).any(|i| produces_checkpoint(self, i));
        if is_last {
            return Ok(first);
        }
        for i in first..=index {
            let Some(node) = self.node(i) else { continue };
            let Some(op) = node.op().filter(|op| op.effect() == Effect::None) else { continue };
            let mut inputs = [Columns::from(Tensor::NONE); MAX_INPUTS];
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
}
