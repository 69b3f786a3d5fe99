//! A lower bound of a node's work: floating-point operations and bytes moved, from its shapes alone.
//!
//! An operation with matrix products counts only these, 2 FLOPs per multiply-add; bias, softmax and activation are negligible beside them. Every
//! other operation counts the arithmetic of its formula, a function such as e^x as one FLOP. Bytes count every tensor read once and written once,
//! without reuse in caches between nodes: divided by the memory bandwidth this is a lower bound for large tensors; small tensors that stay in a cache
//! can be faster.

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
    /// The cost of node `i`; `None` for a dead node.
    ///
    /// `live_keys` is the number of cache keys that attention reads where a program learns it at run time; `None` counts all of them. Gradients count
    /// as those of the first micro-batch, which overwrites.
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
