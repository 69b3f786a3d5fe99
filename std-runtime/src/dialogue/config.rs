//! `[dialogue]`: how rows become tokens.

use std::fmt;
use std::path::PathBuf;

use crate::config::{Given, Invalid, Setting, table};

table! {
    /// How rows of dialogues and judgements become tokens.
    pub DialogueConfig {
        /// The chat template: "auto" (the folder's own; without one, that of the rows' format), "plain", "alpaca", "chatml", "hh", or a file of
        /// jinja.
        template: TemplateChoice = TemplateChoice::Auto;
        /// The day that a template's strftime_now sees, such as "2026-01-31"; absent: today.
        today: Option<String> = None;
        /// Passes over the rows, which say when the run ends; 0: train.steps, train.tokens or train.flops does.
        epochs: f64 = 0.0, 0..=1000000;
        /// Tokens that are kept of a row, from its start; 0: train.block_size.
        max_length: usize = 0, 0..=1048576;
        /// Put several rows into one of train.block_size tokens; attention and positions stay those of each row.
        packing: bool = false;
        /// Learn the assistant's turns only; false: every token.
        completion_only_loss: bool = true;
        /// A file of rows held out for validation; absent: the last data.val_fraction of the rows.
        val: Option<PathBuf> = None;
        /// A token for padding that the folder gets, such as "<|pad|>", for tools that need one of its own; absent: as it is. One that the tokenizer
        /// lacks is added to it and to the model.
        pad_token: Option<String> = None;
        /// Special tokens that tokenizer and model get where they lack them, between commas, as in "<|im_start|>,<|im_end|>".
        add_tokens: String = String::new();
    }
    may change: epochs;
}

impl DialogueConfig {
    /// Refuses to keep more tokens of a row than a row of the training has.
    ///
    /// # Errors
    /// It would.
    pub fn check(&self, block_size: usize) -> Result<(), Invalid> {
        let expected = || format!("at most train.block_size = {block_size}");
        if self.max_length > block_size { Err(Invalid::new("dialogue.max_length", expected(), self.max_length)) } else { Ok(()) }
    }

    /// The special tokens that are asked for.
    pub fn new_tokens(&self) -> impl Iterator<Item = &str> {
        self.add_tokens.split(',').map(str::trim).filter(|text| !text.is_empty())
    }

    /// Tokens that are kept of a row, in a training of rows of `block_size` tokens.
    pub fn kept(&self, block_size: usize) -> usize {
        if self.max_length == 0 { block_size } else { self.max_length }
    }
}

/// Which template is used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TemplateChoice {
    /// The folder's own; without one, that of the rows' format.
    #[default]
    Auto,
    /// One that is built in, by its name.
    BuiltIn(&'static str),
    /// A file.
    Path(PathBuf),
}

/// The names of the built-in templates.
pub(super) const NAMES: [&str; 4] = ["plain", "alpaca", "chatml", "hh"];

impl Setting for TemplateChoice {
    fn read(given: Given<'_>) -> Result<Self, String> {
        let path = PathBuf::read(given).map_err(|_| format!("\"auto\", \"{}\" or a path", NAMES.join("\", \"")))?;
        let built_in = NAMES.into_iter().find(|name| path.to_str() == Some(*name));
        Ok(match built_in {
            Some(name) => Self::BuiltIn(name),
            None if path.to_str() == Some("auto") => Self::Auto,
            None => Self::Path(path),
        })
    }

    fn show(&self) -> Option<String> {
        match self {
            Self::Path(path) => path.show(),
            _ => Some(format!("\"{self}\"")),
        }
    }
}

impl fmt::Display for TemplateChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::BuiltIn(name) => f.write_str(name),
            Self::Path(path) => write!(f, "{}", path.display()),
        }
    }
}
