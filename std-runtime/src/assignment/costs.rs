//! Costs as files hold them.

/// Costs as they were written: integers stay exact.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Floating-point numbers, and integers that they hold exactly.
    Floats(Vec<f64>),
    /// The integers of an array, or of a text in which some are beyond 2⁵³.
    Integers(Vec<i64>),
}

/// Whether `f64` holds an integer, and every one nearer to zero.
pub fn is_exact(integer: i64) -> bool {
    integer.unsigned_abs() <= 1 << f64::MANTISSA_DIGITS
}
