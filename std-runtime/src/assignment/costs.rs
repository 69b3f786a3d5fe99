//! Costs as they are stored in files.

/// Costs as they were written: integers stay exact.
#[derive(Clone, Debug, PartialEq)]
pub enum CostValues {
    /// Floating-point values, and integers that they represent exactly.
    Floats(Vec<f64>),
    /// The integers of an array, or of a text in which some are beyond 2⁵³.
    Integers(Vec<i64>),
}

/// Whether `f64` represents this integer and all smaller magnitudes exactly.
pub fn is_exact(integer: i64) -> bool {
    integer.unsigned_abs() <= 1 << f64::MANTISSA_DIGITS
}
