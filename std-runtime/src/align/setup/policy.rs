//! What PPO and the methods without a value function have in common: prompts, rewards, rollouts.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fancy_regex::Regex;
use samara_core::rl::ScoreAt;
use serde_json::Map;

use super::ptx::Ptx;
use crate::align::output::Output;
use crate::align::policy::builtin::{Process, TextScore, TextScorer, Texts, answer_of};
use crate::align::policy::config::RolloutConfig;
use crate::align::policy::episodes::RolloutOptions;
use crate::align::policy::method::Method;
use crate::align::policy::rewards::{RewardFolder, RewardSource, Rewards};
use crate::align::policy::state::{Critic, Policy, PolicySpec};
use crate::align::rows::{Kept, RowEncoder};
use crate::align::run::{AlignConfig, Context, Prepared};
use crate::config::{Invalid, Unread, table};
use crate::dialogue::row::Row;
use crate::lm::RunError;
use crate::lm::open::OpenError;
use crate::model::tune::config::TuneConfig;
use crate::model::tune::peft::Source;
use crate::stop::Stop;
use crate::tokenizer::Tokenizer;
use crate::train::config::TrainConfig;
use crate::train::error::TrainingError;

table! {
    /// Where the scores of completions come from: the sum of all sources whose weight is not 0.
    pub RewardsConfig {
        /// A folder of a reward model, as samara reward writes it; its tokenizer must be the policy's.
        model: Option<PathBuf> = None;
        /// The weight of its score.
        model_weight: f64 = 1.0, -1000000..=1000000;
        /// The weight of 1 where a completion is its row's "answer".
        exact_match_weight: f64 = 0.0, -1000000..=1000000;
        /// The weight of pleasant less unpleasant words, from -1 to 1.
        sentiment_weight: f64 = 0.0, -1000000..=1000000;
        /// The weight of a completion's tokens.
        length_weight: f64 = 0.0, -1000000..=1000000;
        /// A regular expression.
        regex: Option<String> = None;
        /// The weight of 1 where it matches.
        regex_weight: f64 = 1.0, -1000000..=1000000;
        /// A command of the shell that reads lines of JSON ("prompt", "completion", the row's keys) and answers each with a line: a number, or null for
        /// what cannot be scored.
        command: Option<String> = None;
        /// The weight of its numbers.
        command_weight: f64 = 1.0, -1000000..=1000000;
    }
    unread: RewardsConfig::unread;
}

impl RewardsConfig {
    fn unread(&self) -> Vec<Unread> {
        [
            (self.model.is_none(), "model_weight", "a reward model reads it: --reward DIR, or rewards.model"),
            (self.regex.is_none(), "regex_weight", "rewards.regex reads it"),
            (self.command.is_none(), "command_weight", "rewards.command reads it"),
        ]
        .into_iter()
        .filter_map(|(idle, key, instead)| idle.then_some(Unread { key, instead }))
        .collect()
    }
}

/// Checks what rollouts, `[train]` and `[tune]` must agree on.
///
/// # Errors
/// What does not fit.
pub fn check(
    rollout: &RolloutConfig,
    (train, tune): (&TrainConfig, &TuneConfig),
    (group_size, compares): (usize, bool),
) -> Result<(), Invalid> {
    let minibatch = train.batch_size * train.grad_accumulation;
    if compares && group_size < 2 {
        let expected = "at least 2: the method compares completions of one prompt";
        return Err(Invalid::new("rollout.group_size", expected, group_size));
    }
    if tune.adapter_dropout() > 0.0 {
        let expected = "0: completions are drawn without dropout, and ratios of the first update would not be 1";
        return Err(Invalid::new("tune.dropout", expected, tune.dropout));
    }
    for (name, size) in [("rollout.group_size", group_size), ("train.batch_size · train.grad_accumulation", minibatch)] {
        if !rollout.episodes.is_multiple_of(size) {
            return Err(Invalid::new("rollout.episodes", format!("a multiple of {name} = {size}"), rollout.episodes));
        }
    }
    Ok(())
}

