//! What gives completions scores.

use super::episodes::Episode;
use crate::lm::RunError;

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
