//! Every reference kernel, linked and not run: none of them has a panic path on any target, and what all of them take is known.

use core::hint::black_box;

use samara_core::ops;

use crate::{Hash, Program, figure};

/// No memory.
pub struct Reference;

impl Program for Reference {
    const NEW: Self = Self;

    fn run(&mut self) -> Option<Hash> {
        let table = black_box(ops::reference::<f32>());
        let count = (0..=u8::MAX).filter(|&opcode| table.get(opcode).is_some()).count();
        figure("kernels", count as u64);
        let mut hash = Hash::default();
        hash.bytes(&[count as u8]);
        Some(hash)
    }
}
