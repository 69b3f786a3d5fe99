//! Labelled images: lists of files, stored pixels, rows of batches.

pub mod augment;
pub mod list;
pub mod rows;
pub mod store;
