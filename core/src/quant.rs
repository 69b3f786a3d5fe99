//! Weights in half precision and in quantisation blocks: ggml's `F16`, `Q8_0` and `Q4_0`, byte for byte.
//!
//! A quantisation block is 32 elements of a row. `Q8_0` (34 bytes): the scale d in half precision, then 32 signed bytes q; element = q d. `Q4_0` (18
//! bytes): d, then 16 bytes whose low nibbles are elements 0 to 15 and whose high nibbles are 16 to 31; element = (q − 8) d. The dot product with a
//! row of activations is computed in integers: the activations are rounded to blocks of signed bytes first.

use crate::dtype::DType;
use crate::math::Real;
use crate::math::half::{from_f16, to_f16};
use crate::rows::{ROWS, four_rows, store};

/// Elements of a quantisation block.
pub const BLOCK: usize = 32;
/// Bytes of a quantisation block of [`DType::Q8`].
pub const Q8_BYTES: usize = 34;
/// Bytes of a quantisation block of [`DType::Q4`].
pub const Q4_BYTES: usize = 18;

/// Converts a row of f32 values to another element type: `out` takes [`DType::bytes`] of its length. No effect for [`DType::Real`] and
/// [`DType::I32`].
pub fn quantise_row(dtype: DType, row: &[f32], out: &mut [u8]) {
    match dtype {
        DType::F16 => f16_row(row, out),
        DType::Q8 => q8_row(row, out),
        DType::Q4 => {
            for (block, x) in out.as_chunks_mut().0.iter_mut().zip(row.as_chunks().0) {
                *block = q4_block(x);
            }
        }
        DType::Real | DType::I32 => {}
    }
}

/// A row in half precision.
pub(crate) fn f16_row(row: &[f32], out: &mut [u8]) {
    for (to, &x) in out.as_chunks_mut().0.iter_mut().zip(row) {
        *to = to_f16(x).to_le_bytes();
    }
}

/// A row as quantisation blocks of signed bytes.
pub(crate) fn q8_row(row: &[f32], out: &mut [u8]) {
    for (block, x) in out.as_chunks_mut().0.iter_mut().zip(row.as_chunks().0) {
        q8_block(x, block);
    }
}

/// 1/d, 0 for a block of zeros.
fn inverse(d: f32) -> f32 {
    if d == 0.0 { 0.0 } else { 1.0 / d }
}

fn q8_block(x: &[f32; BLOCK], block: &mut [u8; Q8_BYTES]) {
    let d = x.iter().fold(0.0f32, |largest, x| largest.max(x.abs())) / 127.0;
    let factor = inverse(d);
    let [low, high, q @ ..] = block;
    [*low, *high] = to_f16(d).to_le_bytes();
    for (q, &x) in q.iter_mut().zip(x) {
        *q = libm::roundf(x * factor) as i8 as u8;
    }
}

fn q4_block(x: &[f32; BLOCK]) -> [u8; Q4_BYTES] {
    // The value farthest from 0 becomes −8, which has no positive counterpart.
    let extreme = x.iter().fold(0.0f32, |extreme, &x| if x.abs() > extreme.abs() { x } else { extreme });
    let d = extreme / -8.0;
    let factor = f64::from(inverse(d));
    // ggml rounds once, with a fused multiply-add: the product is exact here.
    let nibble = |x: f32| ((f64::from(x) * factor + 8.5) as u8).min(15);
    let mut block = [0; Q4_BYTES];
    let [low, high, q @ ..] = &mut block;
    [*low, *high] = to_f16(d).to_le_bytes();
    let (first, second) = x.as_chunks::<16>().0.split_at_checked(1).unwrap_or_default();
    for (q, (&a, &b)) in q.iter_mut().zip(first.as_flattened().iter().zip(second.as_flattened())) {
        *q = nibble(a) | nibble(b) << 4;
    }
    block
}

/// The scale of a block and its 32 signed integers.
#[inline(always)]
pub fn decode_q8(block: &[u8; Q8_BYTES]) -> (f32, [i8; BLOCK]) {
    let [low, high, bytes @ ..] = block;
    (from_f16(u16::from_le_bytes([*low, *high])), bytes.map(|q| q as i8))
}

