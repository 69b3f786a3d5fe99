//! Rotary position embeddings (Su et al. 2021), x (…, C) in heads of D columns: pair i of a head at position p becomes (a cos φ − b sin φ, b cos φ +
//! a sin φ) with φ = p · base^(−2i/R), where R is the number of rotated columns. Columns beyond R, and beyond the heads, are copied.
//!
//! The inverse rotates by −φ. It is also the gradient: dx is dy rotated back.
//!
//! The frequency and the angle are rounded to `f32`, as in Hugging Face's models: at positions in the thousands the rounding changes the angle
//! noticeably. In `f32`, sines, cosines and products have the same bits on every machine, so that a faster kernel can match them.

use super::{copy, no_scratch};
use crate::exec::{Kernel, Kernels, Views};
use crate::graph::{Node, Op, Pairing, RotarySpec};
use crate::math::Real;
use crate::threads::Threads;

const SPEC: RotarySpec = RotarySpec { heads: 1, head_dim: 2, rotated: 2, pairs: Pairing::Halves, base: 1e4, inverse: false };

/// Adds the kernels of this file to a table.
pub const fn kernels<R: Real>(table: Kernels<R>) -> Kernels<R> {
    const ROTARY: u8 = Op::Rotary(SPEC).opcode();
    table.define::<ROTARY>(Kernel { run, scratch_len: no_scratch })
}

/// The angles of the pairs at position 1.
#[derive(Clone, Copy, Debug)]
pub struct Frequencies {
    /// ln base.
    log_base: f64,
    /// Rotated columns of a head.
    rotated: f32,
}

impl Frequencies {
    /// Those of a rotary embedding.
    pub fn new(spec: &RotarySpec) -> Self {
        Self { log_base: libm::log(f64::from(spec.base as f32)), rotated: spec.rotated as f32 }
    }

    /// base^(−2i/R) as 1/base^(2i/R), with the exponent, the power and the result rounded to `f32`.
    pub fn of(&self, pair: usize) -> f32 {
        let exponent = pair.wrapping_mul(2) as f32 / self.rotated;
        1.0 / libm::exp(f64::from(exponent) * self.log_base) as f32
    }
}

fn run<R: Real>(node: &Node<'_>, views: Views<'_, R>, _: &dyn Threads) {
    let Some(Op::Rotary(spec)) = node.op() else { return };
    let [x, ..] = views.inputs;
    let [_, positions, ..] = views.ints;
    let [y, ..] = views.outputs;
    copy(y, x); // x is empty if y reuses its memory
    let c = node.input_shape(0).cols();
    let frequencies = Frequencies::new(&spec);
    for pair in 0..spec.rotated as usize / 2 {
        let frequency = frequencies.of(pair);
        for (row, &position) in y.chunks_exact_mut(c.max(1)).zip(positions) {
            let (sin, cos) = R::sin_cos(position as f32 * frequency);
            let sin = if spec.inverse { -sin } else { sin };
            for head in row.chunks_exact_mut((spec.head_dim as usize).max(1)).take(spec.heads as usize) {
                turn(head, places(&spec, pair), sin, cos);
            }
        }
    }
}

/// The columns of a pair in its head.
fn places(spec: &RotarySpec, pair: usize) -> [usize; 2] {
    match spec.pairs {
        Pairing::Halves => [pair, pair.wrapping_add(spec.rotated as usize / 2)],
        Pairing::Adjacent => [pair.wrapping_mul(2), pair.wrapping_mul(2).wrapping_add(1)],
    }
}

/// Turns one pair of a head.
fn turn<R: Real>(head: &mut [R], places: [usize; 2], sin: R, cos: R) {
    if let Ok([a, b]) = head.get_disjoint_mut(places) {
        (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
    }
}