/// The tables of a method.
pub struct PolicyParts<'c> {
    /// How completions are sampled.
    pub rollout: &'c RolloutConfig,
    /// What they are worth.
    pub rewards: &'c RewardsConfig,
    /// Pretraining text beside them.
    pub ptx: Option<Ptx>,
    /// What is done with them.
    pub method: Method,
    /// Completions of a prompt.
    pub group_size: usize,
    /// Logits are divided by it.
    pub temperature: f64,
    /// The value function.
    pub critic: Option<Critic>,
}

/// The objective of a policy.
///
/// # Errors
/// Prompts that are too long, no source of scores, a reward model that does not fit.
pub fn prepare<C: AlignConfig>(context: &Context<C>, parts: PolicyParts<'_>) -> Result<Prepared<Policy>, TrainingError> {
    let Context { config, from, base, encoder, rows, quiet, .. } = context;
    let PolicyParts { rollout, rewards, ptx, method, group_size, temperature, critic } = parts;
    let (train, data) = (config.parts().train, config.parts().data);
    let max_length = room_for_prompts(context, rollout)?;
    let rows_of = RowEncoder { encoder, max_length, bad_row: data.on_bad_row };
    let (prompts, val) = (rows_of.prompts(&rows.train)?, rows_of.prompts(&rows.val)?);
    let mut lines = prompts_lines("prompts", &prompts, context, rollout);
    lines.extend(prompts_lines("validation", &val, context, rollout));
    lines.extend(prompts.rows.first().into_iter().flat_map(|prompt| rows_of.show_prompt(prompt)));
    let texts = texts(context, [&prompts.numbers, &val.numbers]);
    let stops = texts.stops.clone();
    let rewards = sources(rewards, &texts, &context.stop)?;
    lines.push(format!("rewards: {}", rewards.describe()));
    let (pretraining, content) = ptx.map_or((None, String::new()), |ptx| {
        lines.extend(ptx.lines);
        (Some(ptx.pretraining), ptx.content)
    });
    let spec = PolicySpec {
        policy: context.policy()?,
        method,
        rollout: RolloutOptions {
            rows: rollout.rows,
            max_new_tokens: rollout.max_new_tokens,
            temperature,
            seed: train.seed,
            stops,
            // The score goes to the last token of a row, which must be there.
            fixed_length: method.rewards.score_at == ScoreAt::Last,
        },
        episodes: rollout.episodes,
        group_size,
        critic,
        rewards,
        prompts: prompts.rows,
        held_out: val.rows,
        pretraining,
        train: train.clone(),
    };
    let (count, rows_per_step) = (spec.prompts.len(), rollout.episodes / group_size);
    let objective = Policy::new(spec)?.with_output(Output::new(base, from, encoder)?, texts).with_warnings(*quiet);
    Ok(Prepared { objective, lines, content, rows: count, rows_per_step })
}

/// Tokens of a prompt at most: those that a completion leaves of the model's positions.
///
/// # Errors
/// None.
pub fn room_for_prompts<C: AlignConfig>(context: &Context<C>, rollout: &RolloutConfig) -> Result<usize, Invalid> {
    let positions = context.base.model.positions();
    if rollout.max_new_tokens >= positions {
        let expected = format!("below {positions}, the positions of the model, which prompt and completion share");
        return Err(Invalid::new("rollout.max_new_tokens", expected, rollout.max_new_tokens));
    }
    Ok(context.max_length().min(positions - rollout.max_new_tokens))
}

/// What a person should know of prompts.
pub fn prompts_lines<C: AlignConfig>(
    name: &str,
    prompts: &Kept<Vec<i32>>,
    context: &Context<C>,
    rollout: &RolloutConfig,
) -> Vec<String> {
    let (positions, new) = (context.base.model.positions(), rollout.max_new_tokens);
    let room = positions.saturating_sub(new);
    let (max_length, count) = (context.max_length().min(room), prompts.rows.len());
    let mut lines = prompts.lines(name, max_length);
    if prompts.truncated > 0 {
        let why = if max_length == room {
            format!("{positions} positions of the model less rollout.max_new_tokens = {new}")
        } else {
            "dialogue.max_length, or train.block_size".to_owned()
        };
        lines.push(format!(
            "warning: {name}: of {} of {count} the beginning is cut off, so that the last {max_length} tokens are left ({why})",
            prompts.truncated
        ));
    }
    lines
}

