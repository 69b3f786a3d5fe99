//! Updates of the flat buffers on threads: see `samara_core::ops::optimizer`.

use samara_core::exec::{Kernel, Kernels, Views};
use samara_core::graph::{Epsilon, Momentum, Node, Op};
use samara_core::ops::optimizer::{Hyper, NORM_CHUNK, gradient};
use samara_core::threads::Threads;

use super::elementwise::{add, copy};
use super::simd::{LANES, combine, simd, sum_by};
use super::{no_scratch, per_task};
use crate::tiles::{for_each_chunk, for_each_chunk_2, for_each_chunk_3};

pub(super) fn kernels(table: Kernels<f32>) -> Kernels<f32> {
    let adamw_op = Op::AdamW { start: 0, len: 0, decay: false, epsilon: Epsilon::AfterCorrection };
    let sgd_op = Op::Sgd { start: 0, len: 0, decay: false, momentum: Momentum::Classical };
    table
        .with(Op::AccumulateGrad.opcode(), Kernel { run: accumulate, scratch_len: no_scratch })
        .with(Op::GlobalNorm.opcode(), Kernel { run: global_norm, scratch_len: no_scratch })
        .with(adamw_op.opcode(), Kernel { run: adamw, scratch_len: no_scratch })
        .with(sgd_op.opcode(), Kernel { run: sgd, scratch_len: no_scratch })
        .with(Op::Ema { slot: 0 }.opcode(), Kernel { run: ema, scratch_len: no_scratch })
}

fn accumulate(_: &Node<'_>, views: Views<'_, f32>, threads: &dyn Threads) {
    let [g, ..] = views.inputs;
    let [out, ..] = views.outputs;
    let [adds, ..] = views.accumulate;
    let len = per_task(out.len(), 2);
    for_each_chunk(threads, out, len, &|i, out| {
        let g = g.get(i * len..).unwrap_or_default();
        if adds { add(out, g) } else { copy(out, g) }
    });
}

/// Tasks of the norm: each sums whole chunks of [`NORM_CHUNK`] and adds their sums in double precision.
const NORM_TASKS: usize = 64;

fn global_norm(_: &Node<'_>, views: Views<'_, f32>, threads: &dyn Threads) {
    let [out, ..] = views.outputs;
    let grads = views.update.grads;
    let len = grads.len().div_ceil(NORM_CHUNK).div_ceil(NORM_TASKS).max(1) * NORM_CHUNK;
    let mut sums = [0.0f64; NORM_TASKS];
    for_each_chunk(threads, &mut sums, 1, &|i, sum| {
        let grads = grads.get(i * len..).unwrap_or_default();
        sum.fill(sum_of_squares(&grads[..len.min(grads.len())]));
    });
    out.fill(sums.iter().sum::<f64>().sqrt() as f32);
}

simd! {
    /// Σ xᵢ² over chunks of [`NORM_CHUNK`], whose sums are added in double precision, in order.
    fn sum_of_squares<M>(x: &[f32]) -> f64 {
        let mut total = 0.0;
        // Four chunks concurrently: several memory streams are faster than one.
        let mut groups = x.chunks_exact(4 * NORM_CHUNK);
        for group in &mut groups {
            let (left, right) = group.split_at(2 * NORM_CHUNK);
            let ((a, b), (c, d)) = (left.split_at(NORM_CHUNK), right.split_at(NORM_CHUNK));
            let (a, b, c, d) = (a.as_chunks().0, b.as_chunks().0, c.as_chunks().0, d.as_chunks().0);
            let mut sums = [[0.0; LANES]; 4];
            for (((a, b), c), d) in a.iter().zip(b).zip(c).zip(d) {
                let [p, q, r, s] = &mut sums;
                add_squares(p, a);
                add_squares(q, b);
                add_squares(r, c);
                add_squares(s, d);
            }
            sums.into_iter().for_each(|sums| total += f64::from(combine(sums)));
        }
        for chunk in groups.remainder().chunks(NORM_CHUNK) {
            total += f64::from(sum_by(chunk, |x| x * x));
        }
        total
    }
}

#[inline(always)]
fn add_squares(sums: &mut [f32; LANES], x: &[f32; LANES]) {
    for (sum, x) in sums.iter_mut().zip(x) {
        *sum += x * x;
    }
}

