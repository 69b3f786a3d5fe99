//! Linear layers, norms, embeddings, heads, dropout, elementwise functions, broadcasts and reductions.

use samara_core::graph::{Activation, BinaryKind, Op, Over, Pairing, ReduceKind, RotarySpec, Tensor, UnaryKind};

use super::{Case, Size};
use crate::draw::Draw;
use crate::reference as naive;

const OVERS: [Over; 5] = [Over::Same, Over::Scalar, Over::Row, Over::Column, Over::Batch];

pub(super) fn all(d: &mut Draw, size: Size) -> Vec<Case> {
    let mut list = Vec::new();
    use Activation as A;
    for activation in [A::None, A::Relu, A::GeluTanh, A::GeluErf, A::Silu, A::QuickGelu] {
        for (bias, residual) in [(false, false), (true, false), (false, true), (true, true)] {
            let shape = [d.extent(size.of(3, 5)), d.extent(size.of(3, 13)), d.extent(size.of(6, 150))];
            let n = d.extent(size.of(6, 90));
            list.push(linear(d, size, &shape, n, activation, bias, residual));
        }
    }
    list.push(linear(d, size, &[0, 3], 2, Activation::GeluTanh, true, true));
    list.push(linear(d, size, &[1, 1], 1, Activation::None, true, false));
    list.push(linear_of_itself(d, size));
    list.push(linear_twice(d, size));
    for (weight, bias) in [(true, true), (true, false), (false, true), (false, false)] {
        let shape = [d.extent(size.of(5, 40)), 2 + d.extent(size.of(6, 200))];
        list.push(layer_norm(d, &shape, weight, bias));
    }
    list.push(layer_norm(d, &[3, 1], true, true));
    list.push(layer_norm(d, &[0, 4], true, true));
    list.push(layer_norm_with_residual(d, size));
    list.extend(rms_norms(d, size));
    list.extend(rotaries(d, size));
    for addend in [false, true] {
        list.push(embedding(d, size, addend));
    }
    for smoothing in [0.0, 0.1] {
        for bias in [false, true] {
            list.push(head(d, size, smoothing, bias));
        }
    }
    for p in [0.0, 0.1, 0.5] {
        list.push(dropout(d, size, p));
    }
    list.extend(unaries(d, size));
    for over in OVERS {
        for kind in [BinaryKind::Add, BinaryKind::Sub, BinaryKind::Mul, BinaryKind::Div, BinaryKind::Min, BinaryKind::Max] {
            list.push(binary(d, size, kind, over));
        }
        list.push(broadcast(d, size, over));
        list.push(reduce(d, size, ReduceKind::Sum, over));
        list.push(reduce(d, size, ReduceKind::Max, over));
    }
    for (loss, bias) in [(true, false), (true, true), (false, true)] {
        list.push(head_entropy(d, size, loss, bias));
    }
    list
}

/// Linear layers and heads without a weight gradient, and without an input gradient.
pub(super) fn frozen(d: &mut Draw, size: Size) -> Vec<Case> {
    let mut list = Vec::new();
    for input in [0, 1] {
        for (activation, bias, residual) in [(Activation::None, false, true), (Activation::GeluTanh, true, false)] {
            let shape = [d.extent(size.of(3, 5)), d.extent(size.of(3, 13)), d.extent(size.of(6, 150))];
            let n = d.extent(size.of(6, 90));
            list.push(linear(d, size, &shape, n, activation, bias, residual).frozen(input));
        }
        list.extend([false, true].map(|bias| head(d, size, 0.1, bias).frozen(input)));
        list.push(head_entropy(d, size, true, false).frozen(input));
    }
    list
}

pub(super) fn len(shape: &[usize]) -> usize {
    shape.iter().product()
}

/// A shape of rank 1 to 4.
fn any_shape(d: &mut Draw, size: Size) -> Vec<usize> {
    let rank = d.int(1, 4);
    (0..rank).map(|_| d.extent(size.of(4, 11))).collect()
}

