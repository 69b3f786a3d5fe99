//! Fast f32 functions without branches: additions, multiplications, multiply-adds, selections and bit casts only (a division in some), so that a loop over a
//! slice becomes vector instructions. No table, no call. Where a function takes a [`MulAdd`], its bits depend on that and on nothing else; the others
//! have the same bits on every machine.
//!
//! Largest errors against libm in f64 over every exponent, subnormal results included, in units in the last place of the exact result (ULP); a
//! test holds each, for both ways of rounding a multiply-add:
//!
//! | function | error | |
//! |---|---|---|
//! | [`exp`] | 1.0 ULP | 0 below −103.98, +∞ above 88.73 |
//! | [`tanh`] | 2.5 ULP | odd, never beyond ±1 |
//! | [`sigmoid`] | 2.5 ULP | |
//! | [`erf`] | 1.6 ULP | odd, never beyond ±1 |
//! | [`gelu_tanh`] | 2.5 · 2⁻²⁴ · \|x\| | for x > −1 also 3.5 ULP; \|gelu(x)\| ≤ \|x\|, −0 at −∞ |
//! | [`gelu_erf`] | 3.5 · 2⁻²⁴ · \|x\| | for x > −1 also 6 ULP; \|gelu(x)\| ≤ \|x\|, −0 at −∞ |
//! | [`swish`] | 2.5 · 2⁻²⁴ · \|x\| | for β x > −1 also 3 ULP; \|swish(x)\| ≤ \|x\|, −0 at −∞ |
//! | [`gelu_tanh_derivative`] | 4 · 2⁻²⁴ | 0 at −∞, 1 at +∞ |
//! | [`gelu_erf_derivative`] | 4 · 2⁻²⁴ | 0 at −∞, 1 at +∞ |
//! | [`swish_derivative`] | 3 · 2⁻²⁴ | 0 at −∞, 1 at +∞ |
//! | [`sin_cos`] | 1.5 · 2⁻²⁴ | for \|x\| ≤ 10⁸; where the result is not below 2⁻²³ also 2 ULP |
//!
//! NaN in gives NaN out. The coefficients come from `tests/golden/math/fit_polynomials.py`.

use core::f32::consts::{FRAC_1_SQRT_2, LOG2_E};

/// a·b + c, with one rounding or two.
pub trait MulAdd: Copy {
    /// a·b + c.
    fn mul_add(a: f32, b: f32, c: f32) -> f32;
}

/// Rounded after the product and after the sum, as every machine can.
#[derive(Clone, Copy, Debug)]
pub struct Separate;

impl MulAdd for Separate {
    #[inline(always)]
    fn mul_add(a: f32, b: f32, c: f32) -> f32 {
        a * b + c
    }
}

/// eˣ.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    // Beyond these bounds the result is 0 or +∞ anyway, and the power of two stays a product of two representable factors.
    let (n, r) = reduce(clamp(x, -105.0, 89.0));
    let p = 1.0 + exp_m1(r);
    let half = n >> 1;
    p * power_of_two(half) * power_of_two(n.wrapping_sub(half))
}

/// tanh x = (e²ˣ − 1) / (e²ˣ + 1).
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    // tanh is 1 in f32 from 9.02 on.
    let (n, r) = reduce(2.0 * clamp(x.abs(), 0.0, 10.0));
    let scale = power_of_two(n);
    let e = scale * exp_m1(r) + (scale - 1.0);
    (e / (e + 2.0)).copysign(x)
}

/// 1 / (1 + e⁻ˣ).
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    let e = exp(-x.abs());
    (if x >= 0.0 { 1.0 } else { e }) / (1.0 + e)
}

/// erf x = 2/√π ∫₀ˣ e^(−t²) dt.
#[inline(always)]
pub fn erf(x: f32) -> f32 {
    let (a, z) = (x.abs(), x * x);
    let near = x + x * polynomial::<Separate, _>(z, ERF);
    let far = 1.0 - erfc_scaled::<Separate>(a) * exp(-z);
    if a < ERF_NEAR { near } else { far.copysign(x) }
}

