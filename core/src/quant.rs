//! Weights in half precision and in blocks: what ggml calls `F16`, `Q8_0` and `Q4_0`, byte for byte.
//!
//! A block is 32 elements of a row. `Q8_0` (34 bytes): the scale d in half precision, then 32 signed bytes q; element = q d.
//! `Q4_0` (18 bytes): d, then 16 bytes whose low halves are elements 0 to 15 and whose high halves are 16 to 31; element = (q − 8) d.
//! A row against a row of activations is an integer product: the activations are rounded to blocks of signed bytes first.

use crate::graph::DType;
use crate::math::Real;
use crate::math::half::{from_f16, to_f16};

/// Elements of a block.
pub const BLOCK: usize = 32;
/// Bytes of a block of [`DType::Q8`].
pub const Q8_BYTES: usize = 34;
/// Bytes of a block of [`DType::Q4`].
pub const Q4_BYTES: usize = 18;

/// Writes a row of numbers in another element type: `out` takes [`DType::bytes`] of its length. Numbers and integers are left alone.
pub fn quantise_row(dtype: DType, row: &[f32], out: &mut [u8]) {
    match dtype {
        DType::F16 => {
            for (to, &x) in out.as_chunks_mut().0.iter_mut().zip(row) {
                *to = to_f16(x).to_le_bytes();
            }
        }
        DType::Q8 => {
            for (block, x) in out.as_chunks_mut().0.iter_mut().zip(row.as_chunks().0) {
                *block = q8_block(x);
            }
        }
        DType::Q4 => {
            for (block, x) in out.as_chunks_mut().0.iter_mut().zip(row.as_chunks().0) {
                *block = q4_block(x);
            }
        }
        DType::Real | DType::I32 => {}
    }
}

/// 1/d, 0 for a block of zeros.
fn inverse(d: f32) -> f32 {
    if d == 0.0 { 0.0 } else { 1.0 / d }
}

fn q8_block(x: &[f32; BLOCK]) -> [u8; Q8_BYTES] {
    let d = x.iter().fold(0.0f32, |largest, x| largest.max(x.abs())) / 127.0;
    let factor = inverse(d);
    let mut block = [0; Q8_BYTES];
    let [low, high, q @ ..] = &mut block;
    [*low, *high] = to_f16(d).to_le_bytes();
    for (q, &x) in q.iter_mut().zip(x) {
        *q = libm::roundf(x * factor) as i8 as u8;
    }
    block
}

fn q4_block(x: &[f32; BLOCK]) -> [u8; Q4_BYTES] {
    // The number farthest from 0 becomes −8, which has no positive counterpart.
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

/// Reads a row back as numbers. Numbers and integers are left alone.
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

/// Rounds a block of activations to signed bytes and gives its scale: the largest of them becomes ±127. A number that is not finite makes the scale
/// so too. Halves go to the even neighbour, which is what vector instructions do.
#[inline(always)]
pub fn quantise_activations<R: Real>(x: &[R; BLOCK], q: &mut [i8; BLOCK]) -> f32 {
    let x = x.map(|x| x.to_f64() as f32);
    // A NaN stays the largest, since nothing compares greater. Eight lanes at a time: the compiler makes vectors of them.
    let larger = |a: f32, b: f32| if b > a || b.is_nan() { b } else { a };
    let mut lanes = [0.0f32; 8];
    for x in x.as_chunks::<8>().0 {
        for (lane, x) in lanes.iter_mut().zip(x) {
            *lane = larger(*lane, x.abs());
        }
    }
    let largest = lanes.into_iter().fold(0.0, larger);
    let d = largest / 127.0;
    let factor = inverse(d);
    // The last place of numbers near 1.5·2²³ is 1: the sum rounds, and its low byte is the integer.
    const ROUNDING: f32 = 12_582_912.0;
    for (q, x) in q.iter_mut().zip(x) {
        *q = ((x * factor).clamp(-127.0, 127.0) + ROUNDING).to_bits() as i8;
    }
    d
}

/// A row of blocks against a row of activations: Σ over blocks of both scales times the integer product.
pub fn dot_blocks<R: Real>(dtype: DType, bytes: &[u8], q: &[i8], d: &[R]) -> R {
    match dtype {
        DType::Q8 => sum_blocks(bytes.as_chunks().0.iter().map(decode_q8), q, d),
        DType::Q4 => sum_blocks(bytes.as_chunks().0.iter().map(decode_q4), q, d),
        DType::F16 | DType::Real | DType::I32 => R::ZERO,
    }
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
            // Steps of the largest of a block, and of the scale's rounding to half precision.
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
