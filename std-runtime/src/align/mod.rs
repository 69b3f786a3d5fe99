//! Alignment of language models: reward models, preferences, and reinforcement learning with completions of their own.

pub mod base;
pub mod chat;
pub mod completion;
pub mod config;
pub mod guard;
pub mod output;
pub mod pairs;
pub mod policy;
pub mod reference;
pub mod reward;
pub mod rows;
pub mod rows_loss;
pub mod rowwise;
pub mod run;
pub mod setup;
pub mod source;
pub mod unpaired;
