//! The search for tests, compiled once for each type of costs.

use super::{Assignment, Cost, Costs, Error, Index, Machine, Options, Stores, Workspace, linear_sum_assignment_on};

/// [`super::Portable`] that is not inlined: a search in every test would take minutes to compile.
#[derive(Clone, Copy)]
pub(crate) struct Shared;

impl Machine for Shared {
    #[inline(never)]
    fn run<A>(self, task: impl FnOnce(Stores) -> A) -> A {
        task(Stores::Whole)
    }
}

/// [`super::linear_sum_assignment`] on it.
pub(crate) fn linear_sum_assignment<'w, T: Cost, I: Index>(
    costs: Costs<'_, T>,
    options: &Options<T>,
    workspace: &'w mut Workspace<'_, T, I>,
) -> Result<Assignment<'w, T, I>, Error<T>> {
    linear_sum_assignment_on(Shared, costs, options, workspace)
}
