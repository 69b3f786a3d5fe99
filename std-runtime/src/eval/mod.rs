//! The loss of a model over held-out text: the choice of tokens, and the bytes that they encode.

pub mod probe;

use std::path::Path;

use thiserror::Error;

use crate::data::DataError;
use crate::data::batches::sweep_rows;
use crate::data::config::DataConfig;
use crate::data::encoding::Encoding;
use crate::data::prepare::{check_has_specials, check_no_specials, shards_of};
use crate::data::shards::{TokenList, Tokens};
use crate::data::source::DataRequest;
use crate::data::splits::{Part, PrepareError, Splits};
use crate::error::{Failure, Kind};
use crate::files;
use crate::lm::evaluate::{Evaluation, MeanLoss};
use crate::lm::{Model, RunError};
use crate::memory::OutOfMemory;
use crate::session::BuildError;
use crate::tokenizer::{FileError, Tokenizer};

/// Which part of the data is evaluated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Selection {
    /// The first part.
    Train,
    /// The held-out last part.
    Val,
    /// Everything.
    #[default]
    All,
}

/// Why the loss could not be computed.
#[derive(Debug, Error)]
pub enum EvalError {
    /// Text, tokens, or the tokenizer for them.
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    /// A shard of training tokens without its counterpart.
    #[error("{train}: no val.bin in its folder")]
    NoVal {
        /// The shard.
        train: String,
    },
    /// There is nothing to predict.
    #[error(
        "{name}: this split has {found} tokens, expected at least 2; choose another --split, or change --set data.val_fraction=F"
    )]
    TooShort {
        /// The data.
        name: String,
        /// Its tokens.
        found: u64,
    },
    /// A batch whose tensors are too large.
    #[error("--batch-size {batch}: {batch} windows of {block} tokens are too many at a time ({problem}); lower --batch-size")]
    TooLarge {
        /// Windows per batch.
        batch: usize,
        /// Tokens of a window.
        block: usize,
        /// Which limit.
        problem: String,
    },
    /// The program could not be built or run.
    #[error(transparent)]
    Run(#[from] RunError),
}

impl From<DataError> for EvalError {
    fn from(error: DataError) -> Self {
        Self::Prepare(error.into())
    }
}

impl Failure for EvalError {
    fn kind(&self) -> Kind {
        match self {
            Self::Prepare(error) => error.kind(),
            Self::NoVal { .. } | Self::TooShort { .. } => Kind::Data,
            Self::TooLarge { .. } => Kind::Usage,
            Self::Run(error) => error.kind(),
        }
    }
}

/// The tokens of a selection.
pub struct Selected {
    /// The tokens.
    pub tokens: Box<dyn Tokens>,
    /// Notes for the user about how they were read.
    pub notes: Vec<String>,
}

/// The tokenizer of the folder `model`, for data that is text. For token shards it is only needed for bits per byte, and an unusable one counts as
/// absent.
///
/// # Errors
/// The data cannot be examined, or is text without a usable tokenizer.
pub fn tokenizer_of(data: &DataConfig, model: &Path, quiet: bool) -> Result<Option<Tokenizer>, EvalError> {
    let is_text = shards_of(&DataRequest::new(data))?.is_none();
    let tokenizer = if is_text { Tokenizer::of_model(model) } else { Ok(Tokenizer::of_model_if_usable(model, quiet)) };
    Ok(tokenizer.map_err(PrepareError::from)?)
}

