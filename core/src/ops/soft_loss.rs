//! Cross-entropy against a distribution: with t = q or t = (1 − mix)·one-hot + mix·q, and the sum T of t, ℓ = T·lse(z) − Σ t z per row, in nats. The
//! slope of ℓ in z, softmax(z) T − t, is computed with it: both need the same exponentials.

use super::no_scratch;
use crate::exec::{Kernel, Kernels, Views};
use crate::graph::{Node, Op};
use crate::math::Real;
use crate::threads::Threads;

/// Adds the kernel of this file to a table.
pub const fn kernels<R: Real>(table: Kernels<R>) -> Kernels<R> {
    table.define::<{ Op::SoftLoss.opcode() }>(Kernel { run: forward, scratch_len: no_scratch })
}

/// The target of one row: weight·q, and a class with its share, if it has one.
struct Target<'a, R> {
    q: &'a [R],
    weight: R,
    class: Option<(usize, R)>,
}

impl<R: Real> Target<'_, R> {
    /// The target of class `j`, of which q has `q`.
    fn at(&self, j: usize, q: R) -> R {
        let own = self.class.filter(|&(class, _)| class == j).map_or(R::ZERO, |(_, share)| share);
        own + self.weight * q
    }
}

fn forward<R: Real>(node: &Node<'_>, views: Views<'_, R>, _: &dyn Threads) {
    let [z, q, _, mix, ..] = views.inputs;
    let [_, _, classes, ..] = views.ints;
    let [losses, slopes, _] = views.outputs;
    let v = node.input_shape(0).cols().max(1);
    let weight = if node.has_input(2) { mix.first().copied().unwrap_or(R::ONE) } else { R::ONE };
    for (i, (z, q)) in z.chunks_exact(v).zip(q.chunks_exact(v)).enumerate() {
        let class = classes.get(i).and_then(|&class| usize::try_from(class).ok()).map(|class| (class, R::ONE - weight));
        let target = Target { q, weight, class };
        let slope = slopes.get_mut(i.wrapping_mul(v)..).and_then(|s| s.get_mut(..v)).unwrap_or(&mut []);
        let loss = row(z, &target, slope);
        if let Some(to) = losses.get_mut(i) {
            *to = loss;
        }
    }
}

/// The loss of one row; writes its slope if there is room for it.
fn row<R: Real>(z: &[R], target: &Target<'_, R>, slope: &mut [R]) -> R {
    let max = z.iter().fold(R::NEG_INFINITY, |max, &z| max.max(z));
    let sum = z.iter().fold(R::ZERO, |sum, &z| sum + (z - max).exp());
    let lse = max + sum.ln();
    let (mut total, mut loss) = (R::ZERO, R::ZERO);
    for (j, (&z, &q)) in z.iter().zip(target.q).enumerate() {
        let t = target.at(j, q);
        total += t;
        // A class without a share may have any logit, −∞ included.
        if t != R::ZERO {
            loss += t * (lse - z);
        }
    }
    for (j, (slope, (&z, &q))) in slope.iter_mut().zip(z.iter().zip(target.q)).enumerate() {
        *slope = (z - lse).exp() * total - target.at(j, q);
    }
    loss
}
