//! The clipped surrogate with one ratio for a whole sequence: GSPO (Zheng et al. 2025), and RLOO as TRL steps it.

use super::error::Error;
use super::mask::count;
use super::number::sum;
use super::ppo::Clip;
use super::ratio::{PolicyBatch, RatioStatistics};
use crate::math::Real;

/// How log-ratios of tokens become that of their sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum SequenceRatio {
    /// Their mean: s = (π(y)/π_old(y))^(1/|y|), Zheng et al. 2025, eq. 7.
    #[default]
    Mean,
    /// Their sum: the ratio of the sequence's probabilities (TRL's RLOO).
    Sum,
}

/// −min(sA, clip(s)A) for each token, s = the ratio of its sequence, and the derivative of the sequence's loss by each log-prob. It is that of the
/// batch's loss once multiplied by token weights, because these are equal within a sequence. `losses`, `gradients`: (B, T), 0 outside of the mask.
/// Statistics are of sequences. Usual ε: 3·10⁻⁴ below and 4·10⁻⁴ above.
///
/// # Errors
/// Arrays of other shapes than the mask, limits out of range.
pub fn gspo<R: Real>(
    clip: &Clip<R>,
    ratio: SequenceRatio,
    batch: &PolicyBatch<'_, R>,
    losses: &mut [R],
    gradients: &mut [R],
) -> Result<RatioStatistics<R>, Error> {
    clip.check()?;
    batch.check(losses, gradients)?;
    let mask = &batch.mask;
    let mut statistics = RatioStatistics::default();
    let inputs = mask.rows_of(batch.logprobs).zip(mask.rows_of(batch.old_logprobs)).zip(mask.rows_of(batch.advantages));
    let outputs = mask.rows_of_mut(losses).zip(mask.rows_of_mut(gradients));
    for ((live, ((logprobs, old), advantages)), (losses, gradients)) in mask.each_row().zip(inputs).zip(outputs) {
        let tokens = count(live);
        let differences = logprobs.iter().zip(old).zip(live).filter(|(_, live)| **live).map(|((&new, &old), _)| new - old);
        let total = sum(differences);
        let length = R::from_usize(tokens.max(1));
        let log_ratio = if ratio == SequenceRatio::Mean { total / length } else { total };
        let (mut slope, mut decided) = (R::ZERO, false);
        for ((&live, &advantage), loss) in live.iter().zip(advantages).zip(losses) {
            *loss = R::ZERO;
            if live {
                let (value, by_ratio, clipped) = clip.surrogate(log_ratio, advantage);
                *loss = value;
                slope += by_ratio;
                decided |= clipped;
            }
        }
        let slope = if ratio == SequenceRatio::Mean { slope / length } else { slope };
        for (&live, gradient) in live.iter().zip(gradients) {
            *gradient = if live { slope } else { R::ZERO };
        }
        if tokens > 0 {
            statistics.add(log_ratio, decided);
        }
    }
    Ok(statistics)
}
