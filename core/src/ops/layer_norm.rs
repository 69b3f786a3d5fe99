//! Norms over columns, x (M, C), w and b (C), with statistics (M, 2) saved for the backward pass.
//!
//! Layer norm (Ba, Kiros, Hinton 2016): y = (x − μ) r · w + b with r = 1/√(σ² + ε). With x̂ = (x − μ) r and g = dy · w,
//! dx = r (g − mean(g) − x̂ mean(g x̂)), dw = Σ dy x̂, db = Σ dy.
//!
//! RMS norm (Zhang and Sennrich 2019) is the same without the mean: μ = 0, r = 1/√(mean(x²) + ε), and dx = r (g − x̂ mean(g x̂)).
//! Each has kernels of its own, so that a device links the one that its models use.

use super::{axpy, begin, copy, no_scratch, part, part_mut};
use crate::exec::{Kernel, Kernels, Views};
use crate::graph::args::{Args, Outputs, Refused};
use crate::graph::rules::only;
use crate::graph::{Node, Op};
use crate::math::Real;
use crate::threads::Threads;

const FORWARD: u8 = Op::LayerNorm { eps: 1.0, centre: true }.opcode();
const BACKWARD: u8 = Op::LayerNormBackward { centre: true }.opcode();

/// Adds the forward kernel of one norm to a table: layer norm with `CENTRE`, RMS norm without. The other norm is refused.
pub const fn inference<R: Real, const CENTRE: bool>(table: Kernels<R>) -> Kernels<R> {
    table.define_by::<FORWARD>(only_norm::<FORWARD, CENTRE>, Kernel { run: forward::<R, CENTRE>, scratch_len: no_scratch })
}

/// Adds both kernels of one norm to a table, as [`inference`] does.
pub const fn training<R: Real, const CENTRE: bool>(table: Kernels<R>) -> Kernels<R> {
    inference::<R, CENTRE>(table)
        .define_by::<BACKWARD>(only_norm::<BACKWARD, CENTRE>, Kernel { run: backward::<R, CENTRE>, scratch_len: no_scratch })
}

/// Adds the kernels of this file to a table.
pub const fn kernels<R: Real>(table: Kernels<R>) -> Kernels<R> {
    table
        .define::<FORWARD>(Kernel { run: forward_either, scratch_len: no_scratch })
        .define::<BACKWARD>(Kernel { run: backward_either, scratch_len: no_scratch })
}

/// The shape rule for the kernel of one of the norms.
fn only_norm<const OPCODE: u8, const CENTRE: bool>(op: &Op, args: &Args<'_, Refused>) -> Result<Outputs, Refused> {
    if is_centred(op) == CENTRE { only::<OPCODE>(op, args) } else { Err(Refused) }
}

/// Whether the mean is subtracted.
fn is_centred(op: &Op) -> bool {
    matches!(op, Op::LayerNorm { centre: true, .. } | Op::LayerNormBackward { centre: true })
}

fn forward_either<R: Real>(node: &Node<'_>, views: Views<'_, R>, threads: &dyn Threads) {
    let run = if node.op().is_some_and(|op| is_centred(&op)) { forward::<R, true> } else { forward::<R, false> };
    run(node, views, threads);
}

fn backward_either<R: Real>(node: &Node<'_>, views: Views<'_, R>, threads: &dyn Threads) {
    let run = if node.op().is_some_and(|op| is_centred(&op)) { backward::<R, true> } else { backward::<R, false> };
    run(node, views, threads);
}

fn forward<R: Real, const CENTRE: bool>(node: &Node<'_>, views: Views<'_, R>, _: &dyn Threads) {
    let Some(Op::LayerNorm { eps, .. }) = node.op() else { return };
    let [x, w, b, ..] = views.inputs;
    let [y, statistics, _] = views.outputs;
    let c = node.input_shape(0).cols();
    for (i, x) in x.chunks_exact(c.max(1)).enumerate() {
        let (mean, scale) = statistics_of::<R, CENTRE>(x, R::from_f64(eps));
        if let [m, s] = part_mut(statistics, i.wrapping_mul(2), 2) {
            (*m, *s) = (mean, scale);
        }
        for (j, (y, &x)) in part_mut(y, i.wrapping_mul(c), c).iter_mut().zip(x).enumerate() {
            *y = (x - mean) * scale * weight(w, j) + b.get(j).copied().unwrap_or(R::ZERO);
        }
    }
}

/// μ and 1/√(σ² + ε), in two passes; 0 and 1/√(mean x² + ε) without `CENTRE`.
fn statistics_of<R: Real, const CENTRE: bool>(x: &[R], eps: R) -> (R, R) {
    let n = R::from_usize(x.len());
    let mean = if CENTRE { x.iter().fold(R::ZERO, |sum, &x| sum + x) / n } else { R::ZERO };
    let variance = x.iter().fold(R::ZERO, |sum, &x| sum + (x - mean) * (x - mean)) / n;
    (mean, R::ONE / (variance + eps).sqrt())
}

fn weight<R: Real>(w: &[R], j: usize) -> R {
    w.get(j).copied().unwrap_or(R::ONE)
}

fn backward<R: Real, const CENTRE: bool>(node: &Node<'_>, views: Views<'_, R>, _: &dyn Threads) {
    let [dy, x, w, statistics, addend, ..] = views.inputs;
    let [dx, dw, db] = views.outputs;
    let [add_x, add_w, add_b] = views.accumulate;
    let c = node.input_shape(1).cols();
    let n = R::from_usize(c);
    if !node.has_input(4) {
        begin(dx, add_x);
    } else if !addend.is_empty() {
        copy(dx, addend);
    }
    begin(dw, add_w);
    begin(db, add_b);
    // Rows of x are split by hand: zipped chunks divide by their size out of line, where the optimiser cannot see that it is not 0.
    for (i, dy) in dy.chunks_exact(c.max(1)).enumerate() {
        let x = part(x, i.wrapping_mul(c), c);
        let &[mean, scale] = part(statistics, i.wrapping_mul(2), 2) else { continue };
        let normed = |x: R| (x - mean) * scale;
        let mut sum = R::ZERO;
        let mut product = R::ZERO;
        for (j, (&dy, &x)) in dy.iter().zip(x).enumerate() {
            let g = dy * weight(w, j);
            sum += g;
            product += g * normed(x);
        }
        let mean_g = if CENTRE { sum / n } else { R::ZERO };
        for (j, ((dx, &dy), &x)) in part_mut(dx, i.wrapping_mul(c), c).iter_mut().zip(dy).zip(x).enumerate() {
            *dx += scale * (dy * weight(w, j) - mean_g - normed(x) * (product / n));
        }
        for ((dw, &dy), &x) in dw.iter_mut().zip(dy).zip(x) {
            *dw += dy * normed(x);
        }
        axpy(db, R::ONE, dy);
    }
}
