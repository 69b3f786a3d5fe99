//! A weight of any element type, as linear layers, heads and embeddings read it.

use super::{copy, part, part_mut};
use crate::exec::Views;
use crate::graph::{DType, Node};
use crate::math::Real;
use crate::math::half::from_f16;
use crate::quant::{BLOCK, PAIRS, Pairs, dots_of_blocks, quantise_to_pairs, read_row};
use crate::rows::{ROWS, four_rows, store};

/// An input (N, K) of a node.
#[derive(Clone, Copy)]
pub struct Weight<'a, R> {
    /// How elements are stored.
    pub dtype: DType,
    /// Rows N, for a weight of type `R`.
    pub real: &'a [R],
    /// Rows N otherwise.
    pub bytes: &'a [u8],
    /// K.
    pub cols: usize,
}

impl<'a, R: Real> Weight<'a, R> {
    /// Input `i` of a node.
    pub fn new(node: &Node<'_>, views: &Views<'a, R>, i: usize) -> Self {
        Self {
            dtype: dtype(node, i),
            real: views.inputs.get(i).copied().unwrap_or(&[]),
            bytes: views.bytes.get(i).copied().unwrap_or(&[]),
            cols: node.input_shape(i).cols(),
        }
    }

    /// Bytes of a row.
    fn row_len(&self) -> usize {
        self.dtype.bytes(self.cols, size_of::<R>()).unwrap_or(0)
    }

    /// Row `j` in bytes.
    pub fn row_bytes(&self, j: usize) -> &'a [u8] {
        let len = self.row_len();
        part(self.bytes, j.wrapping_mul(len), len)
    }

    /// Copies row `j`.
    pub fn read_row(&self, j: usize, to: &mut [R]) {
        match self.dtype {
            DType::Real | DType::I32 => copy(to, part(self.real, j.wrapping_mul(self.cols), self.cols)),
            DType::F16 | DType::Q8 | DType::Q4 => read_row(self.dtype, self.row_bytes(j), to),
        }
    }

    /// Row `j` as `R` values (K): borrowed, or dequantised into `scratch`, of which [`row_scratch_len`] elements are used.
    pub fn row<'s>(&self, j: usize, scratch: &'s mut [R]) -> &'s [R]
    where
        'a: 's,
    {
        match self.dtype {
            DType::Real | DType::I32 => part(self.real, j.wrapping_mul(self.cols), self.cols),
            DType::F16 | DType::Q8 | DType::Q4 => {
                let to = part_mut(scratch, 0, self.cols);
                read_row(self.dtype, self.row_bytes(j), to);
                to
            }
        }
    }

    /// Prepares a row of activations (K) for [`Self::dot`]; `scratch` has [`scratch_len`] elements.
    pub fn prepare<'s>(&self, x: &'s [R], scratch: &'s mut [R]) -> Row<'s, R> {
        let Some((d, q)) = scratch.split_at_mut_checked(x.len() / BLOCK).filter(|_| is_blocks(self.dtype)) else {
            return Row { x, q: &[], d: &[] };
        };
        let q: &mut [i32] = bytemuck::try_cast_slice_mut(q).unwrap_or(&mut []);
        let q = q.as_chunks_mut().0;
        for ((x, q), d) in x.as_chunks().0.iter().zip(q.iter_mut()).zip(d.iter_mut()) {
            *d = R::from_f64(f64::from(quantise_to_pairs(x, q)));
        }
        Row { x, q, d }
    }

    /// The products of rows `j`, `j + 1`, … with a row of activations, one per element of `out`.
    pub fn dots(&self, j: usize, row: &Row<'_, R>, out: &mut [R]) {
        match self.dtype {
            DType::Real | DType::I32 => dots(row.x, self.real.get(j.wrapping_mul(self.cols)..).unwrap_or(&[]), out),
            DType::F16 => out.iter_mut().zip(j..).for_each(|(out, j)| *out = dot_f16(row.x, self.row_bytes(j))),
            DType::Q8 | DType::Q4 => {
                let len = self.row_len();
                dots_of_blocks(self.dtype, self.bytes.get(j.wrapping_mul(len)..).unwrap_or(&[]), len, row.q, row.d, out);
            }
        }
    }

    /// Row `j` times a row of activations.
    pub fn dot(&self, j: usize, row: &Row<'_, R>) -> R {
        let mut out = [R::ZERO];
        self.dots(j, row, &mut out);
        let [dot] = out;
        dot
    }
}

