//! Name maps: the correspondence of parameters in memory and tensors in a file, as data.
//!
//! A family defines a table of [`NameRule`]s. [`NameMap::bind`] applies them to the parameters of one model: the [`Layout`] lists the tensors on disk
//! and, as row ranges, which of their rows are which rows of which parameter. Reading, writing, and the disk names of gradients all use these row
//! ranges. A layout in which an element has no location, or two, is refused when it is bound.

mod bind;
mod layout;
mod pattern;
mod pieces;
#[cfg(test)]
mod tests;

pub use layout::{DiskTensor, Layout, ParameterRows, STRIP};
pub use pattern::Pattern;

use samara_core::graph::Pairing;
use thiserror::Error;

/// One line of a family's table. Names are [`Pattern`]s; the first of several matching rules applies, and a parameter without a rule has the same
/// name on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameRule {
    /// A parameter has another name on disk.
    Rename {
        /// The parameter.
        memory: Pattern,
        /// The tensor.
        disk: Pattern,
    },
    /// A parameter is several tensors on disk, whose rows follow each other.
    Fuse {
        /// The parameter.
        memory: Pattern,
        /// The tensors and their rows.
        parts: Vec<(Pattern, usize)>,
    },
    /// Several parameters are one tensor on disk, with consecutive rows.
    Split {
        /// The tensor.
        disk: Pattern,
        /// The parameters.
        parts: Vec<Pattern>,
    },
    /// A matrix is stored transposed: (in, out) where the parameter is (out, in). Rows of [`NameRule::Fuse`] and [`NameRule::Split`] are then its columns.
    Transpose {
        /// The tensor.
        disk: Pattern,
    },
    /// A tensor has rows of more extents than its parameter: the kernel of a convolution. With `channels_last` its rows are (channels, …) on
    /// disk and (…, channels) in the parameter.
    Extents {
        /// The tensor.
        disk: Pattern,
        /// The extents of a row on disk.
        row: Vec<usize>,
        /// Whether the first of them is the last one in the parameter.
        channels_last: bool,
    },
    /// Rows of every head have another order on disk: the tensor's rows are paired as `on_disk` says, the parameter's in the other convention.
    Permute {
        /// The tensor.
        disk: Pattern,
        /// Rows of a head, an even number.
        head_dim: usize,
        /// The order on disk.
        on_disk: Pairing,
    },
    /// A tensor that may be in a file and must then equal another one, such as a head tied to the embedding. It is not written.
    Tie {
        /// The repeated tensor.
        disk: Pattern,
        /// The tensor that it repeats.
        to: Pattern,
    },
    /// A prefix that names lack in files of models without a head.
    Prefix(&'static str),
    /// Tensors in old files that are no parameters, such as masks.
    Ignore(Pattern),
    /// The end of names, and what it was in old files.
    Formerly(&'static str, &'static str),
    /// A vector that the model does not have and that other tools expect: written as zeros, absent or 0 when read.
    AbsentIfZero {
        /// The tensor.
        disk: Pattern,
        /// The parameter whose tensors it follows; its length is the number of that parameter's rows.
        beside: Pattern,
    },
}

impl NameRule {
    /// [`NameRule::Rename`].
    pub fn rename(memory: impl Into<Pattern>, disk: impl Into<Pattern>) -> Self {
        Self::Rename { memory: memory.into(), disk: disk.into() }
    }

    /// [`NameRule::Fuse`].
    pub fn fuse<P: Into<Pattern>>(memory: impl Into<Pattern>, parts: impl IntoIterator<Item = (P, usize)>) -> Self {
        let parts = parts.into_iter().map(|(name, rows)| (name.into(), rows)).collect();
        Self::Fuse { memory: memory.into(), parts }
    }

    /// [`NameRule::Split`].
    pub fn split<P: Into<Pattern>>(disk: impl Into<Pattern>, parts: impl IntoIterator<Item = P>) -> Self {
        Self::Split { disk: disk.into(), parts: parts.into_iter().map(Into::into).collect() }
    }

    /// [`NameRule::Transpose`].
    pub fn transpose(disk: impl Into<Pattern>) -> Self {
        Self::Transpose { disk: disk.into() }
    }

    /// [`NameRule::Extents`].
    pub fn extents(disk: impl Into<Pattern>, row: impl Into<Vec<usize>>, channels_last: bool) -> Self {
        Self::Extents { disk: disk.into(), row: row.into(), channels_last }
    }

    /// [`NameRule::Permute`].
    pub fn permute(disk: impl Into<Pattern>, head_dim: usize, on_disk: Pairing) -> Self {
        Self::Permute { disk: disk.into(), head_dim, on_disk }
    }

    /// [`NameRule::Tie`].
    pub fn tie(disk: impl Into<Pattern>, to: impl Into<Pattern>) -> Self {
        Self::Tie { disk: disk.into(), to: to.into() }
    }

    /// [`NameRule::Ignore`].
    pub fn ignore(disk: impl Into<Pattern>) -> Self {
        Self::Ignore(disk.into())
    }

