//! `samara export`.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;

use super::output;
use super::requests::{ExportOutcome, ExportRam, ExportRequest, KvCache, Optimizer, Quantize, TrainPart};
use crate::error::Error;
use crate::export;
use crate::export::target::{TARGETS, Target, find};

const EXAMPLES: &str = "\
The file is read where it lies: include it in a firmware with
samara_core::include_program!, or open it with the C interface.

Examples:
  samara export --model runs/tales-001 --out tales.samara --quantize q8
  samara export --model tiny --out tiny.samara --quantize q8 --kv q8 \\
      --target stm32f746 --data held-out.txt
  samara export --model tiny --out tiny.samara --train last-block";

/// Put a model into one file for a microcontroller, and say what it takes there.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The model folder.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// The file.
    #[arg(long, value_name = "FILE.samara")]
    out: PathBuf,
    /// Keep matrices in blocks of 8 or 4 bits.
    #[arg(long, value_enum, value_name = "TYPE")]
    quantize: Option<Quantize>,
    /// Keep keys and values in this type.
    #[arg(long, value_enum, value_name = "TYPE", default_value_t)]
    kv: KvCache,
    /// What the device trains.
    #[arg(long, value_enum, value_name = "PART", default_value_t)]
    train: TrainPart,
    /// How it trains [default: sgd].
    #[arg(long, value_enum, value_name = "RULE")]
    optimizer: Option<Optimizer>,
    /// Sequences of a step of training [default: 1].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    batch: Option<u32>,
    /// Tokens of a sequence in training [default: 0, the context].
    #[arg(long, value_name = "N")]
    block: Option<u32>,
    /// Tokens that a sequence can have; 0: as many as the model has positions.
    #[arg(long, value_name = "N", default_value_t = 0)]
    context: u32,
    /// Refuse what this microcontroller has no room for.
    #[arg(long, value_name = "NAME", value_parser = target_names())]
    target: Option<String>,
    /// Say what formats cost on the held-out part of this text.
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// Leave out the names of parameters.
    #[arg(long)]
    strip_names: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn target_names() -> PossibleValuesParser {
    TARGETS.iter().map(|target| clap::builder::PossibleValue::new(target.name).help(limits(target))).collect::<Vec<_>>().into()
}

fn limits(target: &Target) -> String {
    let (flash, ram) = (output::bytes(target.flash_bytes), output::bytes(target.ram_bytes));
    format!("{}, {flash} flash, {ram} RAM", target.core)
}

impl Args {
    pub(super) fn run(&self) -> Result<(), Error> {
        let outcome = export::run(&ExportRequest {
            model: self.model.clone(),
            out: self.out.clone(),
            quantize: self.quantize,
            kv: self.kv,
            train: self.train,
            optimizer: self.optimizer,
            batch: self.batch.map(|n| n as usize),
            block: self.block.map(|n| n as usize),
            context: self.context as usize,
            target: self.target.as_deref().and_then(find),
            data: self.data.clone(),
            strip_names: self.strip_names,
        })?;
        if self.json { output::json(&outcome) } else { output::write(self.text(&outcome).as_bytes()) }
    }

    fn text(&self, outcome: &ExportOutcome) -> String {
        let mut text = format!(
            "{}: {}; weights {}, keys and values {}, context {}\n\n",
            self.out.display(),
            outcome.programs.join(", "),
            outcome.weights,
            outcome.kv,
            outcome.context
        );
        text += &output::table(&flash(outcome));
        text.push('\n');
        text += &output::table(&ram(&outcome.ram));
        text += &format!(
            "\n{} multiplications for a token in the middle of a sequence\n",
            output::count(outcome.multiplications as f64)
        );
        if let Some(instructions) = outcome.m7_instructions {
            text += &format!("about {} instructions for it on a Cortex-M7\n", output::count(instructions as f64));
        }
        if let Some(target) = outcome.target {
            text += &format!("fits {} ({})\n", target.name, limits(target));
        }
        if let Some(first) = outcome.losses.first() {
            let mut rows = vec![["weights", "keys, values", "loss", "cost"].map(str::to_owned).to_vec()];
            rows.extend(outcome.losses.iter().map(|l| {
                vec![l.weights.to_owned(), l.kv.to_owned(), format!("{:.4}", l.loss), format!("{:+.4}", l.loss - first.loss)]
            }));
            text += &format!("\nnats per token over {} tokens of held-out text:\n{}", first.tokens, output::table(&rows));
        } else {
            text += "what formats cost: ask with --data TEXT\n";
        }
        text
    }
}

fn row(what: &str, bytes: u64) -> Vec<String> {
    vec![what.to_owned(), bytes.to_string(), output::bytes(bytes)]
}

fn flash(outcome: &ExportOutcome) -> Vec<Vec<String>> {
    let mut rows: Vec<_> = outcome.flash.iter().map(|part| row(&format!("  {}", part.what), part.bytes)).collect();
    rows.insert(0, row("flash", outcome.flash_bytes));
    rows.insert(1, row("  file, of which", outcome.file_bytes));
    rows.push(row("  engine, about", outcome.engine_bytes));
    rows
}

fn ram(ram: &ExportRam) -> Vec<Vec<String>> {
    let parts = [
        ("    arena", ram.arena_bytes),
        ("      of which scratch", ram.scratch_bytes),
        ("    keys and values", ram.state_bytes),
        ("    integers", ram.ints_bytes),
        ("    trained parameters", ram.trainable_bytes),
        ("    their moments", ram.moments_bytes),
        ("  stack, at most", ram.stack_bytes),
    ];
    let mut rows = vec![row("RAM", ram.total_bytes)];
    let session = format!("  session, {} numbers of four bytes, of which", ram.session_bytes / 4);
    rows.push(row(&session, ram.session_bytes));
    rows.extend(parts.into_iter().filter(|(_, bytes)| *bytes > 0).map(|(what, bytes)| row(what, bytes)));
    rows
}
