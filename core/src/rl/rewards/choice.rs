//! The choice of one completion among worse ones, which rankings are made of.

use crate::math::Real;
use crate::rl::error::Error;
use crate::rl::number::{same_len, sum};

/// The ranks of scores: 1 is the best, equal ranks are ties; without ranks the scores stand in their order, best first.
#[derive(Clone, Copy)]
pub(super) struct Ranks<'r>(Option<&'r [u32]>);

impl<'r> Ranks<'r> {
    /// Those of `count` scores.
    pub(super) fn of(ranks: Option<&'r [u32]>, count: usize) -> Result<Self, Error> {
        ranks.map_or(Ok(()), |ranks| same_len("ranks", ranks, count))?;
        Ok(Self(ranks))
    }

    /// The rank of a score.
    pub(super) fn at(self, i: usize) -> usize {
        self.0.map_or(i, |ranks| ranks.get(i).map_or(0, |&rank| rank as usize))
    }
}

/// −log (e^{r_i} / Σ_j e^{r_j}) over i and all that are worse: Luce's probability (1959) that i is drawn from these. `None` where nothing is worse.
/// `gradients` (K) get the derivatives added, times `share`; so is the loss.
pub(super) fn choice<R: Real>(scores: &[R], ranks: Ranks<'_>, i: usize, share: R, gradients: &mut [R]) -> Option<R> {
    let chosen = scores.get(i).copied()?;
    let is_drawn_from = |j: usize| j == i || ranks.at(i) < ranks.at(j);
    let drawn_from = || scores.iter().enumerate().filter(|(j, _)| is_drawn_from(*j)).map(|(_, &score)| score);
    // Nothing is worse.
    drawn_from().nth(1)?;
    let max = drawn_from().fold(chosen, R::max);
    let all = max + sum(drawn_from().map(|score| (score - max).exp())).ln();
    for ((j, &score), gradient) in scores.iter().enumerate().zip(gradients).filter(|((j, _), _)| is_drawn_from(*j)) {
        *gradient += share * ((score - all).exp() - if i == j { R::ONE } else { R::ZERO });
    }
    Some(share * (all - chosen))
}

/// Refuses scores that no comparison is left of.
pub(super) fn none_is_worse() -> Error {
    Error::TooFew { name: "scores that are worse than another", expected: 1, found: 0 }
}
