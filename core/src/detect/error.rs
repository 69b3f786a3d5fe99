//! Why a function of [`detect`](super) did not compute.

use core::fmt;

/// Why a function did not compute.
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
    /// NaN or infinite values.
    NotFinite {
        /// What has them.
        name: &'static str,
        /// Its index in the image.
        index: usize,
    },
    /// A box with a negative extent, or an object's without an area.
    Degenerate {
        /// Whose box it is.
        name: &'static str,
        /// Its index in the image.
        index: usize,
        /// The box's width, relative to the image.
        width: f64,
        /// Its height.
        height: f64,
    },
    /// An object of a class that the model does not have.
    Class {
        /// Its index in the image.
        index: usize,
        /// Its class.
        found: usize,
        /// The classes of the model.
        classes: usize,
    },
    /// No assignment within the memory that was lent, or costs beyond what it can add.
    Assignment,
}

impl Error {
    /// Refuses an array of another length.
    pub(super) fn length(name: &'static str, expected: usize, found: usize) -> Result<(), Self> {
        if expected == found { Ok(()) } else { Err(Self::Length { name, expected, found }) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { name, expected, found } => write!(f, "{name}: expected {expected} values, found {found}"),
            Self::NotFinite { name, index } => write!(f, "{name} {index}: expected finite values, found NaN or infinity"),
            Self::Degenerate { name, index, width, height } => write!(
                f,
                "box of {name} {index}: expected width and height above 0, found {width} and {height} of the image; leave such boxes out"
            ),
            Self::Class { index, found, classes } => {
                write!(f, "object {index}: expected a class from 0 to {}, found {found}", classes.saturating_sub(1))
            }
            Self::Assignment => {
                f.write_str("no assignment of queries to objects: too little memory, or costs that are too large")
            }
        }
    }
}

impl core::error::Error for Error {}
