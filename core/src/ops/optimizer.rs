//! Global gradient norm, optimizers, moving average, and accumulation of gradients from the arena.

use super::{begin, no_scratch};
use crate::exec::{Kernel, Kernels, Views};
use crate::graph::{Epsilon, Momentum, Node, Op};
use crate::math::Real;
use crate::threads::Threads;

/// Adds the optimizers to a table.
pub const fn updates<R: Real>(table: Kernels<R>) -> Kernels<R> {
    const ADAMW: u8 = Op::AdamW { start: 0, len: 0, decay: false, epsilon: Epsilon::AfterCorrection }.opcode();
    const SGD: u8 = Op::Sgd { start: 0, len: 0, decay: false, momentum: Momentum::Classical }.opcode();
    table
        .define::<ADAMW>(Kernel { run: adamw, scratch_len: no_scratch })
        .define::<SGD>(Kernel { run: sgd, scratch_len: no_scratch })
}

/// Adds the kernels of this file to a table.
pub const fn kernels<R: Real>(table: Kernels<R>) -> Kernels<R> {
    updates(table)
        .define::<{ Op::AccumulateGrad.opcode() }>(Kernel { run: accumulate, scratch_len: no_scratch })
        .define::<{ Op::GlobalNorm.opcode() }>(Kernel { run: global_norm, scratch_len: no_scratch })
        .define::<{ Op::Ema { slot: 0 }.opcode() }>(Kernel { run: ema, scratch_len: no_scratch })
}

/// Also the fast kernel.
pub fn accumulate<R: Real>(_: &Node<'_>, views: Views<'_, R>, _: &dyn Threads) {
    let [g, ..] = views.inputs;
    let [out, ..] = views.outputs;
    let [add, ..] = views.accumulate;
    begin(out, add);
    out.iter_mut().zip(g).for_each(|(out, &g)| *out += g);
}

/// Squares are summed in this many elements before the sums are added in double precision.
pub const NORM_CHUNK: usize = 4096;

fn global_norm<R: Real>(_: &Node<'_>, views: Views<'_, R>, _: &dyn Threads) {
    let [out, ..] = views.outputs;
    let sum = views.update.grads.iter().fold(0.0, |sum, g| sum + g.to_f64() * g.to_f64());
    out.fill(R::from_f64(libm::sqrt(sum)));
}

/// The hyper-parameters of an update, see [`crate::graph::HYPER_LEN`].
#[derive(Clone, Copy, Debug)]
pub struct Hyper<R> {
    /// Learning rate.
    pub lr: R,
    /// β₁, or momentum.
    pub beta1: R,
    /// β₂.
    pub beta2: R,
    /// ε.
    pub eps: R,
    /// Weight decay, 0 for groups without.
    pub decay: R,
    /// 1 − β₁ᵗ.
    pub correction1: R,
    /// 1 − β₂ᵗ.
    pub correction2: R,
    /// The factor that clips gradients: min(1, largest norm / (norm + 1e-6)), as PyTorch's `clip_grad_norm_`.
    pub clip: R,
}

impl<R: Real> Hyper<R> {
    /// From the node's inputs.
    pub fn new(hyper: &[R], norm: &[R], decays: bool) -> Option<Self> {
        let &[lr, beta1, beta2, eps, decay, correction1, correction2, max_norm] = hyper else { return None };
        let clip = match norm.first() {
            Some(&norm) if max_norm > R::ZERO => (max_norm / (norm + R::from_f64(1e-6))).min(R::ONE),
            _ => R::ONE,
        };
        let decay = if decays { decay } else { R::ZERO };
        Some(Self { lr, beta1, beta2, eps, decay, correction1, correction2, clip })
    }

    /// One step of AdamW: m = β₁m + (1−β₁)g, v = β₂v + (1−β₂)g², w = w(1 − lr·decay) − step m / (√v / d + ε).
    #[inline(always)]
    pub fn adamw(&self, epsilon: Epsilon, w: &mut R, g: R, m: &mut R, v: &mut R) {
        let g = g * self.clip;
        *m = self.beta1 * *m + (R::ONE - self.beta1) * g;
        *v = self.beta2 * *v + (R::ONE - self.beta2) * g * g;
        let root = self.correction2.sqrt();
        let update = match epsilon {
            Epsilon::AfterCorrection => self.lr / self.correction1 * *m / (v.sqrt() / root + self.eps),
            Epsilon::BeforeCorrection => self.lr * root / self.correction1 * *m / (v.sqrt() + self.eps),
        };
        *w = *w * (R::ONE - self.lr * self.decay) - update;
    }
}

/// The gradient that an update reads: its input in the arena if present, else the gradient buffer.
pub fn gradient<'a, R>(node: &Node<'_>, views: &Views<'a, R>) -> &'a [R] {
    let [_, _, gradient, ..] = views.inputs;
    if node.has_input(2) { gradient } else { views.update.grads }
}

fn adamw<R: Real>(node: &Node<'_>, views: Views<'_, R>, _: &dyn Threads) {
    let Some(Op::AdamW { decay, epsilon, .. }) = node.op() else { return };
    let [hyper, norm, ..] = views.inputs;
    let Some(hyper) = Hyper::new(hyper, norm, decay) else { return };
    let grads = gradient(node, &views);
    let [m, v] = views.update.moments;
    for (((w, &g), m), v) in views.update.weights.iter_mut().zip(grads).zip(m).zip(v) {
        hyper.adamw(epsilon, w, g, m, v);
    }
}

/// PyTorch's SGD: g += decay·w, then w −= lr·g without momentum; with it b = momentum·b + g and w −= lr·b, or lr·(g + momentum·b) with Nesterov's.
/// b starts as 0, so that the first step has b = g as in PyTorch.
fn sgd<R: Real>(node: &Node<'_>, views: Views<'_, R>, _: &dyn Threads) {
    let Some(Op::Sgd { decay, momentum, .. }) = node.op() else { return };
    let [hyper, norm, ..] = views.inputs;
    let Some(hyper) = Hyper::new(hyper, norm, decay) else { return };
    let grads = gradient(node, &views);
    let weights = views.update.weights.iter_mut().zip(grads);
    if momentum == Momentum::None {
        return weights.for_each(|(w, &g)| *w -= hyper.lr * (g * hyper.clip + hyper.decay * *w));
    }
    let [b, _] = views.update.moments;
    for ((w, &g), b) in weights.zip(b) {
        let g = g * hyper.clip + hyper.decay * *w;
        *b = hyper.beta1 * *b + g;
        let step = if momentum == Momentum::Nesterov { g + hyper.beta1 * *b } else { *b };
        *w -= hyper.lr * step;
    }
}

fn ema<R: Real>(_: &Node<'_>, views: Views<'_, R>, _: &dyn Threads) {
    let [decay, ..] = views.inputs;
    let Some(&d) = decay.first() else { return };
    let [average, _] = views.update.moments;
    for (e, w) in average.iter_mut().zip(views.update.weights) {
        *e = d * *e + (R::ONE - d) * *w;
    }
}