/// A row of activations: unchanged, or quantised for a quantised weight.
#[derive(Clone, Copy)]
pub struct Row<'s, R> {
    x: &'s [R],
    q: &'s [Pairs],
    d: &'s [R],
}

/// Σ xᵢ wᵢ from left to right.
fn dot_f16<R: Real>(x: &[R], w: &[u8]) -> R {
    let w = w.as_chunks().0.iter().map(|&bits| from_f16(u16::from_le_bytes(bits)));
    x.iter().zip(w).fold(R::ZERO, |sum, (&x, w)| sum + x * R::from_f64(f64::from(w)))
}

/// Σ xᵢ wᵢ, each from left to right, for `out.len()` rows w.
///
/// The inner loop is hand-unrolled, because at `opt-level = "s"` compilers keep small loops, and a separate function, so that its sums stay in
/// registers.
#[inline(never)]
fn dots<R: Real>(x: &[R], w: &[R], out: &mut [R]) {
    const STEP: usize = 16;
    let add = |sum: R, x: &[R; STEP], w: &[R; STEP]| {
        let [x0, x1, x2, x3, x4, x5, x6, x7, x8, x9, xa, xb, xc, xd, xe, xf] = *x;
        let [w0, w1, w2, w3, w4, w5, w6, w7, w8, w9, wa, wb, wc, wd, we, wf] = *w;
        let sum = sum + x0 * w0 + x1 * w1 + x2 * w2 + x3 * w3 + x4 * w4 + x5 * w5 + x6 * w6 + x7 * w7;
        sum + x8 * w8 + x9 * w9 + xa * wa + xb * wb + xc * wc + xd * wd + xe * we + xf * wf
    };
    let (steps, x_rest) = x.as_chunks::<STEP>();
    let mut w = w;
    for out in out.chunks_mut(ROWS) {
        let Some(([a, b, c, d], rest)) = four_rows(w, x.len()) else { return };
        let ((a, a_rest), (b, b_rest)) = (a.as_chunks(), b.as_chunks());
        let ((c, c_rest), (d, d_rest)) = (c.as_chunks(), d.as_chunks());
        let [mut s0, mut s1, mut s2, mut s3] = [R::ZERO; ROWS];
        for ((((x, a), b), c), d) in steps.iter().zip(a).zip(b).zip(c).zip(d) {
            (s0, s1, s2, s3) = (add(s0, x, a), add(s1, x, b), add(s2, x, c), add(s3, x, d));
        }
        for ((((&x, &a), &b), &c), &d) in x_rest.iter().zip(a_rest).zip(b_rest).zip(c_rest).zip(d_rest) {
            (s0, s1, s2, s3) = (s0 + x * a, s1 + x * b, s2 + x * c, s3 + x * d);
        }
        store(out, [s0, s1, s2, s3]);
        w = rest;
    }
}

/// The element type of input `i`.
pub fn dtype(node: &Node<'_>, i: usize) -> DType {
    node.input(i).map_or(DType::Real, |t| t.dtype)
}

/// Elements of scratch for a dequantised row of input `i`: 0 if it is of type `R`.
pub fn row_scratch_len(node: &Node<'_>, i: usize) -> usize {
    if dtype(node, i) == DType::Real { 0 } else { node.input_shape(i).cols() }
}

/// Whether rows are quantised.
pub fn is_blocks(dtype: DType) -> bool {
    matches!(dtype, DType::Q8 | DType::Q4)
}

/// Elements of scratch for a row of activations against input `i`: a scale per quantisation block, and its values as [`Pairs`].
pub fn scratch_len(node: &Node<'_>, i: usize) -> usize {
    let k = node.input_shape(i).cols();
    if is_blocks(dtype(node, i)) { k / BLOCK * (1 + PAIRS) } else { 0 }
}

#[cfg(test)]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rows_together_have_the_bits_of_rows_alone(k in 0usize..70, n in 1usize..11, first in 0usize..3, scale in -3i32..20) {
            let numbers = |len: usize| (0..len).map(|i| (i as f32 * 0.7).sin() * 2f32.powi(scale)).collect::<Vec<_>>();
            let (x, w) = (numbers(k), numbers((first + n) * k));
            let weight = Weight { dtype: DType::Real, real: &w, bytes: &[], cols: k };
            let mut out = vec![f32::NAN; n];
            weight.dots(first, &weight.prepare(&x, &mut []), &mut out);
            for (j, found) in out.into_iter().enumerate() {
                let expected = super::super::dot(&x, &w[(first + j) * k..][..k]);
                prop_assert_eq!(found.to_bits(), expected.to_bits());
            }
        }
    }
}