/// The tanh approximation of GELU: x/2 · (1 + tanh u) = x · sigmoid(2u) with u = √(2/π) (x + 0.044715 x³) (Hendrycks and Gimpel 2016).
#[inline(always)]
pub fn gelu_tanh<M: MulAdd>(x: f32) -> f32 {
    gelu_tanh_and_derivative::<M>(x).0
}

/// The derivative of [`gelu_tanh`]: s + x s (1 − s) 2u′ with s = sigmoid(2u).
#[inline(always)]
pub fn gelu_tanh_derivative<M: MulAdd>(x: f32) -> f32 {
    gelu_tanh_and_derivative::<M>(x).1
}

/// [`gelu_tanh`] and [`gelu_tanh_derivative`], at little more than the cost of one.
#[inline(always)]
pub fn gelu_tanh_and_derivative<M: MulAdd>(x: f32) -> (f32, f32) {
    const INNER: f32 = 2.0 * SQRT_2_PI;
    let (above, near) = gelu_range(x);
    let z = near * near;
    // e^(−|2u|) as a power of two.
    let u = near * M::mul_add(z, LOG2_E * INNER * GELU_CUBIC, LOG2_E * INNER);
    let e = exp2_falling::<M>(-u.abs());
    let inverse = 1.0 / (1.0 + e);
    let small = e * inverse;
    let s = if near >= 0.0 { inverse } else { small };
    let slope = near * M::mul_add(z, 3.0 * INNER * GELU_CUBIC, INNER);
    (above * s, M::mul_add(slope, small * inverse, s))
}

/// GELU: x Φ(x) = x/2 · (1 + erf(x/√2)) (Hendrycks and Gimpel 2016).
#[inline(always)]
pub fn gelu_erf<M: MulAdd>(x: f32) -> f32 {
    gelu_erf_and_derivative::<M>(x).0
}

/// The derivative of [`gelu_erf`]: Φ(x) + x φ(x).
#[inline(always)]
pub fn gelu_erf_derivative<M: MulAdd>(x: f32) -> f32 {
    gelu_erf_and_derivative::<M>(x).1
}

/// [`gelu_erf`] and [`gelu_erf_derivative`], at little more than the cost of one.
#[inline(always)]
pub fn gelu_erf_and_derivative<M: MulAdd>(x: f32) -> (f32, f32) {
    const INVERSE_SQRT_2_PI: f32 = 0.398_942_3;
    let (above, near) = gelu_range(x);
    let e = exp2_falling::<M>(near * near * (-0.5 * LOG2_E));
    let cdf = normal::<M>(near, e);
    (above * cdf, M::mul_add(near * INVERSE_SQRT_2_PI, e, cdf))
}

/// x σ(β x): SiLU with β = 1 (Elfwing, Uchibe, Doya 2018), the quick form of GELU with [`QUICK_GELU`].
#[inline(always)]
pub fn swish<M: MulAdd>(beta: f32, x: f32) -> f32 {
    swish_and_derivative::<M>(beta, x).0
}

/// The derivative of [`swish`]: s + β x s (1 − s) with s = σ(β x).
#[inline(always)]
pub fn swish_derivative<M: MulAdd>(beta: f32, x: f32) -> f32 {
    swish_and_derivative::<M>(beta, x).1
}

/// [`swish`] and [`swish_derivative`], for little more than one of them.
#[inline(always)]
pub fn swish_and_derivative<M: MulAdd>(beta: f32, x: f32) -> (f32, f32) {
    let zero = SWISH_ZERO / beta;
    let above = if x < -zero { -zero } else { x };
    let near = beta * if above > zero { zero } else { above };
    let e = exp2_falling::<M>(-(LOG2_E * near).abs());
    let inverse = 1.0 / (1.0 + e);
    let small = e * inverse;
    let s = if near >= 0.0 { inverse } else { small };
    (above * s, M::mul_add(near, small * inverse, s))
}

