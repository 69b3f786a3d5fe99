//! Attention rollout: how much each token takes part in the answer of a transformer. Abnar and Zuidema 2020, 3.2.
//!
//! With P_l the attention probabilities of layer l, averaged over heads, and Â_l = (P_l + I) / 2, the rollout is Â_L ⋯ Â_1; its rows sum to 1.

use samara_core::exec::Gradients;
use samara_core::graph::{AttentionSpec, Op};

use crate::session::{On, OwnedProgram, Session};

/// Runs the forward pass of a program of one sequence and multiplies the attention of its layers: (T, T), row by row. Empty for a program without
/// self-attention.
pub fn rollout(session: &mut Session, program: &OwnedProgram, on: On) -> Vec<f64> {
    let mut product: Vec<f64> = Vec::new();
    let mut done = 0;
    for i in program.view().forward() {
        let Some((spec, record)) = program.view().node(i).and_then(|node| match (node.op(), node.record()) {
            (Some(Op::Attention(spec)), record) if !record.dead => Some((spec, *record)),
            _ => None,
        }) else {
            continue;
        };
        // Up to here, so that queries and keys are still in memory.
        session.run(program, on, done..i, Gradients::Overwrite);
        done = i;
        let part = |input: usize| {
            let shape = program.view().shape(record.input(input));
            Part {
                values: session.peek(program, record.input(input)),
                columns: shape.cols(),
                first: record.columns[input] as usize,
            }
        };
        let mixed = mixed(&spec, &part(0), &part(1));
        product = if product.is_empty() { mixed } else { multiplied(&mixed, &product) };
    }
    product
}

/// Columns of a tensor (T, columns) from a first one on.
struct Part<'p> {
    values: &'p [f32],
    columns: usize,
    first: usize,
}

impl Part<'_> {
    fn head(&self, token: usize, head: usize, dim: usize) -> &[f32] {
        let start = token * self.columns + self.first + head * dim;
        self.values.get(start..start + dim).unwrap_or_default()
    }
}

/// Â of a layer (T, T).
fn mixed(spec: &AttentionSpec, queries: &Part<'_>, keys: &Part<'_>) -> Vec<f64> {
    let tokens = queries.values.len() / queries.columns.max(1);
    let (heads, dim) = (spec.heads as usize, spec.head_dim as usize);
    let group = (spec.heads / spec.kv_heads.max(1)).max(1) as usize;
    let mut mixed = vec![0.0; tokens * tokens];
    for (token, row) in mixed.chunks_exact_mut(tokens.max(1)).enumerate() {
        for head in 0..heads {
            let query = queries.head(token, head, dim);
            let dot = |key: usize| {
                let pairs = query.iter().zip(keys.head(key, head / group, dim));
                spec.scale * pairs.map(|(q, k)| f64::from(q * k)).sum::<f64>()
            };
            let scores: Vec<f64> = (0..tokens).map(dot).collect();
            let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let powers: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
            let sum: f64 = powers.iter().sum();
            row.iter_mut().zip(&powers).for_each(|(to, power)| *to += 0.5 * power / sum / heads as f64);
        }
        row.iter_mut().skip(token).take(1).for_each(|own| *own += 0.5);
    }
    mixed
}

/// The product of two square matrices.
fn multiplied(a: &[f64], b: &[f64]) -> Vec<f64> {
    let n = a.len().isqrt().max(1);
    let mut product = vec![0.0; a.len()];
    for (row, to) in a.chunks_exact(n).zip(product.chunks_exact_mut(n)) {
        for (weight, line) in row.iter().zip(b.chunks_exact(n)) {
            to.iter_mut().zip(line).for_each(|(to, value)| *to += weight * value);
        }
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_of_equal_scores_mixes_half_evenly() {
        let spec = AttentionSpec { heads: 2, kv_heads: 2, head_dim: 1, causal: false, window: 0, scale: 1.0, site: 0 };
        let zeros = [0.0; 6];
        let part = || Part { values: &zeros, columns: 2, first: 0 };
        let mixed = mixed(&spec, &part(), &part());
        let (own, other) = (0.5 + 0.5 / 3.0, 0.5 / 3.0);
        assert!(mixed.iter().enumerate().all(|(i, x)| (x - if i % 4 == 0 { own } else { other }).abs() < 1e-12));
        let twice = multiplied(&mixed, &mixed);
        assert!(twice.chunks(3).all(|row| (row.iter().sum::<f64>() - 1.0).abs() < 1e-12));
        assert!((twice[0] - (own * own + 2.0 * other * other)).abs() < 1e-12);
    }

    #[test]
    fn heads_read_their_own_columns() {
        let spec = AttentionSpec { heads: 2, kv_heads: 2, head_dim: 1, causal: false, window: 0, scale: 1.0, site: 0 };
        // Packed queries, keys, values of two tokens; the second head's query of token 0 is large for the second key.
        let packed = [0.0, 30.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0];
        let part = |first| Part { values: &packed, columns: 6, first };
        let mixed = mixed(&spec, &part(0), &part(2));
        assert!((mixed[0] - 0.625).abs() < 1e-6 && (mixed[1] - 0.375).abs() < 1e-6, "{mixed:?}");
    }
}
