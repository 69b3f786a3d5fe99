//! From text to tokens: tokenizer, split into training and validation, shards in the run folder.

use std::fs;
use std::path::{Path, PathBuf};

use crate::config::{DataConfig, TokenizerChoice};
use crate::data::DataError;
use crate::data::corpus;
use crate::data::shards::{IdWidth, Shard, ShardWriter, Tokens};
use crate::data::text::{self, TextOptions};
use crate::error::Error;
use crate::tokenizer::{BpeTrainOptions, BpeTrainer, END_OF_TEXT, Scratch, Specials, Tokenizer, TrainError};

/// Where text comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The built-in corpus of tales.
    Tales {
        /// Its seed.
        seed: u64,
        /// Its size.
        bytes: usize,
    },
    /// A text file, a folder of text files, or JSONL; or a folder with shards named train and val.
    Path(PathBuf),
}

/// What to prepare.
#[derive(Clone, Debug)]
pub struct DataRequest {
    /// Where text comes from.
    pub source: Source,
    /// The tokenizer, when none is given.
    pub tokenizer: TokenizerChoice,
    /// Ids of a tokenizer that is trained.
    pub tokenizer_vocab_size: usize,
    /// How JSONL is read.
    pub text: TextOptions,
    /// The share of the text that is held out, from its end.
    pub val_fraction: f64,
}

impl DataRequest {
    /// What a configuration asks for.
    pub fn new(config: &DataConfig) -> Self {
        let source = match &config.path {
            Some(path) => Source::Path(path.clone()),
            None => Source::Tales { seed: CORPUS_SEED, bytes: config.corpus_bytes },
        };
        Self {
            source,
            tokenizer: config.tokenizer.clone(),
            tokenizer_vocab_size: config.tokenizer_vocab_size,
            text: TextOptions { text_key: config.text_field.clone(), bad_row: config.on_bad_row.into() },
            val_fraction: config.val_fraction,
        }
    }
}

/// Text is encoded in pieces of about this size: ids take several times the memory of their text.
const PIECE_BYTES: usize = 1 << 20;

/// The built-in corpus is the same for every run.
const CORPUS_SEED: u64 = 0;

/// Text in two parts.
pub struct Splits {
    train: Vec<String>,
    val: Vec<String>,
    name: PathBuf,
}

/// Which part of the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// For training.
    Train,
    /// Held out.
    Val,
}

impl Split {
    /// The name of its shard.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "val",
        }
    }
}

