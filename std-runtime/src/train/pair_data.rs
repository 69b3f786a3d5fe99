//! The images and captions of a run: listed, decoded, tokenised and stored in the run folder, from which a resumed run reads them.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::error::TrainingError as Error;
use super::tokenizer::named;
use crate::config::Invalid;
use crate::data::DataError;
use crate::data::config::TokenizerChoice;
use crate::image_text::config::PairDataConfig;
use crate::image_text::data::list::{Captioned, Pair, PairList};
use crate::image_text::world::{CaptionWorld, CaptionsConfig, WorldSplit};
use crate::run::durable;
use crate::say;
use crate::stop::Stop;
use crate::tokenizer::{BpeTrainOptions, BpeTrainer, END_OF_TEXT, FileError, Tokenizer, WordPieceOptions, WordPieceTrainer};
use crate::vision::data::list::Labelled;
use crate::vision::data::store::{Fit, ImageStore, Made};
use crate::vision::processor::Processor;

/// Pairs with their stored images.
pub struct StoredPairs {
    /// The images.
    pub store: ImageStore,
    /// The pairs; the number of an image is its row in the store.
    pub pairs: Captioned,
}

/// The data of a run.
pub struct RunPairs {
    /// For training.
    pub train: StoredPairs,
    /// Held out, if there are any.
    pub val: Option<StoredPairs>,
    /// The tokenizer of the captions.
    pub tokenizer: Tokenizer,
}

/// What of a run's configuration is of its pairs.
#[derive(Clone, Copy, Debug)]
pub struct PairTables<'c> {
    /// `[data]`
    pub data: &'c PairDataConfig,
    /// `[captions]`
    pub captions: &'c CaptionsConfig,
    /// The folder that training begins with, whose tokenizer the captions need.
    pub init: Option<&'c Path>,
    /// The longest caption in tokens.
    pub longest: usize,
}

const PAIRS: &str = "data/pairs.json";
const TRAIN: &str = "data/train.pixels";
const VAL: &str = "data/val.pixels";

/// Image rows and captions of training and validation.
#[derive(Serialize, Deserialize)]
struct Kept {
    train: Vec<(usize, String)>,
    val: Vec<(usize, String)>,
}

impl RunPairs {
    /// Opens the data of a run that is resumed; `None` if it had not stored it yet.
    ///
    /// # Errors
    /// Files that are damaged.
    pub fn open(out: &Path) -> Result<Option<Self>, Error> {
        let path = out.join(PAIRS);
        if !path.is_file() {
            return Ok(None);
        }
        let text = fs::read(&path).map_err(Error::io(&path, "read"))?;
        let wrong = |error: serde_json::Error| DataError::format(&path, "the pairs of a run", error.to_string());
        let kept: Kept = serde_json::from_slice(&text).map_err(wrong)?;
        let stored = |name: &str, pairs: Vec<(usize, String)>| -> Result<StoredPairs, Error> {
            let pairs = pairs.into_iter().map(|(image, caption)| Pair { image, caption }).collect();
            Ok(StoredPairs { store: ImageStore::open(&out.join(name))?, pairs: Captioned { images: Vec::new(), pairs } })
        };
        let val = if kept.val.is_empty() { None } else { Some(stored(VAL, kept.val)?) };
        let tokenizer = Tokenizer::of_model(out)?.ok_or_else(|| FileError::none_in(out, ""))?;
        Ok(Some(Self { train: stored(TRAIN, kept.train)?, val, tokenizer }))
    }

