//! Stored images as rows of batches: `pixel_values` in the order of the model, `labels`, and for mixtures `targets`.

use std::cell::RefCell;

use rayon::prelude::*;
use samara_core::model::image::ImageDims;

use super::augment::{Augment, blend, erase};
use super::store::ImageStore;
use crate::data::DataError;
use crate::data::dataset::{Dataset, HostBatch, IGNORE};
use crate::vision::image::CHANNELS;
use crate::vision::pixels::offsets;
use crate::vision::processor::{Processor, Values};

/// The input of a model.
pub const PIXELS: &str = "pixel_values";
/// The class of every image (B), negative for padding.
pub const LABELS: &str = "labels";
/// The probabilities of classes (B, classes), zeros for padding.
pub const TARGETS: &str = "targets";

/// Rows of stored images.
pub struct ImageRows {
    store: ImageStore,
    size: [usize; 2],
    classes: usize,
    /// The place in (H, W, 3) of every value of an image in the model's order.
    offsets: Vec<u32>,
    values: Values,
    /// The value of a byte is slope · byte + offset, for each channel.
    lines: [[f32; 2]; CHANNELS],
    augment: Option<Augment>,
}

impl ImageRows {
    /// Rows of a store for a model, whose size the images have unless they are augmented.
    pub fn new(store: ImageStore, dims: &ImageDims, processor: &Processor, augment: Option<Augment>) -> Self {
        let values = processor.values();
        let lines = std::array::from_fn(|channel| {
            let [black, white] = [0, 255].map(|byte| values.of(channel, byte));
            [(white - black) / 255.0, black]
        });
        Self { store, size: dims.image, classes: dims.classes, offsets: offsets(dims), values, lines, augment }
    }

    fn mixes(&self) -> bool {
        self.augment.as_ref().is_some_and(|augment| augment.config.mixes())
    }

    /// The image and the class of an index, which counts images through all epochs.
    fn image(&self, index: u64) -> Result<(&[u8], i32), DataError> {
        let image = (index % self.len().max(1)) as usize;
        let class = self.store.classes().get(image).map_or(IGNORE, |&class| class as i32);
        Ok((self.store.pixels(image)?, class))
    }

    fn fill_row(&self, index: u64, pixels: &mut [f32], label: &mut i32, target: &mut [f32]) -> Result<(), DataError> {
        let (stored, class) = self.image(index)?;
        *label = class;
        let Some(augment) = &self.augment else {
            for (to, &at) in pixels.iter_mut().zip(&self.offsets) {
                *to = stored.get(at as usize).map_or(0.0, |&byte| self.values.of(at as usize % CHANNELS, byte));
            }
            return Ok(());
        };
        SCRATCH.with_borrow_mut(|[own, other]| {
            own.resize(pixels.len(), 0.0);
            other.resize(pixels.len(), 0.0);
            let [_, width] = self.size;
            let mut rng = augment.rng(index, false);
            let view = augment.view(&mut rng, self.store.size());
            view.draw(stored, self.store.size()[1], self.size, own);
            let erased = augment.erased(&mut rng, self.size);
            erased.iter().for_each(|&rect| erase(&mut rng, rect, width, own));
            let mut shares = [(class, 1.0), (class, 0.0)];
            if let Some(mix) = augment.mix(&mut rng, self.size) {
                let (stored, class) = self.image(rng.below(self.len().max(1)))?;
                let view = augment.view(&mut augment.rng(index, true), self.store.size());
                view.draw(stored, self.store.size()[1], self.size, other);
                blend(mix, width, other, own);
                let share = mix.share(self.size);
                shares = [(shares[0].0, share), (class, 1.0 - share)];
            }
            self.set_target(target, shares, augment.config.label_smoothing as f32);
            for (to, &at) in pixels.iter_mut().zip(&self.offsets) {
                let [slope, offset] = self.lines[at as usize % CHANNELS];
                *to = own.get(at as usize).map_or(0.0, |value| slope * value + offset);
            }
            Ok(())
        })
    }

    /// The probabilities of a mixture; nothing where targets are classes.
    fn set_target(&self, target: &mut [f32], shares: [(i32, f32); 2], smoothing: f32) {
        target.fill(smoothing / self.classes.max(1) as f32);
        for (class, share) in shares {
            if let Some(to) = usize::try_from(class).ok().and_then(|class| target.get_mut(class)) {
                *to += share * (1.0 - smoothing);
            }
        }
    }
}

