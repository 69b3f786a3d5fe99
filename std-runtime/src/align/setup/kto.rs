//! `samara kto`: completions that are good or bad.

use super::align_config;
use crate::align::config::KtoConfig;
use crate::align::output::Output;
use crate::align::reference::CachedReference;
use crate::align::rows::RowEncoder;
use crate::align::run::{AlignRequest, Context, Prepared, run as train};
use crate::align::unpaired::{UnpairedSpec, UnpairedTraining};
use crate::config::Invalid;
use crate::dialogue::row::Kind;
use crate::model::tune::config::TuneConfig;
use crate::train::error::TrainingError;
use crate::train::request::TrainOutcome;

align_config! {
    /// The configuration of a training on labelled completions.
    KtoRun, "samara kto", &[Kind::Unpaired], |run| run.tune.clone(), |_| (), {
        /// `[tune]`
        tune: TuneConfig;
        /// `[kto]`
        kto: KtoConfig;
    }
}

impl KtoRun {
    fn check_together(&self) -> Result<(), Invalid> {
        self.dialogue.check(self.train.block_size)?;
        if self.train.batch_size < 2 {
            let expected = "at least 2: the KL is estimated from prompts with completions of others";
            return Err(Invalid::new("train.batch_size", expected, self.train.batch_size));
        }
        Ok(())
    }
}

/// Trains on labelled completions.
///
/// # Errors
/// As [`train`].
pub fn run(request: AlignRequest<KtoRun>) -> Result<Option<TrainOutcome>, TrainingError> {
    train(request, prepare)
}

fn prepare(context: &Context<KtoRun>) -> Result<Prepared<UnpairedTraining>, TrainingError> {
    let Context { config, from, base, encoder, rows, stop, quiet } = context;
    let max_length = context.max_length();
    let rows_of = RowEncoder { encoder, max_length, bad_row: config.data.on_bad_row };
    let (labelled, val) = (rows_of.labelled(&rows.train)?, rows_of.labelled(&rows.val)?);
    let mut lines = labelled.lines("completions", max_length);
    lines.extend(val.lines("validation", max_length));
    lines.extend(labelled.rows.first().into_iter().flat_map(|row| rows_of.show("first example", &row.completion)));
    let count = labelled.rows.len();
    lines.push(labelled.labels());
    let spec = UnpairedSpec {
        policy: context.policy()?,
        kto: config.kto.loss(),
        z0_scope: config.kto.z0_scope,
        rows: labelled.rows,
        held_out: val.rows,
        train: config.train.clone(),
    };
    let mut objective = UnpairedTraining::new(spec)?.with_output(Output::new(base, from, encoder)?);
    if config.kto.cache_reference {
        objective = objective.with_cached_reference(CachedReference::new(stop.clone(), *quiet));
    }
    let rows_per_step = config.train.batch_size * config.train.grad_accumulation;
    Ok(Prepared { objective, lines, content: String::new(), rows: count, rows_per_step })
}
