//! Text in two parts, for training and held out, and their tokens.

use std::path::PathBuf;

use thiserror::Error;

use super::config::TokenizerChoice;
use super::source::{DataRequest, Source};
use super::{DataError, corpus, text};
use crate::error::{Failure, Kind};
use crate::files::IoError;
use crate::tokenizer::{
    BpeTrainOptions, BpeTrainer, END_OF_TEXT, FileError, Scratch, Specials, TextError, Tokenizer, TrainError,
};

/// Why there are no tokens.
#[derive(Debug, Error)]
pub enum PrepareError {
    /// The text, or the shards.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A tokenizer's files.
    #[error(transparent)]
    Tokenizer(#[from] FileError),
    /// Training a tokenizer.
    #[error(transparent)]
    TokenizerTraining(#[from] TrainError),
    /// Text that has no ids.
    #[error(transparent)]
    Encode(#[from] TextError),
}

impl From<IoError> for PrepareError {
    fn from(error: IoError) -> Self {
        Self::Data(error.into())
    }
}

impl Failure for PrepareError {
    fn kind(&self) -> Kind {
        match self {
            Self::Data(error) => error.kind(),
            Self::Tokenizer(error) => error.kind(),
            Self::TokenizerTraining(error) => error.kind(),
            Self::Encode(error) => error.kind(),
        }
    }
}

/// Text is encoded in pieces of about this size: ids take several times the memory of their text.
const PIECE_BYTES: usize = 1 << 20;

/// A part of the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// For training.
    Train,
    /// Held out.
    Val,
}

impl Part {
    /// The name of its shard.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "val",
        }
    }
}

/// Text in two parts.
pub struct Splits {
    train: Vec<String>,
    val: Vec<String>,
    name: PathBuf,
}

impl Splits {
    /// Reads text and splits it: one document at a character, several between two documents.
    pub fn load(request: &DataRequest) -> Result<Self, PrepareError> {
        let (documents, name) = match &request.source {
            Source::Tales { seed, bytes } => (vec![corpus::tales(*seed, *bytes)], PathBuf::from("built-in tales")),
            Source::Path(path) => (text::load(path, &request.text)?.0, path.clone()),
        };
        let share = request.val_fraction;
        let mut documents = documents;
        if let [one] = documents.as_mut_slice() {
            let val = one.split_off(text::split(one, share).0.len());
            return Ok(Self { train: documents, val: vec![val], name });
        }
        let all: usize = documents.iter().map(String::len).sum();
        let held_out = (all as f64 * share.clamp(0.0, 1.0)) as usize;
        let mut end = 0;
        let kept = documents.iter().take_while(|d| {
            end += d.len();
            end <= all - held_out
        });
        let cut = kept.count();
        let mut train = documents;
        let val = train.split_off(cut);
        Ok(Self { train, val, name })
    }

    /// What the text is called in messages.
    pub fn name(&self) -> String {
        self.name.display().to_string()
    }

    /// The documents of a part.
    pub fn documents(&self, part: Part) -> &[String] {
        match part {
            Part::Train => &self.train,
            Part::Val => &self.val,
        }
    }

    /// Makes or loads the tokenizer.
    pub fn tokenizer(&self, request: &DataRequest) -> Result<Tokenizer, PrepareError> {
        Ok(match &request.tokenizer {
            TokenizerChoice::Byte => Tokenizer::bytes(&[]).map_err(TrainError::from)?,
            TokenizerChoice::Char => {
                Tokenizer::characters(self.train.iter().chain(&self.val).map(String::as_str), &[]).map_err(TrainError::from)?
            }
            TokenizerChoice::Bpe => {
                let vocab_size = request.tokenizer_vocab_size;
                let mut trainer = BpeTrainer::new(BpeTrainOptions { vocab_size, ..BpeTrainOptions::default() })?;
                self.train.iter().for_each(|d| trainer.add(d.as_bytes()));
                trainer.train()?
            }
            TokenizerChoice::Path(path) => Tokenizer::load(path)?,
        })
    }

    /// Encodes a part; documents end with the end-of-text token when there are several and the tokenizer has one.
    pub fn encode(
        &self,
        part: Part,
        tokenizer: &Tokenizer,
        mut take: impl FnMut(&[u32]) -> Result<(), DataError>,
    ) -> Result<(), PrepareError> {
        let documents = self.documents(part);
        let (mut scratch, mut ids) = (Scratch::default(), Vec::new());
        for document in documents {
            let mut start = 0;
            while let Some(rest) = document.get(start..).filter(|rest| !rest.is_empty()) {
                let (piece, _) = rest.split_at(tokenizer.cut(rest, PIECE_BYTES));
                ids.clear();
                if let Err(error) = tokenizer.encode_into(piece.as_bytes(), Specials::None, &mut scratch, &mut ids) {
                    // The whole document gives the place in it.
                    let source = tokenizer.encode(document.as_bytes(), Specials::None).err().unwrap_or(error);
                    return Err(TextError { what: self.name(), source }.into());
                }
                take(&ids)?;
                start += piece.len();
            }
            if let (true, Some(end)) = (documents.len() > 1, tokenizer.added_id(END_OF_TEXT)) {
                take(&[end])?;
            }
        }
        Ok(())
    }
}
