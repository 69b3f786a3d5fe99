//! Recalls of held-out pairs, which are compared once all their vectors are there.

use crate::data::dataset::HostBatch;
use crate::image_text::data::rows::SAME;
use crate::image_text::pairing::are_same;
use crate::image_text::retrieval::recalls;

/// The scalars of [`HeldOut::add`], in its order.
pub const RECALLS: [&str; 6] =
    ["text_to_image_r1", "text_to_image_r5", "text_to_image_r10", "image_to_text_r1", "image_to_text_r5", "image_to_text_r10"];

/// Vectors of an evaluation so far.
#[derive(Default)]
pub struct HeldOut {
    /// (pairs, E): images, texts.
    vectors: [Vec<f32>; 2],
    /// (pairs, 2)
    same: Vec<i32>,
    batches: u64,
}

impl HeldOut {
    /// Adds the vectors (rows, E) of a batch, images and texts. With the last of `batches`: the recalls of all pairs so far.
    pub fn add(&mut self, vectors: [&[f32]; 2], width: usize, batch: &HostBatch, batches: u64) -> Option<[f64; 6]> {
        let rows = batch.tokens as usize;
        for (all, vectors) in self.vectors.iter_mut().zip(vectors) {
            all.extend_from_slice(vectors.get(..rows * width).unwrap_or_default());
        }
        self.same.extend_from_slice(batch.ints(SAME).get(..rows * 2).unwrap_or_default());
        self.batches += 1;
        if self.batches < batches {
            return None;
        }
        let [images, texts] = &self.vectors;
        let pairs: Vec<&[i32]> = self.same.chunks_exact(2).collect();
        let belong = |a: usize, b: usize| are_same(pairs[a], pairs[b]);
        let [[a, b, c], [d, e, f]] = [recalls(texts, images, width, belong), recalls(images, texts, width, belong)];
        Some([a, b, c, d, e, f])
    }
}
