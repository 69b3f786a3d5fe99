//! Counter-based random numbers: any element of any stream is computed in constant time, with the same bits on every machine.
//!
//! The generator is Philox4x32-10 of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). It has no state to save:
//! a run resumed at step n draws the same values as one that was not interrupted. Streams are separated by [`Purpose`], so that a change in one use
//! of the seed (a new dropout site) does not shift another (the order of the data).

/// The uses of random numbers. Each purpose has its own streams under one seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Purpose {
    /// Initial weights.
    Init = 1,
    /// Order and offsets of training data.
    Data = 2,
    /// Dropout masks.
    Dropout = 3,
    /// Tokens sampled from a model.
    Sampling = 4,
    /// Text of the built-in corpus.
    Corpus = 5,
    /// Anything a user of the library adds.
    User = 6,
    /// Changes of training images.
    Augment = 7,
    /// Masked tokens.
    Masking = 8,
    /// Pairs that do not belong together, and the patches of images that are seen.
    Pairing = 9,
}

/// One block of Philox4x32-10: four random words that are a function of `counter` and `key` only.
#[inline]
pub fn philox4x32(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let [mut x0, mut x1, mut x2, mut x3] = counter;
    let [mut k0, mut k1] = key;
    for _ in 0..10 {
        let a = u64::from(x0) * 0xD251_1F53;
        let b = u64::from(x2) * 0xCD9E_8D57;
        (x0, x1, x2, x3) = ((b >> 32) as u32 ^ x1 ^ k0, b as u32, (a >> 32) as u32 ^ x3 ^ k1, a as u32);
        k0 = k0.wrapping_add(0x9E37_79B9);
        k1 = k1.wrapping_add(0xBB67_AE85);
    }
    [x0, x1, x2, x3]
}

/// [`philox4x32`] of N counters that differ in their first word: word w of counter i is `[w][i]`. Vectorises over 64-bit lanes whose upper halves are
/// ignored.
#[inline(always)]
pub fn philox4x32_lanes<const N: usize>(first: [u32; N], [c1, c2, c3]: [u32; 3], [mut k0, mut k1]: [u32; 2]) -> [[u32; N]; 4] {
    const LOW: u64 = 0xFFFF_FFFF;
    let mut x = [[0; N], [u64::from(c1); N], [u64::from(c2); N], [u64::from(c3); N]];
    let [x0, x1, x2, x3] = &mut x;
    for (x, first) in x0.iter_mut().zip(first) {
        *x = u64::from(first);
    }
    for _ in 0..10 {
        for (((x0, x1), x2), x3) in x0.iter_mut().zip(x1.iter_mut()).zip(x2.iter_mut()).zip(x3.iter_mut()) {
            let a = (*x0 & LOW).wrapping_mul(0xD251_1F53);
            let b = (*x2 & LOW).wrapping_mul(0xCD9E_8D57);
            (*x0, *x1, *x2, *x3) = (b >> 32 ^ *x1 ^ u64::from(k0), b, a >> 32 ^ *x3 ^ u64::from(k1), a);
        }
        k0 = k0.wrapping_add(0x9E37_79B9);
        k1 = k1.wrapping_add(0xBB67_AE85);
    }
    let mut words = [[0; N]; 4];
    for (words, x) in words.iter_mut().zip(&x) {
        for (word, &x) in words.iter_mut().zip(x) {
            *word = x as u32;
        }
    }
    words
}

/// Block `index` of stream `stream` of `purpose` under `seed`: the random access form of [`Rng`].
#[inline]
pub fn block(seed: u64, purpose: Purpose, stream: u64, index: u32) -> [u32; 4] {
    philox4x32([index, purpose as u32, stream as u32, (stream >> 32) as u32], [seed as u32, (seed >> 32) as u32])
}

/// A uniform value in [0, 1) from 32 random bits: the upper 24 bits times 2⁻²⁴, exact in f32.
#[inline(always)]
pub fn unit_f32(bits: u32) -> f32 {
    (bits >> 8) as f32 * (1.0 / 16_777_216.0)
}

/// A uniform value in [0, 1) from 64 random bits: the upper 53 bits times 2⁻⁵³, exact in f64.
#[inline(always)]
pub fn unit_f64(bits: u64) -> f64 {
    (bits >> 11) as f64 * (1.0 / 9_007_199_254_740_992.0)
}

