//! Layers: each registers its parameters in a scope and appends its nodes to a graph.
//!
//! A layer is a small `Copy` struct that holds the ids of its parameters. `register` and `forward` are next to each other and name the same fields,
//! so that no two functions must agree on an index. Parameters of a layer are registered consecutively, which lets a [`Stack`] hold only the first of
//! many equal layers. Blocks are defined by the model families, as in their papers.
//!
//! Shapes: B sequences, T tokens, C columns.

mod adapter;
mod affine;
mod attention;
mod convolution;
mod dropout;
mod embedding;
mod hidden;
mod low_rank;
mod mlp;
mod norm;
mod prompts;
mod side;
mod stack;

pub use adapter::{Adapter, AdapterConfig};
pub use affine::Affine;
pub use attention::{At, Attention, AttentionConfig, KvCache, Rotary};
pub use convolution::{BatchNorm, ConvNorm};
pub use dropout::Dropout;
pub use embedding::Embedding;
pub use hidden::HiddenLayers;
pub use mlp::{GatedMlp, GatedMlpConfig, Mlp, MlpConfig};
pub use norm::{LayerNorm, RmsNorm};
pub use prompts::{PromptConfig, Prompts};
pub use side::{Side, SideConfig};
pub use stack::{Repeat, Stack};
