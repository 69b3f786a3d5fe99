//! `samara dpo`: pairs of completions, with a loss by name.

use super::align_config;
use crate::align::config::DpoConfig;
use crate::align::output::Output;
use crate::align::pairs::{PairTraining, PairsSpec};
use crate::align::reference::CachedReference;
use crate::align::rows::RowEncoder;
use crate::align::run::{AlignRequest, Context, Prepared, run as train};
use crate::config::Invalid;
use crate::dialogue::row::Kind;
use crate::model::tune::config::TuneConfig;
use crate::train::error::TrainingError;
use crate::train::request::TrainOutcome;

align_config! {
    /// The configuration of a training on pairs.
    DpoRun, "samara dpo", &[Kind::Preference], |run| run.tune.clone(), |run| run.dpo.resolve(), {
        /// `[tune]`
        tune: TuneConfig;
        /// `[dpo]`
        dpo: DpoConfig;
    }
}

impl DpoRun {
    fn check_together(&self) -> Result<(), Invalid> {
        self.dialogue.check(self.train.block_size)
    }
}

/// Trains on pairs.
///
/// # Errors
/// As [`train`].
pub fn run(request: AlignRequest<DpoRun>) -> Result<Option<TrainOutcome>, TrainingError> {
    train(request, prepare)
}

fn prepare(context: &Context<DpoRun>) -> Result<Prepared<PairTraining>, TrainingError> {
    let Context { config, from, base, encoder, rows, stop, quiet } = context;
    let max_length = context.max_length();
    let rows_of = RowEncoder { encoder, max_length, bad_row: config.data.on_bad_row };
    let (pairs, val) = (rows_of.pairs(&rows.train)?, rows_of.pairs(&rows.val)?);
    let mut lines = pairs.lines("pairs", max_length);
    lines.extend(val.lines("validation", max_length));
    lines.extend(pairs.differing(&rows.train.path)?);
    if let Some([chosen, rejected]) = pairs.rows.first() {
        lines.extend(rows_of.show("first example, the preferred completion", chosen));
        lines.extend(rows_of.show("first example, the other completion", rejected));
    }
    let count = pairs.rows.len();
    let spec = PairsSpec {
        policy: context.policy()?,
        loss: config.dpo.loss(),
        beta: config.dpo.beta(),
        pairs: pairs.rows,
        held_out: val.rows,
        train: config.train.clone(),
    };
    let mut objective = PairTraining::new(spec)?.with_output(Output::new(base, from, encoder)?);
    if config.dpo.cache_reference {
        objective = objective.with_cached_reference(CachedReference::new(stop.clone(), *quiet));
    }
    let rows_per_step = config.train.batch_size * config.train.grad_accumulation;
    Ok(Prepared { objective, lines, content: String::new(), rows: count, rows_per_step })
}
