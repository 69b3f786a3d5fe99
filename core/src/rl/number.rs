//! What the objectives share: stable functions of one number, compensated sums, checks of lent arrays.

use super::error::Error;
use crate::math::Real;

/// Below it eˣ − 1 is taken from tanh, above it from exp.
const SMALL: f64 = 0.5;

/// σ(x) = 1 / (1 + e⁻ˣ), without overflow.
pub(super) fn sigmoid<R: Real>(x: R) -> R {
    let e = (-x.abs()).exp();
    if x < R::ZERO { e / (R::ONE + e) } else { R::ONE / (R::ONE + e) }
}

/// log σ(x) = min(x, 0) − log(1 + e^−|x|), finite for every finite x.
pub(super) fn log_sigmoid<R: Real>(x: R) -> R {
    x.min(R::ZERO) - (-x.abs()).exp().ln_1p()
}

/// eˣ − 1 without cancellation: 2t / (1 − t) with t = tanh(x/2) where x is small.
pub(super) fn exp_m1<R: Real>(x: R) -> R {
    if x.abs() > R::from_f64(SMALL) {
        return x.exp() - R::ONE;
    }
    let t = (x * R::from_f64(0.5)).tanh();
    (t + t) / (R::ONE - t)
}

/// log(1 − eˣ) for x < 0 (Mächler 2012): two forms that meet at −ln 2. −∞ at 0.
pub(super) fn log1mexp<R: Real>(x: R) -> R {
    if x > R::from_f64(-core::f64::consts::LN_2) { (-exp_m1(x)).ln() } else { (-x.exp()).ln_1p() }
}

/// −(1 − ε) log σ(x) − ε log σ(−x) and its derivative: the loss of a label that is wrong with probability ε, x the log-odds that it is right.
pub(super) fn smoothed_logistic<R: Real>(x: R, epsilon: R) -> (R, R) {
    let right = R::ONE - epsilon;
    let loss = -(right * log_sigmoid(x) + epsilon * log_sigmoid(-x));
    (loss, epsilon * sigmoid(x) - right * sigmoid(-x))
}

/// x limited to [low, high].
pub(super) fn clamp<R: Real>(x: R, low: R, high: R) -> R {
    // In this order NaN stays NaN.
    if x < low {
        low
    } else if x > high {
        high
    } else {
        x
    }
}

/// log Σ eˣ of finite numbers; −∞ of none.
pub(super) fn log_sum_exp<R: Real>(x: &[R]) -> R {
    let max = x.iter().fold(R::NEG_INFINITY, |max, &x| max.max(x));
    if !max.is_finite() {
        return max;
    }
    max + sum(x.iter().map(|&x| (x - max).exp())).ln()
}

/// A sum with its rounding errors carried along (Neumaier 1974).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Sum<R> {
    total: R,
    lost: R,
}

impl<R: Real> Sum<R> {
    /// Adds a number.
    pub(super) fn add(&mut self, x: R) {
        let total = self.total + x;
        let (large, small) = if self.total.abs() >= x.abs() { (self.total, x) } else { (x, self.total) };
        let lost = (large - total) + small;
        // Sums that are infinite have lost nothing that is a number.
        self.lost += if lost.is_finite() { lost } else { R::ZERO };
        self.total = total;
    }

    /// The sum so far.
    pub(super) fn value(self) -> R {
        self.total + self.lost
    }
}

/// The sum of numbers.
pub(super) fn sum<R: Real>(x: impl Iterator<Item = R>) -> R {
    let mut sum = Sum::default();
    x.for_each(|x| sum.add(x));
    sum.value()
}

/// Refuses an array of another length.
pub(super) fn same_len<T>(name: &'static str, x: &[T], expected: usize) -> Result<(), Error> {
    if x.len() == expected { Ok(()) } else { Err(Error::Length { name, expected, found: x.len() }) }
}

/// Refuses elements that are NaN or infinite.
pub(super) fn finite<R: Real>(name: &'static str, x: &[R]) -> Result<(), Error> {
    x.iter().position(|x| !x.is_finite()).map_or(Ok(()), |index| Err(Error::NotFinite { name, index }))
}

/// Refuses what is not a finite number above 0.
pub(super) fn positive<R: Real>(name: &'static str, x: R) -> Result<(), Error> {
    in_range(name, "a number above 0", x, x > R::ZERO)
}

/// Refuses what is not a finite number of at least 0.
pub(super) fn not_negative<R: Real>(name: &'static str, x: R) -> Result<(), Error> {
    in_range(name, "a number of at least 0", x, x >= R::ZERO)
}

/// Refuses a share of wrong labels outside of [0, ½).
pub(super) fn smoothing<R: Real>(x: R) -> Result<(), Error> {
    in_range("label_smoothing", "a number from 0 to below 0.5", x, x >= R::ZERO && x < R::from_f64(0.5))
}

/// Refuses a parameter that is not finite, or for which `fits` is false.
pub(super) fn in_range<R: Real>(name: &'static str, expected: &'static str, x: R, fits: bool) -> Result<(), Error> {
    if fits && x.is_finite() { Ok(()) } else { Err(Error::Parameter { name, expected, found: x.to_f64() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stable_at_the_ends() {
        for x in [-1e4_f64, -88.0, -1.0, -1e-12, 0.0, 1e-12, 1.0, 88.0, 1e4] {
            assert!(log_sigmoid(x).is_finite() && log_sigmoid(x) <= 0.0, "{x}");
            assert!((sigmoid(x) - log_sigmoid(x).exp()).abs() < 1e-15, "{x}");
            assert!((exp_m1(x.min(30.0)) - x.min(30.0).exp_m1()).abs() <= 1e-15 * x.min(30.0).exp_m1().abs().max(1e-300), "{x}");
        }
        for x in [-1e-12_f64, -1e-3, -0.693, -0.694, -1.0, -30.0, -1e3] {
            let expected = if x > -0.5 { (-x.exp_m1()).ln() } else { (-x.exp()).ln_1p() };
            assert!((log1mexp(x) - expected).abs() <= 1e-14 * expected.abs().max(1e-300), "{x} {} {expected}", log1mexp(x));
        }
        assert_eq!(log1mexp(0.0_f64), f64::NEG_INFINITY);
        assert_eq!(log_sum_exp::<f64>(&[]), f64::NEG_INFINITY);
        assert!((log_sum_exp(&[1e4_f64, 1e4]) - 1e4 - core::f64::consts::LN_2).abs() < 1e-12);
    }

    #[test]
    fn sums_lose_nothing() {
        assert_eq!(sum([1e8_f32, 1.0, -1e8].into_iter()), 1.0);
        // A plain sum in f32 is 1.4 below.
        assert!((sum(core::iter::repeat_n(0.1_f32, 100_000)) - 10_000.0).abs() < 0.01);
        assert_eq!(sum([f32::INFINITY, 1.0].into_iter()), f32::INFINITY);
    }
}
