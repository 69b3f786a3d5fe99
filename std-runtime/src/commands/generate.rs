//! `samara generate`: texts that go on.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use samara_core::quant::BLOCK;

use super::args::{EngineArgs, ModelArgs, WeightFormat, set_keys};
use super::rows::{RowWriter, TextForm, write_line};
use super::tables::Config;
use super::text_writer::TextWriter;
use super::{Command, Console, Error, output};
use crate::config::{Layers, Place, Table};
use crate::data::prompts::{self, Prompt};
use crate::decoding::generator::Generator;
use crate::decoding::stop_strings::StopStrings;
use crate::decoding::texts::{Request, Text, TextOptions, texts};
use crate::files::DASH;
use crate::lm::folder_generation::FolderGeneration;
use crate::lm::formats::KvCache;
use crate::lm::generation::GenerateConfig;
use crate::lm::score::{log_probabilities, mean_loss};
use crate::lm::{Bound, Model, RunError};
use crate::model::tune::peft::Source;
use crate::say;
use crate::session::Engine;
use crate::tokenizer::{FileError, Tokenizer, prompt_ids, specials_note};

const EXAMPLES: &str = "\
Keys of the folder's generation_config.json (max_new_tokens, temperature,
do_sample, top_k, top_p, min_p, repetition_penalty, stop_strings) stand in for
the defaults; its other keys are named if they would change the text. A text
ends at the eos_token_id of config.json and generation_config.json, all of a
list, and at the tokenizer's end of text.

With --quantize the losses (nats per token) on the prompt and on the generated
text are printed beside those of f32. The text was drawn with quantised weights,
which favours them there: use score or eval on a text of your own.

Examples:
  samara generate --model runs/tales-001 --prompt 'Once upon a time'
  samara generate --model gpt2 --prompt 'The' --temperature 0
  samara generate --model gpt2 --prompt 'The' --top-p 0.9 --seed 7
  samara generate --model gpt2 --prompt 'The' --quantize q8
  samara generate --model gpt2 --prompt 'Q: 2+2? A:' --stop Q: --stop $'\\n'
  samara generate --model gpt2 --prompt 'The' --samples 5 --logprobs 3 --json
  samara generate --model gpt2 --prompts prompts.txt --rows 16 > texts.jsonl
  cat story.txt | samara generate --model gpt2 --prompt -";

/// Continue one text, or many. The same seed gives the same text for any number of threads.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Start of the text; -: standard input, without the line break at its end.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    prompt: Option<String>,
    /// Encode special tokens such as <|endoftext|> in prompts as tokens, not as characters.
    #[arg(long)]
    specials: bool,
    /// Prompts: the lines of a file, rows {"prompt":"...","max_new_tokens":N} of a
    /// JSONL file, or the column prompt of a CSV; -: standard input, rows if its
    /// first line is one.
    /// Prints {"prompt","text","tokens","stop"} for each.
    #[arg(long, value_name = "FILE", conflicts_with = "prompt", groups = ["many", "rows_of_json"])]
    prompts: Option<PathBuf>,
    /// Number of independent samples from the prompt.
    #[arg(long, value_name = "N", group = "many", allow_hyphen_values = true, value_parser = clap::value_parser!(u32).range(1..=65536))]
    samples: Option<u32>,
    /// Texts generated at once; the texts do not depend on it [default: 16].
    #[arg(long, value_name = "N", requires = "many", allow_hyphen_values = true, value_parser = clap::value_parser!(u32).range(1..=1024))]
    rows: Option<u32>,
    /// End a text before this string; may be given several times.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    stop: Vec<String>,
    /// Tokens to generate [default: generation_config.json, or 200].
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    max_new_tokens: Option<String>,
    /// Temperature: logits are divided by it; 0 takes the most probable token
    /// [default: generation_config.json, or 0.8].
    #[arg(long, value_name = "F", allow_hyphen_values = true)]
    temperature: Option<String>,
    /// Sample from the N most probable tokens; 0: from all.
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    top_k: Option<String>,
    /// Sample from the most probable tokens up to the cumulative probability F; 1: from all.
    #[arg(long, value_name = "F", allow_hyphen_values = true)]
    top_p: Option<String>,
    /// Sample from tokens at least F times as probable as the most probable; 0: from all.
    #[arg(long, value_name = "F", allow_hyphen_values = true)]
    min_p: Option<String>,
    /// Divide positive logits of tokens that occur in the prompt and the text by F, and
    /// multiply negative ones; 1: off.
    #[arg(long, value_name = "F", allow_hyphen_values = true)]
    repetition_penalty: Option<String>,
    /// Also print the log-probability (nats) of every sampled token and of the N most
    /// probable ones, from the model's own logits: before repetition penalty,
    /// temperature and filters.
    #[arg(long, value_name = "N", requires = "rows_of_json", allow_hyphen_values = true, value_parser = clap::value_parser!(u32).range(0..=16777216))]
    logprobs: Option<u32>,
    /// Print {"schema", "prompt", "samples": [{"text", "tokens", "finish_reason"}]}.
    #[arg(long, group = "rows_of_json")]
    json: bool,
    /// Seed of the random samples.
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

