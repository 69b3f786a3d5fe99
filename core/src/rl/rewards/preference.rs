//! Preferences of people who sometimes answer at random (Christiano et al. 2017, section 2.2.3).

use crate::math::Real;
use crate::rl::error::Error;
use crate::rl::number::{in_range, sigmoid, smoothed_logistic};

/// The loss of comparisons of which a share is answered by a coin.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Preference<R> {
    /// The share of answers that a coin gives: 0.1 in the paper, half of which are wrong.
    pub random: R,
}

impl<R: Real> Preference<R> {
    /// The probability that the first is preferred: (1 − random) σ(Δ) + ½ random, Δ = the difference of the sums of rewards.
    pub fn probability(&self, difference: R) -> R {
        (R::ONE - self.random) * sigmoid(difference) + R::from_f64(0.5) * self.random
    }

    /// −μ log P − (1 − μ) log(1 − P) and its derivative by Δ; μ is the share of the preference that the first gets: 1, 0, or ½ for a tie.
    ///
    /// # Errors
    /// Shares outside of [0, 1].
    pub fn loss(&self, difference: R, first: R) -> Result<(R, R), Error> {
        for (name, x) in [("random", self.random), ("first", first)] {
            in_range(name, "a number from 0 to 1", x, x >= R::ZERO && x <= R::ONE)?;
        }
        let second = R::ONE - first;
        if self.random == R::ZERO {
            return Ok(smoothed_logistic(difference, second));
        }
        let (p, q) = (self.probability(difference), self.probability(-difference));
        let slope = (R::ONE - self.random) * sigmoid(difference) * sigmoid(-difference);
        Ok((-(first * p.ln() + second * q.ln()), slope * (second / q - first / p)))
    }
}
