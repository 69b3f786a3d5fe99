//! Rotary position embeddings on threads, with tasks of rows: see `samara_core::ops::rotary` for the formula. The results have the bits of the
//! reference.

use samara_core::exec::{Kernel, Kernels, Views};
use samara_core::graph::{Node, Op, Pairing, RotarySpec};
use samara_core::math::fast;
use samara_core::ops::rotary::Frequencies;
use samara_core::threads::Threads;

use super::elementwise::copy;
use super::vector::{Isa, LANES, Vector, vectorised};
use super::{no_scratch, per_task};
use crate::tiles::for_each_chunk;

pub(super) fn kernels(table: Kernels<f32>) -> Kernels<f32> {
    let spec = RotarySpec { heads: 1, head_dim: 2, rotated: 2, pairs: Pairing::Halves, base: 1e4, inverse: false };
    table.with(Op::Rotary(spec).opcode(), Kernel { run, scratch_len: no_scratch })
}

/// Pairs of a head whose sines and cosines are kept on the stack, for all heads of a row; heads with more pairs take several passes.
const PAIRS: usize = 64;

fn run(node: &Node<'_>, views: Views<'_, f32>, threads: &dyn Threads) {
    let Some(Op::Rotary(spec)) = node.op() else { return };
    let [x, ..] = views.inputs;
    let [_, positions, ..] = views.ints;
    let [y, ..] = views.outputs;
    let (m, c) = (node.input_shape(0).rows(), node.input_shape(0).cols().max(1));
    let (frequencies, pairs) = (Frequencies::new(&spec), spec.rotated as usize / 2);
    let (isa, rows) = (Isa::detect(), per_task(m, 4 * spec.heads as usize * spec.rotated as usize));
    for first in (0..pairs).step_by(PAIRS) {
        let mut piece = Piece { spec: &spec, first, count: PAIRS.min(pairs - first), frequencies: [0.0; PAIRS] };
        let own = piece.frequencies.iter_mut().take(piece.count);
        own.enumerate().for_each(|(i, frequency)| *frequency = frequencies.of(first + i));
        for_each_chunk(threads, y, rows * c, &|i, y| {
            // x is empty where y took its place.
            let x = if first == 0 { x.get(i * rows * c..).unwrap_or_default() } else { &[] };
            turn_rows(isa, &piece, positions.get(i * rows..).unwrap_or_default(), x, c, y);
        });
    }
}

/// Some pairs of every head.
struct Piece<'a> {
    spec: &'a RotarySpec,
    /// The first pair.
    first: usize,
    /// How many.
    count: usize,
    /// Their angles at position 1, then zeros.
    frequencies: [f32; PAIRS],
}

vectorised! {
    /// Rotates the pairs of a piece in rows y (M, c); x is copied to y first unless it is empty.
    fn turn_rows<V>(piece: &Piece<'_>, positions: &[i32], x: &[f32], c: usize, y: &mut [f32]) {
        let (spec, first, count) = (piece.spec, piece.first, piece.count);
        let (dim, half) = (spec.head_dim as usize, spec.rotated as usize / 2);
        let mut angles = Angles { sin: [0.0; PAIRS], cos: [0.0; PAIRS] };
        let (mut sin_2, mut cos_2) = ([0.0; 2 * PAIRS], [0.0; 2 * PAIRS]);
        for (i, (row, &position)) in y.chunks_exact_mut(c).zip(positions).enumerate() {
            copy(row, x.get(i * c..).unwrap_or_default());
            angles.set(piece, position as f32);
            match spec.pairs {
                Pairing::Halves => {
                    for head in row.chunks_exact_mut(dim).take(spec.heads as usize) {
                        let (a, b) = head.split_at_mut(half);
                        turn_halves::<V>(&mut a[first..first + count], &mut b[first..first + count], &angles);
                    }
                }
                Pairing::Adjacent => {
                    angles.spread(count, &mut sin_2, &mut cos_2);
                    for head in row.chunks_exact_mut(dim).take(spec.heads as usize) {
                        turn_adjacent(&mut head[2 * first..2 * (first + count)], &sin_2, &cos_2);
                    }
                }
            }
        }
    }
}