/// The tokens of a selection for a model with `vocab_size` ids: of shards, or of text encoded with the tokenizer of the folder `model`.
///
/// # Errors
/// The data cannot be read; there is no tokenizer, or no validation shard.
pub fn tokens(
    data: &DataConfig,
    selection: Selection,
    tokenizer: Option<&Tokenizer>,
    model: &Path,
    vocab_size: usize,
) -> Result<Selected, EvalError> {
    let data = DataRequest::new(data);
    if let Some((train, val)) = shards_of(&data)? {
        let shard = match (selection, val) {
            (Selection::Val, Some(val)) => val,
            (Selection::Val, None) => return Err(EvalError::NoVal { train: train.name() }),
            (Selection::Train | Selection::All, _) => train,
        };
        check_no_specials(&data).map_err(PrepareError::from)?;
        let notes = shard.note().map(str::to_owned).into_iter().collect();
        return Ok(Selected { tokens: Box::new(shard), notes });
    }
    let tokenizer = tokenizer
        .ok_or_else(|| PrepareError::from(FileError::none_in(model, ", or give token ids (a .bin file) as the data")))?;
    check_has_specials(&data, tokenizer).map_err(PrepareError::from)?;
    let splits = Splits::load(&data)?;
    let mut encoding = Encoding::new(tokenizer, data.specials, Some(vocab_size));
    let mut ids = Vec::new();
    let parts: &[Part] = match selection {
        Selection::Train => &[Part::Train],
        Selection::Val => &[Part::Val],
        Selection::All => &[Part::Train, Part::Val],
    };
    for &part in parts {
        splits.encode(part, &mut encoding, |more| {
            let bytes = (ids.len() + more.len()) as u64 * size_of::<u32>() as u64;
            let refused = |_| files::FileError::memory(Path::new(&splits.name()), SMALLER)(OutOfMemory::refused(bytes));
            ids.try_reserve(more.len()).map_err(refused)?;
            ids.extend_from_slice(more);
            Ok(())
        })?;
    }
    let mut notes = splits.lines();
    notes.extend(encoding.warnings(&splits.name()));
    Ok(Selected { tokens: Box::new(TokenList::new(splits.name(), ids)), notes })
}

/// The advice for a text whose tokens do not fit into memory.
const SMALLER: &str = "give a part of the text";

/// Tokens per run: larger batches are not faster.
const RUN_TOKENS: usize = 8192;
/// Default windows per batch, unless they are long.
const BATCH: usize = 8;

/// The mean loss in nats over all tokens but the first, in non-overlapping windows, `batch` of them at a time, or the default. A window is at most as
/// long as the text. `progress` is called after every batch.
///
/// # Errors
/// There are too few tokens, ids beyond the model's vocabulary, or the batch is too large.
pub fn mean_loss(
    model: &mut Model,
    source: &dyn Tokens,
    batch: Option<usize>,
    block: usize,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<MeanLoss, EvalError> {
    if source.len() < 2 {
        return Err(EvalError::TooShort { name: source.name(), found: source.len() });
    }
    source.check_ids(model.dims.vocab_size as u32)?;
    let block = block.min(usize::try_from(source.len() - 1).unwrap_or(usize::MAX));
    let batch = batch.unwrap_or((RUN_TOKENS / block.max(1)).clamp(1, BATCH));
    // More windows than exist would be empty.
    let blocks = usize::try_from(sweep_rows(source.len(), block)).unwrap_or(usize::MAX);
    let batch = batch.min(blocks).max(1);
    let evaluation = Evaluation::new(&mut model.bound(), batch, block, false).map_err(|error| match error {
        BuildError::Graph(error) => EvalError::TooLarge { batch, block, problem: error.kind.to_string() },
        error => RunError::Build(error).into(),
    })?;
    Ok(evaluation.run(&mut model.bound(), source, progress)?)
}

/// The number of text bytes that the tokens encode, for bits per byte.
///
/// # Errors
/// Tokens that cannot be read.
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

/// Bits per byte of the predicted text, Σ −log₂ p / bytes; `None` without text.
pub fn bits_per_byte(mean: &MeanLoss, bytes: u64) -> Option<f64> {
    let nats = mean.loss * mean.tokens as f64;
    (bytes > 0).then(|| nats / std::f64::consts::LN_2 / bytes as f64)
}
