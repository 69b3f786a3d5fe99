//! Images with captions: where they are, their tokens, and rows of batches.

pub mod check;
pub mod list;
pub mod rows;
pub mod tokens;
