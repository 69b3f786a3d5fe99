//! samara's runtime on a machine with an operating system.

pub mod tokenizer;
