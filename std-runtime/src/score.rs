//! The command `score`: log-probabilities of a text or of token ids.

use crate::cli::requests::{ScoreInput, ScoreOutcome, ScoreRequest};
use crate::error::Error;
use crate::generate::{bytes_of, no_tokenizer};
use crate::gpt::score;
use crate::npy;
use crate::quantise;
use crate::session::Engine;
use crate::tokenizer::{Specials, Tokenizer};

/// Scores every token after the first, and writes the logits if asked to.
pub fn run(request: &ScoreRequest) -> Result<ScoreOutcome, Error> {
    let engine = Engine::new(request.machine.threads, request.machine.gemm)?;
    let mut gpt = quantise::open(&engine, &request.model, &request.kept)?;
    let tokenizer = Tokenizer::of_model(&request.model)?;
    let tokens = match (&request.input, &tokenizer) {
        (ScoreInput::Tokens(ids), _) => ids.clone(),
        (ScoreInput::Text(text), Some(tokenizer)) => tokenizer
            .encode(text.as_bytes(), Specials::None)
            .map_err(|source| Error::Encode { what: "text".to_owned(), source })?,
        (ScoreInput::Text(_), None) => return Err(no_tokenizer(&request.model)),
    };
    let limit = gpt.config.vocab_size;
    if let Some((at, id)) = tokens.iter().enumerate().find(|(_, id)| **id as usize >= limit) {
        return Err(Error::Input(format!("token {at} has id {id}, expected an id below {limit}, the model's vocabulary")));
    }
    let ids: Vec<i32> = tokens.iter().map(|&id| id as i32).collect();
    if let Some(path) = &request.logits {
        let logits = score::logits(&mut gpt.bound(), &ids)?;
        npy::write_f32(path, &[ids.len(), limit], &logits)?;
    }
    let logprobs = score::log_probabilities(&mut gpt.bound(), &ids)?;
    let loss = mean_loss(&logprobs);
    drop(gpt);
    let mut f32_loss = None;
    if request.kept.compares() {
        f32_loss = Some(mean_loss(&score::log_probabilities(&mut quantise::open_f32(&engine, &request.model)?.bound(), &ids)?));
    }
    let text_of = |id: &u32| tokenizer.as_ref().map(|t| String::from_utf8_lossy(&bytes_of(t, *id)).into_owned());
    let texts = tokens.iter().filter_map(text_of).collect();
    Ok(ScoreOutcome { tokens, logprobs, loss, f32_loss, texts })
}

/// The mean of log-probabilities, negated: nats per token.
pub(crate) fn mean_loss(logprobs: &[f32]) -> f64 {
    -logprobs.iter().map(|&x| f64::from(x)).sum::<f64>() / logprobs.len().max(1) as f64
}
