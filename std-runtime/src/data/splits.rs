//! Text in two splits, training and held-out, and their tokens.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use samara_core::tokenizer::pretokenize::last_cut;
use thiserror::Error;

use super::config::TokenizerChoice;
use super::encoding::{Encoding, PIECE_BYTES};
use super::options::TextOptions;
use super::source::{DataRequest, Source};
use super::text::Summary;
use super::{DataError, corpus, text};
use crate::config::Invalid;
use crate::error::{Failure, Kind};
use crate::files::IoError;
use crate::tokenizer::{
    BpeTrainOptions, BpeTrainer, FileError, TextError, Tokenizer, TrainError, WordPieceOptions, WordPieceTrainer,
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
    /// A tokenizer with ids beyond the model's vocabulary, or a key that does not apply to this data.
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

/// Text in two splits. It is read again for every pass: no more than one document is in memory.
pub struct Splits {
    text: Text,
    name: PathBuf,
    options: TextOptions,
    summary: Summary,
    /// Characters of the part for training.
    train: u64,
}

/// Where the documents are.
#[derive(Clone, Copy)]
enum Text {
    /// The built-in corpus.
    Tales { seed: u64, bytes: usize },
    /// A file or a folder.
    Files,
}

/// A document that the cut would divide is held out whole if it is at most this fraction of the held-out part.
const WHOLE: u64 = 10;

/// A document, or its piece in one split.
struct Piece<'t> {
    text: &'t str,
    /// Whether the document ends here.
    ends: bool,
}

impl Splits {
    /// Reads text and splits it: ⌊n · (1 − share)⌋ of its n characters are for training; for one document and a share of 0.1 that is where nanoGPT
    /// cuts. A document that is small compared with the held-out part is not cut.
    ///
    /// # Errors
    /// A file that cannot be read or is invalid; no text at all; a signal.
    pub fn load(request: &DataRequest) -> Result<Self, PrepareError> {
        let (text, name) = match &request.source {
            &Source::Tales { seed, bytes } => (Text::Tales { seed, bytes }, PathBuf::from("built-in tales")),
            Source::Path(path) => (Text::Files, path.clone()),
        };
        let options = request.text.clone();
        let summary = text.for_each(&name, &options, |_| Ok::<(), DataError>(()))?;
        let train = (summary.characters as f64 * (1.0 - request.val_fraction.clamp(0.0, 1.0))) as u64;
        Ok(Self { text, name, options, summary, train })
    }

    /// What was read.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Notes for the user about what was read.
    pub fn lines(&self) -> Vec<String> {
        self.summary.lines(&self.name)
    }

    /// A fingerprint of the text: a checksum and sizes.
    pub fn content(&self) -> String {
        let Summary { checksum, bytes, documents, .. } = self.summary;
        format!("text: crc32c {checksum:08x}, {bytes} bytes, {documents} documents")
    }

    /// The name of the text in messages.
    pub fn name(&self) -> String {
        self.name.display().to_string()
    }

    /// Whether there is more than one document.
    pub fn has_several(&self) -> bool {
        self.summary.documents > 1
    }

    /// Passes the documents of a split to `document`, one after the other.
    ///
    /// # Errors
    /// As [`Self::load`]; files that have changed since; what `document` returns.
    pub fn for_each<E: From<DataError>>(&self, part: Part, mut document: impl FnMut(&str) -> Result<(), E>) -> Result<(), E> {
        self.pieces(part, |piece| document(piece.text))
    }

