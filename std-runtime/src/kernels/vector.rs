//! Sixteen f32 lanes, in the registers of any machine, and the choice of the instruction set.
//!
//! Code that is generic over [`Vector`] is compiled once per instruction set by [`vectorised`] and selected by an [`Isa`], which exists only on
//! machines with the instructions that it names. The order of every sum is fixed in that code, so AVX2 and AVX-512 give the same bits, and so does
//! NEON, which the compiler generates from [`Portable`].

use samara_core::math::fast::EXP2;

/// Lanes of a vector.
pub(super) const LANES: usize = 16;

/// An instruction set that this machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Isa(pub(super) Kind);

/// The instruction sets; only this file constructs one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Portable(Unnamed),
    #[cfg(target_arch = "x86_64")]
    Avx2(Unnamed),
    #[cfg(target_arch = "x86_64")]
    Avx512(Unnamed),
}

/// A mark that other files cannot make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unnamed(());

impl Isa {
    /// The best one.
    pub(super) fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        if super::simd::has_avx2() {
            return Self(if super::simd::has_avx512() { Kind::Avx512(Unnamed(())) } else { Kind::Avx2(Unnamed(())) });
        }
        Self(Kind::Portable(Unnamed(())))
    }

    /// Every one that this machine has.
    #[cfg(test)]
    pub(super) fn all() -> Vec<Self> {
        let best = Self::detect();
        let mut all = vec![Self(Kind::Portable(Unnamed(())))];
        #[cfg(target_arch = "x86_64")]
        if best != all[0] {
            all.push(Self(Kind::Avx2(Unnamed(()))));
        }
        if !all.contains(&best) {
            all.push(best);
        }
        all
    }
}

/// `fn name<V>(arguments) -> result { body }` with `V: Vector` inside the body becomes a function whose first argument is an [`Isa`].
macro_rules! vectorised {
    ($(#[$meta:meta])* $vis:vis fn $name:ident<$v:ident>($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        $vis fn $name(isa: $crate::kernels::vector::Isa, $($arg: $ty),*) $(-> $ret)? {
            use $crate::kernels::vector as vector;
            #[inline(always)]
            fn body<$v: vector::Vector>($($arg: $ty),*) $(-> $ret)? $body
            match isa.0 {
                vector::Kind::Portable(_) => body::<vector::Portable>($($arg),*),
                #[cfg(target_arch = "x86_64")]
                vector::Kind::Avx2(_) => {
                    #[target_feature(enable = "avx2,fma")]
                    fn fast($($arg: $ty),*) $(-> $ret)? {
                        body::<vector::Avx2>($($arg),*)
                    }
                    // SAFETY: such an `Isa` exists only on a machine with AVX2 and FMA.
                    unsafe { fast($($arg),*) }
                }
                #[cfg(target_arch = "x86_64")]
                vector::Kind::Avx512(_) => {
                    #[target_feature(enable = "avx512f,avx2,fma")]
                    fn fast($($arg: $ty),*) $(-> $ret)? {
                        body::<vector::Avx512>($($arg),*)
                    }
                    // SAFETY: such an `Isa` exists only on a machine with AVX-512F, AVX2 and FMA.
                    unsafe { fast($($arg),*) }
                }
            }
        }
    };
}
pub(super) use vectorised;

/// Sixteen f32 lanes. Values are created only inside [`vectorised`] code, that is on a machine with the instructions.
pub(super) trait Vector: Copy {
    /// Rows of sums that fit the registers beside the operands: enough to hide the latency of multiply-adds.
    const ROWS: usize;
    /// Whether the registers hold the sums of eight rows, two vectors wide: as many as of sixteen rows, with half the loads of A.
    const WIDE: bool;

    /// Sixteen times `x`.
    fn splat(x: f32) -> Self;

    /// The `len` values at `from`, then zeros.
    ///
    /// # Safety
    /// `len` ≤ 16 values can be read.
    unsafe fn load(from: *const f32, len: usize) -> Self;

