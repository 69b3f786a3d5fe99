//! `samara tokenizer train|encode|decode`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};

use super::args::token_ids;
use super::{Command, Console, Error, output};
use crate::data::DataError;
use crate::data::options::TextOptions;
use crate::data::text;
use crate::files::{IoError, read_stdin};
use crate::model_folder::{is_adapter_folder, is_model_folder};
use crate::say;
use crate::tokenizer::{
    BpeTrainOptions, BpeTrainer, END_OF_TEXT, Specials, TextError, Tokenizer, TrainError, WordPieceOptions, WordPieceTrainer,
    specials_note,
};
use crate::train::folder::CONFIG_FILE as RUN_CONFIG;

/// Train tokenizers; turn text into ids and back.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Train(Train),
    Encode(Encode),
    Decode(Decode),
}

impl Command for Args {
    fn run(&self, console: &Console) -> Result<(), Error> {
        match &self.action {
            Action::Train(args) => args.run(console.quiet),
            Action::Encode(args) => args.run(console.quiet),
            Action::Decode(args) => args.run(),
        }
    }
}

/// Train a tokenizer on text and write tokenizer.json.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  samara tokenizer train --data texts/ --vocab-size 8192 --out tok")]
struct Train {
    /// Text, rows of JSON or CSV, or a folder of them.
    #[arg(long, value_name = "PATH")]
    data: PathBuf,
    /// The folder that is written. A tokenizer of a model, of a run or of another tool in it is not replaced.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The kind.
    #[arg(long, value_enum, default_value_t)]
    kind: Kind,
    /// Vocabulary size of a BPE or WordPiece tokenizer, including bytes and special tokens [default: 4096].
    #[arg(long, value_name = "N")]
    vocab_size: Option<usize>,
    /// Pairs that occur less often are not merged [default: 2].
    #[arg(long, value_name = "N")]
    min_count: Option<u64>,
    /// The key of the text in a row of JSON, or its column in a CSV.
    #[arg(long, value_name = "KEY", default_value = "text")]
    text_field: String,
}

/// Ids of a new BPE or WordPiece.
const BPE_VOCABULARY: usize = 4096;
/// How often a pair must occur to be merged.
const BPE_MIN_COUNT: u64 = 2;

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Kind {
    /// Byte-level BPE.
    #[default]
    Bpe,
    /// WordPiece in lower case, as of BERT's uncased models.
    Wordpiece,
    /// The characters of the text.
    Char,
    /// One id per byte.
    Byte,
}

impl Kind {
    fn has_merges(self) -> bool {
        matches!(self, Self::Bpe | Self::Wordpiece)
    }
}

impl Train {
    fn run(&self, quiet: bool) -> Result<(), Error> {
        if !self.kind.has_merges() {
            let flags = [("--vocab-size", self.vocab_size.is_some()), ("--min-count", self.min_count.is_some())];
            if let Some((flag, _)) = flags.iter().find(|(_, given)| *given) {
                return Err(Error::usage(format!("{flag}: only --kind bpe and wordpiece take it; leave it out")));
            }
        }
        refuse_taken(&self.out)?;
        let options = TextOptions {
            text_key: self.text_field.clone(),
            key_setting: "--text-field",
            skip_setting: None,
            ..TextOptions::default()
        };
        let tokenizer = match self.kind {
            Kind::Bpe => self.bpe(&options)?,
            Kind::Wordpiece => self.word_piece(&options)?,
            Kind::Char => {
                let mut characters = BTreeSet::new();
                text::for_each_document(&self.data, &options, |document| {
                    characters.extend(document.chars());
                    Ok::<(), DataError>(())
                })?;
                Tokenizer::characters([String::from_iter(characters).as_str()], &[]).map_err(TrainError::from)?
            }
            Kind::Byte => Tokenizer::bytes(&[END_OF_TEXT]).map_err(TrainError::from)?,
        };
        fs::create_dir_all(&self.out).map_err(IoError::at(&self.out, "create the folder"))?;
        tokenizer.save(&self.out, None)?;
        tokenizer.save_vocab_and_merges(&self.out)?;
        let wanted = self.vocab_size.unwrap_or(BPE_VOCABULARY);
        if !quiet && self.kind.has_merges() && tokenizer.vocab_size() < wanted {
            say::line(&format!("hint: the text has too few different pairs for {wanted} ids"));
        }
        output::line(&format!("{} ids -> {}", tokenizer.vocab_size(), self.out.display()))
    }

