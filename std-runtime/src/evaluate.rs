//! The command `eval`: the loss of a model over a whole split.

use crate::cli::requests::{EvalOutcome, EvalRequest, Split};
use crate::data::batches::sweep_rows;
use crate::data::shards::{TokenList, Tokens};
use crate::error::Error;
use crate::generate::no_tokenizer;
use crate::gpt::Gpt;
use crate::gpt::evaluate::{Evaluation, MeanLoss};
use crate::quantise;
use crate::session::{BuildError, Engine};
use crate::tokenizer::Tokenizer;
use crate::train::prepare::{self, DataRequest, Splits};

/// Evaluates in blocks that do not overlap.
pub fn run(request: &EvalRequest, progress: &mut dyn FnMut(u64, u64)) -> Result<EvalOutcome, Error> {
    let engine = Engine::new(request.machine.threads, request.machine.gemm)?;
    let mut gpt = quantise::open(&engine, &request.model, &request.kept)?;
    let tokenizer = Tokenizer::of_model(&request.model)?;
    let source = tokens(request, tokenizer.as_ref())?;
    if source.len() < 2 {
        return Err(Error::Input(format!(
            "{}: this split has {} tokens, expected at least 2; choose another --split, or change --set data.val_fraction=F",
            source.name(),
            source.len()
        )));
    }
    source.check_ids(gpt.config.vocab_size as u32)?;
    let block = block_size(request, &gpt)?;
    // More blocks than there are would be empty.
    let blocks = usize::try_from(sweep_rows(source.len(), block)).unwrap_or(usize::MAX);
    let batch = request.batch_size.min(blocks).max(1);
    let mut mean_of = |gpt: &mut Gpt| -> Result<MeanLoss, Error> {
        let mut evaluation = Evaluation::new(&mut gpt.bound(), batch, block).map_err(|error| too_large(batch, block, error))?;
        Ok(evaluation.run(&mut gpt.bound(), source.as_ref(), 0, progress)?)
    };
    let mean = mean_of(&mut gpt)?;
    drop(gpt);
    let mut f32_loss = None;
    if request.kept.compares() {
        f32_loss = Some(mean_of(&mut quantise::open_f32(&engine, &request.model)?)?.loss);
    }
    let bytes = tokenizer.as_ref().map(|t| prepare::text_bytes(t, source.as_ref())).transpose()?;
    let nats = mean.loss * mean.tokens as f64;
    Ok(EvalOutcome {
        loss: mean.loss,
        f32_loss,
        perplexity: mean.loss.exp(),
        bits_per_byte: bytes.filter(|&b| b > 0).map(|b| nats / std::f64::consts::LN_2 / b as f64),
        tokens: mean.tokens,
    })
}

/// Tokens of a block.
fn block_size(request: &EvalRequest, gpt: &Gpt) -> Result<usize, Error> {
    let positions = gpt.config.n_positions;
    match request.block_size {
        0 => Ok(positions),
        block if block <= positions => Ok(block),
        block => {
            let what = format!(
                "--block-size {block}: the model has {positions} positions: expected at most {positions}, or 0 for all of them"
            );
            Err(Error::Usage(what))
        }
    }
}

/// What to say of a batch whose tensors are too large.
fn too_large(batch: usize, block: usize, error: BuildError) -> Error {
    match error {
        BuildError::Graph(error) => Error::Usage(format!(
            "--batch-size {batch}: {batch} blocks of {block} tokens are too many at a time ({}); lower --batch-size",
            error.kind
        )),
        error => Error::Build(error),
    }
}

/// The tokens of the split: of shards as they are, or of text.
pub(crate) fn tokens(request: &EvalRequest, tokenizer: Option<&Tokenizer>) -> Result<Box<dyn Tokens>, Error> {
    let data = DataRequest::new(&request.data);
    if let Some((train, val)) = prepare::shards_of(&data.source)? {
        return match (request.split, val) {
            (Split::Val, Some(val)) => Ok(Box::new(val)),
            (Split::Val, None) => Err(Error::Input(format!("{}: there is no val.bin beside it", train.name()))),
            (Split::Train | Split::All, _) => Ok(Box::new(train)),
        };
    }
    let tokenizer = tokenizer.ok_or_else(|| no_tokenizer(&request.model))?;
    let splits = Splits::load(&data)?;
    let mut ids = Vec::new();
    let parts: &[prepare::Split] = match request.split {
        Split::Train => &[prepare::Split::Train],
        Split::Val => &[prepare::Split::Val],
        Split::All => &[prepare::Split::Train, prepare::Split::Val],
    };
    for &part in parts {
        splits.encode(part, tokenizer, |more| {
            ids.extend_from_slice(more);
            Ok(())
        })?;
    }
    Ok(Box::new(TokenList::new(splits.name(), ids)))
}
