//! Errors of building a graph.

use core::fmt;
use core::panic::Location;

use crate::shape::Shape;

/// The first error of a graph: its kind, the operation, and the line of model code.
#[derive(Clone, Copy, Debug)]
pub struct GraphError {
    /// What is wrong.
    pub kind: GraphErrorKind,
    /// The refused operation, by [`super::Op::name`], or the one whose gradient was being appended; `None` for a leaf, and for errors of the whole
    /// graph.
    pub operation: Option<&'static str>,
    /// The caller of the builder method.
    pub location: &'static Location<'static>,
}

/// What is wrong with a graph.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum GraphErrorKind {
    /// The storage for nodes is full.
    TooManyNodes,
    /// The storage for tensors is full.
    TooManyTensors,
    /// An operation got an undefined tensor (after an earlier error), or a tensor of another graph.
    UnknownTensor,
    /// An input that the operation needs is missing.
    MissingInput {
        /// Which input.
        input: u8,
    },
    /// An input has the wrong shape.
    Shape {
        /// Which input.
        input: u8,
        /// Its shape.
        found: Shape,
        /// The shape that the other inputs require.
        expected: Shape,
    },
    /// An input holds integers where floating-point values are required, or the reverse.
    DType {
        /// Which input.
        input: u8,
    },
    /// An attribute is out of its range.
    Attribute {
        /// The attribute's name.
        name: &'static str,
        /// Its value.
        value: f64,
    },
    /// An image is smaller than a window, or a window has no taps or no stride.
    Window {
        /// The image's height.
        height: u32,
        /// The image's width.
        width: u32,
    },
    /// A shape has more than four extents or more than 2³¹ − 1 elements.
    ShapeTooLarge,
    /// The integers or the states of the program exceed the range of buffer positions.
    BufferTooLarge,
    /// A range of columns exceeds the tensor's columns.
    Columns {
        /// The first column of the range.
        first: u32,
        /// The length of the range.
        count: u32,
        /// The tensor's columns.
        cols: u32,
    },
    /// Attention reads a column of a packed tensor twice or not at all, but its gradient is written exactly once, by the part that reads it.
    ColumnsNotCovered,
    /// A state tensor was read after a later write replaced it.
    StaleState,
    /// An upstream gradient has neither as many elements as its tensor nor a single one.
    Upstream {
        /// The shape of the gradient.
        found: Shape,
        /// The shape of the tensor.
        expected: Shape,
    },
    /// An [`super::Upstream::After`] is not an input, or a node of the forward range reads it before the host writes it.
    LateUpstream,
    /// Attention over live key counts has no gradient: express the mask by segment ids.
    NoGradientThroughLiveLengths,
    /// An output other than the first (statistics, log-sum-exp, pre-activation) has an upstream gradient, which no gradient rule supports.
    NoGradientThroughOutput {
        /// Which output.
        output: u8,
    },
    /// `backward` ran a second time, or after the first update.
    Sections,
    /// The gradient buffer is read after [`super::Graph::backward_updating`], which consumes every gradient where it is computed: neither a norm nor
    /// an update of all parameters is possible.
    NoGradientBuffer,
}

impl fmt::Display for GraphError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(operation) = self.operation {
            write!(f, "{operation}: ")?;
        }
        write!(f, "{}, at {}:{}", self.kind, self.location.file(), self.location.line())
    }
}

impl fmt::Display for GraphErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManyNodes => f.write_str("the storage for nodes is full: lend more"),
            Self::TooManyTensors => f.write_str("the storage for tensors is full: lend more"),
            Self::UnknownTensor => f.write_str("a tensor of another graph, or one that an earlier error left undefined"),
            Self::MissingInput { input } => write!(f, "input {input} is missing"),
            Self::Shape { input, found, expected } => write!(f, "input {input} has shape {found}, expected {expected}"),
            Self::DType { input } => write!(f, "input {input} has the wrong element type"),
            Self::Attribute { name, value } => write!(f, "{name} = {value} is out of range"),
            Self::Window { height, width } => {
                write!(f, "no window of this size and stride fits an image of {height} x {width}")
            }
            Self::ShapeTooLarge => f.write_str("more than four extents or more than 2147483647 elements"),
            Self::BufferTooLarge => {
                f.write_str("more than 2^32 integers or 2^36 elements of state in one program: use a smaller batch")
            }
            Self::Columns { first, count, cols } => {
                write!(f, "columns {first}..{} of a tensor with {cols} columns", first.saturating_add(*count))
            }
            Self::ColumnsNotCovered => {
                f.write_str("the gradient of attention needs every column of a packed tensor to be read exactly once")
            }
            Self::StaleState => {
                f.write_str("a state tensor is read after a later write replaced it: read the tensor that the write returned")
            }
            Self::Upstream { found, expected } => write!(f, "an upstream gradient has shape {found}, its tensor {expected}"),
            Self::LateUpstream => f.write_str(
                "an upstream gradient that the host writes after the forward range must be an input that no forward node reads",
            ),
            Self::NoGradientThroughLiveLengths => f.write_str("attention over live key counts has no gradient: use segment ids"),
            Self::NoGradientThroughOutput { output } => {
                write!(f, "output {output} has no gradient: use the first")
            }
            Self::Sections => f.write_str("one backward pass per program, before the first update"),
            Self::NoGradientBuffer => f.write_str(
                "the backward pass updates parameters and leaves no gradients: no norm, no clipping, no update after it",
            ),
        }
    }
}

impl core::error::Error for GraphError {}