    /// Stores the first `len` values.
    ///
    /// # Safety
    /// `len` ≤ 16 values can be written.
    unsafe fn store(self, to: *mut f32, len: usize);

    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;

    /// self · b + c, fused where the machine can.
    fn mul_add(self, b: Self, c: Self) -> Self;

    /// The lane-wise maximum; `other` where one of them is NaN.
    fn max(self, other: Self) -> Self;

    /// 2ⁿ for −127 ≤ n ≤ 127 given n + 1.5 · 2²³; 0 for −127.
    fn power_of_two(self) -> Self;

    /// Rows become columns.
    fn transpose(rows: &mut [Self; LANES]);

    /// Transposes sixteen rows of sixteen values with row stride `stride`.
    ///
    /// # Safety
    /// All of them can be read.
    #[inline(always)]
    unsafe fn load_transposed(from: *const f32, stride: usize) -> [Self; LANES] {
        let mut rows = [Self::splat(0.0); LANES];
        for (i, row) in rows.iter_mut().enumerate() {
            // SAFETY: the caller's contract.
            *row = unsafe { Self::load(from.add(i * stride), LANES) };
        }
        Self::transpose(&mut rows);
        rows
    }

    /// The sum of all lanes in the order of [`combine`](super::simd::combine).
    #[inline(always)]
    fn sum(self) -> f32 {
        super::simd::combine(self.to_array())
    }

    /// The sixteen lanes.
    #[inline(always)]
    fn to_array(self) -> [f32; LANES] {
        let mut numbers = [0.0; LANES];
        // SAFETY: the array holds sixteen values.
        unsafe { self.store(numbers.as_mut_ptr(), LANES) };
        numbers
    }

    /// From sixteen values.
    #[inline(always)]
    fn from_array(numbers: &[f32; LANES]) -> Self {
        // SAFETY: the array holds sixteen values.
        unsafe { Self::load(numbers.as_ptr(), LANES) }
    }

    /// 2ˣ for x ≤ 127, with an error of at most 1.5 units in the last place; 0 below −126.5, NaN for NaN.
    #[inline(always)]
    fn exp2(self) -> Self {
        // Adding this to a small value leaves the nearest integer in the lowest bits.
        const ROUND: f32 = 12_582_912.0;
        let x = Self::splat(-127.0).max(self);
        let rounded = x.add(Self::splat(ROUND));
        let r = x.sub(rounded.sub(Self::splat(ROUND)));
        let mut p = Self::splat(EXP2[EXP2.len() - 1]);
        for &c in EXP2.iter().rev().skip(1) {
            p = p.mul_add(r, Self::splat(c));
        }
        p.mul_add(r, Self::splat(1.0)).mul(rounded.power_of_two())
    }
}

/// For any machine: the compiler vectorises for the baseline.
#[derive(Clone, Copy, Debug)]
#[repr(align(16))]
pub(super) struct Portable([f32; LANES]);

impl Portable {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        let mut out = self;
        for (to, (a, b)) in out.0.iter_mut().zip(self.0.into_iter().zip(other.0)) {
            *to = f(a, b);
        }
        out
    }
}

impl Vector for Portable {
    const ROWS: usize = 4;
    const WIDE: bool = false;

    #[inline(always)]
    fn splat(x: f32) -> Self {
        Self([x; LANES])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32, len: usize) -> Self {
        let mut out = [0.0; LANES];
        if len == LANES {
            // SAFETY: the caller's contract.
            out = unsafe { from.cast::<[f32; LANES]>().read_unaligned() };
        } else {
            for (i, to) in out.iter_mut().enumerate().take(len) {
                // SAFETY: the caller's contract.
                *to = unsafe { *from.add(i) };
            }
        }
        Self(out)
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, len: usize) {
        if len == LANES {
            // SAFETY: the caller's contract.
            unsafe { to.cast::<[f32; LANES]>().write_unaligned(self.0) };
        } else {
            for (i, x) in self.0.into_iter().enumerate().take(len) {
                // SAFETY: the caller's contract.
                unsafe { *to.add(i) = x };
            }
        }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }

    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        let mut out = c;
        for (i, to) in out.0.iter_mut().enumerate() {
            *to = <super::simd::Portable as super::simd::MulAdd>::mul_add(self.0[i], b.0[i], *to);
        }
        out
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn power_of_two(self) -> Self {
        let mut out = self;
        for x in &mut out.0 {
            *x = f32::from_bits((x.to_bits() << 23).wrapping_add(127 << 23));
        }
        out
    }

