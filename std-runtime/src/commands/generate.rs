//! `samara generate`: a text that goes on.

use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Instant;

use samara_core::quant::BLOCK;

use super::args::{EngineArgs, WeightFormat, set_keys};
use super::tables::Config;
use super::{Command, Console, Error, output};
use crate::config::Layers;
use crate::files::{IoError, STDOUT};
use crate::lm::formats::KvCache;
use crate::lm::generate::Generator;
use crate::lm::generation::GenerateConfig;
use crate::lm::score::{log_probabilities, mean_loss};
use crate::lm::{Bound, Model};
use crate::say;
use crate::tokenizer::{FileError, Tokenizer, prompt_ids};

const EXAMPLES: &str = "\
With --quantize the losses (nats per token) on the prompt and on the generated
text are printed beside those of f32. The text was drawn with quantised weights,
which favours them there: use score or eval on a text of your own.

Examples:
  samara generate --model runs/tales-001 --prompt 'Once upon a time'
  samara generate --model gpt2 --prompt 'The' --temperature 0
  samara generate --model gpt2 --prompt 'The' --top-p 0.9 --seed 7
  samara generate --model gpt2 --prompt 'The' --quantize q8";

/// Continue a text. The same seed gives the same text for any number of threads.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The model folder.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// What the text begins with.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    prompt: Option<String>,
    /// Tokens to generate [default: 200].
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    max_new_tokens: Option<String>,
    /// Logits are divided by it; 0: the most probable token [default: 0.8].
    #[arg(long, value_name = "F", allow_hyphen_values = true)]
    temperature: Option<String>,
    /// Only the N most probable tokens; 0: all.
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    top_k: Option<String>,
    /// Only the most probable tokens whose probabilities reach F; 1: all.
    #[arg(long, value_name = "F", allow_hyphen_values = true)]
    top_p: Option<String>,
    /// Only tokens at least F as probable as the best; 0: all.
    #[arg(long, value_name = "F", allow_hyphen_values = true)]
    min_p: Option<String>,
    /// Seed of the draws.
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    seed: Option<String>,
    #[command(flatten)]
    weights: WeightFormat,
    /// Element type of keys and values.
    #[arg(long, value_enum, value_name = "TYPE", default_value_t)]
    kv_cache: KvCache,
    /// Read [generate] of a TOML file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set a key, as in generate.top_k=40.
    #[arg(long, value_name = "KEY=VALUE", allow_hyphen_values = true)]
    set: Vec<String>,
    #[command(flatten)]
    engine: EngineArgs,
}

/// What is said of a finished text.
struct Outcome {
    new_tokens: usize,
    tokens_per_s: f64,
    weight_bytes: u64,
    f32_bytes: u64,
    /// The loss due to quantisation on the prompt, and on what was generated.
    costs: [Option<Cost>; 2],
}

/// Losses on the same tokens, in nats per token.
struct Cost {
    /// With quantised weights.
    loss: f64,
    f32_loss: f64,
    tokens: usize,
}

impl Command for Args {
    /// Writes the text as it comes, whole characters at a time, and a line break at the end. Stops early at the end-of-text token.
    fn run(&self, console: &Console) -> Result<(), Error> {
        let outcome = self.outcome(console.quiet, &mut io::stdout().lock())?;
        if !console.quiet {
            say::write(&self.summary(&outcome));
        }
        Ok(())
    }
}

impl Args {
    fn outcome(&self, quiet: bool, out: &mut dyn Write) -> Result<Outcome, Error> {
        let settings = self.settings()?;
        let engine = self.engine.engine()?;
        let mut model = Model::open_quantised(&engine, &self.model, self.weights.quantize)?;
        let tokenizer = Tokenizer::of_model(&self.model)?.ok_or_else(|| FileError::none_in(&self.model))?;
        let prompt = prompt_ids(&tokenizer, &settings.prompt)?;
        self.check_cache(model.dims.kv_width)?;
        let begun = Instant::now();
        let tokens =
            self.write_text(&settings, &mut model.bound(), &tokenizer, &prompt, TextWriter { out, pending: Vec::new() })?;
        let (new_tokens, seconds) = (tokens.len() - prompt.len(), begun.elapsed().as_secs_f64());
        let (weight_bytes, f32_bytes) = (model.weight_bytes() as u64, model.f32_bytes() as u64);
        // Without a reader the comparison is not worth its time.
        let costs = if self.weights.compares() && !quiet && tokens.len() > 1 {
            let measure = |model: &mut Model| Ok(log_probabilities(&mut model.bound(), &tokens)?);
            let (own, f32s) = self.weights.compared(&engine, &self.model, model, measure)?;
            let (f32s, first_new) = (f32s.unwrap_or_default(), prompt.len().saturating_sub(1));
            [cost(&own, &f32s, 0..first_new), cost(&own, &f32s, first_new..own.len())]
        } else {
            [None, None]
        };
        Ok(Outcome { new_tokens, tokens_per_s: new_tokens as f64 / seconds.max(1e-9), weight_bytes, f32_bytes, costs })
    }