/// Sine and cosine, with the same bits on every machine.
#[inline(always)]
pub fn sin_cos(x: f32) -> (f32, f32) {
    // π/2 as a sum of a 25-bit value, whose products with n are exact, and a remainder.
    const PI_2: (f64, f64) = (1.570_796_310_901_641_8, 1.589_325_477_352_819_6e-8);
    // As `ROUND`, for f64.
    const ROUND: f64 = 6_755_399_441_055_744.0;
    let x = f64::from(x);
    let rounded = x * core::f64::consts::FRAC_2_PI + ROUND;
    let (n, quadrant) = (rounded - ROUND, rounded.to_bits() as u32);
    let r = (x - n * PI_2.0 - n * PI_2.1) as f32; // |r| ≤ π/4
    let z = r * r;
    let sin = r + r * z * polynomial::<Separate, _>(z, SIN);
    let cos = 1.0 + z * (z * polynomial::<Separate, _>(z, COS) - 0.5);
    let (sin, cos) = if quadrant & 1 == 0 { (sin, cos) } else { (cos, sin) };
    let sign = |x: f32, quadrant: u32| f32::from_bits(x.to_bits() ^ (quadrant & 2) << 30);
    (sign(sin, quadrant), sign(cos, quadrant.wrapping_add(1)))
}

/// Clamps x for GELU: x not below −[`GELU_ZERO`], and x within ±[`GELU_ZERO`]; NaN stays NaN.
#[inline(always)]
fn gelu_range(x: f32) -> (f32, f32) {
    let above = if x < -GELU_ZERO { -GELU_ZERO } else { x };
    (above, if above > GELU_ZERO { GELU_ZERO } else { above })
}

/// √(2/π).
const SQRT_2_PI: f32 = 0.797_884_6;
/// The factor of x³ in the tanh approximation.
const GELU_CUBIC: f32 = 0.044_715;
/// Below −`GELU_ZERO`, and at minus infinity, both forms of GELU are 0; their derivatives are 0 below it, and 1 above +`GELU_ZERO`.
const GELU_ZERO: f32 = 20.0;

/// β in the quick form of GELU.
pub const QUICK_GELU: f32 = 1.702;
/// Where β x is below −`SWISH_ZERO`, swish and its derivative are 0, because e^(β x) is.
const SWISH_ZERO: f32 = 90.0;

/// sin(x) = x + x³ p(x²) for |x| ≤ π/4.
const SIN: [f32; 3] = [-1.666_665_5e-1, 8.332_161e-3, -1.951_529_6e-4];
/// cos(x) = 1 − x²/2 + x⁴ p(x²) for |x| ≤ π/4.
const COS: [f32; 3] = [4.166_664_6e-2, -1.388_731_6e-3, 2.443_315_7e-5];

/// 2^r = 1 + r p(r) for |r| ≤ 1/2; also used by hand-written vector code of a runtime.
pub const EXP2: [f32; 6] = [core::f32::consts::LN_2, 2.402_264_8e-1, 5.550_332e-2, 9.618_439e-3, 1.339_900_3e-3, 1.535_325_9e-4];
/// e^r = 1 + r + r² q(r) for |r| ≤ ln(2)/2.
const EXP: [f32; 5] = [4.999_999_4e-1, 1.666_652e-1, 4.166_839_3e-2, 8.368_781e-3, 1.381_446_7e-3];
/// erf(x) = x + x p(x²) for |x| below [`ERF_NEAR`].
const ERF: [f32; 7] =
    [1.283_791_7e-1, -3.761_263_5e-1, 1.128_369_7e-1, -2.685_95e-2, 5.201_286_6e-3, -8.145_602e-4, 8.382_408e-5];
