//! The coefficient of the KL penalty: fixed, or led to a target (Ziegler et al. 2019, section 2.2).

use super::error::Error;
use super::number::{clamp, in_range, not_negative, positive};
use crate::math::Real;

/// How the coefficient β of the KL penalty changes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum KlController<R> {
    /// Not at all.
    Fixed,
    /// e = clip(KL/target − 1, ±0.2), β ← β (1 + e · episodes/horizon).
    Adaptive {
        /// The KL of a sequence that is sought, in nats; 6 in lm-human-preferences.
        target: R,
        /// Episodes over which an error of 1 would double β; 10,000 there.
        horizon: R,
    },
}

impl<R: Real> KlController<R> {
    /// β after `episodes` completions whose KL was `kl` in the mean: Σ_t of a sequence, in nats.
    ///
    /// # Errors
    /// A negative β, a KL that is not finite, a target or horizon that is not above 0.
    pub fn next(&self, beta: R, kl: R, episodes: usize) -> Result<R, Error> {
        not_negative("beta", beta)?;
        in_range("kl", "a finite number", kl, true)?;
        let Self::Adaptive { target, horizon } = *self else { return Ok(beta) };
        positive("kl_target", target)?;
        positive("kl_horizon", horizon)?;
        let limit = R::from_f64(0.2);
        let error = clamp(kl / target - R::ONE, -limit, limit);
        let factor = R::ONE + error * R::from_usize(episodes) / horizon;
        // More than five horizons at once would turn the sign.
        Ok(beta * factor.max(R::ZERO))
    }
}
