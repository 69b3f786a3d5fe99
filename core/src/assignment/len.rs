//! The memory that a search needs.

/// The size of a `Workspace`, in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkspaceLen {
    /// Elements of the cost's type.
    pub costs: usize,
    /// Elements of the index's type.
    pub indices: usize,
}
