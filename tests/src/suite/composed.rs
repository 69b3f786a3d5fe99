//! Compositions of several operations.

use super::cases::len;
use super::{Case, Size};
use crate::draw::Draw;

pub(super) fn all(d: &mut Draw, size: Size) -> Vec<Case> {
    let shape = [d.extent(3), d.extent(size.of(4, 30)), 1 + d.extent(size.of(4, 30))];
    let (first, more) = (d.int(0, shape[2] as i32 - 1) as usize, d.extent(size.of(4, 30)));
    let count = d.extent(shape[2] - first).min(shape[2] - first);
    vec![
        softmax(d, &shape),
        softmax(d, &shape[2..]),
        column_slice(d, &shape, first, count),
        column_slice(d, &shape[2..], first, count),
        column_concat(d, &shape, more),
        column_concat(d, &shape[2..], more),
    ]
}

/// exp(x) / Σ exp(x) per row.
fn softmax(d: &mut Draw, shape: &[usize]) -> Case {
    let cols = *shape.last().unwrap();
    Case::new(format!("softmax of {shape:?}"))
        .real(shape, d.values(len(shape), -3.0, 3.0))
        .build(|g, x, _| g.softmax(x[0]))
        .naive(move |v, _| {
            let row = |x: &[f64]| {
                let sum: f64 = x.iter().map(|x| x.exp()).sum();
                x.iter().map(|x| x.exp() / sum).collect::<Vec<_>>()
            };
            v[0].chunks(cols).flat_map(row).collect()
        })
        .tolerance(5e-6, 5e-5)
}

fn column_slice(d: &mut Draw, shape: &[usize], first: usize, count: usize) -> Case {
    let cols = *shape.last().unwrap();
    Case::new(format!("columns {first}..+{count} of {shape:?}"))
        .real(shape, d.values(len(shape), -1.0, 1.0))
        .build(move |g, x, _| g.column_slice(x[0], first, count))
        .naive(move |v, _| v[0].chunks(cols).flat_map(|row| row[first..first + count].to_vec()).collect())
}

fn column_concat(d: &mut Draw, shape: &[usize], more: usize) -> Case {
    let (cols, mut other) = (*shape.last().unwrap(), shape.to_vec());
    *other.last_mut().unwrap() = more;
    Case::new(format!("columns {shape:?} and {more} more"))
        .real(shape, d.values(len(shape), -1.0, 1.0))
        .real(&other, d.values(len(&other), -1.0, 1.0))
        .build(|g, x, _| g.column_concat(x[0], x[1]))
        .naive(move |v, _| v[0].chunks(cols).zip(v[1].chunks(more)).flat_map(|(a, b)| [a, b].concat()).collect())
}
