//! Elementwise functions of one or two tensors on long slices: see `samara_core::ops::elementwise`.

use samara_core::exec::{Kernel, Kernels, Views};
use samara_core::graph::{BinaryKind, Node, Op, Over, UnaryKind};
use samara_core::math::fast;
use samara_core::ops::elementwise as reference;
use samara_core::threads::Threads;

use super::simd::simd;
use super::{no_scratch, per_task};
use crate::tiles::for_each_chunk;

pub(super) fn kernels(table: Kernels<f32>) -> Kernels<f32> {
    let kind = UnaryKind::Scale;
    let binary = Op::Binary { kind: BinaryKind::Add, over: Over::Same };
    table
        .with(Op::Unary { kind, a: 0.0, b: 0.0 }.opcode(), Kernel { run: unary, scratch_len: no_scratch })
        .with(Op::UnaryBackward { kind, a: 0.0, b: 0.0 }.opcode(), Kernel { run: unary_backward, scratch_len: no_scratch })
        .with(binary.opcode(), Kernel { run: binary_forward, scratch_len: no_scratch })
}

/// About how many simple operations the function takes.
fn work(kind: UnaryKind) -> usize {
    match kind {
        UnaryKind::Scale
        | UnaryKind::Offset
        | UnaryKind::Relu
        | UnaryKind::Square
        | UnaryKind::Reciprocal
        | UnaryKind::Abs
        | UnaryKind::Sqrt
        | UnaryKind::Clamp => 2,
        UnaryKind::Exp
        | UnaryKind::Tanh
        | UnaryKind::Sigmoid
        | UnaryKind::GeluTanh
        | UnaryKind::GeluErf
        | UnaryKind::Silu
        | UnaryKind::QuickGelu => 16,
        UnaryKind::Ln | UnaryKind::LogSigmoid => 64,
    }
}

fn unary(node: &Node<'_>, views: Views<'_, f32>, threads: &dyn Threads) {
    let Some(Op::Unary { kind, a, b }) = node.op() else { return };
    let [x, ..] = views.inputs;
    let [y, ..] = views.outputs;
    let len = per_task(y.len(), work(kind));
    for_each_chunk(threads, y, len, &|i, y| {
        copy(y, x.get(i * len..).unwrap_or_default());
        apply(kind, a as f32, b as f32, y);
    });
}

fn unary_backward(node: &Node<'_>, views: Views<'_, f32>, threads: &dyn Threads) {
    let Some(Op::UnaryBackward { kind, a, b }) = node.op() else { return };
    let [dy, x, ..] = views.inputs;
    let [dx, ..] = views.outputs;
    let len = per_task(dx.len(), work(kind));
    for_each_chunk(threads, dx, len, &|i, dx| {
        copy(dx, dy.get(i * len..).unwrap_or_default());
        multiply_derivative(kind, a as f32, b as f32, x.get(i * len..).unwrap_or_default(), dx);
    });
}

/// x becomes f′(x).
pub(super) fn become_slope(kind: UnaryKind, x: &mut [f32]) {
    let mut piece = [0.0; 256];
    for x in x.chunks_mut(256) {
        let piece = &mut piece[..x.len()];
        copy(piece, x);
        apply_with_slope(kind, piece, x);
    }
}

/// y += f(x); with `slope`, x becomes f′(x).
pub(super) fn add_applied(kind: UnaryKind, slope: bool, x: &mut [f32], y: &mut [f32]) {
    let mut piece = [0.0; 256];
    for (x, y) in x.chunks_mut(256).zip(y.chunks_mut(256)) {
        let piece = &mut piece[..x.len()];
        copy(piece, x);
        if slope {
            apply_with_slope(kind, piece, x);
        } else {
            apply(kind, 0.0, 0.0, piece);
        }
        add(y, piece);
    }
}

/// Copies up to the shorter length.
#[inline]
pub(super) fn copy(to: &mut [f32], from: &[f32]) {
    let len = to.len().min(from.len());
    to[..len].copy_from_slice(&from[..len]);
}

simd! {
    /// y += x, up to the shorter length.
    pub(super) fn add<M>(y: &mut [f32], x: &[f32]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y += x;
        }
    }
}

