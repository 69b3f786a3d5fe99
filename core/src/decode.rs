//! Sampling the next token from a row of logits.
//!
//! Probabilities are summed and drawn as integers: sums are exact, the same random bits give the same token on every machine, and devices link no
//! double-precision code for it.

use crate::math::fast;
use crate::math::sort::heap_sort;

/// How a token is sampled. The filters apply in the order of the fields, as in Hugging Face's `generate`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 takes the largest logit (the first of equals).
    pub temperature: f32,
    /// Keeps the k largest logits and ties with the k-th; 0 keeps all.
    pub top_k: usize,
    /// Keeps the most probable tokens up to and including the one with which their cumulative probability reaches p; 1 keeps all.
    pub top_p: f32,
    /// Keeps tokens whose probability is at least this fraction of the largest; 0 keeps all.
    pub min_p: f32,
}

impl Sampling {
    /// Always the largest logit.
    pub const GREEDY: Self = Self { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0 };
}

/// The index of the largest value, the first of equals; 0 for an empty row.
pub fn argmax(row: &[f32]) -> usize {
    let largest = |best: (usize, f32), (i, &x): (usize, &f32)| if x > best.1 { (i, x) } else { best };
    row.iter().enumerate().fold((0, f32::NEG_INFINITY), largest).0
}

/// Samples a token id. `logits` (V) is overwritten by probabilities relative to the largest, `order` (V) is scratch, `bits` are 64 uniform random
/// bits.
pub fn sample(logits: &mut [f32], order: &mut [u32], sampling: &Sampling, bits: u64) -> usize {
    if sampling.temperature <= 0.0 {
        return argmax(logits);
    }
    let best = argmax(logits);
    let max = logits.get(best).copied().unwrap_or(0.0);
    let scale = 1.0 / sampling.temperature;
    for z in logits.iter_mut() {
        *z = fast::exp((*z - max) * scale);
    }
    // Probabilities relative to the best token: temperature and softmax keep the order, so the filters can work on them.
    if sampling.top_k > 0 || sampling.top_p < 1.0 {
        filter(logits, order, sampling);
    }
    for p in logits.iter_mut().filter(|p| **p < sampling.min_p) {
        *p = 0.0;
    }
    let mut left = share(logits.iter().map(|&p| weight(p)).sum(), bits);
    for (i, &p) in logits.iter().enumerate() {
        match left.checked_sub(weight(p)) {
            Some(rest) => left = rest,
            None => return i,
        }
    }
    best
}

/// A relative probability in fixed point, 2³⁰ for the most probable token, so that sums are exact and the same draw gives the same token on every
/// machine.
fn weight(p: f32) -> u64 {
    const ONE: f32 = (1 << 30) as f32;
    u64::from((p * ONE) as u32)
}

/// ⌊`total` · `bits` / 2⁶⁴⌋.
fn share(total: u64, bits: u64) -> u64 {
    ((u128::from(total) * u128::from(bits)) >> 64) as u64
}

/// The k-th largest of non-negative values, 0 with fewer than k.
fn kth_largest(p: &[f32], k: usize) -> f32 {
    const DIGIT: u32 = 4;
    // Non-negative floats are ordered like their bit patterns: a radix selection finds the k-th largest digit by digit, among the values that agree
    // in the digits before. It takes one pass per digit for any input, where sorting takes many more.
    let (mut bits, mut left) = (0u32, k);
    for shift in (0..u32::BITS).step_by(DIGIT as usize).rev() {
        let mut counts = [0usize; 1 << DIGIT];
        // A value that differs in an earlier digit yields a digit too large to be counted. Zeros need not be counted: 0 is also the result when
        // nothing is left.
        for p in p.iter().filter(|p| **p > 0.0) {
            if let Some(count) = counts.get_mut(((p.to_bits() ^ bits) >> shift) as usize) {
                *count += 1;
            }
        }
        let mut found = None;
        for (digit, &count) in counts.iter().enumerate().rev() {
            if count >= left {
                found = Some(digit as u32);
                break;
            }
            left = left.wrapping_sub(count);
        }
        let Some(digit) = found else { return 0.0 };
        bits |= digit << shift;
    }
    f32::from_bits(bits)
}

