//! The command `generate`: a text that goes on.

use std::io::Write;
use std::ops::Range;
use std::path::Path;
use std::time::Instant;

use samara_core::quant::BLOCK;

use crate::cli::requests::{BlocksCost, GenerateOutcome, GenerateRequest, KvCache};
use crate::error::Error;
use crate::gpt::generate::Generator;
use crate::gpt::{Bound, score};
use crate::quantise;
use crate::score::mean_loss;
use crate::session::Engine;
use crate::tokenizer::Tokenizer;
use crate::train::prepare::prompt_ids;

/// Generates text and writes it as it comes, whole characters at a time, and a line break at the end. Stops early at the end-of-text token.
pub fn run(request: &GenerateRequest, out: &mut dyn Write) -> Result<GenerateOutcome, Error> {
    let engine = Engine::new(request.machine.threads, request.machine.gemm)?;
    let mut gpt = quantise::open(&engine, &request.model, &request.kept)?;
    let tokenizer = Tokenizer::of_model(&request.model)?.ok_or_else(|| no_tokenizer(&request.model))?;
    let prompt = prompt_ids(&tokenizer, &request.generate.prompt)?;
    check_cache(request.kv_cache, gpt.config.n_embd)?;
    let begun = Instant::now();
    let tokens = write_text(request, &mut gpt.bound(), &tokenizer, &prompt, TextWriter { out, pending: Vec::new() })?;
    let (new_tokens, seconds) = (tokens.len() - prompt.len(), begun.elapsed().as_secs_f64());
    let (weight_bytes, f32_bytes) = (gpt.weight_bytes() as u64, gpt.f32_bytes() as u64);
    let [prompt_cost, new_cost] = if request.kept.compares() && tokens.len() > 1 {
        let own = score::log_probabilities(&mut gpt.bound(), &tokens)?;
        drop(gpt);
        let f32s = score::log_probabilities(&mut quantise::open_f32(&engine, &request.model)?.bound(), &tokens)?;
        let first_new = prompt.len().saturating_sub(1);
        [cost(&own, &f32s, 0..first_new), cost(&own, &f32s, first_new..own.len())]
    } else {
        [None, None]
    };
    let tokens_per_s = new_tokens as f64 / seconds.max(1e-9);
    Ok(GenerateOutcome { prompt_tokens: prompt.len(), new_tokens, tokens_per_s, weight_bytes, f32_bytes, prompt_cost, new_cost })
}

/// Keys and values in blocks need a width of whole blocks.
fn check_cache(kv_cache: KvCache, width: usize) -> Result<(), Error> {
    if kv_cache == KvCache::Q8 && !width.is_multiple_of(BLOCK) {
        let what = format!("--kv-cache q8: the model is {width} numbers wide, expected a multiple of {BLOCK}; take f16");
        return Err(Error::Usage(what));
    }
    Ok(())
}

/// Writes the prompt and what comes after it; returns the tokens of both.
fn write_text(
    request: &GenerateRequest,
    gpt: &mut Bound<'_>,
    tokenizer: &Tokenizer,
    prompt: &[i32],
    mut text: TextWriter<'_>,
) -> Result<Vec<i32>, Error> {
    let settings = &request.generate;
    text.push(settings.prompt.as_bytes())?;
    if settings.max_new_tokens == 0 {
        text.finish()?;
        return Ok(prompt.to_vec());
    }
    let mut generator = Generator::with_cache(gpt, prompt, settings.sampling(), settings.seed, request.kv_cache.dtype())?;
    for _ in 0..settings.max_new_tokens {
        let token = generator.next(gpt)? as u32;
        if tokenizer.end_of_text() == Some(token) {
            break;
        }
        text.push(&bytes_of(tokenizer, token))?;
    }
    text.finish()?;
    Ok(generator.tokens().to_vec())
}

/// What blocks cost in a range of log-probabilities; nothing where there are none.
fn cost(own: &[f32], f32s: &[f32], range: Range<usize>) -> Option<BlocksCost> {
    let (own, f32s) = (own.get(range.clone())?, f32s.get(range)?);
    let tokens = own.len();
    (tokens > 0).then(|| BlocksCost { loss: mean_loss(own), f32_loss: mean_loss(f32s), tokens })
}

/// What to say of a folder of which text is asked but that has no tokenizer.
pub(crate) fn no_tokenizer(folder: &Path) -> Error {
    Error::Input(format!("{}: the folder has no tokenizer.json; add one, or give token ids", folder.display()))
}

/// The bytes of a token.
pub(crate) fn bytes_of(tokenizer: &Tokenizer, token: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    tokenizer.push_token(token, &mut bytes);
    bytes
}

/// Writes bytes as text: a character waits until all its bytes are there, and bytes that are no text become U+FFFD.
struct TextWriter<'w> {
    out: &'w mut dyn Write,
    pending: Vec<u8>,
}

/// The most bytes of a character.
const CHARACTER_BYTES: usize = 4;

impl TextWriter<'_> {
    fn push(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.pending.extend_from_slice(bytes);
        let complete = match std::str::from_utf8(&self.pending) {
            Ok(_) => self.pending.len(),
            // What may still become a character stays.
            Err(e) if e.error_len().is_none() && self.pending.len() - e.valid_up_to() < CHARACTER_BYTES => e.valid_up_to(),
            Err(_) => self.pending.len(),
        };
        let rest = self.pending.split_off(complete);
        let ready = std::mem::replace(&mut self.pending, rest);
        self.write(&ready)
    }

    fn finish(mut self) -> Result<(), Error> {
        let rest = std::mem::take(&mut self.pending);
        self.write(&rest)?;
        self.write(b"\n")
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let text = String::from_utf8_lossy(bytes);
        self.out
            .write_all(text.as_bytes())
            .and_then(|()| self.out.flush())
            .map_err(Error::io(Path::new("standard output"), "write"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_come_whole() {
        let mut out = Vec::new();
        let mut text = TextWriter { out: &mut out, pending: Vec::new() };
        for byte in "aé😀".bytes() {
            text.push(&[byte]).unwrap();
        }
        text.push(&[0xff, b'b', 0xc3]).unwrap();
        text.finish().unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "aé😀\u{fffd}b\u{fffd}\n");
    }
}
