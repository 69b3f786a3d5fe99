//! Linear assignment: the row-column pairs of least total cost, with a proof of optimality, in memory lent by the caller.
//!
//! [`linear_sum_assignment`] gives the answers of scipy's function of that name, for rectangular matrices of `f32`, `f64`, `i32` or `i64`, and
//! returns the dual variables with the pairs. [`verify()`] checks in one pass over the costs that the duals prove the answer optimal.

mod across;
mod answer;
mod bottleneck;
mod cardinality;
#[cfg(test)]
mod edges;
mod error;
mod kernel;
mod len;
mod machine;
mod number;
mod options;
mod scipy;
mod search;
#[cfg(test)]
pub(crate) mod shared;
mod small;
mod solve;
mod start;
mod verify;
mod view;
mod warm;
mod workspace;

#[cfg(test)]
mod tests;

pub use answer::Assignment;
pub use bottleneck::{Bottleneck, bottleneck_assignment};
pub use cardinality::assign_pairs;
pub use error::Error;
pub use len::WorkspaceLen;
pub use machine::{Machine, Portable, Stores};
pub use number::{Cost, Index};
pub use options::{Dirty, Objective, Options, Ties};
pub use solve::{linear_sum_assignment, linear_sum_assignment_lazy, linear_sum_assignment_on};
pub use verify::{Certificate, Violation, verify};
pub use view::{Costs, LazyRows};
pub use warm::{Changed, reassign, refine};
pub use workspace::{Fixed, Workspace, workspace_bytes, workspace_len};
