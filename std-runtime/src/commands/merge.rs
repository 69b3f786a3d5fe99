//! `samara merge`: an adapter merged into its base.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::args::{EngineArgs, ModelArgs};
use super::{Command, Console, Error, output};
use crate::files::IoError;
use crate::lm::merged::merged;
use crate::model_folder::{Companions, is_adapter_folder, is_model_folder};
use crate::say;
use crate::tokenizer::Tokenizer;

const EXAMPLES: &str = "\
Examples:
  samara merge --model runs/adapter --out runs/merged
  samara merge --model runs/adapter --base gpt2 --out runs/merged";

/// Merge an adapter into its base: a model folder that every tool opens.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Folder for the merged model; it must not contain a model yet.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Print {"base","adapter","out","layers"}.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineArgs,
}

/// A merged model.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Outcome {
    /// The base.
    base: PathBuf,
    /// The adapter.
    adapter: PathBuf,
    /// The merged model.
    out: PathBuf,
    /// Layers with an adapter.
    layers: usize,
}

impl Command for Args {
    fn run(&self, console: &Console) -> Result<(), Error> {
        let source = self.model.source()?;
        let Some(adapter) = source.adapter.clone() else {
            let shown = self.model.model.display();
            return Err(Error::usage(format!(
                "--model {shown}: expected a folder with an adapter, found a whole model: nothing to merge"
            )));
        };
        refuse_taken(&self.out)?;
        let config = source.config()?;
        let merged = merged(self.engine.engine()?, &source)?;
        if let Some(note) = merged.note.as_ref().filter(|_| !console.quiet) {
            say::line(note);
        }
        fs::create_dir_all(&self.out).map_err(IoError::at(&self.out, "create the folder"))?;
        Companions::of(&source.base)?.copy_to(&self.out)?;
        if Tokenizer::is_in(&adapter) {
            Companions::of(&adapter)?.only_tokenizer().copy_to(&self.out)?;
        }
        merged.save(&self.out, &config)?;
        let outcome = Outcome { base: source.base, adapter, out: self.out.clone(), layers: merged.layers };
        output::show(self.json, &outcome, || {
            format!("{} layers of {} merged -> {}\n", outcome.layers, outcome.base.display(), outcome.out.display())
        })
    }
}

/// Refuses a folder that contains a model.
fn refuse_taken(out: &Path) -> Result<(), Error> {
    if is_model_folder(out) || is_adapter_folder(out) {
        return Err(Error::usage(format!("--out {}: the folder holds a model already; choose another", out.display())));
    }
    Ok(())
}
