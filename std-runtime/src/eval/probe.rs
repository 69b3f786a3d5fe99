//! Few-shot linear probes: ridge regression on fixed features, in closed form.

use samara_core::math::rng::{Purpose, Rng};

/// A linear classifier over standardised features: (x − μ) / σ · W + mean of the targets.
#[derive(Clone, Debug)]
pub struct Probe {
    mean: Vec<f64>,   // (C)
    scale: Vec<f64>,  // (C)
    weight: Vec<f64>, // (C, classes)
    offset: Vec<f64>, // (classes)
}

impl Probe {
    /// Minimises |X W − Y|² + λ |W|², where rows of X are features (n, C), standardised over the n rows, and rows of Y are 1 for the class and −1 for the
    /// others, centered (Beyer et al. 2022, the evaluation of big_vision). With fewer rows than columns the system of n rows is solved.
    pub fn fit(features: &[&[f32]], labels: &[usize], classes: usize, ridge: f64) -> Self {
        let (n, c) = (features.len(), features.first().map_or(0, |row| row.len()));
        let column = |i: usize| features.iter().map(move |row| f64::from(row[i]));
        let mean: Vec<f64> = (0..c).map(|i| column(i).sum::<f64>() / n.max(1) as f64).collect();
        let deviation = |i: usize| (column(i).map(|x| (x - mean[i]) * (x - mean[i])).sum::<f64>() / n.max(1) as f64).sqrt();
        // A feature that never changes stays at 0.
        let scale: Vec<f64> = (0..c).map(deviation).map(|d| if d > 1e-12 { 1.0 / d } else { 0.0 }).collect();
        let x: Vec<f64> = features.iter().flat_map(|row| standard(row, &mean, &scale)).collect(); // (n, C)
        let counts = (0..classes).map(|class| labels.iter().filter(|&&label| label == class).count() as f64);
        let offset: Vec<f64> = counts.map(|count| 2.0 * count / n.max(1) as f64 - 1.0).collect(); // (classes)
        let target = |label: usize, class: usize| if label == class { 1.0 } else { -1.0 } - offset[class];
        let y: Vec<f64> = labels
            .iter()
            .flat_map(|&label| (0..classes).map(move |class| (label, class)))
            .map(|(label, class)| target(label, class))
            .collect(); // (n, classes)
        let weight = if n < c {
            let mut kernel = product(&x, &x, [n, c, n], false); // (n, n)
            let alpha = solve(&mut kernel, n, ridge, &y, classes); // (n, classes)
            product(&x, &alpha, [c, n, classes], true)
        } else {
            let mut gram = product(&x, &x, [c, n, c], true); // (C, C)
            solve(&mut gram, c, ridge, &product(&x, &y, [c, n, classes], true), classes)
        };
        Self { mean, scale, weight, offset }
    }

    /// The class of features (C); of equal ones the first.
    pub fn class(&self, features: &[f32]) -> usize {
        let mut scores = self.offset.clone();
        let classes = scores.len().max(1);
        for (x, row) in standard(features, &self.mean, &self.scale).zip(self.weight.chunks_exact(classes)) {
            scores.iter_mut().zip(row).for_each(|(score, w)| *score += x * w);
        }
        (0..scores.len()).rev().max_by(|&a, &b| scores[a].total_cmp(&scores[b])).unwrap_or(0)
    }
}

fn standard(row: &[f32], mean: &[f64], scale: &[f64]) -> impl Iterator<Item = f64> {
    row.iter().zip(mean).zip(scale).map(|((&x, mean), scale)| (f64::from(x) - mean) * scale)
}

/// A B (rows, inner) (inner, cols) if `across`, with A given as its transpose (inner, rows); else A Bᵀ of A (rows, inner) and B (cols, inner).
fn product(a: &[f64], b: &[f64], [rows, inner, cols]: [usize; 3], across: bool) -> Vec<f64> {
    let mut out = vec![0.0; rows * cols];
    for (i, to) in out.chunks_exact_mut(cols.max(1)).enumerate() {
        for k in 0..inner {
            let x = if across { a[k * rows + i] } else { a[i * inner + k] };
            for (j, to) in to.iter_mut().enumerate() {
                *to += x * if across { b[k * cols + j] } else { b[j * inner + k] };
            }
        }
    }
    out
}

