//! The commands, one file each: arguments, work, output. `cli` lists them.

pub(crate) mod assign;
pub(crate) mod bench;
pub(crate) mod chat;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod data;
mod detector_args;
pub(crate) mod dpo;
pub(crate) mod embed;
pub(crate) mod env;
pub(crate) mod eval;
pub(crate) mod export;
pub(crate) mod generate;
pub(crate) mod grpo;
pub(crate) mod inspect;
pub(crate) mod kto;
pub(crate) mod man;
pub(crate) mod merge;
pub(crate) mod objectives;
pub(crate) mod parity;
pub(crate) mod plan;
pub(crate) mod ppo;
pub(crate) mod predict;
pub(crate) mod report;
pub(crate) mod reward;
pub(crate) mod rollout;
pub(crate) mod score;
pub(crate) mod search;
pub(crate) mod sft;
pub(crate) mod sweep;
pub(crate) mod tokenizer;
pub(crate) mod train;
mod training;
mod vilt_args;

mod albef_args;
mod align;
mod args;
mod contrast_args;
mod counter;
mod error;
mod image_args;
mod masked_args;
mod out_file;
mod output;
mod rows;
mod tables;
mod task_args;
mod text_writer;

pub(crate) use error::Error;

/// The context of every command besides its own arguments.
pub(crate) struct Console {
    /// Print results only: no progress, no hints.
    pub(crate) quiet: bool,
    /// The whole command line, for completions and manual pages.
    pub(crate) command_line: fn() -> clap::Command,
}

/// A command: its arguments, parsed.
pub(crate) trait Command {
    /// Runs the command and prints its outcome.
    fn run(&self, console: &Console) -> Result<(), Error>;
}
