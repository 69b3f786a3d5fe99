//! How much memory a search takes.

/// How many costs and how many indices a `Workspace` is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkspaceLen {
    /// Elements of the cost's type.
    pub costs: usize,
    /// Elements of the index's type.
    pub indices: usize,
}
