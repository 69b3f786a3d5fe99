//! Text in two parts, for training and held out, and their tokens.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::config::TokenizerChoice;
use super::encoding::Encoding;
use super::source::{DataRequest, Source};
use super::text::{Summary, TextOptions};
use super::{DataError, corpus, text};
use crate::config::Invalid;
use crate::error::{Failure, Kind};
use crate::files::IoError;
use crate::tokenizer::{BpeTrainOptions, BpeTrainer, FileError, TextError, Tokenizer, TrainError};

/// Why there are no tokens.
#[derive(Debug, Error)]
pub enum PrepareError {
    /// The text, or the shards.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A tokenizer's files.
    #[error(transparent)]
    Tokenizer(#[from] FileError),
    /// A tokenizer whose ids the model lacks, or a key that this data has no use for.
    #[error(transparent)]
    Invalid(#[from] Invalid),
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
            Self::Invalid(error) => error.kind(),
            Self::TokenizerTraining(error) => error.kind(),
            Self::Encode(error) => error.kind(),
        }
    }
}

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

/// Text in two parts. It is read anew for every pass over it: no more than a document is in memory.
pub struct Splits {
    text: Text,
    name: PathBuf,
    summary: Summary,
    cut: Cut,
}

/// Where the documents are.
enum Text {
    /// The only document.
    Memory(String),
    /// A file or a folder.
    Files(TextOptions),
}

/// Where the part for training ends.
#[derive(Clone, Copy)]
enum Cut {
    /// At this byte of the only document.
    Byte(usize),
    /// Before the document with which the documents together have more bytes than this.
    Document(u64),
}

impl Splits {
    /// Reads text and splits it: one document at a character, several between two documents.
    ///
    /// # Errors
    /// A file that cannot be read or is not as it should be; no text at all.
    pub fn load(request: &DataRequest) -> Result<Self, PrepareError> {
        let (text, name) = match &request.source {
            Source::Tales { seed, bytes } => (Text::Memory(corpus::tales(*seed, *bytes)), PathBuf::from("built-in tales")),
            Source::Path(path) => (Text::Files(request.text.clone()), path.clone()),
        };
        let (share, mut first) = (request.val_fraction.clamp(0.0, 1.0), None);
        let summary = text.for_each(&name, |document| {
            first.get_or_insert_with(|| text::split(document, share).0.len());
            Ok::<(), DataError>(())
        })?;
        let held_out = (summary.bytes as f64 * share) as u64;
        let cut = match first {
            Some(at) if summary.documents == 1 => Cut::Byte(at),
            _ => Cut::Document(summary.bytes - held_out),
        };
        Ok(Self { text, name, summary, cut })
    }

    /// What the text is called in messages.
    pub fn name(&self) -> String {
        self.name.display().to_string()
    }

    /// Whether there is more than one document.
    pub fn has_several(&self) -> bool {
        self.summary.documents > 1
    }

    /// Gives the documents of a part to `document`, one after the other.
    ///
    /// # Errors
    /// As [`Self::load`]; files that are not what they were; what `document` returns.
    pub fn for_each<E: From<DataError>>(&self, part: Part, mut document: impl FnMut(&str) -> Result<(), E>) -> Result<(), E> {
        let mut bytes = 0;
        let now = self.text.for_each(&self.name, |text| {
            bytes += text.len() as u64;
            let [train, val] = match self.cut {
                Cut::Byte(at) => text.split_at_checked(at).map_or([text, ""], |(train, val)| [train, val]),
                Cut::Document(end) if bytes <= end => [text, ""],
                Cut::Document(_) => ["", text],
            };
            match if part == Part::Train { train } else { val } {
                "" => Ok(()),
                text => document(text),
            }
        })?;
        if (now.documents, now.bytes) != (self.summary.documents, self.summary.bytes) {
            return Err(DataError::Modified { path: self.name.clone() }.into());
        }
        Ok(())
    }