thread_local! {
    /// Pixels of an image, and of the one that is mixed in.
    static SCRATCH: RefCell<[Vec<f32>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
}

impl Dataset for ImageRows {
    fn len(&self) -> u64 {
        self.store.classes().len() as u64
    }

    fn batch(&self, rows: usize) -> HostBatch {
        let batch = HostBatch::new(rows).with_reals(PIXELS, self.offsets.len()).with_ints(LABELS, 1);
        if self.mixes() { batch.with_reals(TARGETS, self.classes) } else { batch }
    }

    fn fill(&self, rows: &[u64], into: &mut HostBatch) -> Result<(), DataError> {
        into.tokens = rows.len() as u64;
        let ([labels], [pixels, targets]) = into.all_mut([LABELS], [PIXELS, TARGETS]);
        let (image, all) = (self.offsets.len().max(1), self.classes.max(1));
        labels.fill(IGNORE);
        pixels.get_mut(rows.len() * image..).unwrap_or_default().fill(0.0);
        targets.fill(0.0);
        let work = rows.par_iter().zip(pixels.par_chunks_exact_mut(image)).zip(labels);
        if targets.is_empty() {
            return work.try_for_each(|((&row, pixels), label)| self.fill_row(row, pixels, label, &mut []));
        }
        let work = work.zip(targets.par_chunks_exact_mut(all));
        work.try_for_each(|(((&row, pixels), label), target)| self.fill_row(row, pixels, label, target))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use samara_core::model::image::PixelOrder;

    use super::super::list::Labelled;
    use super::*;
    use crate::stop::Stop;
    use crate::vision::config::{AugmentConfig, BadImage};

    const DIMS: ImageDims =
        ImageDims { image: [4, 6], channels: 3, order: PixelOrder::Patches(2), width: 1, classes: 3, blocks: 0 };

    fn rows(folder: &Path, augment: Option<AugmentConfig>) -> ImageRows {
        let images: Vec<Labelled> = [0_u8, 1, 2]
            .map(|class| {
                let path = folder.join(format!("{class}.png"));
                image::RgbImage::from_fn(6, 4, |x, y| image::Rgb([x as u8 * 10, y as u8 * 10, class * 100])).save(&path).unwrap();
                Labelled { path, class: usize::from(class) }
            })
            .to_vec();
        let made = ImageStore::make(&folder.join("s.pixels"), &images, [4, 6], BadImage::Error, &Stop::new(), Clone::clone);
        let augment = augment.map(|config| Augment { config, seed: 1 });
        ImageRows::new(made.unwrap().store, &DIMS, &Processor::vit([4, 6]), augment)
    }

    #[test]
    fn rows_have_the_order_and_the_values_of_the_model() {
        let folder = tempfile::tempdir().unwrap();
        let rows = rows(folder.path(), None);
        let mut batch = rows.batch(3);
        rows.fill(&[2, 4], &mut batch).unwrap();
        assert_eq!((batch.ints(LABELS), batch.tokens), (&[2, 1, IGNORE][..], 2));
        let pixels = batch.reals(PIXELS);
        let value = |byte: f32| byte / 255.0 / 0.5 - 1.0;
        // The second patch of the first image begins at x = 2.
        let patch: Vec<f32> = [20.0, 30.0, 20.0, 30.0, 0.0, 0.0, 10.0, 10.0, 200.0, 200.0, 200.0, 200.0].map(value).to_vec();
        assert!(pixels[12..24].iter().zip(&patch).all(|(a, b)| (a - b).abs() < 1e-6), "{:?}", &pixels[12..24]);
        assert!(pixels[144..].iter().all(|&x| x == 0.0) && rows.batch(1).reals(TARGETS).is_empty());
    }

    #[test]
    fn without_changes_an_augmented_row_is_the_row() {
        let folder = tempfile::tempdir().unwrap();
        let (plain, changed) = (rows(folder.path(), None), rows(folder.path(), Some(AugmentConfig::default())));
        let mut batches = [plain.batch(3), changed.batch(3)];
        plain.fill(&[0, 1, 5], &mut batches[0]).unwrap();
        changed.fill(&[0, 1, 5], &mut batches[1]).unwrap();
        let [a, b] = batches.each_ref().map(|batch| batch.reals(PIXELS));
        assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6));
    }

    #[test]
    fn targets_of_mixtures_sum_to_one_and_a_row_is_a_function_of_its_index() {
        let folder = tempfile::tempdir().unwrap();
        let config = AugmentConfig {
            mixup: 0.5,
            cutmix: 0.5,
            flip: true,
            crop_area: 0.5,
            label_smoothing: 0.1,
            ..AugmentConfig::default()
        };
        let rows = rows(folder.path(), Some(config));
        let mut batch = rows.batch(4);
        rows.fill(&[3, 9, 11], &mut batch).unwrap();
        let (targets, pixels) = (batch.reals(TARGETS).to_vec(), batch.reals(PIXELS).to_vec());
        assert!(targets[..9].chunks(3).all(|row| (row.iter().sum::<f32>() - 1.0).abs() < 1e-5), "{targets:?}");
        assert_eq!(targets[9..], [0.0; 3]);
        rows.fill(&[9], &mut batch).unwrap();
        assert_eq!((&batch.reals(TARGETS)[..3], &batch.reals(PIXELS)[..72]), (&targets[3..6], &pixels[72..144]));
    }
}
