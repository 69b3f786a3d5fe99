//! Why a function of [`rl`](super) did not compute.

use core::fmt;

/// Why a function did not compute. Nothing that was lent is of use then.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Error {
    /// An array has another length than the others ask for.
    Length {
        /// The array.
        name: &'static str,
        /// The length asked for.
        expected: usize,
        /// Its length.
        found: usize,
    },
    /// An array is not a whole number of rows.
    Rows {
        /// The array.
        name: &'static str,
        /// Elements of a row.
        row: usize,
        /// Its length.
        found: usize,
    },
    /// A parameter is out of range.
    Parameter {
        /// The parameter.
        name: &'static str,
        /// The range.
        expected: &'static str,
        /// Its value.
        found: f64,
    },
    /// Too few elements count: none where a mean is taken, one where an unbiased variance is.
    TooFew {
        /// The array, after its mask.
        name: &'static str,
        /// How many it takes.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// A group of one row where a comparison within the group is needed.
    Group {
        /// The id of the group.
        id: u32,
    },
    /// An element that is NaN or infinite.
    NotFinite {
        /// The array.
        name: &'static str,
        /// Its position.
        index: usize,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { name, expected, found } => write!(f, "{name}: expected {expected} elements, found {found}"),
            Self::Rows { name, row, found } => write!(f, "{name}: expected whole rows of {row} elements, found {found} elements"),
            Self::Parameter { name, expected, found } => write!(f, "{name}: expected {expected}, found {found}"),
            Self::TooFew { name, expected, found } => {
                write!(f, "{name}: expected at least {expected} elements that count, found {found}")
            }
            Self::Group { id } => write!(
                f,
                "group {id} has one row, and nothing to compare it with: sample at least two completions a prompt, or keep its score"
            ),
            Self::NotFinite { name, index } => write!(f, "{name}: element {index} is not finite"),
        }
    }
}

impl core::error::Error for Error {}
