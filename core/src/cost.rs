//! What a node costs at least: floating-point operations and bytes moved, from its shapes alone.
//!
//! An operation with matrix products counts these, 2 for each multiplication with its addition; its bias, softmax or activation vanish beside
//! them. Every other operation counts the arithmetic of its formula, a function such as e^x as one. Bytes are those of every tensor read once
//! and written once, as if no two nodes met in a cache: divided by the bandwidth of the memory they are a floor for large tensors, and small
//! ones that are still in a cache can be faster.

use crate::graph::op::MAX_OUTPUTS;
use crate::graph::rules::flops_and_bytes;
use crate::graph::work::Work;
use crate::graph::{Program, Role, Tensor};
use crate::plan::Plan;

/// Work of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Floating-point operations.
    pub flops: u64,
    /// Bytes read and written.
    pub bytes: u64,
}

impl Cost {
    /// The cost of node `i`; none for a node that nobody needs.
    ///
    /// `live_keys` is how many keys of a cache attention reads where a program learns it at run time, and all of them without it. Gradients are
    /// those of a first micro-batch, which overwrites.
    pub fn of(program: &Program<'_>, plan: &Plan<'_>, i: usize, real_bytes: usize, live_keys: Option<usize>) -> Option<Self> {
        let node = program.node(i).filter(|n| !n.record().dead)?;
        let is_read = |t: Tensor| program.tensor(t).is_some_and(|r| r.role != Role::Activation || !plan.value(t).is_empty());
        let wanted: [bool; MAX_OUTPUTS] = node.record().outputs.map(is_read);
        let in_place = plan.value(node.record().input(0)) == plan.value(node.record().output(0));
        let trainable = program.params().trainable_count();
        let (flops, bytes) = flops_and_bytes(&node.op()?, &Work { node, wanted, in_place, trainable, real_bytes, live_keys });
        Some(Self { flops, bytes })
    }

    /// The sum of two costs.
    pub const fn plus(self, other: Self) -> Self {
        Self { flops: self.flops.saturating_add(other.flops), bytes: self.bytes.saturating_add(other.bytes) }
    }
}