    fn pieces<E: From<DataError>>(&self, part: Part, mut take: impl FnMut(Piece<'_>) -> Result<(), E>) -> Result<(), E> {
        let mut start = 0;
        let now = self.text.for_each(&self.name, &self.options, |text| {
            let len = text.chars().count() as u64;
            let [train, val] = self.cut(text, start, len);
            start += len;
            let (text, ends) = if part == Part::Train { (train, val.is_empty()) } else { (val, true) };
            if text.is_empty() { Ok(()) } else { take(Piece { text, ends }) }
        })?;
        if (now.checksum, now.bytes) != (self.summary.checksum, self.summary.bytes) {
            return Err(DataError::Modified { path: self.name.clone() }.into());
        }
        Ok(())
    }

    /// Both parts of a document of `len` characters that starts at character `start`.
    fn cut<'t>(&self, text: &'t str, start: u64, len: u64) -> [&'t str; 2] {
        let before = self.train.saturating_sub(start);
        let held_out = self.summary.characters - self.train;
        if len <= before {
            [text, ""]
        } else if before == 0 || self.summary.documents > 1 && len <= held_out / WHOLE {
            ["", text]
        } else {
            let at = text.char_indices().nth(before as usize).map_or(text.len(), |(at, _)| at);
            text.split_at_checked(at).map_or([text, ""], |(train, val)| [train, val])
        }
    }

    /// Creates or loads the tokenizer.
    ///
    /// # Errors
    /// As [`Self::for_each`]; a tokenizer that cannot be trained or loaded.
    pub fn tokenizer(&self, request: &DataRequest) -> Result<Tokenizer, PrepareError> {
        Ok(match &request.tokenizer {
            TokenizerChoice::Byte => Tokenizer::bytes(&[]).map_err(TrainError::from)?,
            TokenizerChoice::Char => {
                let mut characters = BTreeSet::new();
                self.text.for_each(&self.name, &self.options, |document| {
                    for (at, character) in document.chars().enumerate() {
                        if at.is_multiple_of(PIECE_BYTES) {
                            self.options.stop.check()?;
                        }
                        characters.insert(character);
                    }
                    Ok::<(), DataError>(())
                })?;
                Tokenizer::characters([String::from_iter(characters).as_str()], &[]).map_err(TrainError::from)?
            }
            TokenizerChoice::Bpe => {
                let vocab_size = request.tokenizer_vocab_size;
                let mut trainer =
                    BpeTrainer::new(BpeTrainOptions { vocab_size, ..BpeTrainOptions::default() })?.until(&self.options.stop);
                self.for_each(Part::Train, |document| {
                    self.learn(document, |piece| {
                        trainer.add(piece.as_bytes());
                        Ok(())
                    })
                })?;
                trainer.train()?
            }
            TokenizerChoice::WordPiece => {
                let vocab_size = request.tokenizer_vocab_size;
                let options = WordPieceOptions { vocab_size, ..WordPieceOptions::default() };
                let mut trainer = WordPieceTrainer::new(options).until(&self.options.stop);
                self.for_each(Part::Train, |document| self.learn(document, |piece| Ok(trainer.add(piece)?)))?;
                trainer.train()?
            }
            TokenizerChoice::Path(path) => Tokenizer::load(path)?,
        })
    }

    /// Counts the words of a document, a piece after the other.
    fn learn(&self, document: &str, mut count: impl FnMut(&str) -> Result<(), TrainError>) -> Result<(), PrepareError> {
        let mut rest = document;
        while !rest.is_empty() {
            self.options.stop.check().map_err(DataError::from)?;
            let piece = match last_cut(rest.as_bytes().get(..PIECE_BYTES).unwrap_or(&[])) {
                0 => rest.len(),
                cut => cut,
            };
            let (now, later) = rest.split_at(piece);
            count(now)?;
            rest = later;
        }
        Ok(())
    }

    /// Encodes a split; documents end with the end-of-text token if there are several and the tokenizer has one.
    ///
    /// # Errors
    /// As [`Self::for_each`]; text that cannot be encoded; what `take` returns.
    pub fn encode(
        &self,
        part: Part,
        encoding: &mut Encoding<'_>,
        mut take: impl FnMut(&[u32]) -> Result<(), DataError>,
    ) -> Result<(), PrepareError> {
        let end = encoding.end_of_text().filter(|_| self.has_several());
        let name = self.name();
        let mut take = |ids: &[u32]| {
            self.options.stop.check()?;
            take(ids)
        };
        self.pieces(part, |Piece { text, ends }| {
            encoding.document::<PrepareError>(text, &name, &mut take)?;
            Ok(end.filter(|_| ends).map_or(Ok(()), |end| take(&[end]))?)
        })
    }
}

