//! The Plackett–Luce loss of a ranking (Luce 1959, Plackett 1975; ListMLE of Xia et al. 2008).

use super::choice::{Ranks, choice, none_is_worse};
use crate::math::Real;
use crate::rl::error::Error;
use crate::rl::number::{Sum, same_len};

/// −Σ_i (r_i − log Σ_{j = i or worse} exp r_j): the best is drawn from all, the second from the rest, and so on. `scores` (K) best first, or in the order
/// of `ranks` (K; 1 is the best, equal ranks are ties). `gradients` (K) gets the derivatives.
///
/// Completions of one rank are not compared with each other: each is drawn from itself and the worse ones, whose Luce probability is that of the model
/// (a composite likelihood: Varin, Reid and Firth 2011, section 2). So a ranking of the first few is one in which all others tie for the last place, and
/// two completions give the loss of a pair.
///
/// # Errors
/// Arrays of different lengths, no score that is worse than another.
pub fn plackett_luce<R: Real>(scores: &[R], ranks: Option<&[u32]>, gradients: &mut [R]) -> Result<R, Error> {
    same_len("gradients", gradients, scores.len())?;
    let ranks = Ranks::of(ranks, scores.len())?;
    gradients.fill(R::ZERO);
    let (mut total, mut draws) = (Sum::default(), 0_usize);
    for i in 0..scores.len() {
        if let Some(loss) = choice(scores, ranks, i, R::ONE, gradients) {
            total.add(loss);
            draws = draws.saturating_add(1);
        }
    }
    if draws == 0 { Err(none_is_worse()) } else { Ok(total.value()) }
}