const ERF_NEAR: f32 = 0.92;
/// erfc(a) e^(a²) = t (1 + (t − 1) p(t)) with t = 1 / (1 + a/2).
const ERFC: [f32; 8] =
    [7.179_132e-1, 4.355_487_2e-1, 1.923_314_5e-1, -9.753_688e-3, 1.505_890_5e-2, -2.597_720_3e-1, 2.240_441_1e-1, -5.861_803e-2];

/// Horner's rule, lowest power first.
#[inline(always)]
fn polynomial<M: MulAdd, const N: usize>(x: f32, coefficients: [f32; N]) -> f32 {
    let mut highest_first = coefficients.into_iter().rev();
    let highest = highest_first.next().unwrap_or(0.0);
    highest_first.fold(highest, |sum, c| M::mul_add(sum, x, c))
}

/// `x` between two bounds; NaN stays NaN.
#[inline(always)]
fn clamp(x: f32, low: f32, high: f32) -> f32 {
    let x = if x > high { high } else { x };
    if x < low { low } else { x }
}

/// Adding this to a small value leaves the nearest integer in the lowest bits.
const ROUND: f32 = 12_582_912.0;

/// x = n ln 2 + r with |r| ≤ ln(2)/2, for |x| up to some thousands.
#[inline(always)]
fn reduce(x: f32) -> (i32, f32) {
    // ln 2 as a sum of a 9-bit value, whose products with n are exact, and a remainder.
    const LN_2: (f32, f32) = (0.693_359_4, -2.121_944_4e-4);
    let rounded = x * LOG2_E + ROUND;
    let n = rounded - ROUND;
    (rounded.to_bits().wrapping_sub(ROUND.to_bits()).cast_signed(), x - n * LN_2.0 - n * LN_2.1)
}

/// e^r − 1 for |r| ≤ ln(2)/2.
#[inline(always)]
fn exp_m1(r: f32) -> f32 {
    r + r * r * polynomial::<Separate, _>(r, EXP)
}

/// 2ⁿ for −126 ≤ n ≤ 127.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits(n.wrapping_add(127).cast_unsigned() << 23)
}

/// 2ˣ for x ≤ 0; 0 below −126.5.
#[inline(always)]
fn exp2_falling<M: MulAdd>(x: f32) -> f32 {
    let x = if x < -127.0 { -127.0 } else { x };
    let rounded = x + ROUND;
    let r = x - (rounded - ROUND);
    let p = M::mul_add(polynomial::<M, _>(r, EXP2), r, 1.0);
    // The shift removes `ROUND` entirely; −127 gives 0.
    p * f32::from_bits((rounded.to_bits() << 23).wrapping_add(127 << 23))
}

/// erfc(a) e^(a²) for a ≥ 0.
#[inline(always)]
fn erfc_scaled<M: MulAdd>(a: f32) -> f32 {
    let t = 1.0 / M::mul_add(a, 0.5, 1.0);
    t * M::mul_add(t - 1.0, polynomial::<M, _>(t, ERFC), 1.0)
}

