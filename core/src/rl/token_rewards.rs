//! Rewards of tokens: the KL penalty at every token, the score of the completion at one of them.

use super::error::Error;
use super::number::{clamp, finite, not_negative, positive, same_len};
use crate::math::Real;

/// The token that gets the score.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ScoreAt {
    /// The last of the row, whatever it is: completions have a fixed length (lm-human-preferences).
    Last,
    /// The last token of the completion, its EOS if it has one (OpenRLHF, verl).
    #[default]
    Eos,
    /// The one behind it, if the row has it (summarize-from-feedback, TRL).
    EosPlusOne,
}

/// What becomes of the score of a completion without EOS.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub enum MissingEos<R> {
    /// Nothing.
    #[default]
    Keep,
    /// It becomes this (lm-human-preferences, summarize-from-feedback: −1).
    Replace(R),
    /// This is subtracted (TRL's `missing_eos_penalty`).
    Subtract(R),
}

/// Which tokens get the KL penalty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Penalised {
    /// Those of the completion.
    #[default]
    Completion,
    /// All of the row, what follows the completion too (lm-human-preferences).
    Row,
}

/// How rewards of tokens are made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenRewards<R> {
    /// β, the coefficient of the KL penalty.
    pub beta: R,
    /// The token that gets the score.
    pub score_at: ScoreAt,
    /// Completions without EOS.
    pub missing_eos: MissingEos<R>,
    /// Which tokens get the penalty.
    pub penalised: Penalised,
    /// Scores are limited to ±this before anything else; 10 in OpenRLHF.
    pub score_limit: Option<R>,
}

/// Completions and their scores, in rows of T tokens.
#[derive(Clone, Copy, Debug)]
pub struct Completions<'a, R> {
    /// T.
    pub row: usize,
    /// Tokens of each completion, its EOS included (B).
    pub lengths: &'a [usize],
    /// Whether each ends with EOS (B).
    pub ended: &'a [bool],
    /// Their scores (B).
    pub scores: &'a [R],
}

impl<R: Real> TokenRewards<R> {
    /// The score that counts.
    pub fn score(&self, score: R, ended: bool) -> R {
        let score = self.score_limit.map_or(score, |limit| clamp(score, -limit, limit));
        match self.missing_eos {
            MissingEos::Replace(value) if !ended => value,
            MissingEos::Subtract(penalty) if !ended => score - penalty,
            _ => score,
        }
    }

    /// The position of the score in a row of `row` tokens.
    pub fn scored_token(&self, length: usize, row: usize) -> usize {
        let last = row.saturating_sub(1);
        match self.score_at {
            ScoreAt::Last => last,
            ScoreAt::Eos => length.saturating_sub(1).min(last),
            ScoreAt::EosPlusOne => length.min(last),
        }
    }

    /// r_t = −β kl_t, plus the score at its token. `kl`, `rewards`: (B, T); `kl` is an estimate from values, k1 as a rule. Behind a completion a
    /// reward is 0, unless the whole row is penalised. Ziegler et al. 2019, eq. 2; Stiennon et al. 2020, section 3.4.
    ///
    /// # Errors
    /// Arrays that do not fit, a completion without tokens or longer than its row, a score that is not finite, a negative β.
    pub fn rewards(&self, completions: &Completions<'_, R>, kl: &[R], rewards: &mut [R]) -> Result<(), Error> {
        let Completions { row, lengths, ended, scores } = *completions;
        not_negative("beta", self.beta)?;
        self.score_limit.map_or(Ok(()), |limit| positive("score_limit", limit))?;
        same_len("lengths", lengths, scores.len())?;
        same_len("ended", ended, scores.len())?;
        same_len("kl", kl, scores.len().saturating_mul(row))?;
        same_len("rewards", rewards, kl.len())?;
        finite("scores", scores)?;
        if let Some(&length) = lengths.iter().find(|length| !(1..=row).contains(*length)) {
            let expected = "from 1 to as many tokens as a row has";
            return Err(Error::Parameter { name: "lengths", expected, found: length as f64 });
        }
        let rows = kl.chunks(row.max(1)).zip(rewards.chunks_mut(row.max(1)));
        for ((kl, rewards), ((&length, &ended), &score)) in rows.zip(lengths.iter().zip(ended).zip(scores)) {
            let penalised = if self.penalised == Penalised::Row { row } else { length };
            for (position, (&kl, reward)) in kl.iter().zip(rewards.iter_mut()).enumerate() {
                *reward = if position < penalised { -(self.beta * kl) } else { R::ZERO };
            }
            if let Some(reward) = rewards.get_mut(self.scored_token(length, row)) {
                *reward += self.score(score, ended);
            }
        }
        Ok(())
    }
}