/// Two independent standard normal values from two uniform ones in [0, 1): r·(cos φ, sin φ) with r = √(−2 ln(1 − u)), φ = 2π v (Box and Muller 1958).
/// Always finite: |x| < 8.7.
#[inline]
pub fn normal_pair(u: f64, v: f64) -> (f64, f64) {
    let radius = libm::sqrt(-2.0 * libm::log(1.0 - u));
    let (sin, cos) = libm::sincos(core::f64::consts::TAU * v);
    (radius * cos, radius * sin)
}

/// One stream of random numbers, read in order.
///
/// A stream holds 2³⁴ words; after the last it starts again.
#[derive(Clone, Debug)]
pub struct Rng {
    seed: u64,
    purpose: Purpose,
    stream: u64,
    next_block: u32,
    words: [u32; 4],
    words_left: u8,
    spare_normal: Option<f64>,
}

impl Rng {
    /// Stream `stream` of `purpose` under `seed`, from its start.
    ///
    /// A stream index is anything that identifies a draw: a step, the index of a parameter, a position in a text.
    pub fn new(seed: u64, purpose: Purpose, stream: u64) -> Self {
        Self { seed, purpose, stream, next_block: 0, words: [0; 4], words_left: 0, spare_normal: None }
    }

    /// 32 random bits.
    #[inline]
    pub fn next_u32(&mut self) -> u32 {
        if self.words_left == 0 {
            self.words = block(self.seed, self.purpose, self.stream, self.next_block);
            self.next_block = self.next_block.wrapping_add(1);
            self.words_left = 4;
        }
        self.words_left = self.words_left.wrapping_sub(1);
        let [first, b, c, d] = self.words;
        self.words = [b, c, d, first];
        first
    }

