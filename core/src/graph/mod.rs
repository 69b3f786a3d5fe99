//! Static graphs: a model is a function that appends nodes, and [`Graph::backward`] appends its gradient as ordinary nodes.

pub mod builder;
pub mod error;
pub mod grad;
pub mod layers;
pub mod op;
pub mod program;
pub mod record;
pub mod rules;

pub use crate::dtype::DType;
pub use crate::shape::{MAX_RANK, Shape};
pub use builder::Graph;
pub use error::{GraphError, GraphErrorKind};
pub use grad::{Recompute, Rule, Wrt};
pub use layers::AttentionMask;
pub use op::{Activation, AttentionSpec, BinaryKind, Epsilon, Momentum, Op, Over, ReduceKind, UnaryKind};
pub use program::{Node, Program, ProgramInfo};
pub use record::{Columns, NodeRecord, Role, Tensor, TensorRecord};
pub use rules::{DROPOUT_CONTROL_LEN, HYPER_LEN};