fn linear(d: &mut Draw, size: Size, x_shape: &[usize], n: usize, activation: Activation, bias: bool, residual: bool) -> Case {
    let k = x_shape[x_shape.len() - 1];
    // No pre-activation may be close to ReLU's kink.
    let margin = size.of(20, 0) as f64 * 1e-3 + 1e-5;
    let (x, w, b) = loop {
        let scale = 1.5 / (k as f64).sqrt();
        let (x, w) = (d.values(len(x_shape), -1.0, 1.0), d.values(n * k, -scale, scale));
        let b = d.values(n, -0.5, 0.5);
        let sums = naive::product(&x, k, &w, bias.then_some(&b));
        if activation != Activation::Relu || sums.iter().all(|s| s.abs() > margin) {
            break (x, w, b);
        }
    };
    let mut y_shape = x_shape.to_vec();
    y_shape[x_shape.len() - 1] = n;
    let mut case = Case::new(format!("linear {x_shape:?} -> {n} {activation:?} bias {bias} residual {residual}"))
        .real(x_shape, x)
        .real(&[n, k], w);
    if bias {
        case = case.real(&[n], b);
    }
    if residual {
        case = case.real(&y_shape, d.values(len(&y_shape), -1.0, 1.0));
    }
    let place = move |residual: bool| 2 + usize::from(residual && bias);
    case.build(move |g, t, _| g.linear_with(t[0], t[1], bias.then(|| t[2]), activation, residual.then(|| t[place(true)])))
        .naive(move |v, _| {
            let mut y = naive::product(&v[0], k, &v[1], bias.then(|| v[2].as_slice()));
            y.iter_mut().for_each(|y| *y = naive::activation(activation, *y));
            if residual {
                y.iter_mut().zip(&v[place(true)]).for_each(|(y, r)| *y += r);
            }
            y
        })
        .tolerance(5e-6, 2e-5)
}

/// x Wᵀ + x: the gradient of x has contributions from two inputs of one node.
fn linear_of_itself(d: &mut Draw, size: Size) -> Case {
    let (m, k) = (d.extent(5), d.extent(size.of(5, 70)));
    Case::new(format!("linear with itself as residual ({m}, {k})"))
        .real(&[m, k], d.values(m * k, -1.0, 1.0))
        .real(&[k, k], d.values(k * k, -0.5, 0.5))
        .build(|g, t, _| g.linear_with(t[0], t[1], None, Activation::None, Some(t[0])))
        .naive(move |v, _| naive::product(&v[0], k, &v[1], None).iter().zip(&v[0]).map(|(y, x)| y + x).collect())
        .tolerance(5e-6, 2e-5)
}

/// The same weight twice: the second contribution to its gradient accumulates.
fn linear_twice(d: &mut Draw, size: Size) -> Case {
    let (m, k) = (d.extent(5), d.extent(size.of(5, 70)));
    let scale = 1.0 / k as f64;
    Case::new(format!("a weight used twice ({m}, {k})"))
        .real(&[m, k], d.values(m * k, -1.0, 1.0))
        .real(&[k, k], d.values(k * k, -scale, scale))
        .real(&[k], d.values(k, -1.0, 1.0))
        .build(|g, t, _| g.linear(g.linear(t[0], t[1], Some(t[2])), t[1], Some(t[2])))
        .naive(move |v, _| naive::product(&naive::product(&v[0], k, &v[1], Some(&v[2])), k, &v[1], Some(&v[2])))
        .tolerance(5e-6, 2e-5)
}

/// Values whose variance in every row is not small: derivatives of the norm grow with its inverse.
fn spread_rows(d: &mut Draw, rows: usize, c: usize) -> Vec<f64> {
    let variance = |row: &[f64]| {
        let mean = row.iter().sum::<f64>() / c as f64;
        row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / c as f64
    };
    let mut all = Vec::new();
    while all.len() < rows * c {
        let row = d.values(c, -2.0, 2.0);
        if c == 1 || variance(&row) > 0.3 {
            all.extend(row);
        }
    }
    all
}

fn layer_norm(d: &mut Draw, shape: &[usize; 2], weight: bool, bias: bool) -> Case {
    let [m, c] = *shape;
    let mut case = Case::new(format!("layer norm {shape:?} weight {weight} bias {bias}")).real(shape, spread_rows(d, m, c));
    if weight {
        case = case.real(&[c], d.values(c, 0.5, 1.5));
    }
    if bias {
        case = case.real(&[c], d.values(c, -1.0, 1.0));
    }
    let place = 1 + usize::from(weight);
    case.build(move |g, t, _| g.layer_norm(t[0], weight.then(|| t[1]), bias.then(|| t[place]), 1e-5))
        .naive(move |v, _| naive::layer_norm(&v[0], c, weight.then(|| v[1].as_slice()), bias.then(|| v[place].as_slice()), 1e-5))
        .tolerance(5e-6, 3e-5)
}