    /// [`NameRule::AbsentIfZero`].
    pub fn absent_if_zero(disk: impl Into<Pattern>, beside: impl Into<Pattern>) -> Self {
        Self::AbsentIfZero { disk: disk.into(), beside: beside.into() }
    }
}

/// The prefix of names in an adapter's file.
pub const ADAPTER_PREFIX: &str = "base_model.model.";

/// The table of a family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NameMap {
    /// The rules.
    pub rules: Vec<NameRule>,
}

impl NameMap {
    /// The map of an adapter's file as PEFT writes it: names begin with `base_model.model.`, adapters' matrices are named by the paths of their
    /// layers. Rules for the whole model (ties, prefixes, absent tensors) are left out.
    pub fn of_adapter(&self) -> Self {
        let on_disk = |pattern: &Pattern| Pattern::from(format!("{ADAPTER_PREFIX}{pattern}"));
        let adapted = self.rules.iter().filter_map(|rule| match rule {
            NameRule::Rename { memory, disk } => Some(NameRule::Rename { memory: memory.clone(), disk: on_disk(disk) }),
            NameRule::Fuse { memory, parts } => {
                let parts = parts.iter().map(|(name, rows)| (on_disk(name), *rows)).collect();
                Some(NameRule::Fuse { memory: memory.clone(), parts })
            }
            NameRule::Split { disk, parts } => Some(NameRule::Split { disk: on_disk(disk), parts: parts.clone() }),
            NameRule::Transpose { disk } => Some(NameRule::Transpose { disk: on_disk(disk) }),
            // Rows of A are not rows of heads; folders pair the rows of a head by halves, as memory does, so nothing is permuted.
            NameRule::Permute { .. }
            | NameRule::Extents { .. }
            | NameRule::Tie { .. }
            | NameRule::Prefix(_)
            | NameRule::Ignore(_)
            | NameRule::Formerly(..)
            | NameRule::AbsentIfZero { .. } => None,
        });
        Self { rules: adapted.chain([NameRule::rename("*", format!("{ADAPTER_PREFIX}*"))]).collect() }
    }

    /// Whether matrices are stored transposed: `Conv1D`, PEFT's `fan_in_fan_out`.
    pub fn transposes(&self) -> bool {
        self.rules.iter().any(|rule| matches!(rule, NameRule::Transpose { .. }))
    }

    /// Applies the rules to the parameters of a model: names and shapes, in the order of the registry.
    ///
    /// # Errors
    /// [`MapError`] names the tensor or parameter for which the rules are wrong, above all when an element has no location or two.
    pub fn bind(&self, parameters: &[(String, Vec<usize>)]) -> Result<Layout, MapError> {
        bind::bind(&self.rules, parameters)
    }
}

/// A name map that does not fit the parameters of its model.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MapError {
    /// A row without a place, or with several.
    #[error("name map: row {row} of {what} {name:?} has {places} places in the {other}, expected 1")]
    Row {
        /// "parameter" or "tensor".
        what: &'static str,
        /// Its name.
        name: String,
        /// The first such row.
        row: usize,
        /// How many places it has.
        places: usize,
        /// Where they are counted: "file" or "model".
        other: &'static str,
    },
    /// Parameters with rows of different lengths in one tensor.
    #[error(
        "name map: parameter {parameter:?} has rows of shape {found:?} and shares tensor {tensor:?} with rows of shape {expected:?}"
    )]
    RowShape {
        /// The tensor.
        tensor: String,
        /// The parameter.
        parameter: String,
        /// Shape of its rows.
        found: Vec<usize>,
        /// Shape of the others' rows.
        expected: Vec<usize>,
    },
    /// Only matrices are transposed.
    #[error("name map: tensor {tensor:?} of shape {shape:?} cannot be transposed: expected a matrix")]
    NotAMatrix {
        /// The tensor.
        tensor: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// Rows of another length than the extents on disk.
    #[error("name map: rows of tensor {tensor:?} have {found} values, not those of shape {row:?}")]
    Extents {
        /// The tensor.
        tensor: String,
        /// Values of a row.
        found: usize,
        /// The extents of the rule.
        row: Vec<usize>,
    },
    /// Rows that are not whole heads.
    #[error("name map: {rows} rows of tensor {tensor:?} are not whole heads of {head_dim} rows, an even number")]
    Heads {
        /// The tensor.
        tensor: String,
        /// The number of rows of a parameter, or the row where they begin.
        rows: usize,
        /// Rows of a head.
        head_dim: usize,
    },
    /// A name on disk that cannot be made from the parameter's name.
    #[error("name map: pattern {pattern:?} has more wildcards than the one it is filled from, matched by {name:?}")]
    Wildcards {
        /// The pattern.
        pattern: String,
        /// The name whose captures fill it.
        name: String,
    },
    /// A tie to a tensor that is not in the layout.
    #[error("name map: tensor {disk:?} is tied to {to:?}, which the model does not have")]
    Untied {
        /// The repeated tensor.
        disk: String,
        /// The missing one.
        to: String,
    },
}
