//! Alignment of language models: reward models, preferences, and reinforcement learning with completions of their own.

pub mod base;
pub mod completion;
pub mod guard;
pub mod pairs;
pub mod policy;
pub mod reward;
pub mod source;
pub mod unpaired;