/// The scale of a block and its 32 signed integers.
#[inline(always)]
pub fn decode_q4(block: &[u8; Q4_BYTES]) -> (f32, [i8; BLOCK]) {
    let [low, high, bytes @ ..] = block;
    let mut q = [0; BLOCK];
    for (q, &byte) in q.iter_mut().zip(bytes) {
        *q = (byte & 15) as i8 - 8;
    }
    for (q, &byte) in q.iter_mut().skip(16).zip(bytes) {
        *q = (byte >> 4) as i8 - 8;
    }
    (from_f16(u16::from_le_bytes([*low, *high])), q)
}

/// Converts a row to f32. No effect for [`DType::Real`] and [`DType::I32`].
#[inline(always)]
pub fn dequantise_row<R: Real>(dtype: DType, bytes: &[u8], out: &mut [R]) {
    let scaled = |to: &mut [R; BLOCK], (d, q): (f32, [i8; BLOCK])| {
        for (to, q) in to.iter_mut().zip(q) {
            *to = R::from_f64(f64::from(d * f32::from(q)));
        }
    };
    match dtype {
        DType::F16 => {
            for (to, &bits) in out.iter_mut().zip(bytes.as_chunks().0) {
                *to = R::from_f64(f64::from(from_f16(u16::from_le_bytes(bits))));
            }
        }
        DType::Q8 => {
            out.as_chunks_mut().0.iter_mut().zip(bytes.as_chunks().0).for_each(|(to, block)| scaled(to, decode_q8(block)))
        }
        DType::Q4 => {
            out.as_chunks_mut().0.iter_mut().zip(bytes.as_chunks().0).for_each(|(to, block)| scaled(to, decode_q4(block)))
        }
        DType::Real | DType::I32 => {}
    }
}

/// [`dequantise_row`] not inlined, for callers that prefer small code to fast code.
#[inline(never)]
pub(crate) fn read_row<R: Real>(dtype: DType, bytes: &[u8], out: &mut [R]) {
    dequantise_row(dtype, bytes, out);
}

/// Rounds a block of activations to signed bytes and returns its scale: the largest magnitude becomes ±127. A value that is not finite makes the
/// scale non-finite. Ties round to even, as vector instructions do.
#[inline(always)]
pub fn quantise_activations<R: Real>(x: &[R; BLOCK], q: &mut [i8; BLOCK]) -> f32 {
    let x = x.map(|x| x.to_f64() as f32);
    // Eight lanes at a time: the compiler makes vectors of them.
    let mut lanes = [0.0f32; 8];
    for x in x.as_chunks::<8>().0 {
        for (lane, x) in lanes.iter_mut().zip(x) {
            *lane = larger(*lane, x.abs());
        }
    }
    let d = lanes.into_iter().fold(0.0, larger) / 127.0;
    let factor = inverse(d);
    for (q, x) in q.iter_mut().zip(x) {
        *q = round(x * factor);
    }
    d
}

/// The larger of two values. A NaN stays, since nothing compares greater.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if b > a || b.is_nan() { b } else { a }
}

/// The nearest signed byte, but -128.
#[inline(always)]
fn round(x: f32) -> i8 {
    // The unit in the last place of f32 values near 1.5·2²³ is 1: the sum rounds, and its low byte is the integer.
    const ROUNDING: f32 = 12_582_912.0;
    (x.clamp(-127.0, 127.0) + ROUNDING).to_bits() as i8
}

/// The dot product of a quantised row and a quantised row of activations: Σ over blocks of both scales times the integer product.
pub fn dot_blocks<R: Real>(dtype: DType, bytes: &[u8], q: &[i8], d: &[R]) -> R {
    match dtype {
        DType::Q8 => sum_blocks(bytes.as_chunks().0.iter().map(decode_q8), q, d),
        DType::Q4 => sum_blocks(bytes.as_chunks().0.iter().map(decode_q4), q, d),
        DType::F16 | DType::Real | DType::I32 => R::ZERO,
    }
}