    /// 64 random bits: two words, the lower one first.
    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        let low = u64::from(self.next_u32());
        let high = u64::from(self.next_u32());
        high << 32 | low
    }

    /// A uniform value in [0, 1) with 24 random bits.
    #[inline]
    pub fn uniform_f32(&mut self) -> f32 {
        unit_f32(self.next_u32())
    }

    /// A uniform value in [0, 1) with 53 random bits.
    #[inline]
    pub fn uniform_f64(&mut self) -> f64 {
        unit_f64(self.next_u64())
    }

    /// A standard normal value (mean 0, variance 1), see [`normal_pair`].
    #[inline]
    pub fn normal_f64(&mut self) -> f64 {
        if let Some(spare) = self.spare_normal.take() {
            return spare;
        }
        let (u, v) = (self.uniform_f64(), self.uniform_f64());
        let (first, second) = normal_pair(u, v);
        self.spare_normal = Some(second);
        first
    }

    /// A uniform integer in `0..bound`, exactly unbiased; 0 when `bound` is 0.
    ///
    /// Lemire, "Fast random integer generation in an interval" (2019): the upper half of a product, with rejection of the few words that would bias
    /// the result.
    #[inline]
    pub fn below(&mut self, bound: u64) -> u64 {
        let mut product = u128::from(self.next_u64()) * u128::from(bound);
        if (product as u64) < bound {
            let unfair = bound.wrapping_neg().checked_rem(bound).unwrap_or(0);
            while (product as u64) < unfair {
                product = u128::from(self.next_u64()) * u128::from(bound);
            }
        }
        (product >> 64) as u64
    }

    /// Fills `out` with normal values of this mean and standard deviation.
    pub fn fill_normal(&mut self, out: &mut [f32], mean: f64, std: f64) {
        for x in out {
            *x = (mean + std * self.normal_f64()) as f32;
        }
    }

    /// Fills `out` with uniform values in [low, high).
    pub fn fill_uniform(&mut self, out: &mut [f32], low: f64, high: f64) {
        for x in out {
            *x = (low + (high - low) * self.uniform_f64()) as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    /// The known answers that the authors publish with their library (kat_vectors, "philox4x32 10").
    #[test]
    fn known_answers() {
        assert_eq!(philox4x32([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox4x32([u32::MAX; 4], [u32::MAX; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        assert_eq!(
            philox4x32([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    proptest::proptest! {
        #[test]
        fn lanes_are_blocks(first: u32, rest: [u32; 3], key: [u32; 2]) {
            let counters: [u32; 7] = core::array::from_fn(|i| first.wrapping_add(i as u32 * 3));
            let words = philox4x32_lanes(counters, rest, key);
            for (i, &counter) in counters.iter().enumerate() {
                assert_eq!(words.map(|lanes| lanes[i]), philox4x32([counter, rest[0], rest[1], rest[2]], key));
            }
        }
    }

    #[test]
    fn a_stream_is_its_blocks_in_order() {
        let mut rng = Rng::new(0x0123_4567_89ab_cdef, Purpose::Data, 7 << 40);
        for index in 0..5 {
            let words = [(); 4].map(|()| rng.next_u32());
            assert_eq!(words, block(0x0123_4567_89ab_cdef, Purpose::Data, 7 << 40, index));
        }
    }

    #[test]
    fn streams_differ_in_seed_purpose_and_number() {
        let first = |seed, purpose, stream| Rng::new(seed, purpose, stream).next_u64();
        let base = first(1, Purpose::Init, 1);
        for other in [
            first(2, Purpose::Init, 1),
            first(1 << 32, Purpose::Init, 1),
            first(1, Purpose::Data, 1),
            first(1, Purpose::Init, 1 << 32),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn units_stay_below_one() {
        assert_eq!(unit_f32(0), 0.0);
        assert_eq!(unit_f32(u32::MAX), 1.0 - f32::EPSILON / 2.0);
        assert_eq!(unit_f64(0), 0.0);
        assert_eq!(unit_f64(u64::MAX), 1.0 - f64::EPSILON / 2.0);
    }

    /// Mean, variance and fourth moment of n draws within 5 standard errors of 0, 1 and 3; uniform mean and variance likewise.
    #[test]
    fn moments() {
        let n = 200_000;
        let mut rng = Rng::new(42, Purpose::Init, 0);
        let normal: Vec<f64> = (0..n).map(|_| rng.normal_f64()).collect();
        let uniform: Vec<f64> = (0..n).map(|_| rng.uniform_f64()).collect();
        let moment = |xs: &[f64], about: f64, power: i32| xs.iter().map(|x| (x - about).powi(power)).sum::<f64>() / f64::from(n);
        let root_n = f64::from(n).sqrt();
        assert!(moment(&normal, 0.0, 1).abs() < 5.0 / root_n);
        assert!((moment(&normal, 0.0, 2) - 1.0).abs() < 5.0 * 2f64.sqrt() / root_n);
        assert!((moment(&normal, 0.0, 4) - 3.0).abs() < 5.0 * 96f64.sqrt() / root_n);
        assert!((moment(&uniform, 0.0, 1) - 0.5).abs() < 5.0 / 12f64.sqrt() / root_n);
        assert!((moment(&uniform, 0.5, 2) - 1.0 / 12.0).abs() < 5.0 / 180f64.sqrt() / root_n);
        let pairs = normal.chunks_exact(2).map(|pair| pair[0] * pair[1]).sum::<f64>() / f64::from(n / 2);
        assert!(pairs.abs() < 5.0 / f64::from(n / 2).sqrt());
    }

    #[test]
    fn extreme_draws_give_finite_normals() {
        for u in [0.0, unit_f64(u64::MAX)] {
            for v in [0.0, 0.25, 0.5, unit_f64(u64::MAX)] {
                let (a, b) = normal_pair(u, v);
                assert!(a.abs() < 8.7 && b.abs() < 8.7, "{u} {v}: {a} {b}");
            }
        }
    }

    #[test]
    fn below_is_in_range_and_even() {
        let mut rng = Rng::new(3, Purpose::User, 0);
        assert_eq!(rng.below(0), 0);
        assert_eq!(rng.below(1), 0);
        let draws = 60_000;
        for bound in [2_usize, 3, 7, 10] {
            let mut counts = vec![0_i32; bound];
            for _ in 0..draws {
                counts[rng.below(bound as u64) as usize] += 1;
            }
            let expected = f64::from(draws) / bound as f64;
            let chi2: f64 = counts.iter().map(|&c| (f64::from(c) - expected).powi(2) / expected).sum();
            assert!(chi2 < 40.0, "bound {bound}: {counts:?}");
        }
        // Under three quarters of 2⁶⁴ as bound, a product without rejection would give every third number twice as often as the others.
        let bound = 3 << 62;
        let thirds = (0..draws).filter(|_| rng.below(bound).is_multiple_of(3)).count() as f64;
        assert!((thirds / f64::from(draws) - 1.0 / 3.0).abs() < 0.01, "{thirds}");
    }

    /// Bits that must never change: checkpoints and published results depend on them.
    #[test]
    fn same_bits_for_ever() {
        let mut rng = Rng::new(1337, Purpose::Init, 5);
        let normals = [(); 3].map(|()| rng.normal_f64().to_bits());
        let mut out = [0.0_f32; 2];
        rng.fill_normal(&mut out, 0.0, 0.02);
        assert_eq!(normals, [4609872022481145279, 4602251283491419091, 4605632507572773735]);
        assert_eq!(out.map(f32::to_bits), [3162850324, 3163442194]);
        assert_eq!(rng.below(1000), 705);
    }
}
