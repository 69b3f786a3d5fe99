//! Why an assignment could not be computed.

use core::fmt;

use super::len::WorkspaceLen;

/// Why an assignment could not be computed.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Error<T> {
    /// The slice is shorter than the matrix.
    Short {
        /// Elements of the matrix.
        needed: usize,
        /// Elements of the slice.
        found: usize,
    },
    /// A cost that cannot be compared: NaN, or infinitely good.
    Invalid {
        /// Its row.
        row: usize,
        /// Its column.
        column: usize,
        /// The cost.
        value: T,
    },
    /// Too many pairs are forbidden: not every row (or column, if there are fewer) can be matched.
    Infeasible {
        /// The first row that cannot be matched together with those before it; a column if `of_columns`.
        index: usize,
        /// The index is of a column: true when there are more rows than columns.
        of_columns: bool,
    },
    /// Sums of integers could overflow.
    HeadRoom {
        /// The least cost.
        least: T,
        /// The largest cost.
        largest: T,
    },
    /// More rows or columns than fit the memory, or than the index type can number.
    TooMany {
        /// The largest count that fits.
        limit: usize,
        /// The count found.
        found: usize,
    },
    /// Too little memory.
    Workspace {
        /// Elements needed.
        needed: WorkspaceLen,
        /// Elements found.
        found: WorkspaceLen,
    },
    /// The workspace is for a matrix of another shape.
    Shape {
        /// Rows and columns of the workspace.
        expected: (usize, usize),
        /// Rows and columns of the costs.
        found: (usize, usize),
    },
    /// Two options exclude each other: scipy's tie order and a cost limit.
    Options,
    /// The cost limit is NaN.
    Limit,
    /// A lazily computed row differed between two evaluations.
    Unsteady {
        /// The row.
        row: usize,
    },
}

impl<T: fmt::Debug> fmt::Display for Error<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short { needed, found } => write!(f, "the matrix takes {needed} elements, but the slice has {found}"),
            Self::Invalid { row, column, value } => write!(
                f,
                "matrix contains invalid numeric entries: row {row}, column {column} is {value:?}; \
                 correct it, or ask for such entries to be forbidden pairs"
            ),
            Self::Infeasible { index, of_columns } => {
                let what = if *of_columns { "column" } else { "row" };
                write!(
                    f,
                    "cost matrix is infeasible: {what} {index} cannot be matched together with those before it; \
                     allow more pairs, or ask for forbidden pairs to leave rows free"
                )
            }
            Self::HeadRoom { least, largest } => {
                write!(f, "costs from {least:?} to {largest:?} could overflow when they are added along a path; use a wider type")
            }
            Self::TooMany { limit, found } => write!(f, "{found} rows or columns, at most {limit} fit"),
            Self::Workspace { needed, found } => write!(
                f,
                "the workspace takes {} costs and {} indices, but {} and {} were lent",
                needed.costs, needed.indices, found.costs, found.indices
            ),
            Self::Shape { expected, found } => {
                write!(f, "the workspace is for {} x {} costs, the matrix is {} x {}", expected.0, expected.1, found.0, found.1)
            }
            Self::Options => f.write_str("scipy's order does not go with a cost limit"),
            Self::Limit => f.write_str("the cost limit is not a number; without a limit leave it out"),
            Self::Unsteady { row } => {
                write!(f, "row {row} has other costs when it is computed again; LazyRows::fill must be deterministic")
            }
        }
    }
}

impl<T: fmt::Debug> core::error::Error for Error<T> {}
