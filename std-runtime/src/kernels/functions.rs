//! Transcendental functions without branches, so that loops over them become vectors.
//!
//! All propagate NaN. Largest errors against exact values, measured by the tests below:
//!
//! | function | error |
//! |---|---|
//! | [`exp`] | 2 units in the last place; 0 below −86.6 |
//! | [`tanh`] | 3 units in the last place |
//! | [`normal`] (Φ and φ) | 3e-7 absolute, 3e-6 relative in the lower tail |
//!
//! The polynomials are minimax fits (Lawson's iteration, in double precision) made for this file.

use super::simd::MulAdd;

/// Σ cᵢ xⁱ by Horner's rule.
#[inline(always)]
fn polynomial<M: MulAdd, const N: usize>(x: f32, coefficients: [f32; N]) -> f32 {
    let mut sum = coefficients[N - 1];
    for &c in coefficients[..N - 1].iter().rev() {
        sum = M::mul_add(sum, x, c);
    }
    sum
}

/// eˣ: x = n ln 2 + r with |r| ≤ ln 2 / 2, eʳ = 1 + r + r² P(r).
#[inline(always)]
pub(super) fn exp<M: MulAdd>(x: f32) -> f32 {
    /// 1.5·2²³: adding it leaves the nearest integer in the low bits.
    const ROUND: f32 = 12_582_912.0;
    /// ln 2 in two parts; the first has few bits, so that n times it is exact.
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    const P: [f32; 5] = [0.499_999_94, 0.166_665_21, 0.041_668_39, 0.008_368_71, 0.001_381_461];
    const LOWEST: f32 = -86.6;
    const HIGHEST: f32 = 88.722_83;
    let clamped = if x < LOWEST { LOWEST } else { x };
    let clamped = if clamped > HIGHEST { HIGHEST } else { clamped };
    let shifted = M::mul_add(clamped, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = M::mul_add(-n, LN_2[1], M::mul_add(-n, LN_2[0], clamped));
    let y = M::mul_add(r * r, polynomial::<M, 5>(r, P), r) + 1.0;
    // 2ⁿ⁻¹ from its exponent bits, times 2, reaches n = 128.
    let scale = f32::from_bits((shifted.to_bits() << 23).wrapping_add(126 << 23));
    let value = (y + y) * scale;
    let value = if x > HIGHEST { f32::INFINITY } else { value };
    if x < LOWEST { 0.0 } else { value }
}

/// 1/(1 + e⁻ˣ).
#[inline(always)]
pub(super) fn sigmoid<M: MulAdd>(x: f32) -> f32 {
    1.0 / (1.0 + exp::<M>(-x))
}

/// tanh x = x + x³ P(x²) near 0, else 1 − 2/(e²ˣ + 1).
#[inline(always)]
pub(super) fn tanh<M: MulAdd>(x: f32) -> f32 {
    const P: [f32; 5] = [-0.333_332_78, 0.133_313_29, -0.053_729_23, 0.020_602_003, -0.005_660_784_4];
    let (a, z) = (x.abs(), x * x);
    let near = M::mul_add(x * z, polynomial::<M, 5>(z, P), x);
    let far = 1.0 - 2.0 / (exp::<M>(a + a) + 1.0);
    if a < 0.62 { near } else { far.copysign(x) }
}

/// Φ(x) and φ(x) of the standard normal distribution: Φ(−a) = e^(−a²/2) Q(1/(1 + 0.23 a)) for a ≥ 0.
#[inline(always)]
pub(super) fn normal<M: MulAdd>(x: f32) -> (f32, f32) {
    const Q: [f32; 9] = [
        -2.776_172_3e-5,
        0.092_378_445,
        0.085_763_004,
        0.119_513_73,
        -0.032_919_45,
        0.301_471_76,
        -0.278_126_1,
        0.290_413_73,
        -0.078_467_38,
    ];
    /// 1/√(2π).
    const PEAK: f32 = 0.398_942_3;
    let t = 1.0 / M::mul_add(0.23, x.abs(), 1.0);
    let bell = exp::<M>(-0.5 * x * x);
    let tail = bell * polynomial::<M, 9>(t, Q);
    (if x > 0.0 { 1.0 - tail } else { tail }, PEAK * bell)
}

/// The exact GELU: x Φ(x).
#[inline(always)]
pub(super) fn gelu_erf<M: MulAdd>(x: f32) -> f32 {
    x * normal::<M>(x).0
}

/// Φ(x) + x φ(x).
#[inline(always)]
pub(super) fn gelu_erf_derivative<M: MulAdd>(x: f32) -> f32 {
    let (cdf, density) = normal::<M>(x);
    M::mul_add(x, density, cdf)
}

/// √(8/π): twice the factor in the argument of GPT-2's GELU.
const TWICE: f32 = 1.595_769_1;
/// Its cubic coefficient.
const CUBIC: f32 = 0.044_715;

/// 0.5 x (1 + tanh(u)) with u = √(2/π)(x + 0.044715 x³), written x/(1 + e⁻²ᵘ) so that nothing cancels.
#[inline(always)]
pub(super) fn gelu_tanh<M: MulAdd>(x: f32) -> f32 {
    x * sigmoid::<M>(gelu_argument::<M>(x))
}

/// s + x s (1 − s) 2u′ with s = 1/(1 + e⁻²ᵘ).
#[inline(always)]
pub(super) fn gelu_tanh_derivative<M: MulAdd>(x: f32) -> f32 {
    let s = sigmoid::<M>(gelu_argument::<M>(x));
    let slope = TWICE * M::mul_add(3.0 * CUBIC * x, x, 1.0);
    // s (1 − s) is 0 where the slope would overflow.
    let bend = s * (1.0 - s);
    let bent = if bend == 0.0 { 0.0 } else { x * bend * slope };
    s + bent
}

#[inline(always)]
fn gelu_argument<M: MulAdd>(x: f32) -> f32 {
    TWICE * x * M::mul_add(CUBIC * x, x, 1.0)
}

#[cfg(test)]
mod tests {
    use samara_core::math::Real;

    use super::super::simd::{Fused, Separate};
    use super::*;

    /// Numbers of every size, and steps through the interesting part.
    fn points() -> impl Iterator<Item = f32> {
        let steps = (-400_000..400_000).map(|i| i as f32 * 2.5e-4);
        let sizes = (-60..8).flat_map(|e| [1.0f32, 1.3, 1.7, -1.1, -1.9].map(|m| m * 2f32.powi(e)));
        steps.chain(sizes)
    }

    fn ulps(got: f32, want: f64) -> f64 {
        let unit = f64::from((want as f32).abs().max(f32::MIN_POSITIVE).next_up()) - f64::from((want as f32).abs().max(f32::MIN_POSITIVE));
        (f64::from(got) - want).abs() / unit
    }

    /// Φ(x): by erf near 0, by Laplace's continued fraction of the tail elsewhere.
    fn exact_cdf(x: f64) -> f64 {
        let a = x.abs();
        let tail = if a < 3.0 {
            0.5 - 0.5 * Real::erf(a / std::f64::consts::SQRT_2)
        } else {
            let fraction = (1..200).rev().fold(a, |rest, k| a + f64::from(k) / rest);
            (-0.5 * a * a).exp() / (fraction * (2.0 * std::f64::consts::PI).sqrt())
        };
        if x > 0.0 { 1.0 - tail } else { tail }
    }

    fn check<M: MulAdd>() {
        for x in points() {
            let exact = f64::from(x);
            if x >= -86.6 && x < 88.7 {
                assert!(ulps(exp::<M>(x), exact.exp()) <= 2.0, "exp {x}: {}", exp::<M>(x));
            }
            assert!(ulps(tanh::<M>(x), exact.tanh()) <= 3.0, "tanh {x}: {}", tanh::<M>(x));
            let cdf = exact_cdf(exact);
            let (got, density) = normal::<M>(x);
            let error = (f64::from(got) - cdf).abs();
            assert!(error <= 3e-7 && (x < -12.0 || error <= 3e-6 * cdf), "normal {x}: {got} {cdf}");
            let bell = (-0.5 * exact * exact).exp() / (2.0 * std::f64::consts::PI).sqrt();
            assert!((f64::from(density) - bell).abs() <= 1e-7, "density {x}: {density}");
        }
    }

    #[test]
    fn errors_are_those_stated() {
        check::<Fused>();
        check::<Separate>();
    }

    #[test]
    fn ends_of_the_range() {
        for f in [exp::<Fused>, tanh::<Fused>, gelu_erf::<Fused>, gelu_tanh::<Fused>, gelu_tanh_derivative::<Fused>] {
            assert!(f(f32::NAN).is_nan());
        }
        assert_eq!(exp::<Fused>(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp::<Fused>(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp::<Fused>(0.0), 1.0);
        assert_eq!((tanh::<Fused>(200.0), tanh::<Fused>(-200.0)), (1.0, -1.0));
        assert_eq!((gelu_tanh::<Fused>(1e15), gelu_tanh::<Fused>(-1e12)), (1e15, 0.0));
        assert_eq!((gelu_tanh_derivative::<Fused>(1e25), gelu_tanh_derivative::<Fused>(-1e25)), (1.0, 0.0));
        assert_eq!((gelu_erf_derivative::<Fused>(1e10), gelu_erf_derivative::<Fused>(-1e10)), (1.0, 0.0));
    }
}
