//! The loss of a choice of the best among n (Ziegler et al. 2019, eq. 1).

use crate::math::Real;
use crate::rl::error::Error;
use crate::rl::number::{log_sum_exp, same_len};

/// −log softmax(r)_best of n scores. `gradients` (n) gets softmax(r) − 1{best}.
///
/// # Errors
/// Fewer than two scores, a best that is not among them.
pub fn best_of_n<R: Real>(scores: &[R], best: usize, gradients: &mut [R]) -> Result<R, Error> {
    same_len("gradients", gradients, scores.len())?;
    if scores.len() < 2 {
        return Err(Error::TooFew { name: "scores", expected: 2, found: scores.len() });
    }
    let Some(&chosen) = scores.get(best) else {
        return Err(Error::Parameter { name: "best", expected: "the position of a score, from 0", found: best as f64 });
    };
    let all = log_sum_exp(scores);
    for (i, (&score, gradient)) in scores.iter().zip(gradients).enumerate() {
        *gradient = (score - all).exp() - if i == best { R::ONE } else { R::ZERO };
    }
    Ok(all - chosen)
}
