//! Pairs that do not belong together, for image-text matching.

use samara_core::math::rng::Rng;

/// For each of B queries another row that does not belong to it, drawn with the probability softmax(s) over those that do not (Li et al. 2021, 3.2): the more
/// similar, the likelier. `similarities` (B, B), `belong` says of a query and a row whether they do. Where every weight underflows the draw is uniform, and a
/// query to which all rows belong gets the next row.
pub fn hard(rng: &mut Rng, similarities: &[f32], rows: usize, belong: impl Fn(usize, usize) -> bool) -> Vec<usize> {
    let draw = |(query, row): (usize, &[f32])| {
        let open = |other: &usize| *other != query && !belong(query, *other);
        let weights = weights(row, open);
        let mut left = rng.uniform_f64() * weights.iter().sum::<f64>();
        let drawn = (0..rows).filter(|&other| weights[other] > 0.0).find(|&other| {
            left -= weights[other];
            left < 0.0
        });
        // Rounding may leave a rest after the last.
        drawn.or_else(|| (0..rows).rev().find(|other| open(other))).unwrap_or((query + 1) % rows.max(1))
    };
    similarities.chunks_exact(rows.max(1)).enumerate().map(draw).collect()
}

/// The weights (B) by which a row is drawn, from similarities (B): exp(s), divided by that of the most similar that is open; 0 for those that are not.
pub fn weights(similarities: &[f32], open: impl Fn(&usize) -> bool) -> Vec<f64> {
    let all = || similarities.iter().enumerate();
    let most = all().filter(|(other, _)| open(other)).fold(f32::NEG_INFINITY, |most, (_, s)| most.max(*s));
    all().map(|(other, s)| if open(&other) { f64::from(s - most).exp() } else { 0.0 }).collect()
}

/// The products (B, B) of vectors `a` with vectors `b`, each (B, E), divided by `temperature`.
pub fn similarities(a: &[f32], b: &[f32], width: usize, temperature: f32) -> Vec<f32> {
    let width = width.max(1);
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    a.chunks_exact(width).flat_map(|a| b.chunks_exact(width).map(move |b| dot(a, b) / temperature)).collect()
}

#[cfg(test)]
mod tests {
    use samara_core::math::rng::Purpose;

    use super::*;

    #[test]
    fn the_more_similar_are_drawn_more_often_and_the_own_never() {
        let rows = 4;
        // Query 0 to rows 1, 2, 3 as 1 : 2 : 5.
        let of_first = [9.0, 1.0_f32.ln(), 2.0_f32.ln(), 5.0_f32.ln()];
        let all = [&of_first[..], &[0.0; 12]].concat();
        let mut rng = Rng::new(3, Purpose::Sampling, 0);
        let mut counts = [[0_usize; 4]; 4];
        let draws = 8000;
        for _ in 0..draws {
            for (query, row) in hard(&mut rng, &all, rows, |_, _| false).into_iter().enumerate() {
                counts[query][row] += 1;
            }
        }
        let shares = counts[0].map(|n| n as f64 / draws as f64);
        for (share, expected) in shares.into_iter().zip([0.0, 1.0 / 8.0, 2.0 / 8.0, 5.0 / 8.0]) {
            assert!((share - expected).abs() <= 4.0 * (expected / draws as f64).sqrt(), "{shares:?}");
        }
        assert!((0..4).all(|query| counts[query][query] == 0), "{counts:?}");
        assert!(counts[1][0] > draws / 4, "equal weights: {counts:?}");
        // Rows that belong are never drawn, unless there is no other.
        let pairs = hard(&mut rng, &all, rows, |query, row| query / 2 == row / 2);
        assert!(pairs.iter().enumerate().all(|(query, row)| query / 2 != row / 2), "{pairs:?}");
        assert_eq!(hard(&mut rng, &all, rows, |_, _| true), [1, 2, 3, 0]);
    }

    #[test]
    fn extreme_similarities_are_drawn_without_overflow() {
        let mut rng = Rng::new(3, Purpose::Sampling, 1);
        let all = [0.0, 2000.0, -2000.0, 2000.0, 0.0, -2000.0, -2000.0, -2000.0, 0.0];
        assert_eq!(hard(&mut rng, &all, 3, |_, _| false)[..2], [1, 0]);
        assert_eq!(similarities(&[1.0, 2.0], &[3.0, 0.5], 2, 0.5), [8.0]);
    }
}
