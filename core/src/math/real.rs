//! The floating-point types of the kernels: `f32` in use, `f64` to check gradients.

use core::fmt::{Debug, Display};
use core::ops::{Add, AddAssign, Div, DivAssign, Mul, MulAssign, Neg, Sub, SubAssign};

use super::fast;

/// A floating-point type with the functions that kernels need.
///
/// All transcendental functions come from `libm` or from [`fast`], never from the platform, so that their bits are the same everywhere.
pub trait Real:
    bytemuck::Pod
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
    + DivAssign
    + Send
    + Sync
    + Debug
    + Display
    + Default
    + 'static
{
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// +∞.
    const INFINITY: Self;
    /// −∞.
    const NEG_INFINITY: Self;
    /// The value nearest to `x`.
    fn from_f64(x: f64) -> Self;
    /// The value nearest to `n`.
    fn from_usize(n: usize) -> Self;
    /// The same value as `f64`.
    fn to_f64(self) -> f64;
    /// eˣ.
    fn exp(self) -> Self;
    /// Natural logarithm.
    fn ln(self) -> Self;
    /// ln(1 + x).
    fn ln_1p(self) -> Self;
    /// Hyperbolic tangent.
    fn tanh(self) -> Self;
    /// Error function.
    fn erf(self) -> Self;
    /// Square root, correctly rounded.
    fn sqrt(self) -> Self;
    /// Sine and cosine of an angle that was rounded to `f32`.
    fn sin_cos(angle: f32) -> (Self, Self);
    /// |x|.
    fn abs(self) -> Self;
    /// Neither NaN nor infinite.
    fn is_finite(self) -> bool;
    /// The larger of the two; `other` when `self` is NaN.
    fn max(self, other: Self) -> Self {
        if self > other { self } else { other }
    }
    /// The smaller of the two; `other` when `self` is NaN.
    fn min(self, other: Self) -> Self {
        if self < other { self } else { other }
    }
}

fn sin_cos_f64(angle: f32) -> (f64, f64) {
    libm::sincos(f64::from(angle))
}

/// Without a hardware instruction, libm computes the root with integers and a table.
#[inline]
fn sqrt_f32(x: f32) -> f32 {
    if cfg!(any(target_arch = "arm", target_arch = "riscv32")) { super::sqrt::sqrt(x) } else { libm::sqrtf(x) }
}

macro_rules! real {
    ($t:ty, $exp:path, $ln:path, $ln_1p:path, $tanh:path, $erf:path, $sqrt:path, $sin_cos:path) => {
        impl Real for $t {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const INFINITY: Self = <$t>::INFINITY;
            const NEG_INFINITY: Self = <$t>::NEG_INFINITY;
            #[inline(always)]
            fn from_f64(x: f64) -> Self {
                x as $t
            }
            #[inline(always)]
            fn from_usize(n: usize) -> Self {
                n as $t
            }
            #[inline(always)]
            fn to_f64(self) -> f64 {
                f64::from(self)
            }
            #[inline]
            fn exp(self) -> Self {
                $exp(self)
            }
            #[inline]
            fn ln(self) -> Self {
                $ln(self)
            }
            #[inline]
            fn ln_1p(self) -> Self {
                $ln_1p(self)
            }
            #[inline]
            fn tanh(self) -> Self {
                $tanh(self)
            }
            #[inline]
            fn erf(self) -> Self {
                $erf(self)
            }
            #[inline]
            fn sqrt(self) -> Self {
                $sqrt(self)
            }
            #[inline]
            fn sin_cos(angle: f32) -> (Self, Self) {
                $sin_cos(angle)
            }
            #[inline(always)]
            fn abs(self) -> Self {
                <$t>::abs(self)
            }
            #[inline(always)]
            fn is_finite(self) -> bool {
                <$t>::is_finite(self)
            }
        }
    };
}

real!(f32, libm::expf, libm::logf, libm::log1pf, libm::tanhf, libm::erff, sqrt_f32, fast::sin_cos);
real!(f64, libm::exp, libm::log, libm::log1p, libm::tanh, libm::erf, libm::sqrt, sin_cos_f64);
