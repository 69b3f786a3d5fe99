//! Labelled images: lists of files, stored pixels, rows of batches.

pub mod augment;
pub mod check;
pub mod features;
pub mod list;
pub mod rand_augment;
pub mod rows;
pub mod store;
