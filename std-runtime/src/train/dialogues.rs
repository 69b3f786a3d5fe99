//! Rows of dialogues for instruction tuning and alignment: the rows, the encoder, and their fingerprint.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::error::TrainingError as Error;
use super::run::CONTENT_FILE;
use crate::config::Invalid;
use crate::data::DataError;
use crate::data::config::DataConfig;
use crate::dialogue::config::DialogueConfig;
use crate::dialogue::encode::Encoder;
use crate::dialogue::jinja::Day;
use crate::dialogue::read::{ReadOptions, Rows, Wanted, read};
use crate::dialogue::row::Format;
use crate::dialogue::template::{Template, TemplateError};
use crate::dialogue::tokens::NewTokens;
use crate::model::architecture::Architecture;
use crate::model::folder::FolderConfig;
use crate::stop::Stop;
use crate::tokenizer::{FileError, Tokenizer};

/// The rows of a run.
pub struct RowsOfRun {
    /// Rows to train on.
    pub train: Rows,
    /// Held-out rows.
    pub val: Rows,
}

impl RowsOfRun {
    /// Reads the rows of `[data]`, held-out ones separately.
    ///
    /// # Errors
    /// No file is given; a file that cannot be read, or rows of another kind.
    pub fn read(wanted: Wanted, data: &DataConfig, dialogue: &DialogueConfig, stop: &Stop) -> Result<Self, Error> {
        let none = || Error::Usage(format!("{}: give the rows with --data FILE (.jsonl, .json, .csv)", wanted.command));
        let path = data.path.as_ref().ok_or_else(none)?;
        let options = ReadOptions { bad_row: data.on_bad_row, stop: stop.clone(), ..ReadOptions::new(wanted) };
        let train = read(path, &options)?;
        let (train, val) = match &dialogue.val {
            Some(val) => (train, read(val, &options)?),
            None => train.split(data.val_fraction),
        };
        Ok(Self { train, val })
    }

    /// The fingerprint of a run's data: its rows and the chat template.
    pub fn content(&self, encoder: &Encoder) -> String {
        let held_out = if self.val.rows.is_empty() { String::new() } else { format!("; held out: {}", self.val.content()) };
        let template = crc32c::crc32c(encoder.template().source().as_bytes());
        format!("{}{held_out}; chat template: crc32c {template:08x}", self.train.content())
    }
}

/// The encoder of a run. If its template uses the date, the date becomes a part of the configuration, so that a resumed run uses the same.
///
/// # Errors
/// No tokenizer, an invalid template, or answers without an end token.
pub fn encoder(
    data: &DataConfig,
    dialogue: &mut DialogueConfig,
    (from, base): (&Path, &FolderConfig),
    format: Option<Format>,
) -> Result<Encoder, Error> {
    const WAY_OUT: &str = "; begin with a folder that has the tokenizer of its model";
    let Some(tokenizer) = Tokenizer::of_model(from)? else { return Err(FileError::none_in(from, WAY_OUT).into()) };
    let vocab_size = base.model.vocab_size().unwrap_or_else(|| tokenizer.vocab_size());
    let (tokenizer, new_tokens) = NewTokens::add(tokenizer, dialogue, vocab_size)?;
    let vocab_size = new_tokens.ids;
    let today = match &dialogue.today {
        Some(text) => Day::read(text).ok_or_else(|| TemplateError::Today { found: text.clone() })?,
        None => Day::of_seconds(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())),
    };
    let template = Template::choose(&dialogue.template, &tokenizer, format.unwrap_or(Format::Messages), today)?;
    if template.reads_today() {
        dialogue.today.get_or_insert(today.to_string());
    }
    let stops = base.stops(&tokenizer).into_iter().map(|id| id as u32).filter(|&id| (id as usize) < vocab_size).collect();
    let encoder = Encoder::new(tokenizer, template, stops, vocab_size)?;
    let encoder = encoder.with_specials(data.specials).with_completion_only_loss(dialogue.completion_only_loss);
    Ok(encoder.with_new_tokens(new_tokens))
}

/// What the folder of a trained model says: that of its base, with the stop tokens of the answers and the tokens that were added.
pub fn answering(base: &FolderConfig, encoder: &Encoder) -> FolderConfig {
    let mut config = FolderConfig { model: base.model.clone().with_vocab_size(encoder.vocab_size()), ..base.clone() };
    if config.eos_token_ids.is_empty() || encoder.new_stop().is_some() {
        config.eos_token_ids = encoder.stops().to_vec();
        config.generation.remove("eos_token_id");
    }
    if let Some((_, id)) = encoder.new_tokens().pad {
        config.others.insert("pad_token_id".to_owned(), id.into());
        config.generation.entry("pad_token_id").and_modify(|pad| *pad = id.into());
    }
    config
}

/// The files of a folder that the encoder of its training changed.
pub fn changed_files(encoder: &Encoder) -> Vec<(&'static str, Vec<u8>)> {
    let tokenizer = encoder.tokenizer();
    let files = if encoder.new_tokens().is_none() { &[] } else { tokenizer.files() };
    let template = tokenizer.chat_template_file(encoder.template().source());
    files.iter().filter(|(name, _)| *name != template.0).cloned().chain([template.clone()]).collect()
}

/// Refuses new tokens for adapters, whose base lacks them.
///
/// # Errors
/// Tokens for which the base has no rows.
pub fn check_tokens(architecture: &dyn Architecture, encoder: &Encoder) -> Result<(), Invalid> {
    let new = encoder.new_tokens();
    if !new.grow() || architecture.adapters().is_none() {
        return Ok(());
    }
    let key = if new.pad.is_some() { "dialogue.pad_token" } else { "dialogue.add_tokens" };
    let tokens: Vec<&str> = new.added.iter().map(|(text, _)| text.as_str()).collect();
    let expected =
        "tokens of the base, which adapters leave as it is: add them in a training without tune.method = \"lora\" first";
    Err(Invalid::new(key, expected, tokens.join(",")))
}

/// The fingerprint of the rows at the start of the run; empty if unknown.
pub fn content_before(out: &Path) -> String {
    fs::read_to_string(out.join(CONTENT_FILE)).unwrap_or_default()
}

/// Refuses to resume with other rows than at the start of the run.
///
/// # Errors
/// The rows differ.
pub fn refuse_other_rows(out: &Path, path: Option<&PathBuf>, was: &str, content: &str) -> Result<(), Error> {
    if was.is_empty() || was == content {
        return Ok(());
    }
    let expected = format!("the rows of the start of the run ({was}); restore them, or choose another --out");
    Err(DataError::format(path.unwrap_or(&out.join(CONTENT_FILE)), expected, content).into())
}
