//! Operations along tokens, reshapes and constants.

use samara_core::graph::{BinaryKind, Op, Over};

use super::cases::len;
use super::{Case, Size};
use crate::draw::Draw;

pub(super) fn all(d: &mut Draw, size: Size) -> Vec<Case> {
    let mut list = Vec::new();
    for _ in 0..2 {
        let [b, t, c] = [d.extent(3), 1 + d.extent(size.of(4, 30)), d.extent(size.of(4, 30))];
        let first = d.int(0, t as i32 - 1) as usize;
        let count = d.extent(t - first).min(t - first);
        list.push(slice(d, [b, t, c], first, count));
        list.push(pad(d, [b, count, c], first, t));
        list.push(replace(d, [b, t, c], first, count));
        let more = d.extent(size.of(4, 30));
        list.push(concat(d, [b, t, c], more));
        list.push(reshape(d, [b, t, c]));
        list.push(constant(d, [b, t, c]));
    }
    list.push(slice(d, [2, 3, 2], 1, 0));
    list
}

/// Copies token by token: `of(b, t)` gives the source of a token's values.
fn gather<'a>(b: usize, t: usize, c: usize, of: impl Fn(usize, usize) -> Option<(&'a [f64], usize)>) -> Vec<f64> {
    let token = |n: usize| match of(n / t, n % t) {
        Some((x, row)) => x[row * c..(row + 1) * c].to_vec(),
        None => vec![0.0; c],
    };
    (0..b * t).flat_map(token).collect()
}

fn slice(d: &mut Draw, shape: [usize; 3], first: usize, count: usize) -> Case {
    let [b, t, c] = shape;
    Case::new(format!("tokens {first}..+{count} of {shape:?}"))
        .real(&shape, d.values(len(&shape), -1.0, 1.0))
        .build(move |g, x, _| g.token_slice(x[0], first, count))
        .naive(move |v, _| gather(b, count, c, |i, j| Some((&v[0], i * t + first + j))))
}

fn pad(d: &mut Draw, shape: [usize; 3], first: usize, tokens: usize) -> Case {
    let [b, count, c] = shape;
    Case::new(format!("tokens {shape:?} padded to {tokens} from {first}"))
        .real(&shape, d.values(len(&shape), -1.0, 1.0))
        .build(move |g, x, _| {
            let [y, ..] = g.push(Op::TokenPad { first: first as u32, tokens: tokens as u32 }, &[x[0].into()]);
            y
        })
        .naive(move |v, _| {
            gather(b, tokens, c, |i, j| (first..first + count).contains(&j).then(|| (v[0].as_slice(), i * count + j - first)))
        })
}

fn replace(d: &mut Draw, shape: [usize; 3], first: usize, count: usize) -> Case {
    let [b, t, c] = shape;
    Case::new(format!("tokens {first}..+{count} of {shape:?} replaced"))
        .real(&shape, d.values(len(&shape), -1.0, 1.0))
        .real(&[b, count, c], d.values(b * count * c, -1.0, 1.0))
        .build(move |g, x, _| g.token_replace(x[0], x[1], first))
        .naive(move |v, _| {
            gather(b, t, c, |i, j| {
                let inside = (first..first + count).contains(&j);
                Some(if inside { (v[1].as_slice(), i * count + j - first) } else { (v[0].as_slice(), i * t + j) })
            })
        })
}

fn concat(d: &mut Draw, shape: [usize; 3], more: usize) -> Case {
    let [b, t, c] = shape;
    Case::new(format!("tokens {shape:?} and {more} more"))
        .real(&shape, d.values(len(&shape), -1.0, 1.0))
        .real(&[b, more, c], d.values(b * more * c, -1.0, 1.0))
        .build(|g, x, _| g.token_concat(x[0], x[1]))
        .naive(move |v, _| {
            gather(b, t + more, c, |i, j| {
                Some(if j < t { (v[0].as_slice(), i * t + j) } else { (v[1].as_slice(), i * more + j - t) })
            })
        })
}

/// (B, T, C) as (T C, B) and doubled: a view in front of an in-place operation.
fn reshape(d: &mut Draw, shape: [usize; 3]) -> Case {
    let [b, t, c] = shape;
    Case::new(format!("reshape of {shape:?}"))
        .real(&shape, d.values(len(&shape), -1.0, 1.0))
        .build(move |g, x, _| g.reshape(g.scale(g.reshape(x[0], &[t * c, b]), 2.0), &[b * t * c]))
        .naive(|v, _| v[0].iter().map(|x| 2.0 * x).collect())
}

/// 0.375 / x.
fn constant(d: &mut Draw, shape: [usize; 3]) -> Case {
    Case::new(format!("a constant {shape:?} over x"))
        .real(&shape, d.values(len(&shape), 0.6, 2.0))
        .build(move |g, x, _| g.binary(BinaryKind::Div, Over::Same, g.constant(0.375, &shape), x[0]))
        .naive(|v, _| v[0].iter().map(|x| 0.375 / x).collect())
        .tolerance(2e-6, 5e-6)
}