    /// Makes or loads the tokenizer.
    ///
    /// # Errors
    /// As [`Self::for_each`]; a tokenizer that cannot be trained or loaded.
    pub fn tokenizer(&self, request: &DataRequest) -> Result<Tokenizer, PrepareError> {
        Ok(match &request.tokenizer {
            TokenizerChoice::Byte => Tokenizer::bytes(&[]).map_err(TrainError::from)?,
            TokenizerChoice::Char => {
                let mut characters = BTreeSet::new();
                self.text.for_each(&self.name, |document| {
                    characters.extend(document.chars());
                    Ok::<(), DataError>(())
                })?;
                Tokenizer::characters([String::from_iter(characters).as_str()], &[]).map_err(TrainError::from)?
            }
            TokenizerChoice::Bpe => {
                let vocab_size = request.tokenizer_vocab_size;
                let mut trainer = BpeTrainer::new(BpeTrainOptions { vocab_size, ..BpeTrainOptions::default() })?;
                self.for_each(Part::Train, |document| {
                    trainer.add(document.as_bytes());
                    Ok::<(), DataError>(())
                })?;
                trainer.train()?
            }
            TokenizerChoice::Path(path) => Tokenizer::load(path)?,
        })
    }

    /// Encodes a part; documents end with the end-of-text token when there are several and the tokenizer has one.
    ///
    /// # Errors
    /// As [`Self::for_each`]; text that has no ids; what `take` returns.
    pub fn encode(
        &self,
        part: Part,
        encoding: &mut Encoding<'_>,
        mut take: impl FnMut(&[u32]) -> Result<(), DataError>,
    ) -> Result<(), PrepareError> {
        let end = encoding.end_of_text().filter(|_| self.has_several());
        let name = self.name();
        self.for_each(part, |document| {
            encoding.document::<PrepareError>(document, &name, &mut take)?;
            Ok(end.map_or(Ok(()), |end| take(&[end]))?)
        })
    }
}

impl Text {
    fn for_each<E: From<DataError>>(&self, name: &Path, mut document: impl FnMut(&str) -> Result<(), E>) -> Result<Summary, E> {
        match self {
            Self::Memory(text) => {
                document(text)?;
                Ok(Summary { documents: 1, bytes: text.len() as u64, ..Summary::default() })
            }
            Self::Files(options) => text::for_each_document(name, options, document),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::data::config::DataConfig;

    fn parts(rows: &[&str], val_fraction: f64) -> [String; 2] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.jsonl");
        let lines: Vec<String> = rows.iter().map(|row| format!("{{\"text\": {row:?}}}\n")).collect();
        fs::write(&path, lines.concat()).unwrap();
        let request = DataRequest::new(&DataConfig { path: Some(path.clone()), val_fraction, ..DataConfig::default() });
        let splits = Splits::load(&request).unwrap();
        let found = [Part::Train, Part::Val].map(|part| {
            let mut text = String::new();
            splits
                .for_each(part, |document| -> Result<(), DataError> {
                    text += &format!("[{document}]");
                    Ok(())
                })
                .unwrap();
            text
        });
        // A file that has become another one meanwhile is told.
        fs::write(&path, [&lines[..], &lines[..1]].concat().concat()).unwrap();
        let again = splits.for_each(Part::Val, |_| Ok::<(), DataError>(()));
        assert!(matches!(again, Err(DataError::Modified { .. })), "{again:?}");
        found
    }

    #[test]
    fn several_documents_are_cut_between_two_and_one_at_a_character() {
        assert_eq!(parts(&["aaaa", "bb", "cc", "dd"], 0.2), ["[aaaa][bb][cc]", "[dd]"]);
        assert_eq!(parts(&["aaaa", "bb", "cc", "dd"], 0.0), ["[aaaa][bb][cc][dd]", ""]);
        // Nine bytes are for training: the second document would reach the tenth.
        assert_eq!(parts(&["aaaaaaaa", "bb"], 0.1), ["[aaaaaaaa]", "[bb]"]);
        assert_eq!(parts(&["h\u{e9}llo w\u{f6}rld"], 0.5), ["[h\u{e9}llo]", "[ w\u{f6}rld]"]);
    }
}
