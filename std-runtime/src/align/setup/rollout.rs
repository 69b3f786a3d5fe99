//! `samara rollout`: completions of prompts with their scores, all of them or the best of each prompt.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use samara_core::graph::DType;
use serde_json::{Value, json};

use super::align_config;
use super::policy::{RewardsConfig, prompts_lines, room_for_prompts, sources, texts};
use crate::align::policy::builtin::Texts;
use crate::align::policy::config::RolloutConfig;
use crate::align::policy::episodes::{Episode, RolloutOptions, roll_out};
use crate::align::policy::rewards::Rewards;
use crate::align::rows::{Kept, RowEncoder};
use crate::align::run::{Context, Opening};
use crate::config::Invalid;
use crate::data::DataError;
use crate::dialogue::row::Kind;
use crate::dialogue::turn::Turn;
use crate::files::IoError;
use crate::lm::open::OpenError;
use crate::lm::{Model, RunError};
use crate::model::tune::config::TuneConfig;
use crate::model::tune::peft::Source;
use crate::model_folder::ExtraTensors;
use crate::say;
use crate::session::Engine;
use crate::stop::Stop;
use crate::train::error::TrainingError;

align_config! {
    /// The configuration of a rollout.
    RolloutRun, "samara rollout", &[Kind::Prompt, Kind::Dialogue, Kind::Preference], |_| TuneConfig::default(), |run| run.rollout.resolve(1, 1.0), {
        /// `[rollout]`
        rollout: RolloutConfig;
        /// `[rewards]`
        rewards: RewardsConfig;
    }
}

impl RolloutRun {
    fn check_together(&self) -> Result<(), Invalid> {
        if self.dialogue.pad_token.is_some() || !self.dialogue.add_tokens.is_empty() {
            let key = if self.dialogue.pad_token.is_some() { "dialogue.pad_token" } else { "dialogue.add_tokens" };
            return Err(Invalid::new(key, "no value: only a training adds tokens", "one"));
        }
        self.dialogue.check(self.train.block_size)
    }
}

/// What is asked for.
pub struct RolloutRequest {
    /// The effective configuration.
    pub config: RolloutRun,
    /// Whether there are scores.
    pub scored: bool,
    /// Keep the best completion of every prompt alone.
    pub best: bool,
    /// Print results only.
    pub quiet: bool,
    /// The file that is written to, for messages.
    pub out: PathBuf,
}

/// Writes a row for every completion: `prompt`, `completion`, `score`, `logprob` (of the whole completion, as it was sampled), `ended`.
///
/// # Errors
/// Rows, a model or a reward that are not as they should be; a file that cannot be written; a signal.
pub fn run(request: RolloutRequest, to: &mut (dyn Write + Send)) -> Result<(), TrainingError> {
    let stop = Stop::install(request.quiet).map_err(TrainingError::io(&request.out, "listen to signals for"))?;
    let train = &request.config.train;
    let engine = Engine::new(train.threads, train.gemm)?;
    Arc::clone(&engine).install(|| run_on(engine, request, &stop, to))
}