    /// Lists, decodes and stores the data of a new run.
    ///
    /// # Errors
    /// Data or an image that cannot be read; a tokenizer that cannot be used; no disk space; a signal.
    pub fn store(
        out: &Path,
        config: &PairTables<'_>,
        (processor, size): (&Processor, [usize; 2]),
        (stop, quiet): (&Stop, bool),
    ) -> Result<Self, Error> {
        let folder = out.join("data");
        fs::create_dir_all(&folder).map_err(Error::io(&folder, "create"))?;
        let Some(path) = config.data.path.as_deref() else {
            return Self::generate(out, config, size, (stop, quiet));
        };
        let list = PairList::open(path, config.data)?;
        list.notes.iter().filter(|_| !quiet).for_each(|note| say::line(&format!("note: {note}")));
        let tokenizer = tokenizer(config, &list.train, stop)?;
        let make = |name: &str, all: Captioned| -> Result<StoredPairs, Error> {
            let all = all.merged();
            let images: Vec<Labelled> =
                all.images.iter().enumerate().map(|(class, path)| Labelled { path: path.clone(), class }).collect();
            let shape = |image: &_| processor.shape(image);
            // A processor without a size of its own keeps proportions.
            let fit = if processor.size().is_some() { Fit::Exact } else { Fit::Framed };
            let Made { store, skipped } =
                ImageStore::make(&out.join(name), &images, (size, fit), config.data.on_bad_image, stop, shape)?;
            skipped.iter().for_each(|error| say::line(&format!("warning: left out: {error}")));
            Ok(StoredPairs { pairs: of_stored(&store, all), store })
        };
        let train = make(TRAIN, list.train)?;
        if train.pairs.pairs.is_empty() {
            return Err(DataError::format(&folder, "images that can be read", "none").into());
        }
        let val = if list.val.pairs.is_empty() { None } else { Some(make(VAL, list.val)?) };
        Self { train, val, tokenizer }.kept(out, config, quiet)
    }

    /// Stores pairs of the generated world.
    fn generate(out: &Path, config: &PairTables<'_>, size: [usize; 2], (stop, quiet): (&Stop, bool)) -> Result<Self, Error> {
        let world = CaptionWorld::new(config.captions);
        let make = |name: &str, split: WorldSplit, count: u64| -> Result<StoredPairs, Error> {
            let image = |row: u64| (world.image(size, split, row), row as usize);
            let store = ImageStore::generate(&out.join(name), count, size, stop, image)?;
            let pair = |row: u64| Pair { image: row as usize, caption: world.caption(split, row) };
            Ok(StoredPairs { store, pairs: Captioned { images: Vec::new(), pairs: (0..count).map(pair).collect() } })
        };
        let CaptionsConfig { train, val, .. } = *config.captions;
        let train = make(TRAIN, WorldSplit::Train, train)?;
        let val = if val == 0 { None } else { Some(make(VAL, WorldSplit::Val, val)?) };
        let tokenizer = tokenizer(config, &train.pairs, stop)?;
        if world.repeated() > 0 && !quiet {
            let repeated = world.repeated();
            say::line(&format!(
                "note: {repeated} held-out captions repeat earlier ones: the world has too few different ones; set captions.objects"
            ));
        }
        Self { train, val, tokenizer }.kept(out, config, quiet)
    }

    /// Keeps captions and tokenizer in the run folder.
    fn kept(self, out: &Path, config: &PairTables<'_>, quiet: bool) -> Result<Self, Error> {
        let Self { train, val, tokenizer } = &self;
        let path = out.join(PAIRS);
        let kept = |stored: &StoredPairs| -> Vec<(usize, String)> {
            stored.pairs.pairs.iter().map(|pair| (pair.image, pair.caption.clone())).collect()
        };
        let text = serde_json::to_vec(&Kept { train: kept(train), val: val.as_ref().map(kept).unwrap_or_default() });
        tokenizer.save(out, Some(config.longest))?;
        durable::write(&path, &text.unwrap_or_default()).map_err(Error::io(&path, "write"))?;
        if !quiet {
            let count = |stored: &StoredPairs| (stored.pairs.pairs.len(), stored.store.classes().len());
            let ((pairs, images), (held, of)) = (count(train), val.as_ref().map_or((0, 0), count));
            say::line(&format!("{pairs} captions of {images} images for training, {held} of {of} held out"));
        }
        Ok(self)
    }

