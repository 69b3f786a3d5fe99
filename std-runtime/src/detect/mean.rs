//! The mean of many numbers, added in pairs.

/// A sum of at most this many numbers runs in eight lanes; a longer one is the sum of its halves.
const BLOCK: usize = 128;
const LANES: usize = 8;

/// Mean; −1 of no numbers. Adds in NumPy's order, so that the result has the bits of `numpy.mean`.
pub(super) fn mean(values: &[f64]) -> f64 {
    if values.is_empty() { -1.0 } else { sum(values) / values.len() as f64 }
}

fn sum(values: &[f64]) -> f64 {
    if values.len() > BLOCK {
        let half = values.len() / 2;
        let (left, right) = values.split_at(half - half % LANES);
        return sum(left) + sum(right);
    }
    let (rows, rest) = values.as_chunks::<LANES>();
    let Some((first, rows)) = rows.split_first() else { return rest.iter().sum() };
    let mut lanes = *first;
    for row in rows {
        lanes.iter_mut().zip(row).for_each(|(lane, value)| *lane += value);
    }
    let [a, b, c, d, e, f, g, h] = lanes;
    rest.iter().fold(((a + b) + (c + d)) + ((e + f) + (g + h)), |sum, value| sum + value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_have_the_bits_of_numpy() {
        // numpy.mean of 1 / (1 + i), i < n.
        for (n, expected) in [
            (1, 1.0),
            (7, 0.370_408_163_265_306_07),
            (8, 0.339_732_142_857_142_8),
            (101, 0.051_458_203_046_917_13),
            (1010, 0.007_421_204_200_545_009),
            (80_803, 0.000_146_987_008_221_361_05),
        ] {
            let values: Vec<f64> = (0..n).map(|i| 1.0 / (1.0 + f64::from(i))).collect();
            assert_eq!(mean(&values), expected, "{n}");
        }
        assert_eq!(mean(&[]), -1.0);
    }
}
