//! Where a tensor lies: what a backend needs to know of program and plan.

use core::ops::Range;

use crate::graph::{Program, Role, Tensor};
use crate::plan::Plan;

/// Where a tensor lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Its role, which names the buffer: the arena for [`Role::Activation`] and [`Role::Input`], and one buffer for each other role.
    pub role: Role,
    /// Its place there: bytes of the frozen parameters, elements of every other buffer. Empty for an activation that nobody reads.
    pub range: Range<usize>,
}

/// Where a tensor lies; `None` for a tensor that the program does not have. An element of the backend takes `real_bytes`.
pub fn placement(program: &Program<'_>, plan: &Plan<'_>, t: Tensor, real_bytes: usize) -> Option<Placement> {
    let record = program.tensor(t)?;
    let (start, len) = (record.start(), record.shape.len());
    let range = match record.role {
        Role::Activation | Role::Input => plan.value(t),
        Role::Ints | Role::Trainable | Role::Grad => start..start.saturating_add(len),
        Role::State => start..start.saturating_add(record.state_len()),
        Role::Frozen => start..start.saturating_add(record.dtype.bytes(len, real_bytes).unwrap_or(0)),
    };
    Some(Placement { role: record.role, range })
}