    /// A fingerprint of images and captions.
    pub fn content(&self) -> String {
        let of = |stored: &StoredPairs| {
            let captions = stored.pairs.pairs.iter().fold(0, |crc, pair| crc32c::crc32c_append(crc, pair.caption.as_bytes()));
            let (pairs, images) = (stored.pairs.pairs.len(), stored.store.content());
            format!("{pairs} pairs, images crc32c {images:08x}, captions crc32c {captions:08x}")
        };
        format!("training: {}; held out: {}", of(&self.train), self.val.as_ref().map_or_else(|| "none".to_owned(), of))
    }
}

/// The pairs of stored images: a store has left out images that cannot be read.
fn of_stored(store: &ImageStore, all: Captioned) -> Captioned {
    let rows: HashMap<usize, usize> = store.classes().iter().enumerate().map(|(row, &image)| (image, row)).collect();
    let pairs = all.pairs.into_iter();
    let pairs = pairs.filter_map(|Pair { image, caption }| Some(Pair { image: *rows.get(&image)?, caption })).collect();
    Captioned { images: Vec::new(), pairs }
}

/// The tokenizer of the initial model, or the configured one.
fn tokenizer(config: &PairTables<'_>, pairs: &Captioned, stop: &Stop) -> Result<Tokenizer, Error> {
    if let Some(init) = config.init {
        let own = Tokenizer::of_model(init)?;
        return own.ok_or_else(|| FileError::none_in(init, ", whose captions need the one it was trained with").into());
    }
    let captions = || pairs.pairs.iter().map(|pair| pair.caption.as_str());
    let expected = |error: String| Invalid::new("data.tokenizer", "a tokenizer for the captions", error);
    let tokenizer = match &config.data.tokenizer {
        TokenizerChoice::Byte => Tokenizer::bytes(&[END_OF_TEXT]).map_err(|error| expected(error.to_string()))?,
        TokenizerChoice::Char => {
            Tokenizer::characters(captions(), &[END_OF_TEXT]).map_err(|error| expected(error.to_string()))?
        }
        TokenizerChoice::Bpe => {
            let options = BpeTrainOptions { vocab_size: config.data.vocab_size, ..BpeTrainOptions::default() };
            let mut trainer = BpeTrainer::new(options).map_err(|error| expected(error.to_string()))?.until(stop);
            captions().for_each(|caption| trainer.add(caption.as_bytes()));
            trainer.train().map_err(|error| expected(error.to_string()))?
        }
        TokenizerChoice::WordPiece => {
            let options = WordPieceOptions { vocab_size: config.data.vocab_size, ..WordPieceOptions::default() };
            let mut trainer = WordPieceTrainer::new(options).until(stop);
            captions().try_for_each(|caption| trainer.add(caption)).map_err(|error| expected(error.to_string()))?;
            // Its texts end with [SEP].
            return Ok(trainer.train().map_err(|error| expected(error.to_string()))?);
        }
        TokenizerChoice::Path(path) => return ending(named(path)?),
    };
    // Other programs find the vector of a text at its end.
    Ok(tokenizer.ending_texts())
}

/// The vector of a text is taken at its end. A model whose end is token 2 takes it at the largest id instead, as old files of CLIP do.
fn ending(tokenizer: Tokenizer) -> Result<Tokenizer, Error> {
    let expected =
        "a tokenizer with an end-of-text token (eos_token) other than token 2, or \"byte\", \"char\", \"bpe\" or \"wordpiece\"";
    match tokenizer.end_of_text() {
        Some(2) => Err(Invalid::new("data.tokenizer", expected, "one whose texts end with token 2").into()),
        None => Err(Invalid::new("data.tokenizer", expected, "one without").into()),
        Some(_) => Ok(tokenizer),
    }
}
