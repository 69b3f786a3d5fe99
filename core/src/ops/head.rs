//! The language-model head with its cross-entropy: logits z = x Wᵀ + b, row loss ℓ = lse(z) − Σ q z with the target distribution q = (1 − α)·one-hot
//! + α/V, in nats. A negative target gives ℓ = 0 and no gradient. The entropy of softmax(z) is an optional output.
//!
//! With p = softmax(z), upstream gradients g of the loss and u of the entropy H per row: dz = g (p − q) − u p (ln p + H), dx = dz W, dW = dzᵀ x,
//! db = Σ dz; g is 0 where the target is negative. The logits of one row at a time are in memory here, of a chunk of rows in faster kernels, never of
//! all rows. A frozen W may be of any element type: then there is no dW.

use super::weight::{self, Row, Weight};
use super::{axpy, begin, part_mut};
use crate::exec::{Kernel, Kernels, Views};
use crate::graph::{Node, Op};
use crate::math::Real;
use crate::threads::Threads;

/// Adds the kernels of this file to a table.
pub const fn kernels<R: Real>(table: Kernels<R>) -> Kernels<R> {
    table
        .define::<{ Op::HeadLoss { smoothing: 0.0 }.opcode() }>(Kernel { run: forward, scratch_len: forward_scratch })
        .define::<{ Op::HeadLossTrain { smoothing: 0.0 }.opcode() }>(Kernel { run: train, scratch_len: gradient_scratch })
        .define::<{ Op::HeadLossBackward { smoothing: 0.0 }.opcode() }>(Kernel { run: backward, scratch_len: gradient_scratch })
}

/// Adds the gradient of the loss and the entropy together, which no device trains with.
pub const fn entropy_kernel<R: Real>(table: Kernels<R>) -> Kernels<R> {
    let kernel = Kernel { run: entropy_backward, scratch_len: gradient_scratch };
    table.define::<{ Op::HeadEntropyBackward { smoothing: 0.0 }.opcode() }>(kernel)
}

/// One row of logits.
fn logits_len(node: &Node<'_>) -> usize {
    node.input_shape(1).rows()
}

/// Scratch: a row of logits, and a quantised row of activations.
fn forward_scratch(node: &Node<'_>) -> usize {
    logits_len(node).saturating_add(weight::scratch_len(node, 1))
}

/// Scratch: a row of logits, and a dequantised row of the weight instead of the activations.
fn gradient_scratch(node: &Node<'_>) -> usize {
    logits_len(node).saturating_add(weight::scratch_len(node, 1).max(weight::row_scratch_len(node, 1)))
}

/// z = x Wᵀ + b for one row.
fn logits<R: Real>(z: &mut [R], w: &Weight<'_, R>, x: &Row<'_, R>, b: &[R]) {
    w.dots(0, x, z);
    axpy(z, R::ONE, b);
}

/// ln Σ eᶻ.
fn log_sum_exp<R: Real>(z: &[R]) -> R {
    let max = z.iter().fold(R::NEG_INFINITY, |max, &z| max.max(z));
    max + z.iter().fold(R::ZERO, |sum, &z| sum + (z - max).exp()).ln()
}

/// Entropy −Σ p ln p = lse − Σ p z of a row of logits with this log-sum-exp, in nats.
fn entropy<R: Real>(z: &[R], lse: R) -> R {
    lse - z.iter().fold(R::ZERO, |sum, &z| sum + (z - lse).exp() * z)
}

/// The loss of a row of logits whose log-sum-exp is known.
pub fn row_loss<R: Real>(z: &[R], lse: R, target: i32, smoothing: R) -> R {
    let Some(&hit) = usize::try_from(target).ok().and_then(|t| z.get(t)) else { return R::ZERO };
    if smoothing == R::ZERO {
        return lse - hit;
    }
    let mean = z.iter().fold(R::ZERO, |sum, &z| sum + z) / R::from_usize(z.len());
    lse - (R::ONE - smoothing) * hit - smoothing * mean
}

/// Turns a row of logits into the gradient of the loss, times `g`.
pub fn row_gradient<R: Real>(z: &mut [R], lse: R, target: i32, smoothing: R, g: R) {
    let Some(target) = usize::try_from(target).ok().filter(|&t| t < z.len()) else {
        z.fill(R::ZERO);
        return;
    };
    let uniform = smoothing / R::from_usize(z.len());
    for z in z.iter_mut() {
        *z = ((*z - lse).exp() - uniform) * g;
    }
    if let Some(z) = z.get_mut(target) {
        *z -= (R::ONE - smoothing) * g;
    }
}

/// Turns a row of logits into `g` times the gradient of the loss and `u` times that of the entropy.
fn row_entropy_gradient<R: Real>(z: &mut [R], (lse, entropy): (R, R), target: i32, smoothing: R, [g, u]: [R; 2]) {
    let target = usize::try_from(target).ok().filter(|&t| t < z.len());
    let g = if target.is_some() { g } else { R::ZERO };
    let uniform = smoothing / R::from_usize(z.len());
    for z in z.iter_mut() {
        let log_p = *z - lse;
        let p = log_p.exp();
        *z = (p - uniform) * g - u * p * (log_p + entropy);
    }
    if let Some(z) = target.and_then(|target| z.get_mut(target)) {
        *z -= (R::ONE - smoothing) * g;
    }
}

