//! Stored images with boxes as rows of batches: `pixel_values` (B, S, S, 3), 0 in padding; `extents` (B, 2), the height and width of each image in its
//! square; `class_labels` (B, M), −1 after the last object; `boxes` (B, M, 4).

use std::cell::RefCell;

use rayon::prelude::*;

use super::augment::BoxAugment;
use super::list::Object;
use super::store::BoxStore;
use crate::data::DataError;
use crate::data::dataset::{Dataset, HostBatch};
use crate::vision::image::CHANNELS;
use crate::vision::processor::{Processor, Values};

/// The height and width of each image of a batch (B, 2).
pub const EXTENTS: &str = "extents";

/// Rows of stored images.
pub struct BoxRows {
    store: BoxStore,
    /// S.
    side: usize,
    /// M.
    most: usize,
    values: Values,
    /// The value of a byte is slope · byte + offset, for each channel.
    lines: [[f32; 2]; CHANNELS],
    augment: Option<BoxAugment>,
}

impl BoxRows {
    /// Rows of a store in squares of `side` pixels, which are those of the store unless they are augmented.
    pub fn new(store: BoxStore, side: usize, processor: &Processor, augment: Option<BoxAugment>) -> Self {
        let (most, values) = (store.most().max(1), processor.values());
        let lines = std::array::from_fn(|channel| {
            let [black, white] = [0, 255].map(|byte| values.of(channel, byte));
            [(white - black) / 255.0, black]
        });
        Self { store, side, most, values, lines, augment }
    }

    fn fill_row(
        &self,
        index: u64,
        pixels: &mut [f32],
        extents: &mut [i32],
        (classes, boxes): (&mut [i32], &mut [f32]),
    ) -> Result<(), DataError> {
        let image = (index % (self.store.len() as u64).max(1)) as usize;
        let (stored, size, objects) = self.store.image(image)?;
        let line = self.side * CHANNELS;
        let mut put = |objects: &mut dyn Iterator<Item = Object>| {
            for ((class, to), object) in classes.iter_mut().zip(boxes.chunks_mut(4)).zip(objects) {
                *class = object.class as i32;
                to.copy_from_slice(&object.place);
            }
        };
        let Some(augment) = self.augment.as_ref() else {
            let from = stored.chunks_exact((self.store.side() * CHANNELS).max(1)).take(size[0]);
            for (from, to) in from.zip(pixels.chunks_exact_mut(line.max(1))) {
                let places = to.iter_mut().zip(from).take(size[1] * CHANNELS).enumerate();
                places.for_each(|(at, (to, &byte))| *to = self.values.of(at % CHANNELS, byte));
            }
            set_extents(extents, size);
            put(&mut objects.into_iter());
            return Ok(());
        };
        let view = augment.view(index, size, self.side);
        SCRATCH.with_borrow_mut(|drawn| {
            let [height, width] = view.size;
            drawn.resize(height * width * CHANNELS, 0.0);
            view.view.draw(stored, self.store.side(), view.size, drawn);
            for (from, to) in drawn.chunks_exact((width * CHANNELS).max(1)).zip(pixels.chunks_exact_mut(line.max(1))) {
                for (at, (to, &value)) in to.iter_mut().zip(from).enumerate() {
                    let [slope, offset] = self.lines[at % CHANNELS];
                    *to = slope * value + offset;
                }
            }
        });
        set_extents(extents, view.size);
        put(&mut objects.filter_map(|object| view.object(&object)));
        Ok(())
    }
}

fn set_extents(to: &mut [i32], size: [usize; 2]) {
    to.iter_mut().zip(size).for_each(|(to, side)| *to = side as i32);
}

thread_local! {
    /// Pixels of a view.
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

impl Dataset for BoxRows {
    fn len(&self) -> u64 {
        self.store.len() as u64
    }

    fn batch(&self, rows: usize) -> HostBatch {
        let batch = HostBatch::new(rows).with_reals("pixel_values", self.side * self.side * CHANNELS);
        batch.with_reals("boxes", 4 * self.most).with_ints("class_labels", self.most).with_ints(EXTENTS, 2)
    }

    fn fill(&self, rows: &[u64], into: &mut HostBatch) -> Result<(), DataError> {
        into.tokens = rows.len() as u64;
        let ([classes, extents], [pixels, boxes]) = into.all_mut(["class_labels", EXTENTS], ["pixel_values", "boxes"]);
        pixels.fill(0.0);
        boxes.fill(0.0);
        classes.fill(-1);
        // Rows after the last image are whole images of nothing.
        extents.fill(self.side as i32);
        let images = rows.par_iter().zip(pixels.par_chunks_mut(self.side * self.side * CHANNELS)).zip(extents.par_chunks_mut(2));
        let work = images.zip(classes.par_chunks_mut(self.most)).zip(boxes.par_chunks_mut(4 * self.most));
        work.try_for_each(|((((&row, pixels), extents), classes), boxes)| self.fill_row(row, pixels, extents, (classes, boxes)))
    }
}