/// norm(x) + x: the gradient that x already has is added to.
fn layer_norm_with_residual(d: &mut Draw, size: Size) -> Case {
    let (m, c) = (d.extent(4), 2 + d.extent(size.of(4, 60)));
    Case::new(format!("layer norm beside a residual ({m}, {c})"))
        .real(&[m, c], spread_rows(d, m, c))
        .real(&[c], d.values(c, 0.5, 1.5))
        .build(|g, t, _| g.add(t[0], g.layer_norm(t[0], Some(t[1]), None, 1e-5)))
        .naive(move |v, _| naive::layer_norm(&v[0], c, Some(&v[1]), None, 1e-5).iter().zip(&v[0]).map(|(y, x)| y + x).collect())
        .tolerance(5e-6, 3e-5)
}

/// With and without weight and bias, and beside a residual.
fn rms_norms(d: &mut Draw, size: Size) -> Vec<Case> {
    let mut list = Vec::new();
    for (weight, bias, residual) in
        [(true, false, false), (true, true, false), (false, true, false), (false, false, false), (true, false, true)]
    {
        let (m, c) = (d.extent(size.of(5, 40)), 2 + d.extent(size.of(6, 200)));
        let mut case = Case::new(format!("RMS norm ({m}, {c}) weight {weight} bias {bias} residual {residual}"))
            .real(&[m, c], spread_rows(d, m, c));
        if weight {
            case = case.real(&[c], d.values(c, 0.5, 1.5));
        }
        if bias {
            case = case.real(&[c], d.values(c, -1.0, 1.0));
        }
        let place = 1 + usize::from(weight);
        let case = case
            .build(move |g, t, _| {
                let [w, b] = [weight.then(|| t[1]), bias.then(|| t[place])].map(|t| t.unwrap_or(Tensor::NONE).into());
                let [y, ..] = g.push(Op::LayerNorm { eps: 1e-5, centre: false }, &[t[0].into(), w, b]);
                if residual { g.add(t[0], y) } else { y }
            })
            .naive(move |v, _| {
                let (w, b) = (weight.then(|| v[1].as_slice()), bias.then(|| v[place].as_slice()));
                let y = naive::rms_norm(&v[0], c, w, b, 1e-5);
                y.iter().zip(&v[0]).map(|(y, x)| y + if residual { *x } else { 0.0 }).collect()
            });
        list.push(case.tolerance(5e-6, 3e-5));
    }
    list
}

/// Both pairings, forward and inverse, with columns after the rotated ones and after the heads.
fn rotaries(d: &mut Draw, size: Size) -> Vec<Case> {
    let mut list = Vec::new();
    for (pairs, inverse, whole) in [
        (Pairing::Halves, false, true),
        (Pairing::Halves, true, false),
        (Pairing::Adjacent, false, false),
        (Pairing::Adjacent, true, true),
    ] {
        let (b, t, heads) = (d.extent(2), d.extent(size.of(3, 20)), d.extent(3));
        let rotated = 2 * d.extent(size.of(3, 90));
        let dim = rotated + if whole { 0 } else { d.extent(4) };
        let c = heads * dim + if whole { 0 } else { d.extent(5) };
        let spec =
            RotarySpec { heads: heads as u32, head_dim: dim as u32, rotated: rotated as u32, pairs, base: 500_000.0, inverse };
        list.push(
            Case::new(format!("rotary ({b}, {t}, {c}) {spec:?}"))
                .real(&[b, t, c], d.values(b * t * c, -1.0, 1.0))
                .int(&[b, t], d.ints(b * t, 0, 9000))
                .build(move |g, t, i| g.rotary(t[0], i[0], spec))
                .naive(move |v, i| naive::rotary(&v[0], c, &i[0], spec)),
        );
    }
    list
}

