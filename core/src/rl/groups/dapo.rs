//! What DAPO (Yu et al. 2025) adds to GRPO beside its clip and its mean over tokens: a soft limit of length, groups that teach something, and masks of
//! completions that were cut.

use super::advantages::{all_equal, check, members};
use crate::math::Real;
use crate::rl::error::Error;
use crate::rl::number::{not_negative, same_len};

/// A penalty for completions near the limit of length (eq. 13): 0 up to `limit − buffer` tokens, then falling in a line to −factor at `limit`, and −factor
/// beyond.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OverlongPenalty<R> {
    /// L_max, in tokens.
    pub limit: usize,
    /// L_cache, in tokens.
    pub buffer: usize,
    /// What a completion of `limit` tokens loses; 1 in the paper.
    pub factor: R,
}

impl<R: Real> OverlongPenalty<R> {
    /// What is added to the reward of a completion of `length` tokens.
    ///
    /// # Errors
    /// A buffer of 0 or longer than the limit, a negative factor.
    pub fn of(&self, length: usize) -> Result<R, Error> {
        if !(1..=self.limit).contains(&self.buffer) {
            return Err(Error::Parameter {
                name: "overlong_buffer",
                expected: "from 1 to as many tokens as the limit",
                found: self.buffer as f64,
            });
        }
        not_negative("overlong_factor", self.factor)?;
        let over = length.saturating_sub(self.limit.saturating_sub(self.buffer)).min(self.buffer);
        Ok(-(self.factor * R::from_usize(over) / R::from_usize(self.buffer)))
    }
}

/// Dynamic sampling: says of each row (B) whether the rewards of its group differ, and returns how many do. The others have advantage 0: prompts are sampled
/// until the batch is full of rows that are kept. A group without two scorable rows is not kept.
///
/// # Errors
/// Arrays of different lengths, an infinite reward.
pub fn informative_groups<R: Real>(rewards: &[R], groups: &[u32], keep: &mut [bool]) -> Result<usize, Error> {
    check(rewards, groups, rewards)?;
    same_len("keep", keep, rewards.len())?;
    let mut kept = 0_usize;
    for (&id, keep) in groups.iter().zip(keep) {
        *keep = !all_equal(members(rewards, groups, id));
        kept = kept.saturating_add(usize::from(*keep));
    }
    Ok(kept)
}

/// Takes completions that were cut, without EOS, out of a mask (B, T), and returns how many there were (TRL's `mask_truncated_completions`). If none is
/// left, [`Mask::new`](crate::rl::Mask::new) refuses the mask.
///
/// # Errors
/// A mask that is not a row of `row` tokens for each completion.
pub fn mask_truncated(row: usize, ended: &[bool], live: &mut [bool]) -> Result<usize, Error> {
    same_len("mask", live, ended.len().saturating_mul(row))?;
    let mut cut = 0_usize;
    for (live, _) in live.chunks_mut(row.max(1)).zip(ended).filter(|(_, ended)| !**ended) {
        live.fill(false);
        cut = cut.saturating_add(1);
    }
    Ok(cut)
}
