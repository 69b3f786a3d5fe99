//! Updates in the backward pass: each comes after the last gradient that reads the parameter's old value.
//!
//! Several contributions to one parameter are summed by a separate node, so that their last bits differ from sums in a gradient buffer. A token
//! embedding that is also the head keeps its gradient from the first node of the backward pass to the last, which is why `Tune::Head` gives the head
//! a weight of its own.

use super::error::GraphErrorKind as E;
use super::op::MAX_OUTPUTS;
use super::record::NodeRecord;
use super::tape::Tape;
use super::tensor::{Columns, Tensor};

impl Tape<'_> {
    /// Updates the parameters that node `index` reads and no earlier node does. Their gradients are complete, and their old values have no more
    /// readers: neither the gradients of earlier nodes, nor recomputed nodes, which come before the gradients that read them.
    pub(super) fn update_read_first_by(&mut self, index: usize, node: &NodeRecord) -> Result<(), E> {
        for (i, t) in node.inputs.iter().enumerate() {
            if !node.inputs.iter().take(i).any(|other| other == t) {
                self.update_unless_read(*t, index)?;
            }
        }
        Ok(())
    }

    /// Updates the parameters that none of the first `end` nodes reads: their gradients are the caller's upstream gradients.
    pub(super) fn update_unread(&mut self, end: usize) -> Result<(), E> {
        (0..self.params.infos().len()).try_for_each(|number| self.update_unless_read(Tensor(number as u16), end))
    }

    /// Appends the update of `t` if the backward pass makes updates, `t` is a trainable parameter with a gradient, and none of the first `end` nodes
    /// reads it.
    fn update_unless_read(&mut self, t: Tensor, end: usize) -> Result<(), E> {
        let Some(updates) = self.updates else { return Ok(()) };
        let Some(&info) = self.params.infos().get(t.index()).filter(|info| !info.frozen) else { return Ok(()) };
        let gradient = self.tensor(t)?.successor;
        if !gradient.is_some() || (0..end).filter_map(|i| self.node(i)).any(|node| node.inputs.contains(&t)) {
            return Ok(());
        }
        let gradient = self.spread(gradient, info.shape)?;
        let op = updates.rule.op(info.range(), info.group);
        self.push(op, &[updates.hyper.of(info.group), Tensor::NONE, gradient].map(Columns::from), [false; MAX_OUTPUTS])?;
        Ok(())
    }
}