fn embedding(d: &mut Draw, size: Size, addend: bool) -> Case {
    let (b, t, vocab, c) = (d.extent(3), d.extent(size.of(4, 30)), d.extent(size.of(4, 20)), d.extent(size.of(5, 40)));
    let mut case = Case::new(format!("embedding ({b}, {t}) of ({vocab}, {c}) addend {addend}"))
        .real(&[vocab, c], d.values(vocab * c, -1.0, 1.0))
        .int(&[b, t], d.ints(b * t, 0, vocab as i32 - 1));
    if addend {
        case = case.real(&[b, t, c], d.values(b * t * c, -1.0, 1.0));
    }
    case.build(move |g, t, i| g.embedding(i[0], t[0], addend.then(|| t[1]))).naive(move |v, i| {
        let row = |(n, &id): (usize, &i32)| {
            let start = id as usize * c;
            (0..c).map(|j| v[0][start + j] + if addend { v[1][n * c + j] } else { 0.0 }).collect::<Vec<_>>()
        };
        i[0].iter().enumerate().flat_map(row).collect()
    })
}

fn head(d: &mut Draw, size: Size, smoothing: f64, bias: bool) -> Case {
    let (b, t, c, vocab) = (d.extent(2), d.extent(size.of(4, 50)), d.extent(size.of(5, 40)), 1 + d.extent(size.of(6, 300)));
    let scale = 2.0 / (c as f64).sqrt();
    let mut targets = d.ints(b * t, 0, vocab as i32 - 1);
    targets[0] = if b * t > 1 { -100 } else { targets[0] };
    let mut case = Case::new(format!("head ({b}, {t}, {c}) vocabulary {vocab} smoothing {smoothing} bias {bias}"))
        .real(&[b, t, c], d.values(b * t * c, -1.0, 1.0))
        .real(&[vocab, c], d.values(vocab * c, -scale, scale))
        .int(&[b, t], targets);
    if bias {
        case = case.real(&[vocab], d.values(vocab, -1.0, 1.0));
    }
    case.build(move |g, t, i| g.head_loss(t[0], t[1], bias.then(|| t[2]), i[0], smoothing))
        .naive(move |v, i| {
            let logits = naive::product(&v[0], c, &v[1], bias.then(|| v[2].as_slice()));
            naive::cross_entropy(&logits, vocab, &i[0], smoothing)
        })
        .tolerance(5e-6, 3e-5)
}

/// Half of the entropy, and the loss beside it if asked for: both outputs of one node have gradients.
fn head_entropy(d: &mut Draw, size: Size, loss: bool, bias: bool) -> Case {
    let Case { name, reals, ints, .. } = head(d, size, 0.0, bias);
    let vocab = reals[1].shape[0];
    let c = reals[1].shape[1];
    Case { reals, ints, ..Case::new(format!("entropy of {name}, loss {loss}")) }
        .build(move |g, t, i| {
            let [losses, entropy] = g.head_loss_and_entropy(t[0], t[1], bias.then(|| t[2]), i[0]);
            let entropy = g.scale(entropy, 0.5);
            if loss { g.add(losses, entropy) } else { entropy }
        })
        .naive(move |v, i| {
            let logits = naive::product(&v[0], c, &v[1], bias.then(|| v[2].as_slice()));
            let losses = naive::cross_entropy(&logits, vocab, &i[0], 0.0);
            let entropies = logits.chunks(vocab).map(|z| {
                let total: f64 = z.iter().map(|z| z.exp()).sum();
                -z.iter().map(|z| z.exp() / total * (z.exp() / total).ln()).sum::<f64>()
            });
            losses.iter().zip(entropies).map(|(l, entropy)| if loss { l + 0.5 * entropy } else { 0.5 * entropy }).collect()
        })
        .tolerance(5e-6, 3e-5)
}

fn dropout(d: &mut Draw, size: Size, p: f64) -> Case {
    let shape = any_shape(d, size);
    let control = [d.int(i32::MIN, i32::MAX), d.int(0, 99), d.int(0, 1000), d.int(0, 3), (p * f64::from(1 << 24)) as i32];
    Case::new(format!("dropout {shape:?} p {p}"))
        .real(&shape, d.values(len(&shape), -1.0, 1.0))
        .int(&[5], control.to_vec())
        .build(|g, t, i| {
            let [y, ..] = g.push(Op::Dropout { site: 7 }, &[t[0].into(), i[0].into()]);
            y
        })
        .naive(|v, i| v[0].iter().enumerate().map(|(n, x)| x * naive::dropout(&i[0], 7, n as u64)).collect())
}