simd! {
    /// y = f(y).
    pub(super) fn apply<M>(kind: UnaryKind, a: f32, b: f32, y: &mut [f32]) {
        match kind {
            UnaryKind::Scale => each(y, |x| a * x),
            UnaryKind::Offset => each(y, |x| x + a),
            UnaryKind::Exp => each(y, fast::exp),
            UnaryKind::Tanh => each(y, fast::tanh),
            UnaryKind::Sigmoid => each(y, fast::sigmoid),
            UnaryKind::Relu => each(y, |x| if x <= 0.0 { 0.0 } else { x }),
            UnaryKind::GeluTanh => each(y, fast::gelu_tanh::<M>),
            UnaryKind::GeluErf => each(y, fast::gelu_erf::<M>),
            UnaryKind::Silu => each(y, |x| fast::swish::<M>(1.0, x)),
            UnaryKind::QuickGelu => each(y, |x| fast::swish::<M>(fast::QUICK_GELU, x)),
            UnaryKind::Square => each(y, |x| x * x),
            UnaryKind::Sqrt => each(y, f32::sqrt),
            UnaryKind::Reciprocal => each(y, |x| 1.0 / x),
            UnaryKind::Abs => each(y, f32::abs),
            UnaryKind::Ln | UnaryKind::LogSigmoid | UnaryKind::Clamp => each(y, |x| reference::unary(kind, a, b, x)),
        }
    }
}

simd! {
    /// slope = f′(y), then y = f(y), with the bits of [`apply`] and of 1 · [`multiply_derivative`]. For the activations of linear layers.
    pub(super) fn apply_with_slope<M>(kind: UnaryKind, y: &mut [f32], slope: &mut [f32]) {
        match kind {
            UnaryKind::Relu => each_pair(y, slope, |x| if x > 0.0 { (x, 1.0) } else if x <= 0.0 { (0.0, 0.0) } else { (x, 0.0) }),
            UnaryKind::GeluTanh => each_pair(y, slope, fast::gelu_tanh_and_derivative::<M>),
            UnaryKind::GeluErf => each_pair(y, slope, fast::gelu_erf_and_derivative::<M>),
            UnaryKind::Silu => each_pair(y, slope, |x| fast::swish_and_derivative::<M>(1.0, x)),
            UnaryKind::QuickGelu => each_pair(y, slope, |x| fast::swish_and_derivative::<M>(fast::QUICK_GELU, x)),
            _ => each_pair(y, slope, |x| (reference::unary(kind, 0.0, 0.0, x), reference::derivative(kind, 0.0, 0.0, x))),
        }
    }
}

simd! {
    /// dx = dx f′(x).
    fn multiply_derivative<M>(kind: UnaryKind, a: f32, b: f32, x: &[f32], dx: &mut [f32]) {
        match kind {
            UnaryKind::Exp => each_2(dx, x, fast::exp),
            UnaryKind::Tanh => each_2(dx, x, |x| {
                let t = fast::tanh(x);
                1.0 - t * t
            }),
            UnaryKind::Sigmoid => each_2(dx, x, |x| {
                let s = fast::sigmoid(x);
                s * (1.0 - s)
            }),
            UnaryKind::Relu => each_2(dx, x, |x| if x > 0.0 { 1.0 } else { 0.0 }),
            UnaryKind::GeluTanh => each_2(dx, x, fast::gelu_tanh_derivative::<M>),
            UnaryKind::GeluErf => each_2(dx, x, fast::gelu_erf_derivative::<M>),
            UnaryKind::Silu => each_2(dx, x, |x| fast::swish_derivative::<M>(1.0, x)),
            UnaryKind::QuickGelu => each_2(dx, x, |x| fast::swish_derivative::<M>(fast::QUICK_GELU, x)),
            UnaryKind::Square => each_2(dx, x, |x| x + x),
            UnaryKind::Scale
            | UnaryKind::Offset
            | UnaryKind::Ln
            | UnaryKind::LogSigmoid
            | UnaryKind::Sqrt
            | UnaryKind::Reciprocal
            | UnaryKind::Abs
            | UnaryKind::Clamp => each_2(dx, x, |x| reference::derivative(kind, a, b, x)),
        }
    }
}

