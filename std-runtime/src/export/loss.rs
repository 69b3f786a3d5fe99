//! The loss due to a storage format of weights, keys and values: computed on held-out text with the programs and kernels of the device.

use samara_core::file::{FileError, ProgramFile};
use samara_core::graph::DType;
use samara_core::ops;
use samara_core::ops::weight::is_blocks;
use samara_core::params::ParamsError;
use samara_core::quant::BLOCK;
use samara_core::session::{Session, SessionError};
use samara_core::tune::Tune;
use serde::Serialize;
use thiserror::Error;

use super::aligned::Aligned;
use super::build::program_file;
use super::names::dtype_name;
use super::spec::FileSpec;
use super::work::multiplications;
use crate::data::DataError;
use crate::data::shards::Tokens;
use crate::error::{Failure, Kind};
use crate::lm::Model;
use crate::session::{BuildError, Engine};

/// The loss of a format on held-out text.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FormatLoss {
    /// How matrices are stored.
    pub weights: &'static str,
    /// The element type of keys and values.
    pub kv: &'static str,
    /// Nats per token.
    pub loss: f64,
    /// Tokens predicted.
    pub tokens: usize,
}

/// Why the loss in a format could not be computed.
#[derive(Debug, Error)]
pub enum LossError {
    /// A program of the format cannot be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The tokens cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The file that was just made is refused.
    #[error("the file just made: {0}")]
    File(FileError),
    /// A session on it fails.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// There is nothing to predict.
    #[error(
        "--data: the held-out part has {found} tokens and a sequence {context}, expected at least 2 of both; give a longer text, or a larger --context"
    )]
    TooShort {
        /// Tokens of the text.
        found: usize,
        /// Tokens of a sequence.
        context: u32,
    },
}

impl Failure for LossError {
    fn kind(&self) -> Kind {
        match self {
            Self::Build(error) => error.kind(),
            Self::Data(error) => error.kind(),
            Self::File(_) | Self::Session(_) => Kind::Failed,
            Self::TooShort { .. } => Kind::Data,
        }
    }
}

/// A limit on the multiplications of a measurement, which sets the number of tokens read.
const BUDGET: u64 = 4_000_000_000;
/// The fewest tokens that it reads, and the most.
const TOKENS: (usize, usize) = (64, 8192);

/// The losses of every format of weights with the cache format of `spec`, and of every cache format with its weights.
///
/// # Errors
/// The text is too short, or a program cannot be built.
pub fn compare(device: &Engine, model: &Model, spec: &FileSpec, tokens: &dyn Tokens) -> Result<Vec<FormatLoss>, LossError> {
    let spec = FileSpec { train: Tune::None, names: false, ..*spec };
    let mut formats: Vec<(DType, DType)> = [DType::Real, DType::Q8, DType::Q4].map(|weights| (weights, spec.kv)).to_vec();
    formats.extend([DType::Real, DType::F16, DType::Q8].map(|kv| (spec.weights, kv)));
    formats.insert(0, (DType::Real, DType::Real));
    let mut losses: Vec<FormatLoss> = Vec::new();
    for (weights, kv) in formats {
        let seen = losses.iter().any(|l| (l.weights, l.kv) == (dtype_name(weights), dtype_name(kv)));
        let spec = FileSpec { weights, kv, ..spec };
        // A format whose quantisation block does not divide the rows of this model has no loss.
        if seen || is_blocks(kv) && !model.dims.kv_width.is_multiple_of(BLOCK) {
            continue;
        }
        let bytes = match program_file(device, model, None, &spec) {
            Err(BuildError::Params(ParamsError::Blocks { .. })) => continue,
            bytes => bytes?,
        };
        let (loss, tokens) = held_out_loss(&bytes, tokens)?;
        losses.push(FormatLoss { weights: dtype_name(weights), kv: dtype_name(kv), loss, tokens });
    }
    Ok(losses)
}

/// Mean of −ln p in nats over the tokens of non-overlapping sequences, each as long as the context; and the number of these tokens.
fn held_out_loss(bytes: &[u8], tokens: &dyn Tokens) -> Result<(f64, usize), LossError> {
    let kernels = ops::reference::<f32>();
    let aligned = Aligned::new(bytes);
    let file = ProgramFile::open(aligned.get(), &kernels).map_err(LossError::File)?;
    let mut ram = vec![0.0; Session::ram_len(&file)];
    let mut session = Session::new(file, &mut ram)?;
    let budget = usize::try_from(BUDGET / multiplications(&file).max(1)).unwrap_or(usize::MAX).clamp(TOKENS.0, TOKENS.1);
    let count = budget.min(usize::try_from(tokens.len()).unwrap_or(usize::MAX));
    let mut ids = vec![0; count];
    tokens.read(0, &mut ids)?;
    let (mut sum, mut scored) = (0.0, 0u32);
    for sequence in ids.chunks(file.header().context as usize) {
        session.restart();
        for pair in sequence.windows(2) {
            let logits = session.feed(pair[0] as u32)?;
            let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let total: f64 = logits.iter().map(|&z| f64::from(z - max).exp()).sum();
            sum += total.ln() - f64::from(logits.get(pair[1] as usize).copied().unwrap_or(f32::NEG_INFINITY) - max);
            scored += 1;
        }
    }
    if scored == 0 {
        return Err(LossError::TooShort { found: ids.len(), context: file.header().context });
    }
    Ok((sum / f64::from(scored), scored as usize))
}