    fn word_piece(&self, options: &TextOptions) -> Result<Tokenizer, Error> {
        let vocab_size = self.vocab_size.unwrap_or(BPE_VOCABULARY);
        let min_count = self.min_count.unwrap_or(BPE_MIN_COUNT);
        let mut trainer = WordPieceTrainer::new(WordPieceOptions { vocab_size, min_count });
        text::for_each_document(&self.data, options, |document| {
            trainer.add(document).map_err(|error| Error::from(TrainError::from(error)))
        })?;
        Ok(trainer.train()?)
    }

    fn bpe(&self, options: &TextOptions) -> Result<Tokenizer, Error> {
        let vocab_size = self.vocab_size.unwrap_or(BPE_VOCABULARY);
        let min_count = self.min_count.unwrap_or(BPE_MIN_COUNT);
        let wanted = BpeTrainOptions { vocab_size, min_count, ..BpeTrainOptions::default() };
        let mut trainer = BpeTrainer::new(wanted)?;
        text::for_each_document(&self.data, options, |document| {
            trainer.add(document.as_bytes());
            Ok::<(), DataError>(())
        })?;
        Ok(trainer.train()?)
    }
}

/// Refuses a folder with a tokenizer in use, or with one of another making.
fn refuse_taken(out: &Path) -> Result<(), Error> {
    let shown = out.display();
    if is_model_folder(out) || is_adapter_folder(out) || out.join(RUN_CONFIG).exists() {
        return Err(Error::usage(format!(
            "--out {shown}: the folder holds a model or a run, which needs its own tokenizer; choose another"
        )));
    }
    if Tokenizer::is_in(out) && !Tokenizer::is_as_trained(out) {
        return Err(Error::usage(format!(
            "--out {shown}: the folder holds a tokenizer that samara tokenizer train did not write; choose another, or remove it"
        )));
    }
    Ok(())
}

/// Print the ids of a text, separated by commas.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  samara tokenizer encode --tokenizer gpt2 --text 'Hello there'
  samara tokenizer encode --tokenizer gpt2 --specials < story.txt")]
struct Encode {
    /// A tokenizer.json or a folder with one.
    #[arg(long, value_name = "PATH")]
    tokenizer: PathBuf,
    /// The text [default: standard input].
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    text: Option<String>,
    /// Encode special tokens such as <|endoftext|> as tokens, not as characters.
    #[arg(long)]
    specials: bool,
    /// Add the tokens of the tokenizer's post_processor around the ids.
    #[arg(long)]
    template: bool,
}

impl Encode {
    fn run(&self, quiet: bool) -> Result<(), Error> {
        let tokenizer = Tokenizer::load(&self.tokenizer)?;
        let (what, text) = match &self.text {
            Some(text) => ("--text", text.clone().into_bytes()),
            None => ("standard input", read_stdin()?),
        };
        if let Some(note) = specials_note(&tokenizer, what, &text).filter(|_| !self.specials && !quiet) {
            say::line(&note);
        }
        let specials = Specials::all_if(self.specials);
        let mut ids = tokenizer.encode(&text, specials).map_err(TextError::of(what))?;
        if self.template {
            ids = tokenizer.with_template(&ids).ok_or_else(|| {
                let path = self.tokenizer.display();
                Error::data(format!(
                    "{path}: post_processor: this kind is not supported; leave --template out, or write the tokens in the text"
                ))
            })?;
        }
        output::line(&ids.iter().map(u32::to_string).collect::<Vec<_>>().join(","))
    }
}

/// Print the text of ids, byte for byte.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  samara tokenizer decode --tokenizer gpt2 --tokens 15496,612")]
struct Decode {
    /// A tokenizer.json or a folder with one.
    #[arg(long, value_name = "PATH")]
    tokenizer: PathBuf,
    /// Ids separated by commas [default: standard input].
    #[arg(long, value_name = "IDS", allow_hyphen_values = true)]
    tokens: Option<String>,
}

impl Decode {
    fn run(&self) -> Result<(), Error> {
        let tokenizer = Tokenizer::load(&self.tokenizer)?;
        let ids = match &self.tokens {
            Some(ids) => token_ids(ids).map_err(|error| Error::usage(format!("--tokens: {error}")))?,
            None => {
                let text = String::from_utf8_lossy(&read_stdin()?).into_owned();
                let text = text.trim();
                if text.is_empty() {
                    Vec::new()
                } else {
                    token_ids(text).map_err(|error| Error::data(format!("standard input: {error}")))?
                }
            }
        };
        output::write(&tokenizer.decode(&ids)?)
    }
}
