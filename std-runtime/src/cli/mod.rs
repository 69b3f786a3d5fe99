//! The command line: the list of commands, the global flags, and exit codes. A command is one file in `commands` and one line here.

use std::fmt::Display;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::commands::{self, Command as _, Console, Error};
use crate::error::{Failure, Kind};
use crate::say;
use crate::stop;

/// Every command, in the order of the help: its name, and the module with its `Args`.
macro_rules! commands {
    ($($name:ident: $module:ident,)+) => {
        #[derive(Debug, Subcommand)]
        enum Command {
            $( $name(commands::$module::Args), )+
        }

        impl Command {
            fn run(&self, console: &Console) -> Result<(), Error> {
                match self {
                    $( Self::$name(args) => args.run(console), )+
                }
            }
        }
    };
}

commands! {
    Train: train,
    Sft: sft,
    Reward: reward,
    Dpo: dpo,
    Kto: kto,
    Ppo: ppo,
    Grpo: grpo,
    Rollout: rollout,
    Objectives: objectives,
    Generate: generate,
    Chat: chat,
    Score: score,
    Embed: embed,
    Predict: predict,
    Search: search,
    Eval: eval,
    Export: export,
    Merge: merge,
    Plan: plan,
    Sweep: sweep,
    Parity: parity,
    Config: config,
    Inspect: inspect,
    Report: report,
    Data: data,
    Tokenizer: tokenizer,
    Assign: assign,
    Bench: bench,
    Env: env,
    Completions: completions,
    Man: man,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  done                       4  cannot read or write a file; disk full
  1  failed                     5  training diverged
  2  wrong usage or config      129  stopped by SIGHUP
  3  bad data, model or text    130  stopped by Ctrl-C
                                143  stopped by SIGTERM

First steps:
  samara train
  samara generate --model runs/tales-001 --prompt 'Once upon a time'";

/// The exit code of a failure; 0 is success. Codes of signals follow the shell's convention.
fn exit_code(kind: Kind) -> u8 {
    match kind {
        Kind::Failed => 1,
        Kind::Usage => 2,
        Kind::Data => 3,
        Kind::Io => 4,
        Kind::Diverged => 5,
        Kind::Interrupted(signal) => signal.saturating_add(128),
    }
}

/// Trains, evaluates and runs transformers.
#[derive(Debug, Parser)]
#[command(name = "samara", version, max_term_width = 80, after_help = EXIT_CODES, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Print results only: no progress, no hints.
    #[arg(long, short, global = true)]
    quiet: bool,
}

/// Parses the command line of this process, runs the command, and returns the exit code.
pub fn main() -> ExitCode {
    stop::outlive_file_limits();
    let cli = Cli::parse();
    let console = Console { quiet: cli.quiet, command_line: Cli::command };
    match cli.command.run(&console) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader closed our output: it has all it wants.
        Err(error) if error.is_closed_output() => ExitCode::SUCCESS,
        Err(error) => failed(&error, error.kind()),
    }
}

/// Reports a failure, and returns the exit code of this process.
pub fn exit(outcome: Result<(), impl Failure>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error, error.kind()),
    }
}

fn failed(error: &dyn Display, kind: Kind) -> ExitCode {
    say::line(&format!("error: {error}"));
    ExitCode::from(exit_code(kind))
}
