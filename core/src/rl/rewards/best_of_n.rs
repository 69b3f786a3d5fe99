//! The loss of a choice of the best among n (Ziegler et al. 2019, eq. 1).

use super::choice::{Ranks, choice, none_is_worse};
use crate::math::Real;
use crate::rl::error::Error;
use crate::rl::number::{Sum, same_len};

/// −log softmax(r)_best of n scores, best first, or in the order of `ranks` (n; 1 is the best, equal ranks are ties). `gradients` (n) gets
/// softmax(r) − 1{best}. Of several best ones each is chosen from itself and the worse ones, and the mean over them is taken: they are not compared with each
/// other, as in [`plackett_luce`](super::plackett_luce).
///
/// # Errors
/// Arrays of different lengths, no score that is worse than the best.
pub fn best_of_n<R: Real>(scores: &[R], ranks: Option<&[u32]>, gradients: &mut [R]) -> Result<R, Error> {
    same_len("gradients", gradients, scores.len())?;
    let ranks = Ranks::of(ranks, scores.len())?;
    gradients.fill(R::ZERO);
    let best = (0..scores.len()).map(|i| ranks.at(i)).min().unwrap_or(0);
    let bests = || (0..scores.len()).filter(|&i| ranks.at(i) == best);
    let share = R::ONE / R::from_usize(bests().count().max(1));
    let mut total = Sum::default();
    for i in bests() {
        total.add(choice(scores, ranks, i, share, gradients).ok_or_else(none_is_worse)?);
    }
    if scores.is_empty() { Err(none_is_worse()) } else { Ok(total.value()) }
}