fn run_on(engine: Arc<Engine>, request: RolloutRequest, stop: &Stop, to: &mut dyn Write) -> Result<(), TrainingError> {
    let RolloutRequest { config, scored, best, quiet, out } = request;
    let folder = config.train.init.clone().unwrap_or_default();
    let source = Source::of(&folder, None).map_err(OpenError::from)?;
    let context = Context::new(config, Opening::Run(&source), (stop, quiet))?;
    let config = &context.config;
    let group_size = config.rollout.group_size.unwrap_or(1);
    let max_length = room_for_prompts(&context, &config.rollout)?;
    let encoder = RowEncoder { encoder: &context.encoder, max_length, bad_row: config.data.on_bad_row };
    let prompts = encoder.prompts(&context.rows.train)?;
    if !quiet {
        prompts_lines("prompts", &prompts, &context, &config.rollout).iter().for_each(|line| say::line(line));
    }
    let Kept { rows: prompts, numbers, .. } = prompts;
    let texts = texts(&context, [&numbers, &[]]);
    let mut rewards = if scored { sources(&config.rewards, &texts, &context.stop)? } else { Rewards::new(Vec::new()) };
    let mut model = Model::open_source(engine, &source, DType::Real, ExtraTensors::Refuse)?;
    rewards.admit(&mut model.session, (config.rollout.rows, max_length + config.rollout.max_new_tokens))?;
    let options = RolloutOptions {
        rows: config.rollout.rows,
        max_new_tokens: config.rollout.max_new_tokens,
        temperature: config.rollout.temperature.unwrap_or(1.0),
        seed: config.train.seed,
        stops: texts.stops.clone(),
        fixed_length: false,
    };
    let numbered: Vec<(usize, &[i32])> = prompts.iter().map(Vec::as_slice).enumerate().collect();
    let mut rows = Written { context: &context, numbers: &numbers, texts: &texts, best, unscored: 0, out: &out, to };
    let per_round = (config.rollout.episodes / group_size).max(1);
    for (round, chunk) in numbered.chunks(per_round).enumerate() {
        stop.check().map_err(DataError::from)?;
        let all: Vec<(usize, &[i32])> = chunk.iter().flat_map(|&prompt| std::iter::repeat_n(prompt, group_size)).collect();
        let first = (round * per_round * group_size) as u64;
        let episodes = roll_out(&mut model.bound(), &all, first, &options, stop)?;
        let scores = if scored { Some(rewards.score(&mut model.session, &episodes)?) } else { None };
        for (i, group) in episodes.chunks(group_size).enumerate() {
            rows.write(group, scores.as_ref().map(|scores| &scores[i * group_size..(i + 1) * group_size]))?;
        }
        if !quiet {
            say::line(&format!("{} of {} prompts", (round * per_round + chunk.len()), numbered.len()));
        }
    }
    rows.finish(numbered.len())
}

/// Rows that are written.
struct Written<'w> {
    context: &'w Context<RolloutRun>,
    /// The number of every prompt's row.
    numbers: &'w [usize],
    texts: &'w Texts,
    /// Keep the best completion of every prompt alone.
    best: bool,
    /// Prompts of which none is kept.
    unscored: usize,
    out: &'w Path,
    to: &'w mut dyn Write,
}

impl Written<'_> {
    /// Writes the completions of a prompt that are kept.
    fn write(&mut self, group: &[Episode], scores: Option<&[f32]>) -> Result<(), IoError> {
        let kept = kept(group.len(), scores, self.best);
        self.unscored += usize::from(kept.is_empty());
        for i in kept {
            let prompt = self.context.rows.train.rows[self.numbers[group[i].row]].row.prompt();
            let row = row(self.texts, prompt, &group[i], scores.map(|scores| scores[i]));
            writeln!(self.to, "{row}").map_err(IoError::at(self.out, "write"))?;
        }
        Ok(())
    }

    /// Says of how many of `prompts` prompts nothing is kept; of all is an error.
    fn finish(self, prompts: usize) -> Result<(), TrainingError> {
        match self.unscored {
            0 => {}
            all if all == prompts => {
                return Err(RunError::Guard(format!(
                    "--best: no completion of {all} prompts has a score that is a number, so that nothing is kept; look at the reward (without --best \
                     all are written)"
                ))
                .into());
            }
            some => {
                say::line(&format!("warning: {some} of {prompts} prompts are left out: none of their completions has a score"));
            }
        }
        Ok(())
    }
}

/// The completions of a prompt that are kept: all, or the first with the best score; none without a score.
fn kept(count: usize, scores: Option<&[f32]>, best: bool) -> Vec<usize> {
    match scores.filter(|_| best) {
        None => (0..count).collect(),
        Some(scores) => {
            let scored = (0..count).filter(|&i| scores[i].is_finite());
            scored.reduce(|best, i| if scores[i] > scores[best] { i } else { best }).into_iter().collect()
        }
    }
}

/// A completion as a row that samara sft takes.
fn row(texts: &Texts, prompt: &[Turn], episode: &Episode, score: Option<f32>) -> Value {
    let turns = Turn::messages(prompt);
    let completion = Turn::messages(&[Turn::assistant(texts.text(episode.completion()))]);
    let logprob: f64 = episode.sampled.iter().map(|&x| f64::from(x)).sum();
    let mut row = json!({ "prompt": turns, "completion": completion, "logprob": logprob, "ended": episode.ended });
    if let Some(score) = score {
        row["score"] = if score.is_finite() { json!(score) } else { Value::Null };
    }
    row
}