/// A block of activations for [`dots_of_blocks`]: the low half of word i is element 2i, the high half element 2i + 1, both signed; the last word is
/// the sum of all.
pub type Pairs = [i32; PAIRS];
/// Words of [`Pairs`].
pub const PAIRS: usize = BLOCK / 2 + 1;

/// What [`quantise_activations`] does, one value at a time.
pub fn quantise_to_pairs<R: Real>(x: &[R; BLOCK], pairs: &mut Pairs) -> f32 {
    let number = |x: R| x.to_f64() as f32;
    let d = x.iter().fold(0.0, |largest, &x| larger(largest, number(x).abs())) / 127.0;
    let factor = inverse(d);
    let [pairs @ .., sum] = pairs;
    *sum = 0;
    for (pair, &[low, high]) in pairs.iter_mut().zip(x.as_chunks().0) {
        let (low, high) = (i32::from(round(number(low) * factor)), i32::from(round(number(high) * factor)));
        *pair = low & 0xffff | high << 16;
        *sum += low + high;
    }
    d
}

/// [`dot_blocks`] of `out.len()` rows of `row_len` bytes, with the same bits.
pub fn dots_of_blocks<R: Real>(dtype: DType, rows: &[u8], row_len: usize, q: &[Pairs], d: &[R], out: &mut [R]) {
    match dtype {
        DType::Q8 => sums_of_blocks(rows, row_len, q, d, out, q8_products),
        DType::Q4 => sums_of_blocks(rows, row_len, q, d, out, q4_products),
        DType::F16 | DType::Real | DType::I32 => out.fill(R::ZERO),
    }
}

/// The integer products of four blocks with a block of activations.
type Products<const N: usize> = fn(&[u8; N], &[u8; N], &[u8; N], &[u8; N], &Pairs) -> [i32; ROWS];

/// What [`sum_blocks`] does, for four rows of blocks of `N` bytes at a time.
///
/// This and the products are hand-unrolled, because at `opt-level = "s"` compilers keep small loops and arrays.
fn sums_of_blocks<R: Real, const N: usize>(
    rows: &[u8],
    row_len: usize,
    q: &[Pairs],
    d: &[R],
    out: &mut [R],
    products: Products<N>,
) {
    let mut rows = rows;
    let add = |sum: R, block: &[u8; N], d: R, product: i32| {
        let scale = block.first_chunk().map_or(0.0, |&bits| from_f16(u16::from_le_bytes(bits)));
        sum + R::from_f64(f64::from(scale)) * d * R::from_f64(f64::from(product))
    };
    for out in out.chunks_mut(ROWS) {
        let Some(([a, b, c, e], rest)) = four_rows(rows, row_len) else { return };
        let (a, b, c, e) = (a.as_chunks::<N>().0, b.as_chunks::<N>().0, c.as_chunks::<N>().0, e.as_chunks::<N>().0);
        let [mut s0, mut s1, mut s2, mut s3] = [R::ZERO; ROWS];
        for (((((a, b), c), e), q), &d) in a.iter().zip(b).zip(c).zip(e).zip(q).zip(d) {
            let [p0, p1, p2, p3] = products(a, b, c, e, q);
            (s0, s1, s2, s3) = (add(s0, a, d, p0), add(s1, b, d, p1), add(s2, c, d, p2), add(s3, e, d, p3));
        }
        store(out, [s0, s1, s2, s3]);
        rows = rest;
    }
}

/// The two elements of a pair.
#[inline(always)]
fn unpack(pair: i32) -> (i32, i32) {
    (i32::from(pair as i16), pair >> 16)
}

