//! Training data: files and folders of text, token shards, the built-in corpus, preparation, and the order in which batches are drawn.

pub mod batches;
pub mod check;
mod columns;
pub mod config;
pub mod corpus;
mod csv;
pub mod dataset;
pub mod encoding;
pub mod error;
mod foreign;
mod layout;
mod lines;
pub mod mapped;
pub mod objects;
pub mod options;
pub mod prepare;
pub mod prompts;
mod rows;
pub mod shards;
pub mod source;
pub mod splits;
pub mod stamp;
pub mod text;
pub mod texts;

pub use error::DataError;
