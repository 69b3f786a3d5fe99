//! The Bradley–Terry loss of two scores, with margin, centring and label smoothing.

use crate::math::Real;
use crate::rl::error::Error;
use crate::rl::number::{in_range, not_negative, same_len, smoothed_logistic, smoothing};

/// Terms of a reward model's loss; all are off by default.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct RewardLoss<R> {
    /// m of −log σ(r_w − r_l − m): how much better the better one is to be (Touvron et al. 2023, eq. 2).
    pub margin: R,
    /// c of c (r_w + r_l)²: keeps scores around 0 (Eisenstein et al. 2023, section 2; TRL's `center_rewards_coefficient`).
    pub centring: R,
    /// ε: the share of labels that are taken to be the wrong way round.
    pub label_smoothing: R,
}

impl<R: Real> RewardLoss<R> {
    /// Refuses what is out of range.
    pub(super) fn check(&self) -> Result<(), Error> {
        in_range("margin", "a finite number", self.margin, true)?;
        not_negative("centring", self.centring)?;
        smoothing(self.label_smoothing)
    }

    /// The loss of one pair and its derivatives by both scores: −(1 − ε) log σ(Δ) − ε log σ(−Δ) + c (r_w + r_l)² with Δ = r_w − r_l − m.
    pub(super) fn of(&self, chosen: R, rejected: R) -> (R, R, R) {
        let (loss, slope) = smoothed_logistic(chosen - rejected - self.margin, self.label_smoothing);
        let both = chosen + rejected;
        let pull = self.centring * (both + both);
        (loss + self.centring * both * both, slope + pull, pull - slope)
    }
}

/// The loss of each pair (n) and its derivatives by `chosen` and `rejected` (n). `margins` (n) are added to the margin of all, if there are any.
///
/// # Errors
/// Arrays of different lengths, parameters out of range.
pub fn reward_pairs<R: Real>(
    how: &RewardLoss<R>,
    [chosen, rejected]: [&[R]; 2],
    margins: Option<&[R]>,
    losses: &mut [R],
    [by_chosen, by_rejected]: [&mut [R]; 2],
) -> Result<(), Error> {
    how.check()?;
    same_len("rejected", rejected, chosen.len())?;
    margins.map_or(Ok(()), |margins| same_len("margins", margins, chosen.len()))?;
    for (name, output) in [("losses", &*losses), ("by_chosen", &*by_chosen), ("by_rejected", &*by_rejected)] {
        same_len(name, output, chosen.len())?;
    }
    let outputs = losses.iter_mut().zip(by_chosen.iter_mut().zip(by_rejected));
    for (i, ((&chosen, &rejected), (loss, (by_chosen, by_rejected)))) in chosen.iter().zip(rejected).zip(outputs).enumerate() {
        let own = margins.and_then(|margins| margins.get(i)).copied().unwrap_or(R::ZERO);
        let how = RewardLoss { margin: how.margin + own, ..*how };
        (*loss, *by_chosen, *by_rejected) = how.of(chosen, rejected);
    }
    Ok(())
}
