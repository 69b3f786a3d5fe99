//! `samara generate`: texts that go on.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use samara_core::quant::BLOCK;

use super::args::{EngineArgs, ModelArgs, WeightFormat, set_keys};
use super::rows::RowWriter;
use super::tables::Config;
use super::{Command, Console, Error, output};
use crate::config::Layers;
use crate::data::prompts::{self, Prompt};
use crate::decoding::generator::Generator;
use crate::decoding::texts::{Request, TextOptions, texts};
use crate::files::{IoError, STDOUT};
use crate::lm::formats::KvCache;
use crate::lm::generation::GenerateConfig;
use crate::lm::score::{log_probabilities, mean_loss};
use crate::lm::{Bound, Model};
use crate::model::folder::FolderConfig;
use crate::model::tune::peft::Source;
use crate::say;
use crate::session::Engine;
use crate::tokenizer::{FileError, Tokenizer, prompt_ids, specials_note};

const EXAMPLES: &str = "\
With --quantize the losses (nats per token) on the prompt and on the generated
text are printed beside those of f32. The text was drawn with quantised weights,
which favours them there: use score or eval on a text of your own.

Examples:
  samara generate --model runs/tales-001 --prompt 'Once upon a time'
  samara generate --model gpt2 --prompt 'The' --temperature 0
  samara generate --model gpt2 --prompt 'The' --top-p 0.9 --seed 7
  samara generate --model gpt2 --prompt 'The' --quantize q8
  samara generate --model gpt2 --prompts prompts.txt --rows 16 > texts.jsonl";

/// Continue a text, or many. The same seed gives the same text for any number of threads.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// What the text begins with.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    prompt: Option<String>,
    /// Take <|endoftext|> and the like in prompts for special tokens.
    #[arg(long)]
    specials: bool,
    /// Prompts: the lines of a file, or rows {"prompt":"...","max_new_tokens":N}
    /// of a JSONL file. Prints {"prompt","text","tokens","stop"} for each.
    #[arg(long, value_name = "FILE", conflicts_with = "prompt")]
    prompts: Option<PathBuf>,
    /// Prompts generated at once; the texts do not depend on it [default: 16].
    #[arg(long, value_name = "N", requires = "prompts", allow_hyphen_values = true, value_parser = clap::value_parser!(u32).range(1..=1024))]
    rows: Option<u32>,
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

/// What every text is made with.
struct Job {
    settings: GenerateConfig,
    tokenizer: Tokenizer,
    /// Tokens after which a text ends.
    stops: Vec<i32>,
    /// Ids of the model.
    vocab_size: usize,
    /// Positions of the model.
    positions: usize,
    quiet: bool,
}

impl Job {
    /// The ids of a prompt; says so when the model does not see all of them.
    fn prompt(&self, text: &str) -> Result<Vec<i32>, Error> {
        let ids = prompt_ids(&self.tokenizer, text, self.settings.specials, self.vocab_size)?;
        if let Some(note) = say::cut_prompt(ids.len(), self.positions).filter(|_| !self.quiet) {
            say::line(&note);
        }
        Ok(ids)
    }