impl Splits {
    /// Reads text and splits it: one document at a character, several between two documents.
    pub fn load(request: &DataRequest) -> Result<Self, Error> {
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
    pub fn documents(&self, split: Split) -> &[String] {
        match split {
            Split::Train => &self.train,
            Split::Val => &self.val,
        }
    }

    /// Makes or loads the tokenizer.
    pub fn tokenizer(&self, request: &DataRequest) -> Result<Tokenizer, Error> {
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
        split: Split,
        tokenizer: &Tokenizer,
        mut take: impl FnMut(&[u32]) -> Result<(), DataError>,
    ) -> Result<(), Error> {
        let documents = self.documents(split);
        let (mut scratch, mut ids) = (Scratch::default(), Vec::new());
        for document in documents {
            let mut start = 0;
            while let Some(rest) = document.get(start..).filter(|rest| !rest.is_empty()) {
                let (piece, _) = rest.split_at(tokenizer.cut(rest, PIECE_BYTES));
                ids.clear();
                if let Err(error) = tokenizer.encode_into(piece.as_bytes(), Specials::None, &mut scratch, &mut ids) {
                    // The whole document gives the place in it.
                    let source = tokenizer.encode(document.as_bytes(), Specials::None).err().unwrap_or(error);
                    return Err(Error::Encode { what: self.name(), source });
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

/// Training and validation tokens.
pub struct Prepared {
    /// The tokenizer, unless the data came as token ids alone.
    pub tokenizer: Option<Tokenizer>,
    /// Ids that the model must have.
    pub vocab_size: Option<usize>,
    /// Tokens for training.
    pub train: Shard,
    /// Tokens held out; `None` when there are none.
    pub val: Option<Shard>,
}

/// Tokens in shards: those of a folder as they are, or text encoded into `folder`, where shards that a former run wrote are used again when
/// `reuse` says so.
pub fn prepare(request: &DataRequest, tokenizer: Option<Tokenizer>, folder: &Path, reuse: bool) -> Result<Prepared, Error> {
    if let Some((train, val)) = shards_of(&request.source)? {
        let tokenizer = match (&request.tokenizer, tokenizer) {
            (TokenizerChoice::Path(path), None) => Some(Tokenizer::load(path)?),
            (_, given) => given,
        };
        let vocab_size = tokenizer.as_ref().map(Tokenizer::vocab_size);
        return Ok(Prepared { tokenizer, vocab_size, train, val });
    }
    if let (true, Some(tokenizer), Some(train)) = (reuse, &tokenizer, shard_path(folder, Split::Train)) {
        let val = shard_path(folder, Split::Val).as_deref().map(Shard::open).transpose()?;
        let vocab_size = Some(tokenizer.vocab_size());
        return Ok(Prepared { vocab_size, tokenizer: Some(tokenizer.clone()), train: Shard::open(&train)?, val });
    }
    let splits = Splits::load(request)?;
    let tokenizer = tokenizer.map_or_else(|| splits.tokenizer(request), Ok)?;
    fs::create_dir_all(folder).map_err(DataError::io(folder, "create"))?;
    let width = IdWidth::for_vocabulary(tokenizer.vocab_size());
    let write = |split: Split| -> Result<Option<Shard>, Error> {
        let path = folder.join(width.file_name(split.name()));
        let mut writer = ShardWriter::create(&path, width)?;
        splits.encode(split, &tokenizer, |ids| writer.push(ids))?;
        if writer.finish()? == 0 && split == Split::Val { Ok(None) } else { Ok(Some(Shard::open(&path)?)) }
    };
    let val = write(Split::Val)?;
    let Some(train) = write(Split::Train)? else {
        return Err(DataError::TooSmall { what: "training data".to_owned(), found: 0, expected: 2 }.into());
    };
    Ok(Prepared { vocab_size: Some(tokenizer.vocab_size()), tokenizer: Some(tokenizer), train, val })
}

/// Every width that a shard can have.
const WIDTHS: [IdWidth; 2] = [IdWidth::U16, IdWidth::U32];

fn shard_path(folder: &Path, split: Split) -> Option<PathBuf> {
    WIDTHS.iter().map(|width| folder.join(width.file_name(split.name()))).find(|path| path.is_file())
}

/// The shards of a folder that has them, or a shard file itself.
pub fn shards_of(source: &Source) -> Result<Option<(Shard, Option<Shard>)>, Error> {
    let Source::Path(path) = source else { return Ok(None) };
    if path.extension().is_some_and(|e| e == "bin") {
        return Ok(Some((Shard::open(path)?, None)));
    }
    let Some(train) = shard_path(path, Split::Train) else { return Ok(None) };
    let val = shard_path(path, Split::Val).as_deref().map(Shard::open).transpose()?;
    Ok(Some((Shard::open(&train)?, val)))
}

/// The bytes of text that tokens stand for, for bits per byte.
pub fn text_bytes(tokenizer: &Tokenizer, tokens: &dyn Tokens) -> Result<u64, DataError> {
    let (mut ids, mut bytes, mut total) = ([0i32; 4096], Vec::new(), 0);
    let mut start = 0;
    while start < tokens.len() {
        let count = (tokens.len() - start).min(ids.len() as u64) as usize;
        let ids: &mut [i32] = ids.get_mut(..count).unwrap_or(&mut []);
        tokens.read(start, ids)?;
        bytes.clear();
        for &id in ids.iter() {
            tokenizer.push_token(id as u32, &mut bytes);
        }
        total += bytes.len() as u64;
        start += count as u64;
    }
    Ok(total)
}

/// The tokens that a generated text begins with: those of `prompt`, or of the end of a text, or of a line break.
pub fn prompt_ids(tokenizer: &Tokenizer, prompt: &str) -> Result<Vec<i32>, Error> {
    let text = match (prompt, tokenizer.end_of_text()) {
        ("", Some(id)) => return Ok(vec![id as i32]),
        ("", None) => "\n",
        (text, _) => text,
    };
    let ids = tokenizer
        .encode(text.as_bytes(), Specials::None)
        .map_err(|source| Error::Encode { what: "prompt".to_owned(), source })?;
    Ok(ids.into_iter().map(|id| id as i32).collect())
}