/// Sines and cosines of the pairs of a piece.
struct Angles {
    sin: [f32; PAIRS],
    cos: [f32; PAIRS],
}

impl Angles {
    /// Those at a position.
    #[inline(always)]
    fn set(&mut self, piece: &Piece<'_>, position: f32) {
        let sign = if piece.spec.inverse { -1.0 } else { 1.0 };
        let (sins, coss) = (self.sin.as_chunks_mut::<LANES>().0, self.cos.as_chunks_mut::<LANES>().0);
        let blocks = piece.frequencies.as_chunks::<LANES>().0.iter().take(piece.count.div_ceil(LANES));
        for ((sin, cos), frequency) in sins.iter_mut().zip(coss).zip(blocks) {
            for ((sin, cos), frequency) in sin.iter_mut().zip(cos).zip(frequency) {
                (*sin, *cos) = fast::sin_cos(position * frequency);
                *sin *= sign;
            }
        }
    }

    /// One factor per value of a head instead of per pair: −sin φ for the first of a pair, sin φ for the second.
    #[inline(always)]
    fn spread(&self, count: usize, sin_2: &mut [f32; 2 * PAIRS], cos_2: &mut [f32; 2 * PAIRS]) {
        let (sins, coss) = (sin_2.as_chunks_mut::<2>().0, cos_2.as_chunks_mut::<2>().0);
        for (((to_sin, to_cos), &sin), &cos) in sins.iter_mut().zip(coss).zip(&self.sin[..count]).zip(&self.cos) {
            (*to_sin, *to_cos) = ([-sin, sin], [cos, cos]);
        }
    }
}

/// (a, b) = (a cos φ − b sin φ, b cos φ + a sin φ).
#[inline(always)]
fn turn_halves<V: Vector>(a: &mut [f32], b: &mut [f32], angles: &Angles) {
    let ((a_blocks, a_rest), (b_blocks, b_rest)) = (a.as_chunks_mut::<LANES>(), b.as_chunks_mut::<LANES>());
    let done = a_blocks.len() * LANES;
    let (sins, coss) = (angles.sin.as_chunks::<LANES>().0, angles.cos.as_chunks::<LANES>().0);
    for (((a, b), sin), cos) in a_blocks.iter_mut().zip(b_blocks).zip(sins).zip(coss) {
        let [x, y, sin, cos] = [V::from_array(a), V::from_array(b), V::from_array(sin), V::from_array(cos)];
        *a = x.mul(cos).sub(y.mul(sin)).to_array();
        *b = y.mul(cos).add(x.mul(sin)).to_array();
    }
    for (((a, b), &sin), &cos) in a_rest.iter_mut().zip(b_rest).zip(&angles.sin[done..]).zip(&angles.cos[done..]) {
        (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
    }
}

/// The same for adjacent pairs: x cos φ ∓ (the other of the pair) sin φ.
#[inline(always)]
fn turn_adjacent(x: &mut [f32], sin_2: &[f32], cos_2: &[f32]) {
    let (xs, rest) = x.as_chunks_mut::<LANES>();
    let (sins, coss) = (sin_2.as_chunks::<LANES>().0, cos_2.as_chunks::<LANES>().0);
    let done = xs.len() * LANES;
    for ((x, sin), cos) in xs.iter_mut().zip(sins).zip(coss) {
        let own = *x;
        for (i, ((x, sin), cos)) in x.iter_mut().zip(sin).zip(cos).enumerate() {
            *x = own[i] * cos + own[i ^ 1] * sin;
        }
    }
    for (i, pair) in rest.as_chunks_mut::<2>().0.iter_mut().enumerate() {
        let [a, b] = *pair;
        let at = done + 2 * i;
        *pair = [a * cos_2[at] + b * sin_2[at], b * cos_2[at + 1] + a * sin_2[at + 1]];
    }
}
