//! Pairs as rows of batches: `pixel_values` in the order of the model, `input_ids` with the place of the vector, and what makes two pairs the same.

use rayon::prelude::*;
use samara_core::model::image::ImageDims;

use super::list::Captioned;
use super::tokens::Captions;
use crate::data::DataError;
use crate::data::dataset::{Dataset, HostBatch};
use crate::vision::data::rows::PIXELS;
use crate::vision::data::store::ImageStore;
use crate::vision::image::CHANNELS;
use crate::vision::pixels::offsets;
use crate::vision::processor::{Processor, Values};

/// Token ids (B, T).
pub const TOKENS: &str = "input_ids";
/// Where the vector of a text is taken in its row (B).
pub const ENDS: &str = "text_ends";
/// The number of the image, and of the first equal caption (B, 2).
pub const SAME: &str = "same";

/// Height and width of the image in its frame (B, 2).
pub const EXTENTS: &str = "image_extents";

/// Rows of stored images with captions.
pub struct PairRows {
    store: ImageStore,
    /// The image of every pair.
    images: Vec<usize>,
    captions: Captions,
    /// The number of the first pair with an equal caption.
    first: Vec<i32>,
    /// The place in (H, W, 3) of every value of an image in the model's order.
    offsets: Vec<u32>,
    values: Values,
}

impl PairRows {
    /// Rows of pairs whose images are stored in the model's size.
    pub fn new(store: ImageStore, pairs: &Captioned, captions: Captions, dims: &ImageDims, processor: &Processor) -> Self {
        let mut numbers = std::collections::HashMap::new();
        let first = pairs.pairs.iter().zip(0..).map(|(pair, n)| *numbers.entry(pair.caption.as_str()).or_insert(n)).collect();
        Self {
            store,
            images: pairs.pairs.iter().map(|pair| pair.image).collect(),
            captions,
            first,
            offsets: offsets(dims),
            values: processor.values(),
        }
    }

    /// Tokens of a row, T.
    pub fn tokens(&self) -> usize {
        self.captions.len
    }
}

impl Dataset for PairRows {
    fn len(&self) -> u64 {
        self.images.len() as u64
    }

    fn batch(&self, rows: usize) -> HostBatch {
        let batch = HostBatch::new(rows).with_reals(PIXELS, self.offsets.len());
        batch.with_ints(TOKENS, self.captions.len).with_ints(ENDS, 1).with_ints(SAME, 2).with_ints(EXTENTS, 2)
    }

    fn fill(&self, rows: &[u64], into: &mut HostBatch) -> Result<(), DataError> {
        into.tokens = rows.len() as u64;
        let ([tokens, ends, same, extents], [pixels]) = into.all_mut([TOKENS, ENDS, SAME, EXTENTS], [PIXELS]);
        let (image, len) = (self.offsets.len().max(1), self.captions.len.max(1));
        // Padding is a row without a pair: token 0, and an image of zeros.
        tokens.fill(0);
        ends.fill(0);
        same.fill(-1);
        extents.fill(0);
        pixels.get_mut(rows.len() * image..).unwrap_or_default().fill(0.0);
        let work = rows.par_iter().zip(pixels.par_chunks_exact_mut(image)).zip(tokens.par_chunks_exact_mut(len));
        let places = ends.par_iter_mut().zip(same.par_chunks_exact_mut(2)).zip(extents.par_chunks_exact_mut(2));
        work.zip(places).try_for_each(|(((&row, pixels), tokens), ((end, same), extents))| {
            let pair = (row % self.len().max(1)) as usize;
            let number = self.images.get(pair).copied().unwrap_or(0);
            let stored = self.store.pixels(number)?;
            for (to, &at) in pixels.iter_mut().zip(&self.offsets) {
                *to = stored.get(at as usize).map_or(0.0, |&byte| self.values.of(at as usize % CHANNELS, byte));
            }
            tokens.copy_from_slice(self.captions.tokens.get(pair * len..(pair + 1) * len).unwrap_or_default());
            *end = self.captions.ends.get(pair).copied().unwrap_or(0);
            same.copy_from_slice(&[number as i32, self.first.get(pair).copied().unwrap_or(-1)]);
            extents.copy_from_slice(&self.store.extents(number).map(|side| side as i32));
            Ok(())
        })
    }
}
