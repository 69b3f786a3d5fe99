//! Attention on threads, with tasks of heads: see `samara_core::ops::attention` for formulas, shapes and masks.
//!
//! Scores are computed in tiles of several keys and sixteen queries: a vector holds one key's scores for sixteen queries. So the softmax needs no
//! reduction across a vector, keys and values are read in place, and only the sixteen queries are transposed. Tiles that are masked for every query
//! of a block are skipped; within a tile the products skip masked ranges of rows.

mod backward;
mod few;
mod forward;
mod tile;

use samara_core::exec::{Kernel, Kernels};
use samara_core::graph::{AttentionSpec, Op};
use samara_core::ops::attention::Layout;
use samara_core::ops::dropout::Mask;

use super::block::Rows;
use super::per_task;
use super::vector::{Isa, LANES};

pub(super) fn kernels(table: Kernels<f32>) -> Kernels<f32> {
    let spec = AttentionSpec { heads: 1, kv_heads: 1, head_dim: 1, causal: false, window: 0, scale: 1.0, site: 0 };
    table
        .with(Op::Attention(spec).opcode(), Kernel { run: forward::run, scratch_len: forward::scratch_len })
        .with(Op::AttentionBackward(spec).opcode(), Kernel { run: backward::run, scratch_len: backward::scratch_len })
}

/// How the work is cut, and where things are.
#[derive(Clone, Copy)]
struct Cut<'a> {
    layout: Layout<'a>,
    heads: usize,
    kv_heads: usize,
    dim: usize,
    scale: f32,
    mask: Mask,
    isa: Isa,
}

impl<'a> Cut<'a> {
    fn new(layout: Layout<'a>, control: &[i32]) -> Self {
        let spec = layout.spec;
        Self {
            layout,
            heads: spec.heads as usize,
            kv_heads: spec.kv_heads as usize,
            dim: spec.head_dim as usize,
            scale: spec.scale as f32,
            mask: Mask::new(control, spec.site),
            isa: Isa::detect(),
        }
    }

    /// The number of tasks and of items per task, when every item takes `products` small products.
    fn tasks(&self, items: usize, products: usize) -> (usize, usize) {
        (items, per_task(items, self.layout.queries * self.layout.keys * self.dim * products / 8))
    }

    /// Rows of q (0), k (1) or v (2) from row `t` of head `h` on.
    fn rows<'x>(&self, which: usize, x: &'x [f32], b: usize, t: usize, h: usize) -> Rows<'x> {
        Rows { data: x.get(self.layout.start(which, b, t, h)..).unwrap_or_default(), ld: self.layout.row_len[which] }
    }

    /// Rows of o or its gradient (B, Tq, heads·dim) from row `t` of head `h` on.
    fn out_rows<'x>(&self, x: &'x [f32], b: usize, t: usize, h: usize) -> Rows<'x> {
        let ld = self.heads * self.dim;
        Rows { data: x.get((b * self.layout.queries + t) * ld + h * self.dim..).unwrap_or_default(), ld }
    }
}

/// Up to sixteen queries of one sequence, side by side in vectors.
struct Panel<'a> {
    cut: &'a Cut<'a>,
    b: usize,
    first: usize,
    count: usize,
    /// The keys that each query's position permits; empty for lanes beyond `count`.
    spans: [(usize, usize); LANES],
    /// The keys that position allows some query.
    reach: (usize, usize),
    /// The keys that position allows every query.
    common: (usize, usize),
    /// Segments of the queries, −1 beyond `count`.
    segments: [i32; LANES],
}

impl<'a> Panel<'a> {
    fn new(cut: &'a Cut<'a>, b: usize, first: usize) -> Self {
        let count = LANES.min(cut.layout.queries - first);
        let (mut spans, mut segments) = ([(0, 0); LANES], [-1; LANES]);
        let (mut reach, mut common) = ((usize::MAX, 0), (0, usize::MAX));
        for (i, span) in spans.iter_mut().enumerate().take(count) {
            *span = cut.layout.span(b, first + i);
            common = (common.0.max(span.0), common.1.min(span.1));
            if span.0 < span.1 {
                reach = (reach.0.min(span.0), reach.1.max(span.1));
            }
        }
        if cut.layout.has_segments() {
            let [queries, _] = cut.layout.segments;
            segments[..count].copy_from_slice(&queries[b * cut.layout.queries + first..][..count]);
        }
        Self { cut, b, first, count, spans, reach, common, segments }
    }

    /// The part of keys from..to that any query may attend to: a subrange, or `None`.
    fn seen(&self, (from, to): (usize, usize)) -> Option<(usize, usize)> {
        let (from, to) = (from.max(self.reach.0), to.min(self.reach.1));
        if from >= to {
            return None;
        }
        // Philox blocks for dropout begin at multiples of four.
        let from = from / 4 * 4;
        let seen = |keys: &[i32]| tile::share(&self.segments[..self.count], keys);
        (!self.cut.layout.has_segments() || seen(self.key_segments((from, to)))).then_some((from, to))
    }

    fn key_segments(&self, (from, to): (usize, usize)) -> &'a [i32] {
        let [_, keys] = self.cut.layout.segments;
        &keys[self.b * self.cut.layout.keys + from..][..to - from]
    }

    /// Sets masked scores (keys, `ld`) of keys from..to to −∞.
    fn forbid(&self, (from, to): (usize, usize), scores: &mut [f32], ld: usize) {
        let before = self.common.0.clamp(from, to);
        let after = self.common.1.clamp(before, to);
        for (first, end) in [(from, before), (after, to)] {
            if first < end {
                tile::forbid_outside(&self.spans, first, end - first, &mut scores[(first - from) * ld..], ld);
            }
        }
        if self.cut.layout.has_segments() {
            tile::forbid_segments(&self.segments, self.key_segments((from, to)), scores, ld);
        }
    }

    /// Dropout factors (keys, 16) for head `h` and keys from..to; empty without dropout.
    fn factors<'x>(&self, h: usize, (from, to): (usize, usize), factors: &'x mut [f32]) -> &'x [f32] {
        let layout = &self.cut.layout;
        if self.cut.mask.is_off() {
            return &[];
        }
        let elements = std::array::from_fn(|i| layout.element(self.b, h, self.first + i, from));
        tile::dropout(self.cut.isa, &self.cut.mask, &elements, to - from, factors);
        &factors[..(to - from) * LANES]
    }
}

/// Ranges of `len` keys, aligned to multiples of `len`, that cover keys from..to.
fn key_tiles((from, to): (usize, usize), len: usize) -> impl Iterator<Item = (usize, usize)> {
    (from / len..to.div_ceil(len)).map(move |i| (i * len, (i + 1) * len))
}

/// A span of keys, counted from the beginning of a tile.
fn within(span: (usize, usize), (from, to): (usize, usize)) -> (usize, usize) {
    (span.0.clamp(from, to) - from, span.1.clamp(from, to) - from)
}
