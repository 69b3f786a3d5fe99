//! Tables of vectors.

use super::stack::repeat;
use crate::graph::{Graph, Tensor};
use crate::params::{Init, ParamId, Scope};

/// One row of a table (V, C) for each id.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Embedding {
    table: ParamId,
}

repeat!(Embedding { table });

impl Embedding {
    /// Adds `weight` (count, width).
    pub fn register(count: usize, width: usize, init: Init, s: &mut Scope<'_>) -> Self {
        Self { table: s.add("weight", &[count, width], init) }
    }

    /// Rows of the table, plus `addend` if given. ids (…) in 0..V, addend and result (…, C).
    #[track_caller]
    pub fn forward(&self, g: &Graph<'_>, ids: Tensor, addend: Option<Tensor>) -> Tensor {
        g.embedding(ids, g.param(self.table), addend) // (…, C)
    }

    /// The table.
    pub const fn table(&self) -> ParamId {
        self.table
    }
}
