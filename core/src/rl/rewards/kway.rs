//! The reward loss of K ranked completions of one prompt (Ouyang et al. 2022, eq. 1).

use super::choice::Ranks;
use super::pairwise::RewardLoss;
use crate::math::Real;
use crate::rl::error::Error;
use crate::rl::number::{Sum, same_len};

/// The mean over all pairs of a prompt that are not tied of −log σ(r_w − r_l): 1/C(K,2) Σ without ties. All pairs of a prompt are one element of a batch, so
/// that a completion is read once. `scores` (K), best first, or in the order of `ranks` (K; 1 is the best, equal ranks are ties, which are dropped).
/// `gradients` (K) gets the derivatives by the scores.
///
/// # Errors
/// Arrays of different lengths, parameters out of range, no pair that is not tied.
pub fn kway<R: Real>(how: &RewardLoss<R>, scores: &[R], ranks: Option<&[u32]>, gradients: &mut [R]) -> Result<R, Error> {
    how.check()?;
    same_len("gradients", gradients, scores.len())?;
    let ranks = Ranks::of(ranks, scores.len())?;
    let (mut total, mut pairs) = (Sum::default(), 0_usize);
    gradients.fill(R::ZERO);
    for (i, &chosen) in scores.iter().enumerate() {
        for (j, &rejected) in scores.iter().enumerate().filter(|(j, _)| ranks.at(i) < ranks.at(*j)) {
            let (loss, by_chosen, by_rejected) = how.of(chosen, rejected);
            total.add(loss);
            pairs = pairs.saturating_add(1);
            for (at, slope) in [(i, by_chosen), (j, by_rejected)] {
                if let Some(gradient) = gradients.get_mut(at) {
                    *gradient += slope;
                }
            }
        }
    }
    if pairs == 0 {
        return Err(Error::TooFew { name: "pairs that are not tied", expected: 1, found: 0 });
    }
    let share = R::ONE / R::from_usize(pairs);
    gradients.iter_mut().for_each(|gradient| *gradient *= share);
    Ok(total.value() * share)
}
