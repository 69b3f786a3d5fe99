//! Pretraining text of a policy as `[ptx]` asks for it: read, and encoded by the policy's tokenizer.

use samara_core::rl::Conventions;

use crate::align::policy::pretraining::{Pretraining, PtxConfig};
use crate::align::run::{AlignConfig, Context};
use crate::config::Invalid;
use crate::data::batches::{Order, Sampler};
use crate::data::config::DataConfig;
use crate::data::encoding::Encoding;
use crate::data::prepare::{content_of, shards_of};
use crate::data::shards::{TokenList, Tokens};
use crate::data::source::DataRequest;
use crate::data::splits::{Part, PrepareError, Splits};
use crate::train::error::TrainingError;

/// Text that was read, with what a person should know of it.
pub struct Ptx {
    /// The text with what is done with it.
    pub pretraining: Pretraining,
    /// Lines for people.
    pub lines: Vec<String>,
    /// What tells it from other text.
    pub content: String,
}

/// The text that a configuration names, with what a preset says of it; none where it is left out.
///
/// # Errors
/// Text that cannot be read or encoded or is shorter than a row, a row longer than the positions of the model, text without a coefficient.
pub fn read<C: AlignConfig>(
    context: &Context<C>,
    config: &PtxConfig,
    preset: Option<&Conventions>,
) -> Result<Option<Ptx>, TrainingError> {
    let Some(path) = &config.data else { return Ok(None) };
    let coefficient = config.coef.unwrap_or(preset.map_or(0.0, |preset| preset.ptx_coefficient));
    if coefficient == 0.0 {
        let expected = "a number above 0 with ptx.data: this method has none of its own (0 leaves the text out)";
        return if config.coef.is_some() { Ok(None) } else { Err(Invalid::new("ptx.coef", expected, "none").into()) };
    }
    let positions = context.base.model.positions();
    let block = config.block_size.unwrap_or(context.config.parts().train.block_size.min(positions));
    if block > positions {
        return Err(Invalid::new("ptx.block_size", format!("at most {positions}, the positions of the model"), block).into());
    }
    let data = DataConfig { path: Some(path.clone()), val_fraction: 0.0, ..DataConfig::default() };
    let (tokens, content) = tokens(context, &DataRequest::new(&data))?;
    let seed = context.config.parts().train.seed;
    let order = Sampler::new(Order::Shuffled, seed, block, tokens.len(), &format!("ptx.data {}", path.display()))?;
    let rows = config.rows.unwrap_or(preset.map_or(1, |preset| preset.ptx_rows as usize));
    let lines = vec![format!(
        "pretraining text: {}, {} tokens; {rows} rows of {block} tokens for each completion of an update, with a coefficient of {coefficient}",
        path.display(),
        tokens.len()
    )];
    let pretraining = Pretraining { coefficient, normaliser: config.normaliser, rows, block, text: Some((tokens, order)) };
    Ok(Some(Ptx { pretraining, lines, content: format!("; pretraining text: {content}") }))
}

/// The tokens of shards, or of text, and what tells them from others.
fn tokens<C: AlignConfig>(context: &Context<C>, request: &DataRequest) -> Result<(Box<dyn Tokens + Send>, String), PrepareError> {
    let (tokenizer, vocab_size) = (context.encoder.tokenizer(), context.base.model.vocab_size());
    let limit = vocab_size.unwrap_or_else(|| tokenizer.vocab_size());
    if let Some((shard, _)) = shards_of(request)? {
        shard.check_ids(limit as u32)?;
        return Ok((Box::new(shard), content_of(request)?));
    }
    let splits = Splits::load(request)?;
    let mut ids = Vec::new();
    let mut encoding = Encoding::new(tokenizer, false, Some(limit));
    splits.encode(Part::Train, &mut encoding, |more| {
        ids.extend_from_slice(more);
        Ok(())
    })?;
    Ok((Box::new(TokenList::new(splits.name(), ids)), splits.content()))
}
