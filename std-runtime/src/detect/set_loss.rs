//! Matching and losses of a batch of predicted sets, in parallel: see `samara_core::detect` for formulas.

use rayon::prelude::*;
use samara_core::assignment::workspace_len;
use samara_core::detect::{
    Error, LossWeights, MatchCosts, MatchMemory, Prediction, SetLosses, Totals, UNMATCHED, matched_queries, set_losses,
};
use thiserror::Error;

use crate::assignment::ThisMachine;

/// The weights of matching and losses.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SetCriterion {
    /// Of the terms of a match's cost.
    pub costs: MatchCosts<f32>,
    /// Of the losses.
    pub weights: LossWeights<f32>,
}

/// The predictions of a batch of B images by L layers of a decoder, and the objects in the images, at most M each.
#[derive(Clone, Copy, Debug)]
pub struct SetBatch<'b> {
    /// (B, L·Q, C + 1).
    pub logits: &'b [f32],
    /// (B, L·Q, 4).
    pub boxes: &'b [f32],
    /// The class of every object (B, M), negative after the last one of an image.
    pub classes: &'b [i32],
    /// Its box (B, M, 4).
    pub objects: &'b [f32],
    /// B, L.
    pub extents: [usize; 2],
}

/// What one layer of the decoder has predicted, summed over the batch.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LayerLosses {
    /// Weighted cross-entropy, in nats.
    pub class: f64,
    /// L1 distance of matched boxes, per object.
    pub l1: f64,
    /// 1 − GIoU of matched boxes, per object.
    pub giou: f64,
    /// The mean difference of the numbers of detected objects and of objects, per image.
    pub cardinality_error: f64,
    /// Matched queries whose most likely class is not the object's, in %.
    pub class_error: f64,
    /// The mean cost of a match.
    pub matched_cost: f64,
    /// The share of queries whose most likely class is no object.
    pub no_object_rate: f64,
}

/// The losses of a batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BatchLosses {
    /// The weighted sum over all layers.
    pub total: f64,
    /// By layer.
    pub layers: Vec<LayerLosses>,
    /// The object of every query of the last layer (B, Q), negative for none.
    pub matched: Vec<i32>,
}

/// A prediction without a match or loss.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
#[error("image {image} of the batch, decoder layer {layer}: {error}")]
pub struct SetLossError {
    /// The image, from 0.
    pub image: usize,
    /// The layer of the decoder, from 0.
    pub layer: usize,
    /// What is wrong.
    pub error: Error,
}

/// Memory of a thread.
#[derive(Default)]
struct Scratch {
    machine: Option<ThisMachine>,
    matrix: Vec<f32>,
    costs: Vec<f32>,
    indices: Vec<u32>,
}

/// The results of one image and layer.
struct Item {
    losses: SetLosses<f32>,
    cost: f64,
    matched: Vec<i32>,
}

impl SetCriterion {
    /// Matches every image and layer and computes losses and the gradients of their weighted sum: `by_logits` (B, L·Q, C + 1), `by_boxes` (B, L·Q, 4).
    /// Images and layers are computed in parallel on the current pool, with the same bits for any number of threads.
    ///
    /// # Errors
    /// The first image and layer with values that are not finite or with degenerate boxes.
    pub fn losses(&self, batch: &SetBatch<'_>, by_logits: &mut [f32], by_boxes: &mut [f32]) -> Result<BatchLosses, SetLossError> {
        let [images, layers] = batch.extents;
        let items = (images * layers).max(1);
        let (of_logits, of_boxes) = ((batch.logits.len() / items).max(1), (batch.boxes.len() / items).max(1));
        let counts: Vec<usize> = (0..images).map(|image| batch.count(image)).collect();
        let totals = Totals::of(counts.iter().copied(), of_boxes / 4, self.weights.no_object);
        let gradients = by_logits.par_chunks_mut(of_logits).zip(by_boxes.par_chunks_mut(of_boxes));
        let predictions = batch.logits.par_chunks(of_logits).zip(batch.boxes.par_chunks(of_boxes));
        let items = predictions.zip(gradients).enumerate().map_init(Scratch::default, |scratch, (item, (found, gradients))| {
            let (image, layer) = (item / layers.max(1), item % layers.max(1));
            let (classes, objects) = batch.objects_of(image, counts.get(image).copied().unwrap_or(0));
            let prediction = Prediction { logits: found.0, boxes: found.1, classes: &classes, objects };
            self.item(&prediction, &totals, scratch, gradients).map_err(|error| SetLossError { image, layer, error })
        });
        let items: Vec<Item> = items.collect::<Vec<Result<_, _>>>().into_iter().collect::<Result<_, _>>()?;
        Ok(self.summary(&items, &counts, layers))
    }

    fn item(
        &self,
        prediction: &Prediction<'_, f32>,
        totals: &Totals<f32>,
        scratch: &mut Scratch,
        (by_logits, by_boxes): (&mut [f32], &mut [f32]),
    ) -> Result<Item, Error> {
        let (objects, queries) = (prediction.classes.len(), prediction.queries());
        let len = workspace_len(objects, queries);
        scratch.matrix.resize(scratch.matrix.len().max(objects * queries), 0.0);
        scratch.costs.resize(scratch.costs.len().max(len.costs), 0.0);
        scratch.indices.resize(scratch.indices.len().max(len.indices), 0);
        let machine = *scratch.machine.get_or_insert_with(ThisMachine::new);
        let memory = MatchMemory { matrix: &mut scratch.matrix, costs: &mut scratch.costs, indices: &mut scratch.indices };
        let mut matched = vec![UNMATCHED; queries];
        let cost = matched_queries(machine, prediction, &self.costs, memory, &mut matched)?;
        let losses = set_losses(prediction, &matched, (&self.weights, totals), by_logits, by_boxes)?;
        Ok(Item { losses, cost, matched })
    }

