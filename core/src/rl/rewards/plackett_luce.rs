//! The Plackett–Luce loss of a ranking (Luce 1959, Plackett 1975; ListMLE of Xia et al. 2008).

use crate::math::Real;
use crate::rl::error::Error;
use crate::rl::number::{log_sum_exp, same_len, sum};

/// −Σ_{i < ranked} (r_i − log Σ_{j ≥ i} exp r_j): the best is drawn from all, the second from the rest, and so on. `scores` (K) best first; of a partial
/// ranking the first `ranked` are in order, and all others are worse. `gradients` (K) gets the derivatives.
///
/// # Errors
/// Fewer than two scores, more ranked than there are, none ranked.
pub fn plackett_luce<R: Real>(scores: &[R], ranked: usize, gradients: &mut [R]) -> Result<R, Error> {
    same_len("gradients", gradients, scores.len())?;
    if scores.len() < 2 {
        return Err(Error::TooFew { name: "scores", expected: 2, found: scores.len() });
    }
    if !(1..=scores.len()).contains(&ranked) {
        return Err(Error::Parameter { name: "ranked", expected: "from 1 to as many as there are scores", found: ranked as f64 });
    }
    gradients.fill(R::ZERO);
    let place = |i: usize| -> R {
        let rest = scores.get(i..).unwrap_or(&[]);
        let score = rest.first().copied().unwrap_or(R::ZERO);
        log_sum_exp(rest) - score
    };
    for first in 0..ranked {
        let rest = scores.get(first..).unwrap_or(&[]);
        let all = log_sum_exp(rest);
        for (i, (&score, gradient)) in rest.iter().zip(gradients.iter_mut().skip(first)).enumerate() {
            *gradient += (score - all).exp() - if i == 0 { R::ONE } else { R::ZERO };
        }
    }
    Ok(sum((0..ranked).map(place)))
}
