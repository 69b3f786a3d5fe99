//! Reference kernels, one file per family: formula, shapes, forward and backward side by side.
//!
//! They are generic over `f32` and `f64`, run on one thread, and stay as the oracle of every faster kernel. No kernel has a panic path: it skips
//! out-of-bounds parts, which the checks at build time rule out.

pub mod attention;
pub mod cache;
pub mod convolution;
pub mod dropout;
pub mod elementwise;
pub mod embedding;
pub mod head;
pub mod layer_norm;
pub mod linear;
pub mod optimizer;
pub mod pooling;
pub mod reduce;
pub mod rotary;
pub mod soft_loss;
pub mod tokens;
pub mod weight;

use self::elementwise::{Activations, Every, Gelu, Swish};
use crate::exec::Kernels;
use crate::graph::{Op, UnaryKind};
use crate::math::Real;

/// The kernels for inference of a GPT and no others: what a device without training links. As the value of a `static` it is in flash.
pub const fn inference<R: Real>() -> Kernels<R> {
    inference_with::<R, Gelu>()
}

/// [`inference`] with these activations: [`elementwise::GeluTanh`] for a GPT-2, whose activation is `gelu_new`.
pub const fn inference_with<R: Real, A: Activations>() -> Kernels<R> {
    layer_norm::inference::<R, true>(every_inference::<R, A>())
}

/// [`inference`] and the kernels for training on a device: losses, gradients, updates.
pub const fn training<R: Real>() -> Kernels<R> {
    training_with::<R, Gelu>()
}

/// [`training`] with these activations, as [`inference_with`].
pub const fn training_with<R: Real, A: Activations>() -> Kernels<R> {
    layer_norm::training::<R, true>(every_training::<R, A>())
}

/// The kernels for inference of a Llama, as [`inference`] for a GPT: RMS norm, rotary embeddings, gated layers.
pub const fn llama_inference<R: Real>() -> Kernels<R> {
    let table = layer_norm::inference::<R, false>(every_inference::<R, Swish>());
    elementwise::binary_kernels(rotary::kernels(table))
}

/// [`llama_inference`] and the kernels for training on a device, as [`training`] for a GPT.
pub const fn llama_training<R: Real>() -> Kernels<R> {
    let table = layer_norm::training::<R, false>(every_training::<R, Swish>());
    rotary::kernels(table)
}

/// The kernels for inference of a Vision Transformer with these activations, with prompts or without: [`elementwise::GeluErf`] for most of them.
pub const fn vit_inference<R: Real, A: Activations>() -> Kernels<R> {
    let table = layer_norm::inference::<R, true>(linear::inference::<R, A>(Kernels::EMPTY));
    of_tokens(attention::inference(table))
}

/// [`vit_inference`] and the kernels for training on a device: losses, gradients, updates.
pub const fn vit_training<R: Real, A: Activations>() -> Kernels<R> {
    let table = layer_norm::training::<R, true>(linear::kernels::<R, A>(Kernels::EMPTY));
    let table = elementwise::activation_kernels::<R, A>(head::kernels(attention::kernels(table)));
    reduce::gradient_kernels(tokens::gradient_kernels(of_tokens(optimizer::updates(table))))
}

/// The kernels by which tokens are put together, and added to.
const fn of_tokens<R: Real>(table: Kernels<R>) -> Kernels<R> {
    elementwise::binary_kernels(reduce::broadcast_kernel(tokens::inference(table)))
}

/// The kernels for inference of every transformer: linear layers with these activations, embeddings, attention, caches.
const fn every_inference<R: Real, A: Activations>() -> Kernels<R> {
    let table = linear::inference::<R, A>(Kernels::EMPTY);
    let table = embedding::inference(table);
    let table = attention::inference(table);
    cache::inference(table)
}

/// The kernels for training every transformer: [`every_inference`], losses, gradients, updates.
const fn every_training<R: Real, A: Activations>() -> Kernels<R> {
    let table = linear::kernels::<R, A>(every_inference::<R, A>());
    let table = embedding::kernels(table);
    let table = attention::kernels(table);
    let table = head::kernels(table);
    optimizer::updates(elementwise::binary_kernels(table))
}

/// Every operation's reference kernel.
pub const fn reference<R: Real>() -> Kernels<R> {
    let table = Kernels::EMPTY;
    let table = linear::kernels::<R, Every>(table);
    let table = layer_norm::kernels(table);
    let table = embedding::kernels(table);
    let table = attention::kernels(table);
    let table = cache::kernels(table);
    let table = head::entropy_kernel(head::kernels(table));
    let table = dropout::kernels(table);
    let table = elementwise::kernels(table);
    let table = reduce::kernels(table);
    let table = tokens::kernels(table);
    let table = rotary::kernels(table);
    let table = convolution::kernels(table);
    let table = pooling::kernels(table);
    let table = soft_loss::kernels(table);
    optimizer::kernels(table)
}

/// The code of the unary operations, whatever their function.
pub(crate) const UNARY: Op = Op::Unary { kind: UnaryKind::Scale, a: 0.0, b: 0.0 };

/// Elements start..start+len; empty if they are out of bounds.
#[cfg_attr(target_os = "none", inline(never))]
pub fn part<R>(x: &[R], start: usize, len: usize) -> &[R] {
    x.get(start..start.saturating_add(len)).unwrap_or(&[])
}

/// Elements start..start+len, writable; empty if they are out of bounds.
#[cfg_attr(target_os = "none", inline(never))]
pub fn part_mut<R>(x: &mut [R], start: usize, len: usize) -> &mut [R] {
    x.get_mut(start..start.saturating_add(len)).unwrap_or(&mut [])
}

/// Copies up to the length of the shorter slice.
pub fn copy<R: Copy>(to: &mut [R], from: &[R]) {
    for (to, &from) in to.iter_mut().zip(from) {
        *to = from;
    }
}

/// Σ aᵢ bᵢ from left to right.
pub fn dot<R: Real>(a: &[R], b: &[R]) -> R {
    a.iter().zip(b).fold(R::ZERO, |sum, (&a, &b)| sum + a * b)
}

/// y += a x.
pub fn axpy<R: Real>(y: &mut [R], a: R, x: &[R]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y += a * x;
    }
}

/// Zeroes an output that is overwritten and keeps one that is accumulated.
pub fn begin<R: Real>(out: &mut [R], accumulate: bool) {
    if !accumulate {
        out.fill(R::ZERO);
    }
}

/// A kernel without scratch.
pub(crate) fn no_scratch(_: &crate::graph::Node<'_>) -> usize {
    0
}
