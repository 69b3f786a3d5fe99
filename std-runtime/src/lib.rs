//! samara's runtime for machines with an operating system.
//!
//! Begin with `examples/mlp_classifier.rs`: custom layers, loss and data on the trainer of `samara train`, in 60 lines. `docs/new-model.md` continues
//! with language models and their families.

#![warn(clippy::too_many_lines)]

pub mod align;
pub mod assignment;
pub mod bench;
pub mod cli;
mod commands;
pub mod compressed;
pub mod config;
pub mod data;
pub mod decoding;
pub mod detect;
pub mod device;
pub mod dialogue;
pub mod encoder;
pub mod error;
pub mod eval;
pub mod export;
pub mod files;
pub mod host;
pub mod image_text;
pub mod kernels;
pub mod lm;
pub mod memory;
pub mod model;
pub mod model_folder;
pub mod npy;
pub mod npz;
pub mod parity;
pub mod report;
pub mod run;
mod say;
pub mod session;
pub mod stop;
pub mod sweep;
pub mod threads;
pub mod tiles;
pub mod tokenizer;
pub mod train;
pub mod vision;