    /// Sums in the order of images.
    fn summary(&self, items: &[Item], counts: &[usize], layers: usize) -> BatchLosses {
        let images = counts.len().max(1) as f64;
        let layer = |layer: usize| {
            let own = || items.iter().skip(layer).step_by(layers.max(1));
            let sum = |of: &dyn Fn(&Item) -> f64| own().map(of).sum::<f64>();
            let matched = sum(&|item| item.losses.matched as f64);
            let errors = own().zip(counts).map(|(item, &count)| item.losses.detected.abs_diff(count) as f64);
            let queries = sum(&|item| item.matched.len() as f64).max(1.0);
            LayerLosses {
                class: sum(&|item| f64::from(item.losses.class)),
                l1: sum(&|item| f64::from(item.losses.l1)),
                giou: sum(&|item| f64::from(item.losses.giou)),
                cardinality_error: errors.sum::<f64>() / images,
                class_error: 100.0 * (1.0 - sum(&|item| item.losses.correct as f64) / matched.max(1.0)),
                matched_cost: sum(&|item| item.cost) / matched.max(1.0),
                no_object_rate: 1.0 - sum(&|item| item.losses.detected as f64) / queries,
            }
        };
        let layers_of: Vec<LayerLosses> = (0..layers).map(layer).collect();
        let [class, l1, giou] = [self.weights.class, self.weights.l1, self.weights.giou].map(f64::from);
        let total = layers_of.iter().map(|layer| class * layer.class + l1 * layer.l1 + giou * layer.giou).sum();
        let last = items.iter().skip(layers.saturating_sub(1)).step_by(layers.max(1));
        BatchLosses { total, layers: layers_of, matched: last.flat_map(|item| item.matched.iter().copied()).collect() }
    }
}

impl<'b> SetBatch<'b> {
    /// M.
    fn most(&self) -> usize {
        self.classes.len() / self.extents[0].max(1)
    }

    /// Objects of an image.
    fn count(&self, image: usize) -> usize {
        let own = self.classes.iter().skip(image * self.most()).take(self.most());
        own.take_while(|&&class| class >= 0).count()
    }

    /// Classes and boxes of the objects of an image.
    fn objects_of(&self, image: usize, count: usize) -> (Vec<u32>, &'b [f32]) {
        let first = image * self.most();
        let classes = self.classes.get(first..first + count).unwrap_or(&[]).iter().map(|&class| class.unsigned_abs()).collect();
        (classes, self.objects.get(4 * first..4 * (first + count)).unwrap_or(&[]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two images of three queries and two classes by two layers; the second image has one object and a place without one.
    fn batch<'b>(logits: &'b [f32], boxes: &'b [f32], objects: &'b [f32]) -> SetBatch<'b> {
        SetBatch { logits, boxes, classes: &[1, 0, 1, -1], objects, extents: [2, 2] }
    }

    #[test]
    fn every_image_and_layer_has_its_own_match() {
        let at = |i: usize, n: usize| (0..n).map(|k| ((i + 3 * k) % 7) as f32 / 10.0 + 0.1).collect::<Vec<f32>>();
        let (logits, mut boxes, objects) = (at(0, 36), at(2, 48), at(4, 16));
        // No box is where an object is: there its gradient is 0.
        boxes.iter_mut().for_each(|x| *x *= 0.93);
        let (mut by_logits, mut by_boxes) = (vec![0.0; 36], vec![0.0; 48]);
        let criterion = SetCriterion::default();
        let both = criterion.losses(&batch(&logits, &boxes, &objects), &mut by_logits, &mut by_boxes).unwrap();
        assert_eq!((both.layers.len(), both.matched.len()), (2, 6));
        assert_eq!(both.matched[..3].iter().filter(|&&object| object >= 0).count(), 2);
        assert_eq!(both.matched[3..].iter().filter(|&&object| object == 0).count(), 1);
        let weights = [1.0, 5.0, 2.0];
        let of = |layer: &LayerLosses| weights[0] * layer.class + weights[1] * layer.l1 + weights[2] * layer.giou;
        assert!((both.layers.iter().map(of).sum::<f64>() - both.total).abs() < 1e-9);
        // A gradient of cross-entropy sums to 0 in every row.
        assert!(by_logits.chunks(3).all(|row| row.iter().sum::<f32>().abs() < 1e-6));
        let matched = by_boxes.chunks(4).filter(|row| row.iter().any(|&x| x != 0.0)).count();
        assert_eq!(matched, 6);
    }

    #[test]
    fn the_image_and_layer_of_a_wrong_value_are_named() {
        let (logits, mut boxes, objects) = (vec![0.5; 36], vec![0.5; 48], vec![0.5; 16]);
        // Image 1, layer 0, query 2.
        boxes[4 * 8] = f32::NAN;
        let error =
            SetCriterion::default().losses(&batch(&logits, &boxes, &objects), &mut [0.0; 36], &mut [0.0; 48]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "image 1 of the batch, decoder layer 0: box of query 2: expected finite values, found NaN or infinity"
        );
    }
}
