//! A model in one file for a device: programs planned for core's kernels, weights, tokenizer; and its resource requirements.

pub(crate) mod aligned;
pub mod build;
pub mod convert;
pub mod file;
pub mod images;
pub mod loss;
pub(crate) mod names;
pub mod programs;
pub mod report;
pub mod spec;
pub mod target;
mod weights;
mod work;