/// The integer products of four blocks of [`DType::Q8`] with a block of activations.
#[inline(never)]
fn q8_products(a: &[u8; Q8_BYTES], b: &[u8; Q8_BYTES], c: &[u8; Q8_BYTES], d: &[u8; Q8_BYTES], q: &Pairs) -> [i32; ROWS] {
    let add = |sum: i32, [q0, q1, q2, q3]: &[i32; 4], [w0, w1, w2, w3, w4, w5, w6, w7]: &[u8; 8]| {
        let two = |q: i32, w0: u8, w1: u8| unpack(q).0 * i32::from(w0 as i8) + unpack(q).1 * i32::from(w1 as i8);
        sum + two(*q0, *w0, *w1) + two(*q1, *w2, *w3) + two(*q2, *w4, *w5) + two(*q3, *w6, *w7)
    };
    let ([_, _, a @ ..], [_, _, b @ ..], [_, _, c @ ..], [_, _, d @ ..], [q @ .., _]) = (a, b, c, d, q);
    let (a, b, c, d) = (a.as_chunks().0, b.as_chunks().0, c.as_chunks().0, d.as_chunks().0);
    let [mut s0, mut s1, mut s2, mut s3] = [0; ROWS];
    for ((((q, a), b), c), d) in q.as_chunks().0.iter().zip(a).zip(b).zip(c).zip(d) {
        (s0, s1, s2, s3) = (add(s0, q, a), add(s1, q, b), add(s2, q, c), add(s3, q, d));
    }
    [s0, s1, s2, s3]
}

/// The integer products of four blocks of [`DType::Q4`] with a block of activations: Σ (n − 8) q = Σ n q − 8 Σ q.
#[inline(never)]
fn q4_products(a: &[u8; Q4_BYTES], b: &[u8; Q4_BYTES], c: &[u8; Q4_BYTES], d: &[u8; Q4_BYTES], q: &Pairs) -> [i32; ROWS] {
    let add = |sum: i32, [l0, l1]: &[i32; 2], [h0, h1]: &[i32; 2], w: &[u8; 4]| {
        let w = u32::from_le_bytes(*w);
        let two = |q: i32, shift: u32| unpack(q).0 * (w >> shift & 15) as i32 + unpack(q).1 * (w >> (shift + 8) & 15) as i32;
        sum + two(*l0, 0) + two(*l1, 16) + two(*h0, 4) + two(*h1, 20)
    };
    let ([_, _, a @ ..], [_, _, b @ ..], [_, _, c @ ..], [_, _, d @ ..], [q @ .., all]) = (a, b, c, d, q);
    let (a, b, c, d) = (a.as_chunks().0, b.as_chunks().0, c.as_chunks().0, d.as_chunks().0);
    let (low, high) = q.as_chunks().0.split_at_checked(BLOCK / 8).unwrap_or_default();
    let [mut s0, mut s1, mut s2, mut s3] = [0; ROWS];
    for (((((low, high), a), b), c), d) in low.iter().zip(high).zip(a).zip(b).zip(c).zip(d) {
        (s0, s1) = (add(s0, low, high, a), add(s1, low, high, b));
        (s2, s3) = (add(s2, low, high, c), add(s3, low, high, d));
    }
    [s0 - 8 * all, s1 - 8 * all, s2 - 8 * all, s3 - 8 * all]
}

fn sum_blocks<R: Real>(weights: impl Iterator<Item = (f32, [i8; BLOCK])>, q: &[i8], d: &[R]) -> R {
    let mut sum = R::ZERO;
    for ((scale, weights), (q, &d)) in weights.zip(q.as_chunks::<BLOCK>().0.iter().zip(d)) {
        let product: i32 = weights.iter().zip(q).map(|(&w, &q)| i32::from(w) * i32::from(q)).sum();
        sum += R::from_f64(f64::from(scale)) * d * R::from_f64(f64::from(product));
    }
    sum
}

