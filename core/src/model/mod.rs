//! Models: one builder per family. They name parameters, append nodes, and know nothing of kernels.

pub mod gpt;
pub mod llama;
pub mod lm;