/// Zeroes the tokens that top-k and top-p drop.
fn filter(p: &mut [f32], order: &mut [u32], sampling: &Sampling) {
    if sampling.top_k > 0 {
        let least = kth_largest(p, sampling.top_k);
        p.iter_mut().filter(|p| **p < least).for_each(|p| *p = 0.0);
    }
    if sampling.top_p >= 1.0 {
        return;
    }
    let total: u64 = p.iter().map(|&p| weight(p)).sum();
    // The probability mass that top-p keeps, in 2⁻²⁴ of the total.
    let kept = share(total, ((sampling.top_p.max(0.0) * 16_777_216.0) as u64) << 40);
    // All values below `least` together do not reach the mass that top-p drops: they are dropped without sorting.
    let least = (1.0 - sampling.top_p) * p.iter().sum::<f32>() / (2 * p.len().max(1)) as f32;
    p.iter_mut().filter(|p| **p < least).for_each(|p| *p = 0.0);
    let mut count = 0;
    for ((i, _), to) in p.iter().enumerate().filter(|(_, p)| **p > 0.0).zip(order.iter_mut()) {
        *to = i as u32;
        count += 1;
    }
    let order = order.get_mut(..count).unwrap_or(&mut []);
    let probability = |p: &[f32], i: u32| p.get(i as usize).copied().unwrap_or(0.0);
    heap_sort(order, &|i| (-probability(p, i), i));
    let mut before = 0;
    for &i in order.iter() {
        let Some(p) = p.get_mut(i as usize) else { continue };
        let own = weight(*p);
        if before >= kept && before > 0 {
            *p = 0.0;
        }
        before += own;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn frequencies(logits: &[f32], sampling: Sampling) -> Vec<f64> {
        let n = 20_000u32;
        let mut counts = std::vec![0.0; logits.len()];
        for i in 0..n {
            let mut row = logits.to_vec();
            let mut order = std::vec![0; row.len()];
            counts[sample(&mut row, &mut order, &sampling, (((2 * i as u128 + 1) << 63) / n as u128) as u64)] +=
                1.0 / f64::from(n);
        }
        counts
    }

    fn close(found: &[f64], expected: &[f64]) {
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 2e-4), "{found:?} {expected:?}");
    }

    const ALL: Sampling = Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0 };

    fn logits() -> Vec<f32> {
        [0.1f32, 0.4, 0.2, 0.3].iter().map(|p| p.ln()).collect()
    }

    #[test]
    fn follows_the_distribution() {
        close(&frequencies(&logits(), ALL), &[0.1, 0.4, 0.2, 0.3]);
        let squared = frequencies(&logits(), Sampling { temperature: 0.5, ..ALL });
        close(&squared, &[0.01 / 0.3, 0.16 / 0.3, 0.04 / 0.3, 0.09 / 0.3]);
    }

    #[test]
    fn filters() {
        close(&frequencies(&logits(), Sampling { top_k: 2, ..ALL }), &[0.0, 4.0 / 7.0, 0.0, 3.0 / 7.0]);
        close(&frequencies(&logits(), Sampling { top_p: 0.5, ..ALL }), &[0.0, 4.0 / 7.0, 0.0, 3.0 / 7.0]);
        close(&frequencies(&logits(), Sampling { top_p: 0.0, ..ALL }), &[0.0, 1.0, 0.0, 0.0]);
        close(&frequencies(&logits(), Sampling { min_p: 0.6, ..ALL }), &[0.0, 4.0 / 7.0, 0.0, 3.0 / 7.0]);
        // Ties of the k-th are kept.
        close(&frequencies(&[0.0, 0.0, 0.0, -1.0], Sampling { top_k: 1, ..ALL }), &[1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0, 0.0]);
    }

    #[test]
    fn kth_largest_is_that_of_a_sorted_list() {
        let mut numbers: Vec<f32> = (0..500u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 20) as f32 / 1000.0).collect();
        numbers.extend([0.0, f32::MIN_POSITIVE, 1e-45, f32::INFINITY, 1.0, 1.0]);
        let mut sorted = numbers.clone();
        sorted.sort_by(|a, b| b.total_cmp(a));
        for (i, expected) in sorted.iter().enumerate() {
            assert_eq!(kth_largest(&numbers, i + 1).to_bits(), expected.to_bits());
        }
        assert_eq!(kth_largest(&numbers, numbers.len() + 1), 0.0);
        assert_eq!(kth_largest(&[f32::NAN, 0.5, -0.0], 2), 0.0);
    }

    #[test]
    fn greedy_takes_the_first_of_equals() {
        assert_eq!(sample(&mut [0.0, 2.0, 2.0], &mut [], &Sampling::GREEDY, 1 << 63), 1);
        assert_eq!(argmax(&[f32::NAN, 1.0]), 1);
        assert_eq!(argmax(&[]), 0);
    }
}
