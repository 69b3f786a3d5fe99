//! The command line: what is written after `samara`.

mod args;
mod assign;
mod bench;
mod env;
mod eval;
mod export;
mod generate;
mod inspect;
mod man;
mod output;
mod plan;
pub mod requests;
mod score;
mod tokenizer;
mod train;

use std::io;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::error::{EXIT_OK, Error};
use crate::say;
use output::STDOUT;

const EXIT_CODES: &str = "\
Exit codes:
  0  done                       4  cannot read or write a file; disk full
  1  failed                     5  training diverged
  2  wrong usage or config      130  stopped by Ctrl-C
  3  bad data, model or text    143  stopped by SIGTERM

First steps:
  samara train
  samara generate --model runs/tales-001 --prompt 'Once upon a time'";

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

#[derive(Debug, Subcommand)]
enum Command {
    Train(train::Args),
    Generate(generate::Args),
    Score(score::Args),
    Eval(eval::Args),
    Export(export::Args),
    Plan(plan::Args),
    Config(train::ConfigCommand),
    Inspect(inspect::Args),
    Tokenizer(tokenizer::Args),
    Assign(assign::Args),
    Bench(bench::Args),
    Env(env::Args),
    Completions(man::CompletionsArgs),
    Man(man::ManArgs),
}

/// Reads the command line of this process, does what it says, and returns the exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(()) => ExitCode::from(EXIT_OK),
        // Whoever read our output has read enough.
        Err(Error::Io { path, source, .. }) if path.as_os_str() == STDOUT && source.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::from(EXIT_OK)
        }
        Err(error) => {
            say::line(&format!("error: {error}"));
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(cli: &Cli) -> Result<(), Error> {
    match &cli.command {
        Command::Train(args) => args.run(cli.quiet),
        Command::Generate(args) => args.run(cli.quiet),
        Command::Score(args) => args.run(),
        Command::Eval(args) => args.run(cli.quiet),
        Command::Export(args) => args.run(),
        Command::Plan(args) => args.run(),
        Command::Config(args) => args.run(),
        Command::Inspect(args) => args.run(),
        Command::Tokenizer(args) => args.run(cli.quiet),
        Command::Assign(args) => args.run(),
        Command::Bench(args) => args.run(),
        Command::Env(args) => args.run(),
        Command::Completions(args) => args.run(&mut Cli::command()),
        Command::Man(args) => args.run(Cli::command()),
    }
}