fn unaries(d: &mut Draw, size: Size) -> Vec<Case> {
    use UnaryKind as U;
    let kinds = [
        (U::Scale, -3.0, 3.0),
        (U::Offset, -3.0, 3.0),
        (U::Exp, -3.0, 2.0),
        (U::Ln, 0.5, 4.0),
        (U::Tanh, -3.0, 3.0),
        (U::Sigmoid, -5.0, 5.0),
        (U::LogSigmoid, -5.0, 5.0),
        (U::Relu, -2.0, 2.0),
        (U::GeluTanh, -5.0, 5.0),
        (U::GeluErf, -5.0, 5.0),
        (U::Square, -2.0, 2.0),
        (U::Sqrt, 0.5, 4.0),
        (U::Reciprocal, 0.6, 3.0),
        (U::Abs, -2.0, 2.0),
        (U::Clamp, -2.0, 2.0),
        (U::Silu, -6.0, 6.0),
        (U::QuickGelu, -5.0, 5.0),
    ];
    let case = |(kind, low, high): (U, f64, f64)| {
        let (a, b) = (-0.75, 1.25);
        let kinks: &[f64] = match kind {
            U::Relu | U::Abs => &[0.0],
            U::Clamp => &[a, b],
            _ => &[],
        };
        let shape = any_shape(d, size);
        let mut x = d.values(len(&shape), low, high);
        for x in &mut x {
            // Away from kinks.
            if kinks.iter().any(|k| (*x - k).abs() < 0.01) {
                *x += 0.0625;
            }
        }
        Case::new(format!("{kind:?} {shape:?}"))
            .real(&shape, x)
            .build(move |g, t, _| g.unary(kind, a, b, t[0]))
            .naive(move |v, _| v[0].iter().map(|&x| naive::unary(kind, a, b, x)).collect())
            .tolerance(2e-6, 5e-6)
    };
    kinds.map(case).into_iter().collect()
}

fn binary(d: &mut Draw, size: Size, kind: BinaryKind, over: Over) -> Case {
    let shape = any_shape(d, size);
    let small = naive::reduced(over, &shape);
    let spread = naive::spread(over, &shape);
    let b = match kind {
        BinaryKind::Div => d.values(len(&small), 0.6, 2.0),
        _ => d.values(len(&small), -1.0, 1.0),
    };
    let mut a = d.values(len(&shape), -1.0, 1.0);
    for (a, &i) in a.iter_mut().zip(&spread) {
        // Away from ties.
        if (*a - b[i]).abs() < 0.01 {
            *a += 0.0625;
        }
    }
    Case::new(format!("{kind:?} {shape:?} over {over:?}"))
        .real(&shape, a)
        .real(&small, b)
        .build(move |g, t, _| g.binary(kind, over, t[0], t[1]))
        .naive(move |v, _| v[0].iter().zip(&spread).map(|(&a, &i)| naive::binary(kind, a, v[1][i])).collect())
        .tolerance(2e-6, 2e-5)
}

fn broadcast(d: &mut Draw, size: Size, over: Over) -> Case {
    let shape = any_shape(d, size);
    let small = naive::reduced(over, &shape);
    let spread = naive::spread(over, &shape);
    Case::new(format!("broadcast to {shape:?} over {over:?}"))
        .real(&small, d.values(len(&small), -1.0, 1.0))
        .build(move |g, t, _| g.broadcast(t[0], over, samara_core::graph::Shape::new(&shape).unwrap()))
        .naive(move |v, _| spread.iter().map(|&i| v[0][i]).collect())
        .tolerance(1e-7, 2e-5)
}

fn reduce(d: &mut Draw, size: Size, kind: ReduceKind, over: Over) -> Case {
    let shape = any_shape(d, size);
    let mut x = d.values(len(&shape), -1.0, 1.0);
    if kind == ReduceKind::Max {
        // No ties: all values differ by at least 1/16.
        let mut order: Vec<usize> = (0..x.len()).collect();
        order.sort_by(|&i, &j| x[i].total_cmp(&x[j]));
        order.iter().enumerate().for_each(|(rank, &i)| x[i] = rank as f64 / 16.0);
    }
    Case::new(format!("{kind:?} of {shape:?} over {over:?}"))
        .real(&shape, x)
        .build(move |g, t, _| g.reduce(kind, over, t[0]))
        .naive(move |v, _| naive::reduce(kind, over, &shape, &v[0]))
        .tolerance(2e-5, 1e-6)
}
