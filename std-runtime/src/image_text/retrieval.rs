//! Retrieval: how often the nearest vectors of the other kind are those that belong to a query.

/// Recalls at these ranks.
pub const RANKS: [usize; 3] = [1, 5, 10];

/// The share of queries whose first, or one of whose first 5 or 10 answers belongs to them.
///
/// `queries` (Q, E) and `answers` (A, E) are vectors of length 1, `belong` says of a query and an answer whether they belong together. The rank of a query is that of
/// the best answer that belongs to it; an answer that does not and has the same cosine is before it, so that equal vectors find nothing.
pub fn recalls(queries: &[f32], answers: &[f32], width: usize, belong: impl Fn(usize, usize) -> bool) -> [f64; 3] {
    let width = width.max(1);
    let vectors: Vec<&[f32]> = queries.chunks_exact(width).collect();
    let cosines = |query: usize| answers.chunks_exact(width).map(|answer| dot(vectors[query], answer)).collect();
    recalls_by(vectors.len(), cosines, belong)
}

/// The same of `count` queries whose answers have scores.
pub fn recalls_by(count: usize, scores: impl Fn(usize) -> Vec<f32>, belong: impl Fn(usize, usize) -> bool) -> [f64; 3] {
    let mut found = [0_usize; 3];
    for q in 0..count {
        let scores = scores(q);
        let own = scores.iter().enumerate().filter(|(a, _)| belong(q, *a)).map(|(_, &score)| score);
        let best = own.fold(f32::NEG_INFINITY, f32::max);
        let before = scores.iter().enumerate().filter(|(a, score)| **score >= best && !belong(q, *a)).count();
        for (found, rank) in found.iter_mut().zip(RANKS) {
            *found += usize::from(best > f32::NEG_INFINITY && before < rank);
        }
    }
    found.map(|n| n as f64 / count.max(1) as f64)
}

/// The answers (A, E) to a query (E), the nearest first; of equal ones the one with the smaller number.
pub fn similar(query: &[f32], answers: &[f32], width: usize) -> Vec<usize> {
    let cosines: Vec<f32> = answers.chunks_exact(width.max(1)).map(|answer| dot(query, answer)).collect();
    let mut order: Vec<usize> = (0..cosines.len()).collect();
    order.sort_by(|&a, &b| cosines[b].total_cmp(&cosines[a]));
    order
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_found_where_its_nearest_answer_belongs_to_it() {
        let answers = [1.0, 0.0, 0.0, 1.0, 0.6, 0.8];
        let is_same = |q: usize, a: usize| q == a;
        assert_eq!(recalls(&answers, &answers, 2, is_same), [1.0; 3]);
        // Answers 0 and 1 in each other's place: they come last, the third first.
        let queries = [0.0, 1.0, 1.0, 0.0, 0.6, 0.8];
        assert_eq!(recalls(&queries, &answers, 2, is_same), [1.0 / 3.0, 1.0, 1.0]);
        // Several answers of a query: the best counts.
        assert_eq!(recalls(&queries[..2], &answers, 2, |_, a| a > 0)[0], 1.0);
        // Equal vectors find nothing.
        let same = [1.0, 0.0].repeat(40);
        assert_eq!(recalls(&same, &same, 2, is_same), [0.0; 3]);
        assert_eq!(recalls(&[], &answers, 2, is_same), [0.0; 3]);
        assert_eq!(similar(&[0.0, 1.0], &answers, 2), [1, 2, 0]);
        assert_eq!(similar(&[1.0, 0.0], &same, 2)[..3], [0, 1, 2]);
    }
}
