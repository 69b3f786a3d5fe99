//! Training data: files and folders of text, token shards, the built-in corpus, and the order in which batches are drawn.

pub mod batches;
pub mod corpus;
pub(crate) mod device;
pub mod error;
pub mod mapped;
pub mod shards;
pub mod text;

pub use error::DataError;