fn adamw(node: &Node<'_>, views: Views<'_, f32>, threads: &dyn Threads) {
    let Some(Op::AdamW { decay, epsilon, .. }) = node.op() else { return };
    let [hyper, norm, ..] = views.inputs;
    let Some(hyper) = Hyper::new(hyper, norm, decay) else { return };
    let factors = Factors::new(&hyper, epsilon);
    let grads = gradient(node, &views);
    let [m, v] = views.update.moments;
    let len = per_task(grads.len(), 4);
    for_each_chunk_3(threads, (views.update.weights, len), (m, len), (v, len), &|i, w, m, v| {
        adamw_chunk(factors, w, &grads[i * len..], m, v);
    });
}

/// AdamW coefficients that do not depend on the element: w = w·keep − step·m / (√v·root + ε).
#[derive(Clone, Copy)]
struct Factors {
    clip: f32,
    beta1: f32,
    beta2: f32,
    keep: f32,
    step: f32,
    root: f32,
    eps: f32,
}

impl Factors {
    fn new(hyper: &Hyper<f32>, epsilon: Epsilon) -> Self {
        let root = hyper.correction2.sqrt();
        let (step, root) = match epsilon {
            Epsilon::AfterCorrection => (hyper.lr / hyper.correction1, 1.0 / root),
            Epsilon::BeforeCorrection => (hyper.lr * root / hyper.correction1, 1.0),
        };
        let keep = 1.0 - hyper.lr * hyper.decay;
        Self { clip: hyper.clip, beta1: hyper.beta1, beta2: hyper.beta2, keep, step, root, eps: hyper.eps }
    }
}

simd! {
    /// One step of AdamW.
    fn adamw_chunk<M>(f: Factors, w: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) {
        for (((w, &g), m), v) in w.iter_mut().zip(g).zip(m).zip(v) {
            let g = g * f.clip;
            *m = f.beta1 * *m + (1.0 - f.beta1) * g;
            *v = f.beta2 * *v + (1.0 - f.beta2) * (g * g);
            *w = f.keep * *w - f.step * *m / (v.sqrt() * f.root + f.eps);
        }
    }
}

fn sgd(node: &Node<'_>, views: Views<'_, f32>, threads: &dyn Threads) {
    let Some(Op::Sgd { decay, momentum, .. }) = node.op() else { return };
    let [hyper, norm, ..] = views.inputs;
    let Some(hyper) = Hyper::new(hyper, norm, decay) else { return };
    let grads = gradient(node, &views);
    let len = per_task(grads.len(), 4);
    if momentum == Momentum::None {
        return for_each_chunk(threads, views.update.weights, len, &|i, w| descend(hyper, w, &grads[i * len..]));
    }
    let nesterov = momentum == Momentum::Nesterov;
    let [b, _] = views.update.moments;
    for_each_chunk_2(threads, (views.update.weights, len), (b, len), &|i, w, b| {
        sgd_chunk(hyper, nesterov, w, &grads[i * len..], b);
    });
}

simd! {
    /// One step of SGD without momentum.
    fn descend<M>(hyper: Hyper<f32>, w: &mut [f32], g: &[f32]) {
        for (w, &g) in w.iter_mut().zip(g) {
            *w -= hyper.lr * (g * hyper.clip + hyper.decay * *w);
        }
    }
}

simd! {
    /// One step of SGD with momentum.
    fn sgd_chunk<M>(hyper: Hyper<f32>, nesterov: bool, w: &mut [f32], g: &[f32], b: &mut [f32]) {
        for ((w, &g), b) in w.iter_mut().zip(g).zip(b) {
            let g = g * hyper.clip + hyper.decay * *w;
            *b = hyper.beta1 * *b + g;
            let step = if nesterov { g + hyper.beta1 * *b } else { *b };
            *w -= hyper.lr * step;
        }
    }
}

fn ema(_: &Node<'_>, views: Views<'_, f32>, threads: &dyn Threads) {
    let [decay, ..] = views.inputs;
    let Some(&d) = decay.first() else { return };
    let [average, _] = views.update.moments;
    let weights = &*views.update.weights;
    let len = per_task(average.len(), 2);
    for_each_chunk(threads, average, len, &|i, average| move_average(d, average, &weights[i * len..]));
}

simd! {
    /// e = d e + (1 − d) w.
    fn move_average<M>(d: f32, e: &mut [f32], w: &[f32]) {
        for (e, &w) in e.iter_mut().zip(w) {
            *e = d * *e + (1.0 - d) * w;
        }
    }
}