/// The settings of every text.
struct Job {
    settings: GenerateConfig,
    tokenizer: Tokenizer,
    /// Tokens after which a text ends.
    stops: Vec<i32>,
    /// Strings before which it ends.
    stop_strings: Vec<String>,
    /// Ids of the model.
    vocab_size: usize,
    /// Positions of the model.
    positions: usize,
    quiet: bool,
}

impl Job {
    /// The ids of a prompt; prints a note when they exceed the model's context.
    fn prompt(&self, text: &str) -> Result<Vec<i32>, Error> {
        let ids = prompt_ids(&self.tokenizer, text, self.settings.specials, self.vocab_size)?;
        if let Some(note) = say::cut_prompt(ids.len(), self.positions).filter(|_| !self.quiet) {
            say::line(&note);
        }
        Ok(ids)
    }

    fn stop_strings(&self) -> StopStrings<'_> {
        StopStrings::new(&self.tokenizer, &self.stop_strings)
    }

    /// Prints a note once when prompts contain the text of a special token.
    fn note(&self, prompts: Option<&[Prompt]>) {
        if self.settings.specials || self.quiet {
            return;
        }
        let texts = prompts.into_iter().flatten().map(|prompt| &prompt.prompt).chain([&self.settings.prompt]);
        let mut notes = texts.filter_map(|text| specials_note(&self.tokenizer, "the prompt", text.as_bytes()));
        notes.next().iter().for_each(|note| say::line(note));
    }
}

/// The outcome of a finished text.
struct Outcome {
    new_tokens: usize,
    tokens_per_s: f64,
    weight_bytes: u64,
    f32_bytes: u64,
    /// The loss due to quantisation on the prompt, and on the generated text.
    costs: [Option<Cost>; 2],
}

/// The prompt with its continuation, and the number of tokens of the prompt.
type TokensOfText = (Vec<i32>, usize);

/// Prompts generated at once by default.
const ROWS: u32 = 16;

/// Losses on the same tokens, in nats per token.
struct Cost {
    /// With quantised weights.
    loss: f64,
    f32_loss: f64,
    tokens: usize,
}

