//! Errors of an objective's functions, where a run reports them.

use samara_core::rl::Error;

use crate::lm::RunError;

/// As an error of a run.
pub fn guard(error: Error) -> RunError {
    RunError::Guard(error.to_string())
}

/// The mean; 0 of none.
pub fn mean(x: &[f32]) -> f64 {
    x.iter().map(|&x| f64::from(x)).sum::<f64>() / x.len().max(1) as f64
}
