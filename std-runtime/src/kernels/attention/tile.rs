//! Operations on a tile of scores between the products: masks, softmax, dropout, gradients. A tile is (keys, 16) with row stride `ld`.

use samara_core::ops::dropout::Mask;

use crate::kernels::simd::{combine, simd};
use crate::kernels::vector::{LANES, vectorised};

/// Running maximum and sum of a softmax over tiles of keys, for sixteen queries. Exponents are of base 2.
pub(super) struct Softmax {
    pub(super) largest: [f32; LANES],
    pub(super) total: [f32; LANES],
}

impl Softmax {
    /// The initial state: a finite maximum, so that −∞ is below it.
    pub(super) const NONE: Self = Self { largest: [f32::MIN; LANES], total: [0.0; LANES] };
}

vectorised! {
    /// p = 2^(s − max) in place with the maximum over all tiles so far. Returns the factors by which sums of earlier tiles must be scaled.
    pub(super) fn softmax<V>(scores: &mut [f32], state: &mut Softmax) -> [f32; LANES] {
        let (keys, _) = scores.as_chunks_mut::<LANES>();
        let before = V::from_array(&state.largest);
        let mut largest = before;
        for key in &*keys {
            largest = V::from_array(key).max(largest);
        }
        let keep = before.sub(largest).exp2();
        let mut total = V::from_array(&state.total).mul(keep);
        for key in keys {
            let p = V::from_array(key).sub(largest).exp2();
            total = total.add(p);
            *key = p.to_array();
        }
        (state.largest, state.total) = (largest.to_array(), total.to_array());
        keep.to_array()
    }
}

vectorised! {
    /// p = p · factor.
    pub(super) fn multiply_all<V>(p: &mut [f32], factors: &[f32]) {
        for (p, factor) in p.as_chunks_mut::<LANES>().0.iter_mut().zip(factors.as_chunks::<LANES>().0) {
            *p = V::from_array(p).mul(V::from_array(factor)).to_array();
        }
    }
}

vectorised! {
    /// [`softmax`] of the scores of one query, padded to a multiple of sixteen, with the maximum and the sum in `state`.
    pub(super) fn softmax_of_one<V>(scores: &mut [f32], state: &mut [f32; 2]) -> f32 {
        let (lanes, _) = scores.as_chunks_mut::<LANES>();
        let mut largest = V::splat(state[0]);
        for lanes in &*lanes {
            largest = V::from_array(lanes).max(largest);
        }
        let largest = largest.to_array().into_iter().fold(state[0], f32::max);
        let mut total = V::splat(0.0);
        for lanes in lanes {
            let p = V::from_array(lanes).sub(V::splat(largest)).exp2();
            total = total.add(p);
            *lanes = p.to_array();
        }
        let [keep, ..] = V::splat(state[0] - largest).exp2().to_array();
        *state = [largest, state[1] * keep + combine(total.to_array())];
        keep
    }
}

/// Per-query inputs of the score gradients of sixteen queries.
pub(super) struct Saved {
    /// The logarithm of base 2 of Σ 2ˢ, +∞ without keys.
    pub(super) lse: [f32; LANES],
    /// do·o.
    pub(super) delta: [f32; LANES],
}

vectorised! {
    /// From scores s and do·v in `ds`: ds = p (f do·v − δ) with p = 2^(s − lse), and p f in the scores; f is 1 without dropout factors.
    pub(super) fn score_gradients<V>(scores: &mut [f32], ds: &mut [f32], ld: usize, saved: &Saved, factors: &[f32]) {
        let (lse, delta) = (V::from_array(&saved.lse), V::from_array(&saved.delta));
        let mut factors = factors.as_chunks::<LANES>().0.iter();
        for (s, ds) in scores.chunks_mut(ld).zip(ds.chunks_mut(ld)) {
            let (Some(s), Some(ds)) = (s.first_chunk_mut::<LANES>(), ds.first_chunk_mut::<LANES>()) else { continue };
            let p = V::from_array(s).sub(lse).exp2();
            let f = factors.next().map_or(V::splat(1.0), V::from_array);
            *s = p.mul(f).to_array();
            *ds = p.mul(V::from_array(ds).mul(f).sub(delta)).to_array();
        }
    }
}

simd! {
    /// Sets scores of `count` keys from `first` on to −∞ for queries whose range does not contain the key.
    pub(super) fn forbid_outside<M>(spans: &[(usize, usize); LANES], first: usize, count: usize, scores: &mut [f32], ld: usize) {
        let (mut from, mut len) = ([0; LANES], [0; LANES]);
        for ((from, len), span) in from.iter_mut().zip(&mut len).zip(spans) {
            (*from, *len) = (span.0 as u32, span.1.saturating_sub(span.0) as u32);
        }
        for (key, scores) in (first as u32..).zip(scores.chunks_mut(ld)).take(count) {
            for (score, (&from, &len)) in scores.iter_mut().zip(from.iter().zip(&len)) {
                *score = if key.wrapping_sub(from) < len { *score } else { f32::NEG_INFINITY };
            }
        }
    }
}

simd! {
    /// Sets scores to −∞ where query and key are not of one segment.
    pub(super) fn forbid_segments<M>(queries: &[i32; LANES], keys: &[i32], scores: &mut [f32], ld: usize) {
        for (&key, scores) in keys.iter().zip(scores.chunks_mut(ld)) {
            for (score, &query) in scores.iter_mut().zip(queries) {
                *score = if (query == key) & (key >= 0) { *score } else { f32::NEG_INFINITY };
            }
        }
    }
}

simd! {
    /// Whether the ranges of segment ids of queries and keys overlap: otherwise no ids are equal.
    pub(super) fn share<M>(queries: &[i32], keys: &[i32]) -> bool {
        let range = |segments: &[i32]| {
            let (mut least, mut largest) = (i32::MAX, -1);
            for &segment in segments {
                least = least.min(if segment < 0 { i32::MAX } else { segment });
                largest = largest.max(segment);
            }
            (least, largest)
        };
        let (queries, keys) = (range(queries), range(keys));
        queries.0 <= keys.1 && keys.0 <= queries.1
    }
}

vectorised! {
    /// Factors (keys, 16) of elements `first[i]`.. of the mask in column i.
    pub(super) fn dropout<V>(mask: &Mask, first: &[u64; LANES], keys: usize, factors: &mut [f32]) {
        let (rows, _) = factors.as_chunks_mut::<LANES>();
        let mut blocks = [0; LANES];
        for (block, first) in blocks.iter_mut().zip(first) {
            *block = (first / 4) as u32;
        }
        if first.iter().all(|first| first % 4 == 0) {
            for rows in rows[..keys].chunks_mut(4) {
                let drawn = mask.factors(blocks);
                rows.iter_mut().zip(drawn).for_each(|(row, drawn)| *row = drawn);
                for block in &mut blocks {
                    *block = block.wrapping_add(1);
                }
            }
            return;
        }
        // The segment starts at a different key for every query.
        for end in (4..keys + 7).step_by(4) {
            for (word, drawn) in mask.factors(blocks).iter().enumerate() {
                for (i, (&factor, first)) in drawn.iter().zip(first).enumerate() {
                    let key = (end + word).wrapping_sub(4 + (first % 4) as usize);
                    if let Some(row) = rows[..keys].get_mut(key) {
                        row[i] = factor;
                    }
                }
            }
            for block in &mut blocks {
                *block = block.wrapping_add(1);
            }
        }
    }
}