impl Command for Args {
    /// Writes the text while it is generated, whole characters at a time, and a line break at the end. Stops early at the end-of-text token.
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
        // Usage errors come before any file is read.
        self.layers(None)?.values()?;
        if self.stop.iter().any(String::is_empty) {
            return Err(Error::usage(
                "--stop '': expected a string that is not empty; without --stop a text ends at its stop tokens",
            ));
        }
        let prompts = self.prompts.as_deref().map(prompts::read).transpose()?;
        let engine = self.engine.engine()?;
        let source = self.model.source()?;
        let mut model = self.weights.open(&engine, &source, quiet)?;
        let job = self.job(&source, &model, quiet)?;
        job.note(prompts.as_deref());
        self.check_cache(model.dims.kv_width)?;
        let (bound, begun) = (&mut model.bound(), Instant::now());
        let texts = match &prompts {
            Some(prompts) => self.write_rows(&job, bound, prompts, out)?,
            None if self.json || self.samples.is_some() => self.write_samples(&job, bound, out)?,
            None => vec![self.write_text(&job, bound, TextWriter::new(out))?],
        };
        let new_tokens: usize = texts.iter().map(|(tokens, prompt)| tokens.len() - prompt).sum();
        let tokens_per_s = new_tokens as f64 / begun.elapsed().as_secs_f64().max(1e-9);
        let (weight_bytes, f32_bytes) = (model.weight_bytes() as u64, model.f32_bytes() as u64);
        // Without a reader the comparison is not worth its time.
        let costs = if self.weights.compares() && !quiet { self.costs(&engine, &source, model, &texts)? } else { [None, None] };
        Ok(Outcome { new_tokens, tokens_per_s, weight_bytes, f32_bytes, costs })
    }

    /// The loss due to quantisation on the prompts, and on the generated text.
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

    /// The settings of every text: the folder's, and those given by the user.
    fn job(&self, source: &Source, model: &Model, quiet: bool) -> Result<Job, Error> {
        let folder = source.tokenizer(Tokenizer::is_in);
        let tokenizer = Tokenizer::of_model(folder)?.ok_or_else(|| FileError::none_in(folder, ""))?;
        let config = source.config()?;
        let folder = FolderGeneration::of(source.generation(), &config)?;
        let layers = self.layers(Some(&folder))?;
        if !quiet {
            folder_notes(&folder, &layers).iter().for_each(|note| say::line(note));
        }
        let mut settings = layers.values()?.generate;
        if self.prompt.as_deref() == Some(DASH) {
            settings.prompt = prompts::from_stdin()?;
        }
        let stop_strings = if self.stop.is_empty() { folder.stop_strings } else { self.stop.clone() };
        let (stops, vocab_size, positions) = (config.stops(&tokenizer), model.dims.vocab_size, model.dims.n_positions);
        Ok(Job { settings, tokenizer, stops, stop_strings, vocab_size, positions, quiet })
    }

    /// `[generate]`: the folder's values, then the file, then the flags.
    fn layers(&self, folder: Option<&FolderGeneration>) -> Result<Layers<Config>, Error> {
        let mut layers = Layers::<Config>::new();
        if let Some(FolderGeneration { path, keys, values, .. }) = folder {
            let names: Vec<String> = keys.iter().map(|key| format!("generate.{key}")).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            layers.put(&names, &Place::Folder(path.clone()), |config| config.generate = values.clone());
        }
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
            ("--repetition-penalty", "generate.repetition_penalty", &self.repetition_penalty),
            ("--seed", "generate.seed", &self.seed),
        ];
        for (flag, key, value) in flags {
            if let Some(value) = value {
                layers.flag(flag, key, value);
            }
        }
        Ok(layers)
    }

    /// A quantised cache needs a width that is a multiple of the quantisation block.
    fn check_cache(&self, width: usize) -> Result<(), Error> {
        if self.kv_cache == KvCache::Q8 && !width.is_multiple_of(BLOCK) {
            let what = format!("--kv-cache q8: the keys of a token are {width} values, expected a multiple of {BLOCK}; use f16");
            return Err(Error::usage(what));
        }
        Ok(())
    }

    /// Writes the prompt and its continuation; returns the tokens of both.
    fn write_text(
        &self,
        job @ Job { settings, tokenizer, .. }: &Job,
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
        let ids: Vec<u32> = prompt.iter().map(|&id| id as u32).collect();
        text.push(gap(tokenizer, &settings.prompt, &ids).as_bytes())?;
        let cache = (self.kv_cache.dtype(), settings.max_new_tokens);
        let mut generator = Generator::with_cache(model, &prompt, settings.sampling(), settings.seed, cache)?;
        let (stop_strings, mut ready, mut is_cut) = (job.stop_strings(), Vec::new(), false);
        let mut new = stop_strings.begin();
        for _ in 0..settings.max_new_tokens {
            let token = generator.next(model)?;
            if job.stops.contains(&token) {
                break;
            }
            is_cut = new.push(token, &mut ready);
            text.push(&ready)?;
            ready.clear();
            if is_cut {
                break;
            }
        }
        if !is_cut {
            new.finish(&mut ready);
        }
        text.push(&ready)?;
        text.finish()?;
        Ok((generator.tokens().to_vec(), count))
    }

    /// How texts are generated side by side.
    fn options<'j>(&self, job: &'j Job) -> TextOptions<'j> {
        TextOptions {
            rows: self.rows.unwrap_or(ROWS) as usize,
            cache: self.kv_cache.dtype(),
            sampling: job.settings.sampling(),
            seed: job.settings.seed,
            first_row: 0,
            sampled_logprobs: false,
            stops: job.stops.clone(),
            stop_strings: (!job.stop_strings.is_empty()).then(|| job.stop_strings()),
            logprobs: self.logprobs.map(|count| count as usize),
        }
    }

    /// Writes several continuations of one prompt, or one as JSON; returns the tokens of all. Sample i uses the random stream of row i.
    fn write_samples(&self, job: &Job, model: &mut Bound<'_>, out: &mut dyn Write) -> Result<Vec<TokensOfText>, Error> {
        let Job { settings, tokenizer, .. } = job;
        let prompt = job.prompt(&settings.prompt)?;
        let ids: Vec<u32> = prompt.iter().map(|&id| id as u32).collect();
        let count = self.samples.unwrap_or(1) as usize;
        let requests = vec![Request { prompt, max_new_tokens: settings.max_new_tokens }; count];
        let mut found: Vec<Option<Text>> = vec![None; count];
        texts(model, &requests, &self.options(job), &mut |number, text| {
            found[number] = Some(text);
            Ok::<(), RunError>(())
        })?;
        let (found, form) = (found.into_iter().flatten().collect::<Vec<Text>>(), self.form(job));
        if self.json {
            write_line(out, &form.samples(&settings.prompt, &found)?)?;
        } else {
            for (number, text) in found.iter().enumerate() {
                write_line(out, &format!("--- sample {number} ---"))?;
                let mut writer = TextWriter::new(out);
                writer.push(settings.prompt.as_bytes())?;
                writer.push(gap(tokenizer, &settings.prompt, &ids).as_bytes())?;
                writer.push(&form.bytes(text))?;
                writer.finish()?;
            }
        }
        Ok(found.into_iter().map(|text| (text.tokens, text.prompt)).collect())
    }

    fn form<'j>(&self, job: &'j Job) -> TextForm<'j> {
        TextForm { tokenizer: &job.tokenizer, stop_strings: job.stop_strings(), logprobs: self.logprobs.is_some() }
    }

    /// Writes one JSON row per prompt, in their order; returns the tokens of all.
    fn write_rows(
        &self,
        job @ Job { settings, .. }: &Job,
        model: &mut Bound<'_>,
        prompts: &[Prompt],
        out: &mut dyn Write,
    ) -> Result<Vec<TokensOfText>, Error> {
        if !settings.prompt.is_empty() {
            return Err(Error::usage("--prompts: generate.prompt is set too, and they exclude each other; leave one out"));
        }
        let request = |p: &Prompt| -> Result<Request, Error> {
            let max_new_tokens = p.max_new_tokens.unwrap_or(settings.max_new_tokens);
            Ok(Request { prompt: job.prompt(&p.prompt)?, max_new_tokens })
        };
        let requests = prompts.iter().map(request).collect::<Result<Vec<Request>, Error>>()?;
        let mut writer = RowWriter::new(prompts, self.form(job), out);
        let mut all = vec![TokensOfText::default(); prompts.len()];
        texts(model, &requests, &self.options(job), &mut |number, text| {
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
            text += &format!("weights in {}: {own}; in f32: {f32_bytes}\n", quantize.name());
        }
        for (what, cost) in ["the prompt", "the text generated"].into_iter().zip(&outcome.costs) {
            if let Some(Cost { loss, f32_loss, tokens }) = *cost {
                text += &format!("loss on {what}: {loss:.6}{}, {tokens} tokens\n", output::cost(loss, Some(f32_loss)));
            }
        }
        text
    }
}

