//! Draws, hashes and reports, as all programs do, and nothing else: what other programs take less this one is the engine.

use core::hint::black_box;

use super::Draw;
use crate::{Hash, Program, decimals, figure};

/// Some numbers.
pub struct Empty([f32; 8]);

impl Program for Empty {
    const NEW: Self = Self([0.0; 8]);

    fn run(&mut self) -> Option<Hash> {
        Draw::new(black_box(1)).fill(&mut self.0);
        let mut hash = Hash::default();
        hash.reals(black_box(&self.0));
        figure("numbers", black_box(self.0.len()) as u64);
        decimals("tenths", black_box(1), 10);
        Some(hash)
    }
}
