//! One source for every instruction set: `simd!` compiles a function for each and dispatches at run time.
//!
//! The body is plain Rust whose loops the compiler vectorises. On x86-64 it is compiled for AVX-512, for AVX2 with FMA, and for the baseline. Every
//! aarch64 machine has NEON and fused multiply-adds, so its baseline is vectorised. Multiply-adds go through [`MulAdd`], fused where the machine has
//! fused multiply-adds.

pub(super) use samara_core::math::fast::MulAdd;
#[cfg(any(not(target_arch = "aarch64"), test))]
pub(super) use samara_core::math::fast::Separate;

/// One rounding.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fused;

impl MulAdd for Fused {
    #[inline(always)]
    fn mul_add(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }
}

/// The multiply-add of the baseline.
#[cfg(target_arch = "aarch64")]
pub(super) type Portable = Fused;
/// The multiply-add of the baseline.
#[cfg(not(target_arch = "aarch64"))]
pub(super) type Portable = Separate;

/// Whether this machine has AVX2 and FMA. The standard library caches the detection: a load and a test.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}

/// Whether this machine also has AVX-512. Cached, as above.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn has_avx512() -> bool {
    has_avx2() && is_x86_feature_detected!("avx512f")
}

/// `fn name<M>(arguments) -> result { body }` with `M: MulAdd` inside the body.
macro_rules! simd {
    ($(#[$meta:meta])* $vis:vis fn $name:ident<$m:ident>($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            // Not every body multiplies and adds.
            #[allow(clippy::extra_unused_type_parameters)]
            #[inline(always)]
            fn body<$m: $crate::kernels::simd::MulAdd>($($arg: $ty),*) $(-> $ret)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                fn fast($($arg: $ty),*) $(-> $ret)? {
                    body::<$crate::kernels::simd::Fused>($($arg),*)
                }
                #[target_feature(enable = "avx512f,avx2,fma")]
                fn wide($($arg: $ty),*) $(-> $ret)? {
                    body::<$crate::kernels::simd::Fused>($($arg),*)
                }
                if $crate::kernels::simd::has_avx512() {
                    // SAFETY: the machine has AVX-512F, AVX2 and FMA, as just checked.
                    return unsafe { wide($($arg),*) };
                }
                if $crate::kernels::simd::has_avx2() {
                    // SAFETY: the machine has AVX2 and FMA, as just checked.
                    return unsafe { fast($($arg),*) };
                }
            }
            body::<$crate::kernels::simd::Portable>($($arg),*)
        }
    };
}
pub(super) use simd;

/// Partial sums of a long sum: element i goes to sum i mod LANES, and the partial sums are added in order at the end.
pub(super) const LANES: usize = 16;

/// The partial sums added pairwise: 16, 8, 4, 2, 1.
#[inline(always)]
pub(super) fn combine(mut sums: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            sums[i] += sums[i + half];
        }
        half /= 2;
    }
    sums[0]
}

/// xᵢ = f(xᵢ), in chunks: compilers do not always vectorise a loop over a whole slice.
#[inline(always)]
pub(super) fn map(x: &mut [f32], f: impl Fn(f32) -> f32) {
    let (blocks, rest) = x.as_chunks_mut::<LANES>();
    for block in blocks {
        for x in block {
            *x = f(*x);
        }
    }
    for x in rest {
        *x = f(*x);
    }
}

/// Σ f(xᵢ).
#[inline(always)]
pub(super) fn sum_by(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut sums = [0.0; LANES];
    let (blocks, rest) = x.as_chunks::<LANES>();
    for block in blocks {
        for (sum, &x) in sums.iter_mut().zip(block) {
            *sum += f(x);
        }
    }
    for (sum, &x) in sums.iter_mut().zip(rest) {
        *sum += f(x);
    }
    combine(sums)
}

/// The largest element; −∞ without elements, NaN if there is one.
#[inline(always)]
pub(super) fn max(x: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a || b.is_nan() { b } else { a };
    let mut best = [f32::NEG_INFINITY; LANES];
    let (blocks, rest) = x.as_chunks::<LANES>();
    for block in blocks {
        for (best, &x) in best.iter_mut().zip(block) {
            *best = larger(*best, x);
        }
    }
    for (best, &x) in best.iter_mut().zip(rest) {
        *best = larger(*best, x);
    }
    best.into_iter().fold(f32::NEG_INFINITY, larger)
}