/// The loss due to quantisation; `None` without log-probabilities.
fn cost(own: &[f32], f32s: &[f32]) -> Option<Cost> {
    let tokens = own.len();
    (tokens > 0).then(|| Cost { loss: mean_loss(own), f32_loss: mean_loss(f32s), tokens })
}

/// The separator between a prompt and its continuation, where the tokenizer inserts one that the prompt lacks.
fn gap(tokenizer: &Tokenizer, prompt: &str, ids: &[u32]) -> &'static str {
    if prompt.ends_with(char::is_whitespace) { "" } else { tokenizer.gap_after(ids) }
}

/// Notes about the folder's `generation_config.json`: the settings that it changes, and those that are not supported.
fn folder_notes(folder: &FolderGeneration, layers: &Layers<Config>) -> Vec<String> {
    let path = folder.path.display();
    let is_own = |key: &&&str| matches!(layers.place(&format!("generate.{key}")), Some(Place::Folder(_)));
    let shown = |key: &&str| Some(format!("{key} = {}", folder.values.show(key)?));
    let own: Vec<String> = folder.keys.iter().filter(is_own).filter_map(shown).collect();
    let own = (!own.is_empty()).then(|| format!("note: {path} sets {}", own.join(", ")));
    let others = &folder.idle;
    let others = (!others.is_empty()).then(|| format!("note: {path}: these settings have no effect here: {}", others.join(", ")));
    own.into_iter().chain(others).collect()
}