/// Φ(x), the normal distribution function, given e^(−x²/2).
#[inline(always)]
fn normal<M: MulAdd>(x: f32, e: f32) -> f32 {
    let tail = 0.5 * e * erfc_scaled::<M>(x.abs() * FRAC_1_SQRT_2);
    if x >= 0.0 { 1.0 - tail } else { tail }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::vec::Vec;

    use super::*;

    /// One rounding.
    #[derive(Clone, Copy, Debug)]
    struct Fused;

    impl MulAdd for Fused {
        fn mul_add(a: f32, b: f32, c: f32) -> f32 {
            a.mul_add(b, c)
        }
    }

    type Function = fn(f32) -> f32;
    const SWISH: [Function; 4] = [
        |x| swish::<Separate>(1.0, x),
        |x| swish::<Fused>(1.0, x),
        |x| swish::<Separate>(QUICK_GELU, x),
        |x| swish::<Fused>(QUICK_GELU, x),
    ];
    const SWISH_DERIVATIVE: [Function; 4] = [
        |x| swish_derivative::<Separate>(1.0, x),
        |x| swish_derivative::<Fused>(1.0, x),
        |x| swish_derivative::<Separate>(QUICK_GELU, x),
        |x| swish_derivative::<Fused>(QUICK_GELU, x),
    ];
    const GELU: [Function; 4] = [gelu_tanh::<Separate>, gelu_tanh::<Fused>, gelu_erf::<Separate>, gelu_erf::<Fused>];
    const GELU_DERIVATIVE: [Function; 4] = [
        gelu_tanh_derivative::<Separate>,
        gelu_tanh_derivative::<Fused>,
        gelu_erf_derivative::<Separate>,
        gelu_erf_derivative::<Fused>,
    ];

    /// Values of every exponent and both signs, subnormals and infinities included.
    fn everywhere() -> impl Iterator<Item = f32> {
        const STEP: usize = 4001;
        let special = [0.0, -0.0, f32::MIN_POSITIVE, 1e-45, -1e-45, f32::MAX, f32::MIN, f32::INFINITY, f32::NEG_INFINITY];
        (0..=u32::MAX).step_by(STEP).map(f32::from_bits).filter(|x| !x.is_nan()).chain(special)
    }

    /// Distance of a value from the exact one, in units in the last place of the exact one.
    fn ulps(got: f32, exact: f64) -> f64 {
        let nearest = exact as f32;
        if got == nearest || (got.is_nan() && exact.is_nan()) {
            return 0.0;
        }
        let unit = 2f64.powi((exact.abs().log2().floor() as i32).clamp(-126, 127) - 23);
        (f64::from(got) - exact).abs() / unit
    }

    fn largest(error: impl Fn(f32) -> f64) -> (f64, f32) {
        everywhere()
            .map(|x| (error(x), x))
            .fold((0.0, 0.0), |worst, new| if new.0 > worst.0 || new.0.is_nan() { new } else { worst })
    }

    fn exact_sigmoid(x: f64) -> f64 {
        if x >= 0.0 { 1.0 / (1.0 + libm::exp(-x)) } else { libm::exp(x) / (1.0 + libm::exp(x)) }
    }

    const SQRT_2_PI_EXACT: f64 = 0.797_884_560_802_865_4;

    /// 2u and its derivative.
    fn exact_inner(x: f64) -> (f64, f64) {
        (2.0 * SQRT_2_PI_EXACT * (x + 0.044715 * x * x * x), 2.0 * SQRT_2_PI_EXACT * (1.0 + 3.0 * 0.044715 * x * x))
    }

    fn exact_gelu_tanh(x: f64) -> f64 {
        if x < -20.0 { -0.0 } else { x * exact_sigmoid(exact_inner(x).0) }
    }

    fn exact_gelu_tanh_derivative(x: f64) -> f64 {
        let x = x.clamp(-20.0, 20.0);
        let (z, dz) = exact_inner(x);
        exact_sigmoid(z) + x * dz * exact_sigmoid(z) * exact_sigmoid(-z)
    }

    fn exact_normal(x: f64) -> f64 {
        0.5 * libm::erfc(-x * core::f64::consts::FRAC_1_SQRT_2)
    }

    fn exact_gelu_erf(x: f64) -> f64 {
        if x < -20.0 { -0.0 } else { x * exact_normal(x) }
    }

    fn exact_gelu_erf_derivative(x: f64) -> f64 {
        let x = x.clamp(-20.0, 20.0);
        exact_normal(x)
            + x * 0.5 * SQRT_2_PI_EXACT * core::f64::consts::FRAC_1_SQRT_2 * 2.0 * libm::exp(-0.5 * x * x)
                / core::f64::consts::SQRT_2
    }

    fn assert_below((error, x): (f64, f32), bound: f64, name: &str) {
        assert!(error <= bound, "{name}: {error} at {x:e}, more than {bound}");
    }

    #[test]
    fn errors_are_those_of_the_table() {
        assert_below(largest(|x| ulps(exp(x), libm::exp(f64::from(x)))), 1.0, "exp");
        assert_below(largest(|x| ulps(tanh(x), libm::tanh(f64::from(x)))), 2.5, "tanh");
        assert_below(largest(|x| ulps(sigmoid(x), exact_sigmoid(f64::from(x)))), 2.5, "sigmoid");
        assert_below(largest(|x| ulps(erf(x), libm::erf(f64::from(x)))), 1.6, "erf");
    }

    /// Error in units of 2⁻²⁴ |x|.
    fn relative_to_input(got: f32, exact: f64, x: f32) -> f64 {
        if got == exact as f32 { 0.0 } else { (f64::from(got) - exact).abs() / f64::from(x.abs()) * f64::from(1 << 24) }
    }

    #[test]
    fn errors_of_gelu_are_those_of_the_table() {
        let right = |x: f32, error: f64| if x > -1.0 { error } else { 0.0 };
        let absolute = |got: f32, exact: f64| (f64::from(got) - exact).abs() * f64::from(1 << 24);
        for (i, (f, slope)) in GELU.into_iter().zip(GELU_DERIVATIVE).enumerate() {
            type Exact = fn(f64) -> f64;
            let (name, exact, exact_slope, bounds): (_, Exact, Exact, _) = if i < 2 {
                ("gelu_tanh", exact_gelu_tanh, exact_gelu_tanh_derivative, [2.5, 3.5, 4.0])
            } else {
                ("gelu_erf", exact_gelu_erf, exact_gelu_erf_derivative, [3.5, 6.0, 4.0])
            };
            assert_below(largest(|x| relative_to_input(f(x), exact(f64::from(x)), x)), bounds[0], name);
            assert_below(largest(|x| right(x, ulps(f(x), exact(f64::from(x))))), bounds[1], name);
            assert_below(largest(|x| absolute(slope(x), exact_slope(f64::from(x)))), bounds[2], name);
        }
    }

    #[test]
    fn errors_of_swish_are_those_of_the_table() {
        for (i, (f, slope)) in SWISH.into_iter().zip(SWISH_DERIVATIVE).enumerate() {
            let beta = if i < 2 { 1.0 } else { f64::from(QUICK_GELU) };
            let exact = |x: f64| if x == f64::NEG_INFINITY { -0.0 } else { x * exact_sigmoid(beta * x) };
            let exact_slope = |x: f64| {
                let x = x.clamp(-200.0, 200.0);
                exact_sigmoid(beta * x) * (1.0 + beta * x * exact_sigmoid(-beta * x))
            };
            let right = |x: f32, error: f64| if beta * f64::from(x) > -1.0 { error } else { 0.0 };
            assert_below(largest(|x| relative_to_input(f(x), exact(f64::from(x)), x)), 2.5, "swish");
            assert_below(largest(|x| right(x, ulps(f(x), exact(f64::from(x))))), 3.0, "swish");
            let absolute = |got: f32, exact: f64| (f64::from(got) - exact).abs() * f64::from(1 << 24);
            assert_below(largest(|x| absolute(slope(x), exact_slope(f64::from(x)))), 3.0, "swish_derivative");
        }
    }

    #[test]
    fn errors_of_sines_are_those_of_the_table() {
        let angles =
            (0..4_000_000u32).map(|i| f32::from_bits(0x3000_0000 + i * 73)).chain((0..4_000_000).map(|i| i as f32 * 0.37));
        let (mut absolute, mut relative) = (0.0f64, 0.0f64);
        for x in angles.filter(|x| x.abs() <= 1e8) {
            let ((sin, cos), (exact_sin, exact_cos)) = (sin_cos(x), libm::sincos(f64::from(x)));
            for (got, exact) in [(sin, exact_sin), (cos, exact_cos)] {
                absolute = absolute.max((f64::from(got) - exact).abs() * f64::from(1 << 24));
                relative = relative.max(if exact.abs() > f64::from(f32::EPSILON) { ulps(got, exact) } else { 0.0 });
            }
            // Odd and even.
            assert_eq!(sin_cos(-x), (-sin, cos), "{x}");
        }
        assert!(absolute <= 1.5 && relative <= 2.0, "{absolute} · 2⁻²⁴, {relative} ULP");
        assert_eq!(sin_cos(0.0), (0.0, 1.0));
        for x in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(sin_cos(x).0.is_nan() && sin_cos(x).1.is_nan());
        }
    }

    #[test]
    fn zeros_infinities_and_nan() {
        let bits = |x: f32| x.to_bits();
        assert_eq!([exp(0.0), exp(-0.0), exp(f32::INFINITY), exp(f32::NEG_INFINITY)], [1.0, 1.0, f32::INFINITY, 0.0]);
        assert_eq!([exp(88.72), exp(88.73)].map(f32::is_finite), [true, false]);
        assert!(exp(-103.9) > 0.0 && exp(-104.0) == 0.0);
        for f in [tanh, erf] {
            assert_eq!([bits(f(0.0)), bits(f(-0.0))], [bits(0.0), bits(-0.0)]);
            assert_eq!([f(f32::INFINITY), f(f32::NEG_INFINITY), f(f32::MAX), f(20.0)], [1.0, -1.0, 1.0, 1.0]);
        }
        assert_eq!([sigmoid(0.0), sigmoid(f32::INFINITY), sigmoid(f32::NEG_INFINITY)], [0.5, 1.0, 0.0]);
        for f in GELU.into_iter().chain(SWISH) {
            assert_eq!([bits(f(0.0)), bits(f(-0.0)), bits(f(f32::NEG_INFINITY))], [bits(0.0), bits(-0.0), bits(-0.0)]);
            assert_eq!([f(f32::INFINITY), f(f32::MAX), f(60.0), f(f32::MIN)], [f32::INFINITY, f32::MAX, 60.0, 0.0]);
        }
        for f in GELU_DERIVATIVE.into_iter().chain(SWISH_DERIVATIVE) {
            assert_eq!([f(0.0), f(f32::INFINITY), f(f32::NEG_INFINITY), f(f32::MAX), f(f32::MIN)], [0.5, 1.0, 0.0, 1.0, 0.0]);
        }
        for f in GELU.into_iter().chain(GELU_DERIVATIVE).chain(SWISH).chain(SWISH_DERIVATIVE).chain([
            exp as Function,
            tanh,
            sigmoid,
            erf,
        ]) {
            assert!(f(f32::NAN).is_nan() && f(-f32::NAN).is_nan());
        }
    }

    #[test]
    fn bounds_and_symmetry_hold_everywhere() {
        for x in everywhere() {
            for f in [tanh, erf] {
                assert!(f(x).to_bits() == (-f(-x)).to_bits() && f(x).abs() <= 1.0, "{x:e}");
            }
            for f in GELU.into_iter().chain(SWISH) {
                let y = f(x);
                assert!(y.abs() <= x.abs() && (y == 0.0 || (y > 0.0) == (x > 0.0)), "{x:e} gives {y:e}");
            }
            assert!((0.0..=1.0).contains(&sigmoid(x)), "{x:e}");
        }
    }

    #[test]
    fn exp_rises_on_a_grid() {
        let grid: Vec<f32> = (-1_060_000..=900_000).map(|i| exp(i as f32 * 1e-4)).collect();
        assert!(grid.is_sorted());
    }

    proptest! {
        #[test]
        fn derivatives_are_slopes(x in -6.0f32..6.0) {
            let h = 1e-5;
            let slope = |f: fn(f64) -> f64| (f(f64::from(x) + h) - f(f64::from(x) - h)) / (2.0 * h);
            for (i, f) in GELU_DERIVATIVE.into_iter().enumerate() {
                let exact = slope(if i < 2 { exact_gelu_tanh } else { exact_gelu_erf });
                prop_assert!((f64::from(f(x)) - exact).abs() < 1e-6);
            }
        }
    }
}