    #[inline(always)]
    fn transpose(rows: &mut [Self; LANES]) {
        for i in 0..LANES {
            for j in 0..i {
                (rows[i].0[j], rows[j].0[i]) = (rows[j].0[i], rows[i].0[j]);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{LANES, Vector};

    /// Two registers of AVX2.
    #[derive(Clone, Copy, Debug)]
    pub(in crate::kernels) struct Avx2(__m256, __m256);

    /// All ones in the first `len` of eight lanes.
    ///
    /// # Safety
    /// AVX2 exists.
    #[inline(always)]
    unsafe fn first(len: usize) -> __m256i {
        // SAFETY: the caller's contract.
        unsafe { _mm256_cmpgt_epi32(_mm256_set1_epi32(len as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)) }
    }

    /// Rows become columns.
    ///
    /// # Safety
    /// AVX2 exists.
    #[inline(always)]
    unsafe fn transpose_8x8(r: &mut [__m256; 8]) {
        // SAFETY: the caller's contract.
        unsafe {
            // Pairs of rows, then fours, then all eight.
            let mut pairs = *r;
            for i in 0..4 {
                pairs[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
                pairs[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
            }
            let mut fours = *r;
            for i in 0..2 {
                let p = 4 * i;
                fours[p] = _mm256_shuffle_ps::<0x44>(pairs[p], pairs[p + 2]);
                fours[p + 1] = _mm256_shuffle_ps::<0xEE>(pairs[p], pairs[p + 2]);
                fours[p + 2] = _mm256_shuffle_ps::<0x44>(pairs[p + 1], pairs[p + 3]);
                fours[p + 3] = _mm256_shuffle_ps::<0xEE>(pairs[p + 1], pairs[p + 3]);
            }
            for i in 0..4 {
                r[i] = _mm256_permute2f128_ps::<0x20>(fours[i], fours[i + 4]);
                r[i + 4] = _mm256_permute2f128_ps::<0x31>(fours[i], fours[i + 4]);
            }
        }
    }

    /// The sum of eight values: those four apart, two apart, neighbours.
    ///
    /// # Safety
    /// AVX2 exists.
    #[inline(always)]
    unsafe fn sum_of_8(x: __m256) -> f32 {
        // SAFETY: the caller's contract.
        unsafe {
            let fours = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let pairs = _mm_add_ps(fours, _mm_movehl_ps(fours, fours));
            _mm_cvtss_f32(_mm_add_ss(pairs, _mm_movehdup_ps(pairs)))
        }
    }

    /// Both halves of a pair of vectors through one instruction.
    macro_rules! both {
        ($instruction:ident, $a:expr $(, $more:expr)*) => {
            // SAFETY: values of `Avx2` are created only where `vectorised` has compiled for AVX2 and FMA, on a machine that has them.
            unsafe { Avx2($instruction($a.0 $(, $more.0)*), $instruction($a.1 $(, $more.1)*)) }
        };
    }

    impl Vector for Avx2 {
        const ROWS: usize = 6;
        const WIDE: bool = false;

        #[inline(always)]
        fn splat(x: f32) -> Self {
            // SAFETY: called only where `vectorised` has compiled for AVX2, on a machine that has it.
            let one = unsafe { _mm256_set1_ps(x) };
            Self(one, one)
        }

        #[inline(always)]
        unsafe fn load(from: *const f32, len: usize) -> Self {
            // SAFETY: the caller's contract; masked lanes are not read. AVX2 exists, see `splat`.
            unsafe {
                if len == LANES {
                    Self(_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8)))
                } else {
                    let second = _mm256_maskload_ps(from.wrapping_add(8), first(len.saturating_sub(8)));
                    Self(_mm256_maskload_ps(from, first(len)), second)
                }
            }
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32, len: usize) {
            // SAFETY: the caller's contract; masked lanes are not written. AVX2 exists, see `splat`.
            unsafe {
                if len == LANES {
                    _mm256_storeu_ps(to, self.0);
                    _mm256_storeu_ps(to.add(8), self.1);
                } else {
                    _mm256_maskstore_ps(to, first(len), self.0);
                    _mm256_maskstore_ps(to.wrapping_add(8), first(len.saturating_sub(8)), self.1);
                }
            }
        }

        #[inline(always)]
        fn add(self, other: Self) -> Self {
            both!(_mm256_add_ps, self, other)
        }

        #[inline(always)]
        fn sub(self, other: Self) -> Self {
            both!(_mm256_sub_ps, self, other)
        }

        #[inline(always)]
        fn mul(self, other: Self) -> Self {
            both!(_mm256_mul_ps, self, other)
        }

        #[inline(always)]
        fn mul_add(self, b: Self, c: Self) -> Self {
            both!(_mm256_fmadd_ps, self, b, c)
        }

        #[inline(always)]
        fn max(self, other: Self) -> Self {
            both!(_mm256_max_ps, self, other)
        }

        #[inline(always)]
        fn power_of_two(self) -> Self {
            // SAFETY: as in `both`.
            unsafe {
                let bias = _mm256_set1_epi32(127 << 23);
                let first = _mm256_slli_epi32::<23>(_mm256_castps_si256(self.0));
                let second = _mm256_slli_epi32::<23>(_mm256_castps_si256(self.1));
                Self(_mm256_castsi256_ps(_mm256_add_epi32(first, bias)), _mm256_castsi256_ps(_mm256_add_epi32(second, bias)))
            }
        }

        #[inline(always)]
        fn sum(self) -> f32 {
            // SAFETY: as in `both`.
            unsafe { sum_of_8(_mm256_add_ps(self.0, self.1)) }
        }

        #[inline(always)]
        fn transpose(rows: &mut [Self; LANES]) {
            let [mut a, mut b, mut c, mut d] = [[rows[0].0; 8]; 4];
            for i in 0..8 {
                (a[i], b[i], c[i], d[i]) = (rows[i].0, rows[i].1, rows[i + 8].0, rows[i + 8].1);
            }
            // SAFETY: as in `both`.
            unsafe {
                transpose_8x8(&mut a);
                transpose_8x8(&mut b);
                transpose_8x8(&mut c);
                transpose_8x8(&mut d);
            }
            for i in 0..8 {
                (rows[i], rows[i + 8]) = (Self(a[i], c[i]), Self(b[i], d[i]));
            }
        }
    }

    /// A register of AVX-512.
    #[derive(Clone, Copy, Debug)]
    pub(in crate::kernels) struct Avx512(__m512);

    /// The first `len` of sixteen lanes.
    #[inline(always)]
    fn mask(len: usize) -> __mmask16 {
        ((1_u32 << len) - 1) as __mmask16
    }

    impl Vector for Avx512 {
        const ROWS: usize = 16;
        const WIDE: bool = true;

        #[inline(always)]
        fn splat(x: f32) -> Self {
            // SAFETY: called only where `vectorised` has compiled for AVX-512F, on a machine that has it.
            Self(unsafe { _mm512_set1_ps(x) })
        }

        #[inline(always)]
        unsafe fn load(from: *const f32, len: usize) -> Self {
            // SAFETY: the caller's contract; masked lanes are not read. AVX-512F exists, see `splat`.
            Self(unsafe { if len == LANES { _mm512_loadu_ps(from) } else { _mm512_maskz_loadu_ps(mask(len), from) } })
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32, len: usize) {
            // SAFETY: the caller's contract; masked lanes are not written. AVX-512F exists, see `splat`.
            unsafe { if len == LANES { _mm512_storeu_ps(to, self.0) } else { _mm512_mask_storeu_ps(to, mask(len), self.0) } }
        }

        #[inline(always)]
        fn add(self, other: Self) -> Self {
            // SAFETY: values are made only where AVX-512F exists, see `splat`.
            Self(unsafe { _mm512_add_ps(self.0, other.0) })
        }

        #[inline(always)]
        fn sub(self, other: Self) -> Self {
            // SAFETY: as in `add`.
            Self(unsafe { _mm512_sub_ps(self.0, other.0) })
        }

        #[inline(always)]
        fn mul(self, other: Self) -> Self {
            // SAFETY: as in `add`.
            Self(unsafe { _mm512_mul_ps(self.0, other.0) })
        }

        #[inline(always)]
        fn mul_add(self, b: Self, c: Self) -> Self {
            // SAFETY: as in `add`.
            Self(unsafe { _mm512_fmadd_ps(self.0, b.0, c.0) })
        }

        #[inline(always)]
        fn max(self, other: Self) -> Self {
            // SAFETY: as in `add`.
            Self(unsafe { _mm512_max_ps(self.0, other.0) })
        }

        #[inline(always)]
        fn power_of_two(self) -> Self {
            // SAFETY: as in `add`.
            Self(unsafe {
                let n = _mm512_slli_epi32::<23>(_mm512_castps_si512(self.0));
                _mm512_castsi512_ps(_mm512_add_epi32(n, _mm512_set1_epi32(127 << 23)))
            })
        }

        #[inline(always)]
        fn sum(self) -> f32 {
            // SAFETY: as in `add`.
            unsafe {
                let upper = _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(self.0)));
                sum_of_8(_mm256_add_ps(_mm512_castps512_ps256(self.0), upper))
            }
        }

        #[inline(always)]
        fn transpose(rows: &mut [Self; LANES]) {
            // SAFETY: as in `add`.
            unsafe {
                // Pairs of rows, then fours; columns c, c + 4, c + 8, c + 12 of four rows end up in one vector.
                let mut pairs = *rows;
                for i in 0..8 {
                    pairs[2 * i] = Self(_mm512_unpacklo_ps(rows[2 * i].0, rows[2 * i + 1].0));
                    pairs[2 * i + 1] = Self(_mm512_unpackhi_ps(rows[2 * i].0, rows[2 * i + 1].0));
                }
                let mut fours = *rows;
                for i in 0..4 {
                    let p = 4 * i;
                    fours[p] = Self(_mm512_shuffle_ps::<0x44>(pairs[p].0, pairs[p + 2].0));
                    fours[p + 1] = Self(_mm512_shuffle_ps::<0xEE>(pairs[p].0, pairs[p + 2].0));
                    fours[p + 2] = Self(_mm512_shuffle_ps::<0x44>(pairs[p + 1].0, pairs[p + 3].0));
                    fours[p + 3] = Self(_mm512_shuffle_ps::<0xEE>(pairs[p + 1].0, pairs[p + 3].0));
                }
                // A transpose of quarters of vectors, four by four.
                for c in 0..4 {
                    let low = _mm512_shuffle_f32x4::<0x44>(fours[c].0, fours[c + 4].0);
                    let high = _mm512_shuffle_f32x4::<0xEE>(fours[c].0, fours[c + 4].0);
                    let low_2 = _mm512_shuffle_f32x4::<0x44>(fours[c + 8].0, fours[c + 12].0);
                    let high_2 = _mm512_shuffle_f32x4::<0xEE>(fours[c + 8].0, fours[c + 12].0);
                    rows[c] = Self(_mm512_shuffle_f32x4::<0x88>(low, low_2));
                    rows[c + 4] = Self(_mm512_shuffle_f32x4::<0xDD>(low, low_2));
                    rows[c + 8] = Self(_mm512_shuffle_f32x4::<0x88>(high, high_2));
                    rows[c + 12] = Self(_mm512_shuffle_f32x4::<0xDD>(high, high_2));
                }
            }
        }

        /// Quarters of rows are combined while they are loaded: half of the shuffles of [`transpose`](Self::transpose), for which there is one
        /// execution port.
        #[inline(always)]
        unsafe fn load_transposed(from: *const f32, stride: usize) -> [Self; LANES] {
            let mut columns = [Self::splat(0.0); LANES];
            for (c, columns) in columns.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                // SAFETY: the caller's contract: values 4c.. of rows i, i + 4, i + 8, i + 12. AVX-512F exists, see `splat`.
                unsafe {
                    let mut fours = [_mm512_setzero_ps(); 4];
                    for (i, fours) in fours.iter_mut().enumerate() {
                        let from = from.add(i * stride + 4 * c);
                        *fours = _mm512_castps128_ps512(_mm_loadu_ps(from));
                        *fours = _mm512_insertf32x4::<1>(*fours, _mm_loadu_ps(from.add(4 * stride)));
                        *fours = _mm512_insertf32x4::<2>(*fours, _mm_loadu_ps(from.add(8 * stride)));
                        *fours = _mm512_insertf32x4::<3>(*fours, _mm_loadu_ps(from.add(12 * stride)));
                    }
                    let [w, x, y, z] = fours;
                    let (low, high) = (_mm512_unpacklo_ps(w, x), _mm512_unpackhi_ps(w, x));
                    let (low_2, high_2) = (_mm512_unpacklo_ps(y, z), _mm512_unpackhi_ps(y, z));
                    *columns = [
                        Self(_mm512_shuffle_ps::<0x44>(low, low_2)),
                        Self(_mm512_shuffle_ps::<0xEE>(low, low_2)),
                        Self(_mm512_shuffle_ps::<0x44>(high, high_2)),
                        Self(_mm512_shuffle_ps::<0xEE>(high, high_2)),
                    ];
                }
            }
            columns
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    vectorised! {
        fn exp2_of<V>(x: &[f32; LANES]) -> [f32; LANES] {
            V::from_array(x).exp2().to_array()
        }
    }

    vectorised! {
        fn sum_of<V>(x: &[f32; LANES]) -> f32 {
            V::from_array(x).sum()
        }
    }

    #[test]
    fn sums_of_a_vector_have_the_same_order_on_every_machine() {
        let x: [f32; LANES] = std::array::from_fn(|i| [1e8, 1.0, -1e8, 0.3][i * 7 % 4] * (1.0 + i as f32 * 0.1));
        let folded = |x: &[f32]| -> Vec<f32> { (0..x.len() / 2).map(|i| x[i] + x[i + x.len() / 2]).collect() };
        let want = folded(&folded(&folded(&folded(&x))))[0];
        for isa in Isa::all() {
            assert_eq!(sum_of(isa, &x).to_bits(), want.to_bits(), "{isa:?}");
        }
    }

    #[test]
    fn powers_of_two_are_within_the_stated_error() {
        for isa in Isa::all() {
            let mut worst = 0.0f64;
            for start in 0..40_000 {
                let x: [f32; LANES] = std::array::from_fn(|i| (start * LANES + i) as f32 * -1.97e-4);
                for (x, got) in x.into_iter().zip(exp2_of(isa, &x)) {
                    let exact = f64::from(x).exp2();
                    let unit = 2f64.powi(exact.log2().floor() as i32 - 23);
                    worst = worst.max(if exact > 1.2e-38 { (f64::from(got) - exact).abs() / unit } else { 0.0 });
                }
            }
            assert!(worst <= 1.5, "{isa:?}: {worst} units in the last place");
            let special = [0.0, -0.0, 1.0, 127.0, -126.0, -127.0, -1e30, f32::MIN, f32::NEG_INFINITY];
            let want = [1.0, 1.0, 2.0, 2f32.powi(127), f32::MIN_POSITIVE, 0.0, 0.0, 0.0, 0.0];
            let x: [f32; LANES] = std::array::from_fn(|i| special.get(i).copied().unwrap_or(f32::NAN));
            let got = exp2_of(isa, &x);
            assert_eq!(got[..special.len()], want, "{isa:?}");
            assert!(got[special.len()..].iter().all(|x| x.is_nan()), "{isa:?}");
        }
    }
}