/// What text scorers read: the keys of every prompt's row, those that are held out behind the others. The answer of a row that has one is there as
/// `answer`. `numbers` are those of the prompts' rows in both.
pub fn texts<C: AlignConfig>(context: &Context<C>, [train, val]: [&[usize]; 2]) -> Arc<Texts> {
    let Context { encoder, rows, .. } = context;
    let used = train.iter().filter_map(|&i| rows.train.rows.get(i)).chain(val.iter().filter_map(|&i| rows.val.rows.get(i)));
    let keys = used.map(|placed| match &placed.row {
        Row::Prompt { others, .. } => others.clone(),
        Row::Dialogue { .. } => {
            let said = placed.row.completions().into_iter().flatten().map(|turn| turn.content.as_str()).collect::<String>();
            Map::from_iter([("answer".to_owned(), said.into())])
        }
        Row::Preference { .. } | Row::Unpaired { .. } => Map::new(),
    });
    let stops = encoder.stops().iter().map(|&id| id as i32).collect();
    Arc::new(Texts { tokenizer: Arc::new(encoder.tokenizer().clone()), rows: keys.collect(), stops })
}

/// The sources of scores that a configuration names.
///
/// # Errors
/// None, or one that cannot be had.
pub fn sources(rewards: &RewardsConfig, texts: &Arc<Texts>, stop: &Stop) -> Result<Rewards, TrainingError> {
    let mut all = Vec::new();
    if let Some(folder) = &rewards.model {
        let reward = RewardFolder::open("rewards.model", Source::of(folder, None).map_err(OpenError::from)?)?;
        same_tokens(folder, &reward.source, texts)?;
        all.push((RewardSource::Model(Box::new(reward)), rewards.model_weight as f32));
    }
    if rewards.exact_match_weight != 0.0 && !texts.rows.iter().any(|row| answer_of(row).is_some()) {
        let expected = "0 for rows without a key \"answer\", which completions are compared with: every score would be none";
        return Err(Invalid::new("rewards.exact_match_weight", expected, rewards.exact_match_weight).into());
    }
    let mut text = |score: TextScore, weight: f64| {
        if weight != 0.0 {
            all.push((RewardSource::Scorer(Box::new(TextScorer::new(texts, score))), weight as f32));
        }
    };
    text(TextScore::ExactMatch, rewards.exact_match_weight);
    text(TextScore::Sentiment, rewards.sentiment_weight);
    text(TextScore::Length, rewards.length_weight);
    if let Some(pattern) = &rewards.regex {
        let regex = Regex::new(pattern)
            .map_err(|error| Invalid::new("rewards.regex", format!("a regular expression ({error})"), pattern))?;
        text(TextScore::Matches(regex), rewards.regex_weight);
    }
    if let Some(command) = &rewards.command {
        all.push((RewardSource::Scorer(Box::new(Process::start(texts, command, stop)?)), rewards.command_weight as f32));
    }
    if all.is_empty() {
        let expected =
            "a reward model, or another source of [rewards]: exact_match_weight, sentiment_weight, length_weight, regex, command";
        return Err(Invalid::new("rewards.model", expected, "none").into());
    }
    Ok(Rewards::new(all))
}

/// A reward model must read tokens as the policy writes them.
fn same_tokens(folder: &Path, source: &Source, texts: &Texts) -> Result<(), TrainingError> {
    let Some(other) = Tokenizer::of_model(source.tokenizer(Tokenizer::is_in))? else { return Ok(()) };
    let policy = &texts.tokenizer;
    let differs = (0..policy.vocab_size() as u32).find(|&id| policy.token_bytes(id) != other.token_bytes(id));
    differs.map_or(Ok(()), |id| {
        Err(RunError::Guard(format!(
            "rewards.model {}: its token {id} is not the policy's, expected the same tokenizer; train the reward model from the policy's base",
            folder.display()
        ))
        .into())
    })
}
