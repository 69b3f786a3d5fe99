//! The memory location of a tensor, for backends.

use core::ops::Range;

use crate::graph::{Program, Role, Tensor};
use crate::plan::Plan;

/// The memory location of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Its role, which names the buffer: the arena for [`Role::Activation`] and [`Role::Input`], and one buffer for each other role.
    pub role: Role,
    /// Its range there: in bytes for frozen parameters, in elements for every other buffer. Empty for an activation without a reader.
    pub range: Range<usize>,
}

/// The location of a tensor; `None` for a tensor that is not in the program. An element of the backend's type takes `real_bytes`.
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
