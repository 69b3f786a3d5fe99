//! Dropout: y = x · m/(1 − p) with m = 0 with probability p, else 1. Srivastava et al. 2014.
//!
//! The mask is a function of (seed, step, micro-batch, site, element), so that the backward pass and recomputation draw the same one in any order of
//! work. The gradient is the same operation on dy.

use super::{copy, no_scratch};
use crate::exec::{Kernel, Kernels, Views};
use crate::graph::{Node, Op};
use crate::math::Real;
use crate::math::rng::{philox4x32, philox4x32_lanes};
use crate::threads::Threads;

/// Adds the kernel of this file to a table.
pub const fn kernels<R: Real>(table: Kernels<R>) -> Kernels<R> {
    table.define::<{ Op::Dropout { site: 0 }.opcode() }>(Kernel { run: forward, scratch_len: no_scratch })
}

/// One in 2²⁴ is the finest probability.
pub const PROBABILITY_UNIT: f64 = 1.0 / 16_777_216.0;

/// The dropout control for a step: seed (low, high), step, micro-batch, p·2²⁴.
pub fn control(seed: u64, step: u32, micro_batch: u32, p: f64) -> [i32; 5] {
    [seed as i32, (seed >> 32) as i32, step as i32, micro_batch as i32, (p / PROBABILITY_UNIT) as i32]
}

/// The mask of one site in one step.
#[derive(Clone, Copy, Debug)]
pub struct Mask {
    key: [u32; 2],
    counter: [u32; 3],
    threshold: u32,
    scale: f64,
}

impl Mask {
    /// The mask of a control; it keeps everything when the control is absent or p is 0.
    pub fn new(control: &[i32], site: u32) -> Self {
        let &[low, high, step, micro, threshold] = control else {
            return Self { key: [0; 2], counter: [0; 3], threshold: 0, scale: 1.0 };
        };
        let threshold = threshold.clamp(0, (1 << 24) - 1) as u32;
        let scale = 1.0 / (1.0 - f64::from(threshold) * PROBABILITY_UNIT);
        Self { key: [low as u32, high as u32], counter: [site, step as u32, micro as u32], threshold, scale }
    }

    /// Whether nothing is dropped.
    pub fn is_off(&self) -> bool {
        self.threshold == 0
    }

    /// 1/(1 − p).
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// Whether each of the four elements from 4·`block` on is dropped.
    pub fn dropped(&self, block: u32) -> [bool; 4] {
        let [site, step, micro] = self.counter;
        philox4x32([block, site, step, micro], self.key).map(|bits| bits >> 8 < self.threshold)
    }

    /// 0 or 1/(1 − p) for one element.
    pub fn factor<R: Real>(&self, element: u64) -> R {
        if self.is_off() {
            return R::ONE;
        }
        let dropped = self.dropped((element / 4) as u32).get((element % 4) as usize).copied().unwrap_or(false);
        if dropped { R::ZERO } else { R::from_f64(self.scale) }
    }

    /// 0 or 1/(1 − p) for the four elements from 4·`blocks[i]` on, for N Philox blocks at once: element w of block i is `[w][i]`.
    #[inline(always)]
    pub fn factors<const N: usize>(&self, blocks: [u32; N]) -> [[f32; N]; 4] {
        let scale = self.scale as f32;
        let mut factors = [[scale; N]; 4];
        for (factors, words) in factors.iter_mut().zip(&philox4x32_lanes(blocks, self.counter, self.key)) {
            for (factor, bits) in factors.iter_mut().zip(words) {
                *factor = if bits >> 8 < self.threshold { 0.0 } else { scale };
            }
        }
        factors
    }

    /// Applies the mask to elements of a tensor from `first` on, a multiple of 4.
    pub fn apply<R: Real>(&self, x: &mut [R], first: usize) {
        if self.is_off() {
            return;
        }
        let scale = R::from_f64(self.scale);
        for (block, x) in x.chunks_mut(4).enumerate() {
            for (x, dropped) in x.iter_mut().zip(self.dropped((first / 4 + block) as u32)) {
                *x = if dropped { R::ZERO } else { *x * scale };
            }
        }
    }
}

fn forward<R: Real>(node: &Node<'_>, views: Views<'_, R>, _: &dyn Threads) {
    let Some(Op::Dropout { site }) = node.op() else { return };
    let [x, ..] = views.inputs;
    let [_, control, ..] = views.ints;
    let [y, ..] = views.outputs;
    copy(y, x);
    Mask::new(control, site).apply(y, 0);
}