    /// Says it once when prompts hold the text of a special token.
    fn note(&self, prompts: Option<&[Prompt]>) {
        if self.settings.specials || self.quiet {
            return;
        }
        let texts = prompts.into_iter().flatten().map(|prompt| &prompt.prompt).chain([&self.settings.prompt]);
        let mut notes = texts.filter_map(|text| specials_note(&self.tokenizer, "the prompt", text.as_bytes()));
        notes.next().iter().for_each(|note| say::line(note));
    }
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

/// The prompt and what came after it, and how many tokens the prompt has.
type TokensOfText = (Vec<i32>, usize);

/// Prompts generated at once unless asked otherwise.
const ROWS: u32 = 16;

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
        let prompts = self.prompts.as_deref().map(prompts::read).transpose()?;
        let engine = self.engine.engine()?;
        let source = self.model.source()?;
        let mut model = Model::open_quantised(&engine, &source, self.weights.quantize)?;
        let folder = source.tokenizer(Tokenizer::is_in);
        let tokenizer = Tokenizer::of_model(folder)?.ok_or_else(|| FileError::none_in(folder, ""))?;
        let stops = FolderConfig::read(&source.base)?.stops(&tokenizer);
        let (vocab_size, positions) = (model.dims.vocab_size, model.dims.n_positions);
        let job = Job { settings, tokenizer, stops, vocab_size, positions, quiet };
        job.note(prompts.as_deref());
        self.check_cache(model.dims.kv_width)?;
        let (bound, begun) = (&mut model.bound(), Instant::now());
        let texts = match &prompts {
            Some(prompts) => self.write_rows(&job, bound, prompts, out)?,
            None => vec![self.write_text(&job, bound, TextWriter { out, pending: Vec::new() })?],
        };
        let new_tokens: usize = texts.iter().map(|(tokens, prompt)| tokens.len() - prompt).sum();
        let tokens_per_s = new_tokens as f64 / begun.elapsed().as_secs_f64().max(1e-9);
        let (weight_bytes, f32_bytes) = (model.weight_bytes() as u64, model.f32_bytes() as u64);
        // Without a reader the comparison is not worth its time.
        let costs = if self.weights.compares() && !quiet { self.costs(&engine, &source, model, &texts)? } else { [None, None] };
        Ok(Outcome { new_tokens, tokens_per_s, weight_bytes, f32_bytes, costs })
    }

    /// The loss due to quantisation on the prompts, and on what was generated.
    fn costs(
        &self,
        engine: &Arc<Engine>,
        source: &Source,
        model: Model,
        texts: &[TokensOfText],
    ) -> Result<[Option<Cost>; 2], Error> {
        let scored: Vec<&TokensOfText> = texts.iter().filter(|(tokens, _)| tokens.len() > 1).collect();
        let measure = |model: &mut Model| {
            let (mut prompts, mut rest) = (Vec::new(), Vec::new());
            for (tokens, prompt) in &scored {
                let logprobs = log_probabilities(&mut model.bound(), tokens)?;
                let (of_prompt, of_rest) = logprobs.split_at(prompt.saturating_sub(1));
                prompts.extend_from_slice(of_prompt);
                rest.extend_from_slice(of_rest);
            }
            Ok([prompts, rest])
        };
        let (own, f32s) = self.weights.compared(engine, source, model, measure)?;
        let f32s = f32s.unwrap_or_default();
        Ok([0, 1].map(|part| cost(&own[part], &f32s[part])))
    }

    /// `[generate]`, with what the flags set.
    fn settings(&self) -> Result<GenerateConfig, Error> {
        let mut layers = Layers::<Config>::new();
        if let Some(file) = &self.config {
            layers.file(file)?;
        }
        set_keys(&mut layers, &self.set, "generate")?;
        let prompt = self.prompt.as_ref().map(|text| toml::Value::String(text.clone()).to_string());
        let specials = self.specials.then(|| true.to_string());
        let flags = [
            ("--prompt", "generate.prompt", &prompt),
            ("--specials", "generate.specials", &specials),
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
        job @ Job { settings, tokenizer, stops, .. }: &Job,
        model: &mut Bound<'_>,
        mut text: TextWriter<'_>,
    ) -> Result<TokensOfText, Error> {
        let prompt = job.prompt(&settings.prompt)?;
        text.push(settings.prompt.as_bytes())?;
        let count = prompt.len();
        if settings.max_new_tokens == 0 {
            text.finish()?;
            return Ok((prompt, count));
        }
        if !settings.prompt.ends_with(char::is_whitespace) {
            let ids: Vec<u32> = prompt.iter().map(|&id| id as u32).collect();
            text.push(tokenizer.gap_after(&ids).as_bytes())?;
        }
        let cache = (self.kv_cache.dtype(), settings.max_new_tokens);
        let mut generator = Generator::with_cache(model, &prompt, settings.sampling(), settings.seed, cache)?;
        for _ in 0..settings.max_new_tokens {
            let token = generator.next(model)?;
            if stops.contains(&token) {
                break;
            }
            text.push(&tokenizer.token_bytes(token as u32))?;
        }
        text.finish()?;
        Ok((generator.tokens().to_vec(), count))
    }

    /// Writes a row of JSON for every prompt, in their order; returns the tokens of all.
    fn write_rows(
        &self,
        job @ Job { settings, tokenizer, stops, .. }: &Job,
        model: &mut Bound<'_>,
        prompts: &[Prompt],
        out: &mut dyn Write,
    ) -> Result<Vec<TokensOfText>, Error> {
        if !settings.prompt.is_empty() {
            return Err(Error::usage("--prompts: generate.prompt is set too, and only one of them can be meant; leave one out"));
        }
        let request = |p: &Prompt| -> Result<Request, Error> {
            let max_new_tokens = p.max_new_tokens.unwrap_or(settings.max_new_tokens);
            Ok(Request { prompt: job.prompt(&p.prompt)?, max_new_tokens })
        };
        let requests = prompts.iter().map(request).collect::<Result<Vec<Request>, Error>>()?;
        let options = TextOptions {
            rows: self.rows.unwrap_or(ROWS) as usize,
            cache: self.kv_cache.dtype(),
            sampling: settings.sampling(),
            seed: settings.seed,
            stops: stops.clone(),
        };
        let mut writer = RowWriter::new(prompts, tokenizer, out);
        let mut all = vec![TokensOfText::default(); prompts.len()];
        texts(model, &requests, &options, &mut |number, text| {
            writer.push(number, &text)?;
            all[number] = (text.tokens, text.prompt);
            Ok::<(), Error>(())
        })?;
        Ok(all)
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

/// The loss due to quantisation; none where there are no log-probabilities.
fn cost(own: &[f32], f32s: &[f32]) -> Option<Cost> {
    let tokens = own.len();
    (tokens > 0).then(|| Cost { loss: mean_loss(own), f32_loss: mean_loss(f32s), tokens })
}

/// Writes bytes as text: a character waits until all its bytes are there, bytes that are no text become U+FFFD, and characters that a terminal obeys
/// are escaped.
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
        let written = self.out.write_all(say::printable(&text).as_bytes()).and_then(|()| self.out.flush());
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
        text.push(&[0xff, b'b', 0x1b, 0xc3]).unwrap();
        text.finish().unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "aé😀\u{fffd}b\\x1b\u{fffd}\n");
    }
}
