//! Where the scores of completions come from.

use std::sync::Arc;

use samara_core::model::lm::LanguageModel;
use samara_core::params::ParamId;

use super::episodes::Episode;
use crate::lm::RunError;
use crate::lm::tokenwise::{Number, TokenBatch, TokensShape, Tokenwise};
use crate::session::{BuildError, Device, Session, SetId};

/// Gives completions scores.
pub trait Scorer: Send {
    /// What it is, for people.
    fn name(&self) -> String;

    /// A score for every episode; NaN for one that cannot be scored.
    ///
    /// # Errors
    /// The scorer failed.
    fn score(&mut self, episodes: &[Episode]) -> Result<Vec<f32>, RunError>;
}

/// A function of prompt and completion as a scorer.
pub struct FnScorer<F> {
    name: &'static str,
    score: F,
}

impl<F: FnMut(&[i32], &[i32]) -> f32 + Send> FnScorer<F> {
    /// A scorer of that name.
    pub fn new(name: &'static str, score: F) -> Self {
        Self { name, score }
    }
}

impl<F: FnMut(&[i32], &[i32]) -> f32 + Send> Scorer for FnScorer<F> {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    fn score(&mut self, episodes: &[Episode]) -> Result<Vec<f32>, RunError> {
        Ok(episodes.iter().map(|e| (self.score)(&e.tokens[..e.prompt], e.completion())).collect())
    }
}

/// A reward model on a set of the session: the score of the last token of a completion.
pub struct RewardModel {
    set: SetId,
    program: Tokenwise,
    batch: TokenBatch,
}

impl RewardModel {
    /// Builds the program for rows of at most `len` tokens.
    ///
    /// # Errors
    /// The model cannot be planned.
    pub fn new<D: Device>(
        session: &mut Session<D>,
        set: SetId,
        (layers, score): (&Arc<dyn LanguageModel>, ParamId),
        (rows, len): (usize, usize),
    ) -> Result<Self, BuildError> {
        let shape = TokensShape { rows, len, picks: 1 };
        let program = Tokenwise::new(session, set, layers, shape, (Number::Score(score), None))?;
        Ok(Self { set, program, batch: TokenBatch::new(shape) })
    }

    /// The score of the last token of every row.
    ///
    /// # Errors
    /// A token that the model does not have, or a device that failed.
    pub fn score<'t, D: Device>(
        &mut self,
        session: &mut Session<D>,
        rows: impl Iterator<Item = &'t [i32]>,
    ) -> Result<Vec<f32>, RunError> {
        let rows: Vec<&[i32]> = rows.collect();
        let mut scores = Vec::with_capacity(rows.len());
        for chunk in rows.chunks(self.program.shape().rows) {
            self.batch.clear();
            chunk.iter().for_each(|tokens| self.batch.push(tokens, tokens.len().checked_sub(1)));
            let found = self.program.forward(session, self.set, &self.batch)?;
            scores.extend_from_slice(&found[..chunk.len()]);
        }
        Ok(scores)
    }
}
