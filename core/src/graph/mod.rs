//! Static graphs: a model is a function that appends nodes, and [`Graph::backward`] appends its gradient as ordinary nodes.
//!
//! Each file imports only from those before it in this list: attributes; tensors; the rows of the table of operations; the enum [`Op`] generated from
//! the rows; records and finished programs; the tape on which a graph is recorded, and the builder; the families of operations (`op/`); the dispatch
//! to their rules; the backward pass.

pub mod attribute;
mod tensor;

mod table;

pub mod op;

mod choice;
mod error;
mod program;
mod record;

mod adjoint;
pub(crate) mod args;
mod builder;
mod family;
mod recompute;
mod tape;
pub(crate) mod work;

pub(crate) mod rules;

mod backward;
mod construction;
mod updates;

pub use args::DROPOUT_CONTROL_LEN;
pub use attribute::{
    Activation, AttentionSpec, BinaryKind, Epsilon, Momentum, Over, Pairing, ReduceKind, RotarySpec, UnaryKind, Window,
};
pub use builder::Graph;
pub use choice::{HyperInput, Recompute, Rule, Upstream, Wrt};
pub use error::{GraphError, GraphErrorKind};
pub(crate) use family::Reach;
pub use op::Op;
pub use op::attention::AttentionMask;
pub use op::convolution::ConvEpilogue;
pub use op::optimizer::HYPER_LEN;
pub use program::{Node, Program, ProgramInfo};
pub use record::NodeRecord;
pub use tensor::{Columns, Role, Tensor, TensorRecord};

pub use crate::dtype::DType;
pub use crate::shape::{MAX_RANK, Shape};
