//! `samara reward`: a reward model from what people prefer.

use super::align_config;
use crate::align::config::RewardConfig;
use crate::align::output::{Output, Pad};
use crate::align::reward::{RewardSpec, RewardTraining};
use crate::align::rows::RowEncoder;
use crate::align::run::{AlignRequest, Context, Prepared, run as train};
use crate::config::Invalid;
use crate::dialogue::row::Kind;
use crate::lm::scored::{ScoreInit, Scored};
use crate::train::error::TrainingError;
use crate::train::request::TrainOutcome;

align_config! {
    /// The configuration of a training of a reward model.
    RewardRun, "samara reward", &[Kind::Preference], {
        /// `[reward]`
        reward: RewardConfig;
    }
}

impl RewardRun {
    fn check_together(&self) -> Result<(), Invalid> {
        self.dialogue.check(self.train.block_size)
    }
}

/// Trains a reward model.
///
/// # Errors
/// As [`train`].
pub fn run(request: AlignRequest<RewardRun>) -> Result<Option<TrainOutcome>, TrainingError> {
    train(request, prepare)
}

fn prepare(context: &Context<RewardRun>) -> Result<Prepared<RewardTraining>, TrainingError> {
    let Context { config, from, base, encoder, rows, .. } = context;
    let max_length = context.max_length();
    let rows_of = RowEncoder { encoder, max_length, bad_row: config.data.on_bad_row };
    let (rankings, val) = (rows_of.rankings(&rows.train)?, rows_of.rankings(&rows.val)?);
    let mut lines = rankings.lines("prompts", max_length);
    lines.extend(val.lines("validation", max_length));
    if let Some(preferred) = rankings.rows.first().and_then(|ranking| ranking.completions.first()) {
        lines.extend(rows_of.show_scored("first example, the preferred completion", preferred));
    }
    let pad = Pad::of(encoder, base.model.vocab_size().unwrap_or(0));
    let model = Scored::new(&base.model.clone().with_vocab_size(pad.vocab_size), ScoreInit::Normal)?;
    let scored = "the score is that of the token that ends a completion";
    lines.push(format!("{scored}; padding for other tools: {:?}, id {}", pad.text, pad.id));
    let count = rankings.rows.len();
    let spec = RewardSpec {
        model,
        init: config.train.init.clone().map(|folder| (folder, base.model.clone())),
        loss: config.reward.loss(),
        rankings: rankings.rows,
        held_out: val.rows,
        train: config.train.clone(),
    };
    let output = Output::new(base, from, encoder)?;
    let objective = RewardTraining::new(spec).with_output(output, pad, config.reward.zero_mean);
    let rows_per_step = config.train.batch_size * config.train.grad_accumulation;
    Ok(Prepared { objective, lines, content: String::new(), rows: count, rows_per_step })
}