#[inline(always)]
fn each(y: &mut [f32], f: impl Fn(f32) -> f32) {
    // A closure passed to `for_each` may be compiled separately, without this function's target features.
    for y in y {
        *y = f(*y);
    }
}

#[inline(always)]
fn each_pair(y: &mut [f32], slope: &mut [f32], f: impl Fn(f32) -> (f32, f32)) {
    for (y, slope) in y.iter_mut().zip(slope) {
        (*y, *slope) = f(*y);
    }
}

#[inline(always)]
fn each_2(dx: &mut [f32], x: &[f32], f: impl Fn(f32) -> f32) {
    for (dx, &x) in dx.iter_mut().zip(x) {
        *dx *= f(x);
    }
}

/// Tasks are whole rows or batch items where the smaller operand has one element per column, row or position of an item.
fn binary_forward(node: &Node<'_>, views: Views<'_, f32>, threads: &dyn Threads) {
    let Some(Op::Binary { kind, over }) = node.op() else { return };
    let [a, b, ..] = views.inputs;
    let [y, ..] = views.outputs;
    let shape = node.output_shape(0);
    let unit = match over {
        Over::Same | Over::Scalar => 1,
        Over::Row | Over::Column => shape.cols().max(1),
        Over::Batch => shape.without_batch().len().max(1),
    };
    let len = per_task(y.len().div_ceil(unit), unit) * unit;
    for_each_chunk(threads, y, len, &|i, y| {
        let a = a.get(i * len..).unwrap_or_default();
        if over != Over::Same {
            copy(y, a);
        }
        match over {
            Over::Same => combine_pieces(kind, y, a, b.get(i * len..).unwrap_or_default()),
            Over::Scalar => combine_one(kind, y, b.first().copied().unwrap_or(0.0)),
            Over::Row | Over::Batch => y.chunks_mut(unit).for_each(|y| combine(kind, y, b)),
            Over::Column => {
                let rows = b.get(i * len / unit..).unwrap_or_default();
                y.chunks_mut(unit).zip(rows).for_each(|(y, &b)| combine_one(kind, y, b));
            }
        }
    });
}

/// y = f(a, b); f(y, b) in place, where a is empty. A copied piece of y is still in the L1 cache when f is applied to it.
fn combine_pieces(kind: BinaryKind, y: &mut [f32], a: &[f32], b: &[f32]) {
    const PIECE: usize = 4096;
    if a.is_empty() {
        return combine(kind, y, b);
    }
    for (i, y) in y.chunks_mut(PIECE).enumerate() {
        copy(y, a.get(i * PIECE..).unwrap_or_default());
        combine(kind, y, b.get(i * PIECE..).unwrap_or_default());
    }
}

simd! {
    /// y = f(y, b), as many elements as both have.
    fn combine<M>(kind: BinaryKind, y: &mut [f32], b: &[f32]) {
        match kind {
            BinaryKind::Add => zip(y, b, |a, b| a + b),
            BinaryKind::Sub => zip(y, b, |a, b| a - b),
            BinaryKind::Mul => zip(y, b, |a, b| a * b),
            BinaryKind::Div => zip(y, b, |a, b| a / b),
            BinaryKind::Min | BinaryKind::Max => zip(y, b, |a, b| reference::binary(kind, a, b)),
        }
    }
}

simd! {
    /// y = f(y, b) with one value b.
    fn combine_one<M>(kind: BinaryKind, y: &mut [f32], b: f32) {
        match kind {
            BinaryKind::Add => each(y, |a| a + b),
            BinaryKind::Sub => each(y, |a| a - b),
            BinaryKind::Mul => each(y, |a| a * b),
            BinaryKind::Div => each(y, |a| a / b),
            BinaryKind::Min | BinaryKind::Max => each(y, |a| reference::binary(kind, a, b)),
        }
    }
}

#[inline(always)]
fn zip(y: &mut [f32], b: &[f32], f: impl Fn(f32, f32) -> f32) {
    for (y, &b) in y.iter_mut().zip(b) {
        *y = f(*y, b);
    }
}
