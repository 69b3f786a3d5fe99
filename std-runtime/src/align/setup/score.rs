//! `samara score` of a reward folder: what its model gives every completion of rows, or a text.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};

use super::align_config;
use crate::align::completion::Completion;
use crate::align::policy::episodes::Episode;
use crate::align::policy::rewards::{RewardFolder, RewardSource, Rewards};
use crate::align::rows::RowEncoder;
use crate::align::run::{Context, Opening};
use crate::config::Invalid;
use crate::data::DataError;
use crate::dialogue::row::{Kind, Row};
use crate::dialogue::turn::Turn;
use crate::files::{IoError, STDOUT};
use crate::model::tune::config::TuneConfig;
use crate::model::tune::peft::Source;
use crate::say;
use crate::session::{CpuDevice, Engine, Session};
use crate::stop::Stop;
use crate::tokenizer::Tokenizer;
use crate::train::error::TrainingError;

align_config! {
    /// The configuration of scores for rows.
    ScoreRun, "samara score", &[Kind::Dialogue, Kind::Preference, Kind::Unpaired], |_| TuneConfig::default(), |_| (), {}
}

impl ScoreRun {
    fn check_together(&self) -> Result<(), Invalid> {
        self.dialogue.check(self.train.block_size)
    }
}

/// The token whose hidden state is scored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ScoredToken {
    /// Its place, from 0.
    pub position: usize,
    /// Its id.
    pub id: i32,
    /// What it is written as.
    pub text: String,
}

impl ScoredToken {
    /// The last of some tokens.
    pub fn last(tokens: &[i32], tokenizer: Option<&Tokenizer>) -> Option<Self> {
        let (&id, position) = (tokens.last()?, tokens.len() - 1);
        let text = |tokenizer: &Tokenizer| String::from_utf8_lossy(&tokenizer.token_bytes(id as u32)).into_owned();
        Some(Self { position, id, text: tokenizer.map_or_else(String::new, text) })
    }
}

/// A reward model on a session of its own.
struct Judge {
    session: Session<CpuDevice>,
    rewards: Rewards,
}

impl Judge {
    /// For batches of `rows` texts of at most `len` tokens.
    fn open(engine: &Arc<Engine>, source: &Source, shape: (usize, usize)) -> Result<Self, TrainingError> {
        let reward = RewardFolder::open("--model", source.clone())?;
        let mut rewards = Rewards::new(vec![(RewardSource::Model(Box::new(reward)), 1.0)]);
        let mut session = Session::new(CpuDevice::new(Arc::clone(engine)));
        rewards.admit(&mut session, shape)?;
        Ok(Self { session, rewards })
    }

    /// The scores of texts at their last tokens.
    fn scores(&mut self, texts: Vec<Vec<i32>>) -> Result<Vec<f32>, TrainingError> {
        let episodes: Vec<Episode> = texts.into_iter().map(|tokens| Episode { tokens, ..Episode::default() }).collect();
        Ok(self.rewards.score(&mut self.session, &episodes)?)
    }
}

/// The score of a text at its last token.
///
/// # Errors
/// A folder that cannot be read, or tokens that its model does not take.
pub fn score_of(engine: &Arc<Engine>, source: &Source, tokens: &[i32]) -> Result<f32, TrainingError> {
    let score = || Ok(Judge::open(engine, source, (1, tokens.len()))?.scores(vec![tokens.to_vec()])?[0]);
    engine.install(score)
}

/// Writes every row, scored by the model of `source`, with `reward` and `scored_token`: of several completions a list of them, best first.
///
/// # Errors
/// Rows or a folder that are not as they should be, standard output that cannot be written, or a signal.
pub fn run(config: ScoreRun, source: &Source, quiet: bool, to: &mut (dyn Write + Send)) -> Result<(), TrainingError> {
    let stop = Stop::install(quiet).map_err(TrainingError::io(Path::new("signals"), "listen to"))?;
    let engine = Engine::new(config.train.threads, config.train.gemm)?;
    Arc::clone(&engine).install(|| run_on(&engine, (config, source), (&stop, quiet), to))
}

fn run_on(
    engine: &Arc<Engine>,
    (config, source): (ScoreRun, &Source),
    (stop, quiet): (&Stop, bool),
    to: &mut dyn Write,
) -> Result<(), TrainingError> {
    let context = Context::new(config, Opening::Run(source), (stop, quiet))?;
    let (encoder, max_length) = (&context.encoder, context.max_length());
    let rows = RowEncoder { encoder, max_length, bad_row: context.config.data.on_bad_row }.completions(&context.rows.train)?;
    if !quiet {
        rows.lines("rows", max_length).iter().for_each(|line| say::line(line));
    }
    let longest = rows.rows.iter().flat_map(|(_, all)| all).map(|completion| completion.tokens.len()).max().unwrap_or(1);
    let batch = context.config.train.batch_size;
    let mut judge = Judge::open(engine, source, (batch, longest))?;
    for chunk in rows.rows.chunks(batch) {
        stop.check().map_err(DataError::from)?;
        let texts = chunk.iter().flat_map(|(_, all)| all).map(|completion| completion.tokens.clone()).collect();
        let mut scores = judge.scores(texts)?.into_iter();
        for (row, completions) in chunk {
            let scores: Vec<f32> = scores.by_ref().take(completions.len()).collect();
            let written = written(row, completions, &scores, encoder.tokenizer());
            writeln!(to, "{written}").map_err(IoError::at(Path::new(STDOUT), "write"))?;
        }
    }
    Ok(())
}

/// A row with the scores of its completions.
fn written(row: &Row, completions: &[Completion], scores: &[f32], tokenizer: &Tokenizer) -> Value {
    let mut object = json!({ "prompt": Turn::messages(row.prompt()) });
    let tokens: Vec<_> = completions.iter().map(|completion| ScoredToken::last(&completion.tokens, Some(tokenizer))).collect();
    match row {
        Row::Preference { ranked, .. } => {
            object["completions"] = ranked.iter().map(|ranked| Turn::messages(&ranked.completion)).collect();
            object["ranks"] = ranked.iter().map(|ranked| ranked.rank).collect();
            (object["reward"], object["scored_token"]) = (json!(scores), json!(tokens));
        }
        row => {
            object["completion"] = row.completions().first().map_or(Value::Null, |turns| Turn::messages(turns));
            (object["reward"], object["scored_token"]) = (json!(scores.first()), json!(tokens.first()));
        }
    }
    if let Row::Unpaired { label, .. } = row {
        object["label"] = json!(label);
    }
    object
}