#[cfg(test)]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    fn there_and_back(dtype: DType, row: &[f32]) -> Vec<f32> {
        let mut bytes = vec![0; dtype.bytes(row.len(), 4).unwrap()];
        quantise_row(dtype, row, &mut bytes);
        let mut out = vec![f32::NAN; row.len()];
        dequantise_row(dtype, &bytes, &mut out);
        out
    }

    proptest! {
        #[test]
        fn a_row_comes_back_within_half_a_step(row in prop::collection::vec(-100.0f32..100.0, 96), scale in -5i32..8) {
            let row: Vec<f32> = row.iter().map(|x| x * 2f32.powi(scale)).collect();
            // Steps of the block's largest magnitude, and of the scale's rounding to half precision.
            for (dtype, step) in [(DType::Q8, 0.5 / 127.0 + 1e-3), (DType::Q4, 1.0 / 8.0 + 1e-3), (DType::F16, 5e-4)] {
                let back = there_and_back(dtype, &row);
                for (block, back) in row.chunks(BLOCK).zip(back.chunks(BLOCK)) {
                    let largest = block.iter().fold(0.0f32, |m, x| m.max(x.abs()));
                    for (x, y) in block.iter().zip(back) {
                        prop_assert!((x - y).abs() <= step * largest + 1e-6, "{dtype:?}: {x} came back as {y}");
                    }
                }
            }
        }

        #[test]
        fn an_integer_product_is_that_of_the_numbers_read_back(
            row in prop::collection::vec(-2.0f32..2.0, 64), x in prop::collection::vec(-3.0f64..3.0, 64),
        ) {
            for dtype in [DType::Q8, DType::Q4] {
                let mut bytes = vec![0; dtype.bytes(64, 4).unwrap()];
                quantise_row(dtype, &row, &mut bytes);
                let mut q = vec![0i8; 64];
                let d: Vec<f64> = x
                    .as_chunks()
                    .0
                    .iter()
                    .zip(q.as_chunks_mut().0)
                    .map(|(x, q)| f64::from(quantise_activations(x, q)))
                    .collect();
                let rounded = q.iter().enumerate().map(|(i, &q)| f64::from(q) * d[i / BLOCK]);
                let mut weights = vec![0.0f64; 64];
                dequantise_row(dtype, &bytes, &mut weights);
                let expected: f64 = rounded.zip(&weights).map(|(x, w)| x * w).sum();
                prop_assert!((dot_blocks(dtype, &bytes, &q, &d) - expected).abs() < 1e-4);
            }
        }
    }

    proptest! {
        #[test]
        fn rows_together_have_the_bits_of_rows_alone(
            row in prop::collection::vec(-2.0f32..2.0, 64 * 9), x in prop::collection::vec(-3.0f32..3.0, 64), n in 1usize..10,
        ) {
            for dtype in [DType::Q8, DType::Q4] {
                let row_len = dtype.bytes(64, 4).unwrap();
                let mut bytes = vec![0; 9 * row_len];
                quantise_row(dtype, &row, &mut bytes);
                let (mut q, mut pairs, mut d) = (vec![0i8; 64], [[0; PAIRS]; 2], [0.0f32; 2]);
                for (i, x) in x.as_chunks().0.iter().enumerate() {
                    d[i] = quantise_activations(x, &mut q.as_chunks_mut().0[i]);
                    prop_assert_eq!(quantise_to_pairs(x, &mut pairs[i]).to_bits(), d[i].to_bits());
                }
                let mut out = vec![f32::NAN; n];
                dots_of_blocks(dtype, &bytes, row_len, &pairs, &d, &mut out);
                for (j, found) in out.into_iter().enumerate() {
                    prop_assert_eq!(found.to_bits(), dot_blocks(dtype, &bytes[j * row_len..][..row_len], &q, &d).to_bits());
                }
            }
        }
    }

    #[test]
    fn zeros_and_what_is_not_finite() {
        for dtype in [DType::Q8, DType::Q4, DType::F16] {
            assert!(there_and_back(dtype, &[0.0; BLOCK]).iter().all(|&x| x == 0.0));
        }
        let mut q = [0; BLOCK];
        assert_eq!(quantise_activations(&[0.0f32; BLOCK], &mut q), 0.0);
        let mut x = [1.0f32; BLOCK];
        x[3] = f32::NAN;
        assert!(quantise_activations(&x, &mut q).is_nan());
        x[3] = f32::INFINITY;
        assert!(!quantise_activations(&x, &mut q).is_finite());
        // So small that 1/d is infinite.
        assert!(quantise_activations(&[1e-40f32; BLOCK], &mut q) >= 0.0 && q == [127; BLOCK]);
    }
}