    /// `[generate]`, with what the flags set.
    fn settings(&self) -> Result<GenerateConfig, Error> {
        let mut layers = Layers::<Config>::new();
        if let Some(file) = &self.config {
            layers.file(file)?;
        }
        set_keys(&mut layers, &self.set, "generate")?;
        let prompt = self.prompt.as_ref().map(|text| toml::Value::String(text.clone()).to_string());
        let flags = [
            ("--prompt", "generate.prompt", &prompt),
            ("--max-new-tokens", "generate.max_new_tokens", &self.max_new_tokens),
            ("--temperature", "generate.temperature", &self.temperature),
            ("--top-k", "generate.top_k", &self.top_k),
            ("--top-p", "generate.top_p", &self.top_p),
            ("--min-p", "generate.min_p", &self.min_p),
            ("--seed", "generate.seed", &self.seed),
        ];
        for (flag, key, value) in flags {
            if let Some(value) = value {
                layers.flag(flag, key, value);
            }
        }
        Ok(layers.values()?.generate)
    }

    /// Quantised keys and values need a width of whole blocks.
    fn check_cache(&self, width: usize) -> Result<(), Error> {
        if self.kv_cache == KvCache::Q8 && !width.is_multiple_of(BLOCK) {
            let what =
                format!("--kv-cache q8: the keys of a token are {width} numbers, expected a multiple of {BLOCK}; take f16");
            return Err(Error::usage(what));
        }
        Ok(())
    }

    /// Writes the prompt and what comes after it; returns the tokens of both.
    fn write_text(
        &self,
        settings: &GenerateConfig,
        model: &mut Bound<'_>,
        tokenizer: &Tokenizer,
        prompt: &[i32],
        mut text: TextWriter<'_>,
    ) -> Result<Vec<i32>, Error> {
        text.push(settings.prompt.as_bytes())?;
        if settings.max_new_tokens == 0 {
            text.finish()?;
            return Ok(prompt.to_vec());
        }
        let mut generator = Generator::with_cache(model, prompt, settings.sampling(), settings.seed, self.kv_cache.dtype())?;
        for _ in 0..settings.max_new_tokens {
            let token = generator.next(model)? as u32;
            if tokenizer.end_of_text() == Some(token) {
                break;
            }
            text.push(&tokenizer.token_bytes(token))?;
        }
        text.finish()?;
        Ok(generator.tokens().to_vec())
    }

    fn summary(&self, outcome: &Outcome) -> String {
        let mut text = format!("{} tokens, {:.0} tokens/s\n", outcome.new_tokens, outcome.tokens_per_s);
        if let Some(quantize) = self.weights.quantize {
            let (own, f32_bytes) = (output::bytes(outcome.weight_bytes), output::bytes(outcome.f32_bytes));
            text += &format!("weights in {}: {own}; in f32 they are {f32_bytes}\n", quantize.name());
        }
        for (what, cost) in ["the prompt", "the text generated"].into_iter().zip(&outcome.costs) {
            if let Some(Cost { loss, f32_loss, tokens }) = *cost {
                text += &format!("loss on {what}: {loss:.6}{}, {tokens} tokens\n", output::cost(loss, Some(f32_loss)));
            }
        }
        text
    }
}

/// The loss due to quantisation in a range of log-probabilities; none where there are none.
fn cost(own: &[f32], f32s: &[f32], range: Range<usize>) -> Option<Cost> {
    let (own, f32s) = (own.get(range.clone())?, f32s.get(range)?);
    let tokens = own.len();
    (tokens > 0).then(|| Cost { loss: mean_loss(own), f32_loss: mean_loss(f32s), tokens })
}

/// Writes bytes as text: a character waits until all its bytes are there, and bytes that are no text become U+FFFD.
struct TextWriter<'w> {
    out: &'w mut dyn Write,
    pending: Vec<u8>,
}

/// The most bytes of a character.
const CHARACTER_BYTES: usize = 4;

impl TextWriter<'_> {
    fn push(&mut self, bytes: &[u8]) -> Result<(), IoError> {
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

    fn finish(mut self) -> Result<(), IoError> {
        let rest = std::mem::take(&mut self.pending);
        self.write(&rest)?;
        self.write(b"\n")
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), IoError> {
        let text = String::from_utf8_lossy(bytes);
        let written = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
        written.map_err(IoError::at(Path::new(STDOUT), "write"))
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
