//! Random shapes and values for tests, the same for the same seed.

use samara_core::math::rng::{Purpose, Rng};

/// A source of random shapes and values.
pub struct Draw(Rng);

impl Draw {
    /// The random source of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(Rng::new(seed, Purpose::User, 0))
    }

    /// An integer in `low..=high`.
    pub fn int(&mut self, low: i32, high: i32) -> i32 {
        (i64::from(low) + self.0.below((i64::from(high) - i64::from(low) + 1) as u64) as i64) as i32
    }

    /// An extent in `1..=high`: 1 more often than others.
    pub fn extent(&mut self, high: usize) -> usize {
        if self.0.below(5) == 0 { 1 } else { 1 + self.0.below(high as u64) as usize }
    }

    /// One of the two.
    pub fn coin(&mut self) -> bool {
        self.0.below(2) == 1
    }

    /// One of several.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.0.below(from.len() as u64) as usize]
    }

    /// `n` values in `low..high` that `f32` can represent.
    pub fn values(&mut self, n: usize, low: f64, high: f64) -> Vec<f64> {
        (0..n).map(|_| f64::from((low + (high - low) * self.0.uniform_f64()) as f32)).collect()
    }

    /// `n` integers in `low..=high`.
    pub fn ints(&mut self, n: usize, low: i32, high: i32) -> Vec<i32> {
        (0..n).map(|_| self.int(low, high)).collect()
    }
}
