//! Whitening: values with mean 0 (or their own mean) and variance 1 over the tokens that count.

use super::error::Error;
use super::number::{not_negative, same_len, sum};
use crate::math::Real;

/// What the sum of squares is divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Variance {
    /// n (lm-human-preferences' `tf.nn.moments`, OpenRLHF).
    Biased,
    /// n − 1 (TRL, verl).
    #[default]
    Unbiased,
}

/// Where ε stands in the divisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Floor {
    /// √(variance + ε) (lm-human-preferences, TRL, verl).
    #[default]
    Added,
    /// √max(variance, ε) (OpenRLHF).
    Least,
}

/// How values are whitened.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Whitening<R> {
    /// The divisor of the variance.
    pub variance: Variance,
    /// Whether the mean becomes 0; else it stays (rewards in lm-human-preferences).
    pub shift_mean: bool,
    /// ε, 10⁻⁸ everywhere.
    pub epsilon: R,
    /// Where ε stands.
    pub floor: Floor,
}

impl<R: Real> Default for Whitening<R> {
    fn default() -> Self {
        Self { variance: Variance::Unbiased, shift_mean: true, epsilon: R::from_f64(1e-8), floor: Floor::Added }
    }
}

/// Mean and variance of numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moments<R> {
    /// How many there are.
    pub count: usize,
    /// Their mean.
    pub mean: R,
    /// Their variance.
    pub variance: R,
}

impl<R: Real> Moments<R> {
    /// In two passes over the numbers; the second takes the differences from the mean.
    ///
    /// # Errors
    /// No numbers, or one for an unbiased variance; `name` says of what.
    pub fn of(name: &'static str, variance: Variance, values: impl Iterator<Item = R> + Clone) -> Result<Self, Error> {
        let count = values.clone().count();
        let (expected, divisor) = match variance {
            Variance::Biased => (1, count),
            Variance::Unbiased => (2, count.saturating_sub(1)),
        };
        if count < expected {
            return Err(Error::TooFew { name, expected, found: count });
        }
        let mean = sum(values.clone()) / R::from_usize(count);
        let squares = sum(values.map(|x| (x - mean) * (x - mean)));
        Ok(Self { count, mean, variance: squares / R::from_usize(divisor) })
    }
}

/// Whitens in place: (x − mean) / √(variance + ε) over what `mask` lets count, with the mean added again unless `shift_mean`. The rest becomes 0. Any
/// shape. Returns the moments before.
///
/// # Errors
/// A mask of another length, a negative ε, too few values.
pub fn whiten<R: Real>(how: &Whitening<R>, mask: &[bool], values: &mut [R]) -> Result<Moments<R>, Error> {
    same_len("mask", mask, values.len())?;
    not_negative("epsilon", how.epsilon)?;
    let live = values.iter().zip(mask).filter(|(_, live)| **live).map(|(&x, _)| x);
    let moments = Moments::of("values", how.variance, live)?;
    let under_root = match how.floor {
        Floor::Added => moments.variance + how.epsilon,
        Floor::Least => moments.variance.max(how.epsilon),
    };
    // Equal values without an ε would be 0/0: they are their mean.
    let scale = if under_root > R::ZERO { R::ONE / under_root.sqrt() } else { R::ZERO };
    let kept = if how.shift_mean { R::ZERO } else { moments.mean };
    for (x, &live) in values.iter_mut().zip(mask) {
        *x = if live { (*x - moments.mean) * scale + kept } else { R::ZERO };
    }
    Ok(moments)
}
