//! The losses of a matched set and their gradients.

use super::boxes::{giou_gradient, l1, l1_gradient};
use super::error::Error;
use super::{Prediction, check_box, normaliser};
use crate::math::Real;

/// The weights of the losses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossWeights<R> {
    /// Of the cross-entropy.
    pub class: R,
    /// Of the L1 distance.
    pub l1: R,
    /// Of 1 − GIoU.
    pub giou: R,
    /// The factor of the cross-entropy of queries without an object, relative to others.
    pub no_object: R,
}

impl<R: Real> Default for LossWeights<R> {
    /// Those of DETR.
    fn default() -> Self {
        Self { class: R::ONE, l1: R::from_f64(5.0), giou: R::from_f64(2.0), no_object: R::from_f64(0.1) }
    }
}

/// What the losses of a batch are divided by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Totals<R> {
    /// The sum of the class weights of all queries: PyTorch's weighted mean.
    pub weight: R,
    /// Objects, at least 1.
    pub objects: R,
}

impl<R: Real> Totals<R> {
    /// The divisors of images with these numbers of objects and `queries` queries each.
    pub fn of(objects: impl Iterator<Item = usize>, queries: usize, no_object: R) -> Self {
        let (mut weight, mut all) = (R::ZERO, 0usize);
        for n in objects {
            let matched = n.min(queries);
            weight += R::from_usize(matched) + no_object * R::from_usize(queries.saturating_sub(matched));
            all = all.saturating_add(n);
        }
        Self { weight, objects: R::from_usize(all.max(1)) }
    }
}

/// The parts of the losses of one image, already divided by the batch's totals, and what is only reported.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SetLosses<R> {
    /// Weighted cross-entropy, in nats.
    pub class: R,
    /// L1 distance of matched boxes.
    pub l1: R,
    /// 1 − GIoU of matched boxes.
    pub giou: R,
    /// Queries whose most likely class is an object.
    pub detected: usize,
    /// Matched queries.
    pub matched: usize,
    /// Those whose most likely class is the object's.
    pub correct: usize,
}

impl<R: Real> SetLosses<R> {
    /// The weighted sum.
    pub fn total(&self, weights: &LossWeights<R>) -> R {
        weights.class * self.class + weights.l1 * self.l1 + weights.giou * self.giou
    }
}

/// The losses of one image of a batch and the gradients of their weighted sum: cross-entropy of all queries, those without an object weighted by
/// `no_object`; L1 and 1 − GIoU of matched boxes. Carion et al. 2020, eq. 2 and appendix A.2. `matched`: the object of every query (Q), negative for none;
/// `by_logits` (Q, C + 1), `by_boxes` (Q, 4).
///
/// # Errors
/// Arrays of contradictory lengths, classes that the model does not have, values that are not finite, degenerate boxes.
pub fn set_losses<R: Real>(
    prediction: &Prediction<'_, R>,
    matched: &[i32],
    (weights, totals): (&LossWeights<R>, &Totals<R>),
    by_logits: &mut [R],
    by_boxes: &mut [R],
) -> Result<SetLosses<R>, Error> {
    prediction.check()?;
    Error::length("matched", prediction.queries(), matched.len())?;
    Error::length("gradient of logits", prediction.logits.len(), by_logits.len())?;
    Error::length("gradient of boxes", prediction.boxes.len(), by_boxes.len())?;
    let columns = prediction.columns();
    let mut losses = SetLosses::default();
    let gradients = by_logits.chunks_exact_mut(columns.max(1)).zip(by_boxes.as_chunks_mut().0);
    for (q, ((row, &object), (by_logits, by_box))) in prediction.rows().zip(matched).zip(gradients).enumerate() {
        let (logits, found) = row;
        check_box(found, q)?;
        let target = usize::try_from(object).ok().and_then(|t| prediction.targets().nth(t));
        let no_object = columns.saturating_sub(1);
        let (class, factor) = target.map_or((no_object, weights.no_object), |(class, _)| (class, R::ONE));
        let factor = factor / totals.weight;
        losses.class += factor * cross_entropy(logits, class, q, weights.class * factor, by_logits)?;
        let likeliest = likeliest(logits);
        losses.detected = losses.detected.saturating_add(usize::from(likeliest != no_object));
        *by_box = [R::ZERO; 4];
        if let Some((class, object)) = target {
            losses.matched = losses.matched.saturating_add(1);
            losses.correct = losses.correct.saturating_add(usize::from(likeliest == class));
            box_losses((found, object), weights, totals.objects, &mut losses, by_box);
        }
    }
    Ok(losses)
}

/// −ln softmax(logits)[class], and scale · (softmax − one-hot) in `gradient`.
fn cross_entropy<R: Real>(logits: &[R], class: usize, q: usize, scale: R, gradient: &mut [R]) -> Result<R, Error> {
    let (largest, sum) = normaliser(logits, q)?;
    let mut loss = R::ZERO;
    for (i, (to, &z)) in gradient.iter_mut().zip(logits).enumerate() {
        let z = z - largest;
        let hit = if i == class { R::ONE } else { R::ZERO };
        if i == class {
            loss = sum.ln() - z;
        }
        *to = scale * (z.exp() / sum - hit);
    }
    Ok(loss)
}

fn box_losses<R: Real>(
    (found, object): ([R; 4], [R; 4]),
    weights: &LossWeights<R>,
    objects: R,
    losses: &mut SetLosses<R>,
    by_box: &mut [R; 4],
) {
    let (overlap, by_overlap) = giou_gradient(found, object);
    losses.l1 += l1(found, object) / objects;
    losses.giou += (R::ONE - overlap) / objects;
    let slopes = l1_gradient(found, object).into_iter().zip(by_overlap);
    for (to, (by_l1, by_overlap)) in by_box.iter_mut().zip(slopes) {
        *to = (weights.l1 * by_l1 - weights.giou * by_overlap) / objects;
    }
}

/// The index of the first of the largest.
fn likeliest<R: Real>(logits: &[R]) -> usize {
    let mut best = (0, R::NEG_INFINITY);
    for (i, &z) in logits.iter().enumerate() {
        if z > best.1 {
            best = (i, z);
        }
    }
    best.0
}
