//! Repeated timings, and a measurement beside its floor.

use std::time::Instant;

use serde::Serialize;

/// A measurement with the machine's floor for it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measurement {
    /// What was measured.
    pub name: String,
    /// Median time in milliseconds.
    pub milliseconds: f64,
    /// The figure, in `unit`.
    pub figure: f64,
    /// The unit, such as GFLOP/s.
    pub unit: &'static str,
    /// Floating-point operations or bytes that the work takes at least.
    pub floor: f64,
    /// The unit of the floor: FLOP or bytes.
    pub floor_unit: &'static str,
    /// The least time in which this machine, as measured, could do that much.
    pub floor_milliseconds: f64,
}

/// The times of calls in seconds, after one call that does not count.
pub(super) fn times<E>(repeats: usize, mut call: impl FnMut() -> Result<(), E>) -> Result<Vec<f64>, E> {
    call()?;
    let timed = |_| {
        let begun = Instant::now();
        call()?;
        Ok(begun.elapsed().as_secs_f64())
    };
    (0..repeats.max(1)).map(timed).collect()
}

/// The median of times; never 0.
pub(super) fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(0.0).max(1e-12)
}
