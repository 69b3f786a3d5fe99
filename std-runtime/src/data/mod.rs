//! Training data: files and folders of text, token shards, the built-in corpus, preparation, and the order in which batches are drawn.

pub mod batches;
pub mod config;
pub mod corpus;
pub mod dataset;
pub mod encoding;
pub mod error;
pub mod mapped;
pub mod prepare;
pub mod prompts;
pub mod shards;
pub mod source;
pub mod splits;
pub mod text;

pub use error::DataError;
