//! Programs: the same code on every board, and on this machine as the reference.

pub mod assignment;
pub mod empty;
pub mod finetune;
pub mod generate;
pub mod generate_llama;
pub mod kernels;
mod model;
pub mod prompts;
pub mod reference;
pub mod reinforce;

/// Numbers in [-1, 1) that are the same everywhere: the high bits of a linear congruential generator (Knuth, MMIX).
pub(crate) struct Draw(u64);

impl Draw {
    /// A sequence of its own for every seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number, a multiple of 2⁻²³.
    pub(crate) fn number(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 40) as i32 - (1 << 23)) as f32 * (1.0 / 8_388_608.0)
    }

    /// Fills a slice.
    pub(crate) fn fill(&mut self, to: &mut [f32]) {
        to.iter_mut().for_each(|x| *x = self.number());
    }
}