/// The upstream gradient of row `i`: one value for all rows, or one per row.
pub fn upstream_of<R: Real>(upstream: &[R], i: usize) -> R {
    upstream.get(if upstream.len() == 1 { 0 } else { i }).copied().unwrap_or(R::ZERO)
}

fn forward<R: Real>(node: &Node<'_>, views: Views<'_, R>, _: &dyn Threads) {
    let Some(Op::HeadLoss { smoothing }) = node.op() else { return };
    let w = Weight::new(node, &views, 1);
    let [x, _, b, ..] = views.inputs;
    let [_, _, _, targets, ..] = views.ints;
    let [losses, lses, entropies] = views.outputs;
    let c = node.input_shape(0).cols();
    let Some((z, scratch)) = views.scratch.split_at_mut_checked(logits_len(node)) else { return };
    for (i, (x, &target)) in x.chunks_exact(c.max(1)).zip(targets).enumerate() {
        logits(z, &w, &w.prepare(x, scratch), b);
        let lse = log_sum_exp(z);
        if let Some(loss) = losses.get_mut(i) {
            *loss = row_loss(z, lse, target, R::from_f64(smoothing));
        }
        if let Some(to) = lses.get_mut(i) {
            *to = lse;
        }
        if let Some(to) = entropies.get_mut(i) {
            *to = entropy(z, lse);
        }
    }
}

fn train<R: Real>(node: &Node<'_>, views: Views<'_, R>, _: &dyn Threads) {
    let Some(Op::HeadLossTrain { smoothing }) = node.op() else { return };
    let w = Weight::new(node, &views, 1);
    let [x, _, _, _, upstream, ..] = views.inputs;
    let [_, _, _, targets, ..] = views.ints;
    let [losses, dx, dw] = views.outputs;
    let [_, _, add_w] = views.accumulate;
    let smoothing = R::from_f64(smoothing);
    let c = node.input_shape(0).cols();
    begin(dx, false);
    begin(dw, add_w);
    let Some((z, scratch)) = views.scratch.split_at_mut_checked(logits_len(node)) else { return };
    for (i, (x, &target)) in x.chunks_exact(c.max(1)).zip(targets).enumerate() {
        logits(z, &w, &w.prepare(x, scratch), &[]);
        let lse = log_sum_exp(z);
        if let Some(loss) = losses.get_mut(i) {
            *loss = row_loss(z, lse, target, smoothing);
        }
        row_gradient(z, lse, target, smoothing, upstream_of(upstream, i));
        spread_row(z, x, (&w, scratch), part_mut(dx, i.wrapping_mul(c), c), dw);
    }
}

fn backward<R: Real>(node: &Node<'_>, views: Views<'_, R>, _: &dyn Threads) {
    let Some(Op::HeadLossBackward { smoothing }) = node.op() else { return };
    let [_, _, _, _, upstream, ..] = views.inputs;
    spread_rows(node, views, |z, (i, lse, target)| {
        row_gradient(z, lse, target, R::from_f64(smoothing), upstream_of(upstream, i));
    });
}

fn entropy_backward<R: Real>(node: &Node<'_>, views: Views<'_, R>, _: &dyn Threads) {
    let Some(Op::HeadEntropyBackward { smoothing }) = node.op() else { return };
    let [_, _, _, _, upstream, _, of_entropy, ..] = views.inputs;
    spread_rows(node, views, |z, (i, lse, target)| {
        let upstreams = [upstream, of_entropy].map(|upstream| upstream_of(upstream, i));
        row_entropy_gradient(z, (lse, entropy(z, lse)), target, R::from_f64(smoothing), upstreams);
    });
}

/// dx, dW and db of all rows. `gradient` turns the logits of a row into dz, given its number, log-sum-exp and target.
// Devices link one of the two kernels: in line it is as small as with a loop of its own.
#[inline(always)]
fn spread_rows<R: Real>(node: &Node<'_>, views: Views<'_, R>, gradient: impl Fn(&mut [R], (usize, R, i32))) {
    let w = Weight::new(node, &views, 1);
    let [x, _, b, _, _, lses, ..] = views.inputs;
    let [_, _, _, targets, ..] = views.ints;
    let [dx, dw, db] = views.outputs;
    let [_, add_w, add_b] = views.accumulate;
    let c = node.input_shape(0).cols();
    begin(dx, false);
    begin(dw, add_w);
    begin(db, add_b);
    let Some((z, scratch)) = views.scratch.split_at_mut_checked(logits_len(node)) else { return };
    for (i, ((x, &target), &lse)) in x.chunks_exact(c.max(1)).zip(targets).zip(lses).enumerate() {
        logits(z, &w, &w.prepare(x, scratch), b);
        gradient(z, (i, lse, target));
        spread_row(z, x, (&w, scratch), part_mut(dx, i.wrapping_mul(c), c), dw);
        axpy(db, R::ONE, z);
    }
}

/// dx += dz W and dW += dzᵀ x for one row.
fn spread_row<R: Real>(dz: &[R], x: &[R], (w, scratch): (&Weight<'_, R>, &mut [R]), dx: &mut [R], dw: &mut [R]) {
    let k = x.len();
    for (j, &g) in dz.iter().enumerate() {
        if !dx.is_empty() {
            axpy(dx, g, w.row(j, scratch));
        }
        axpy(part_mut(dw, j.wrapping_mul(k), k), g, x);
    }
}