/// (A + λ I)⁻¹ B for a positive semidefinite A (n, n) and λ > 0, by Cholesky's factors, which replace A. B and result (n, cols).
fn solve(a: &mut [f64], n: usize, ridge: f64, b: &[f64], cols: usize) -> Vec<f64> {
    for i in 0..n {
        a[i * n + i] += ridge;
    }
    for i in 0..n {
        for j in 0..=i {
            let dot: f64 = (0..j).map(|k| a[i * n + k] * a[j * n + k]).sum();
            let rest = a[i * n + j] - dot;
            a[i * n + j] = if i == j { rest.max(f64::MIN_POSITIVE).sqrt() } else { rest / a[j * n + j] };
        }
    }
    let mut x = b.to_vec();
    for col in 0..cols {
        for i in 0..n {
            let dot: f64 = (0..i).map(|k| a[i * n + k] * x[k * cols + col]).sum();
            x[i * cols + col] = (x[i * cols + col] - dot) / a[i * n + i];
        }
        for i in (0..n).rev() {
            let dot: f64 = (i + 1..n).map(|k| a[k * n + i] * x[k * cols + col]).sum();
            x[i * cols + col] = (x[i * cols + col] - dot) / a[i * n + i];
        }
    }
    x
}

/// The numbers of `shots` rows of every class, drawn by the seed; `None` if a class has fewer.
pub fn draw(labels: &[usize], classes: usize, shots: usize, seed: u64) -> Option<Vec<usize>> {
    let mut rng = Rng::new(seed, Purpose::Data, shots as u64);
    let mut chosen = Vec::new();
    for class in 0..classes {
        let mut rows: Vec<usize> = (0..labels.len()).filter(|&i| labels[i] == class).collect();
        if rows.len() < shots {
            return None;
        }
        for i in 0..shots {
            let other = i + rng.below((rows.len() - i) as u64) as usize;
            rows.swap(i, other);
        }
        chosen.extend(&rows[..shots]);
    }
    Some(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// n rows of c features of three classes.
    fn data(n: usize, c: usize) -> (Vec<Vec<f32>>, Vec<usize>) {
        let mut rng = Rng::new(5, Purpose::User, 0);
        let labels: Vec<usize> = (0..n).map(|i| i % 3).collect();
        let row = |&label: &usize| (0..c).map(|i| rng.normal_f64() as f32 + if i == label { 2.0 } else { 0.0 }).collect();
        (labels.iter().map(row).collect(), labels)
    }

    /// Xᵀ (X W − Y) + λ W = 0, whichever system is solved.
    #[test]
    fn the_gradient_is_zero_at_the_solution() {
        for (n, c) in [(12, 5), (6, 9)] {
            let (rows, labels) = data(n, c);
            let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
            let probe = Probe::fit(&rows, &labels, 3, 0.7);
            let x: Vec<Vec<f64>> = rows.iter().map(|row| standard(row, &probe.mean, &probe.scale).collect()).collect();
            for class in 0..3 {
                let w = |i: usize| probe.weight[i * 3 + class];
                let residual: Vec<f64> = x
                    .iter()
                    .zip(&labels)
                    .map(|(x, &label)| {
                        let y = if label == class { 1.0 } else { -1.0 } - probe.offset[class];
                        x.iter().enumerate().map(|(i, x)| x * w(i)).sum::<f64>() - y
                    })
                    .collect();
                for i in 0..c {
                    let gradient = x.iter().zip(&residual).map(|(x, r)| x[i] * r).sum::<f64>() + 0.7 * w(i);
                    assert!(gradient.abs() < 1e-9, "{n} {c} {class} {i}: {gradient}");
                }
            }
        }
    }

    #[test]
    fn separable_classes_are_told_apart_and_a_constant_feature_does_no_harm() {
        let (mut rows, labels) = data(60, 4);
        rows.iter_mut().for_each(|row| {
            row.iter_mut().for_each(|x| *x *= 0.1);
            row.push(3.0);
        });
        let all: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
        let probe = Probe::fit(&all, &labels, 3, 1.0);
        let right = all.iter().zip(&labels).filter(|(row, label)| probe.class(row) == **label).count();
        assert!(right > 45, "{right}");
    }

    #[test]
    fn shots_are_drawn_by_class_and_seed() {
        let labels = [0, 1, 0, 1, 0, 1, 1];
        let drawn = draw(&labels, 2, 2, 3).unwrap();
        assert_eq!(drawn.iter().map(|&i| labels[i]).collect::<Vec<_>>(), [0, 0, 1, 1]);
        assert!(drawn[0] != drawn[1] && drawn[2] != drawn[3]);
        assert_eq!((draw(&labels, 2, 2, 3).unwrap(), draw(&labels, 2, 4, 3)), (drawn, None));
    }
}