impl Text {
    fn for_each<E: From<DataError>>(
        self,
        name: &Path,
        options: &TextOptions,
        mut document: impl FnMut(&str) -> Result<(), E>,
    ) -> Result<Summary, E> {
        let Self::Tales { seed, bytes } = self else { return text::for_each_document(name, options, document) };
        let mut summary = Summary::default();
        corpus::for_each_tale(seed, bytes, |tale| {
            options.stop.check().map_err(DataError::from)?;
            summary.add(tale);
            document(tale)
        })?;
        Ok(summary)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::data::config::DataConfig;
    use crate::tokenizer::END_OF_TEXT;

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
        // A file that has changed in the meantime is reported.
        fs::write(&path, [&lines[..], &lines[..1]].concat().concat()).unwrap();
        let again = splits.for_each(Part::Val, |_| Ok::<(), DataError>(()));
        assert!(matches!(again, Err(DataError::Modified { .. })), "{again:?}");
        found
    }

    #[test]
    fn a_share_of_all_characters_is_held_out() {
        assert_eq!(parts(&["aaaa", "bb", "cc", "dd"], 0.2), ["[aaaa][bb][cc]", "[dd]"]);
        assert_eq!(parts(&["aaaa", "bb", "cc", "dd"], 0.0), ["[aaaa][bb][cc][dd]", ""]);
        // A long and a short document: the share holds for any lengths.
        assert_eq!(parts(&["aaaaaaaa", "bb"], 0.1), ["[aaaaaaaa][b]", "[b]"]);
        assert_eq!(parts(&["abcdefghijklmnopqr", "zz"], 0.25), ["[abcdefghijklmno]", "[pqr][zz]"]);
        // A document that is small compared with the held-out part stays whole.
        let rows: Vec<String> = (0..40).map(|i| format!("{i:02}{}", "x".repeat(i % 3))).collect();
        let [train, val] = parts(&rows.iter().map(String::as_str).collect::<Vec<_>>(), 0.5);
        assert_eq!(format!("{train}{val}"), rows.iter().map(|row| format!("[{row}]")).collect::<String>());
        assert_eq!(parts(&["h\u{e9}llo w\u{f6}rld"], 0.5), ["[h\u{e9}llo]", "[ w\u{f6}rld]"]);
    }

    #[test]
    fn one_text_is_cut_where_nanogpt_cuts_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text.txt");
        // Tiny Shakespeare has 1115394 characters, of which nanoGPT trains on int(n * 0.9).
        fs::write(&path, "a".repeat(1_115_394)).unwrap();
        let request = DataRequest::new(&DataConfig { path: Some(path), ..DataConfig::default() });
        assert_eq!(Splits::load(&request).unwrap().train, 1_003_854);
    }

    #[test]
    fn tales_end_with_the_end_of_text() {
        let splits = Splits::load(&DataRequest::new(&DataConfig { corpus_bytes: 20_000, ..DataConfig::default() })).unwrap();
        let tokenizer = Tokenizer::bytes(&[END_OF_TEXT]).unwrap();
        let mut encoding = Encoding::new(&tokenizer, false, None);
        let mut ids = Vec::new();
        for part in [Part::Train, Part::Val] {
            splits
                .encode(part, &mut encoding, |more| {
                    ids.extend_from_slice(more);
                    Ok(())
                })
                .unwrap();
        }
        // Without them it equals the text of the corpus, byte for byte.
        let ends = ids.iter().filter(|&&id| id == 256).count();
        assert_eq!(ends as u64, splits.summary().documents);
        ids.retain(|&id| id != 256);
        assert_eq!(tokenizer.decode(&ids).unwrap(), corpus::tales(0, 20_000).into_bytes());
    }
}
