//! Layers: each registers its parameters in a scope and appends its nodes to a graph.
//!
//! A layer is a small `Copy` struct that knows where its parameters stand. `register` and `forward` stand beside each other and name the same
//! fields, so that no two functions must agree on an index. Parameters of a layer are registered in a row, which lets a [`Stack`] hold only the
//! first of many equal layers. What a block is, every family says itself, in the lines of its paper.
//!
//! Shapes: B sequences, T tokens, C columns.

mod affine;
mod attention;
mod dropout;
mod embedding;
mod low_rank;
mod mlp;
mod norm;
mod stack;

pub use affine::Affine;
pub use attention::{At, Attention, AttentionConfig, KvCache, Rotary};
pub use dropout::Dropout;
pub use embedding::Embedding;
pub use mlp::{GatedMlp, GatedMlpConfig, Mlp, MlpConfig};
pub use norm::{LayerNorm, RmsNorm};
pub use stack::{Repeat, Stack};
