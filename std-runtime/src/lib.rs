//! samara's runtime on a machine with an operating system.

pub use error::Error;

pub mod assignment;
pub mod bench;
pub mod cli;
pub mod config;
pub mod data;
pub mod device;
pub mod error;
pub mod evaluate;
pub mod export;
pub mod generate;
pub mod gpt;
pub mod kernels;
pub mod memory;
pub mod model_folder;
pub mod npy;
pub mod plan_report;
pub mod quantise;
pub mod run;
mod say;
pub mod score;
pub mod session;
pub mod threads;
pub mod tiles;
pub mod tokenizer;
pub mod train;
