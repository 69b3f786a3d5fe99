//! `samara merge`: an adapter merged into its base.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::args::{EngineArgs, ModelArgs};
use super::{Command, Console, Error, output};
use crate::align::setup::reward::{PAD, own_pad};
use crate::dialogue::config::DialogueConfig;
use crate::dialogue::tokens::NewTokens;
use crate::files::IoError;
use crate::lm::merged::{MergedScored, merged};
use crate::model::folder::FolderConfig;
use crate::model::tune::peft::{AdapterFolder, Source};
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
    /// Folder for the merged model; it must not contain a model or a tokenizer yet.
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
            let folder = &self.model.model;
            let found = match () {
                () if is_model_folder(folder) => "a whole model: nothing to merge",
                () if folder.is_dir() => "neither an adapter nor a model",
                () => "no such folder: check the path",
            };
            return Err(Error::usage(format!(
                "--model {}: expected a folder with an adapter (adapter_config.json), as tune.method=lora leaves it, found {found}",
                folder.display()
            )));
        };
        refuse_taken(&self.out)?;
        let config = source.config()?;
        let merged = if AdapterFolder::has_score(&adapter)? {
            let (tokenizer, config, pad) = padded(&source, config)?;
            let merged = MergedScored::new(&source, &config.model)?;
            self.copy_companions(&source, &adapter)?;
            if let Some(tokenizer) = tokenizer {
                tokenizer.save(&self.out, Some(config.model.positions()))?;
            }
            merged.save(&self.out, &config, pad)?;
            merged.about
        } else {
            let merged = merged(self.engine.engine()?, &source)?;
            self.copy_companions(&source, &adapter)?;
            merged.save(&self.out, &config)?;
            merged.about
        };
        if let Some(note) = merged.note.as_ref().filter(|_| !console.quiet) {
            say::line(note);
        }
        let outcome = Outcome { base: source.base, adapter, out: self.out.clone(), layers: merged.layers };
        output::show(self.json, &outcome, || {
            format!("{} layers of {} merged -> {}\n", outcome.layers, outcome.base.display(), outcome.out.display())
        })
    }
}

impl Args {
    /// The files beside the weights: the base's, with the tokenizer of the adapter if it has one.
    fn copy_companions(&self, source: &Source, adapter: &Path) -> Result<(), Error> {
        fs::create_dir_all(&self.out).map_err(IoError::at(&self.out, "create the folder"))?;
        Companions::of(&source.base)?.copy_to(&self.out)?;
        if Tokenizer::is_in(adapter) {
            Companions::of(adapter)?.only_tokenizer().copy_to(&self.out)?;
        }
        Ok(())
    }
}

/// The token for padding of a model with a score, which other tools find the end of a row by: the tokenizer's own, or a new one, with the tokenizer and
/// the model that have it then.
fn padded(source: &Source, mut config: FolderConfig) -> Result<(Option<Tokenizer>, FolderConfig, Option<u32>), Error> {
    let Some(tokenizer) = Tokenizer::of_model(source.tokenizer(Tokenizer::is_in))? else { return Ok((None, config, None)) };
    let stops = config.stops(&tokenizer);
    if let Some(pad) = own_pad(&tokenizer, &stops, config.model.vocab_size()) {
        return Ok((None, config, Some(pad)));
    }
    let vocab_size = config.model.vocab_size().unwrap_or_else(|| tokenizer.vocab_size());
    let dialogue = DialogueConfig { pad_token: Some(PAD.to_owned()), ..DialogueConfig::default() };
    let (tokenizer, new) = NewTokens::add(tokenizer, &dialogue, vocab_size)?;
    new.lines(&[]).iter().for_each(|line| say::line(line));
    config.model = config.model.with_vocab_size(new.ids);
    Ok((Some(tokenizer), config, new.pad.map(|(_, id)| id)))
}

/// Refuses a folder that contains a model, or a tokenizer that would be replaced.
fn refuse_taken(out: &Path) -> Result<(), Error> {
    let what = match () {
        () if is_model_folder(out) || is_adapter_folder(out) => "a model",
        () if Tokenizer::is_in(out) => "a tokenizer",
        () => return Ok(()),
    };
    Err(Error::usage(format!("--out {}: the folder holds {what} already; choose another", out.display())))
}
