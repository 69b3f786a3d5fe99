//! Stored images as rows of batches: `pixel_values` in the order of the model, `labels`, and for mixtures `targets`.

use std::cell::RefCell;

use rayon::prelude::*;
use samara_core::model::image::ImageDims;

use super::augment::{Augment, blend, erase};
use super::store::ImageStore;
use crate::data::DataError;
use crate::data::dataset::{Dataset, HostBatch, IGNORE};
use crate::vision::image::CHANNELS;
use crate::vision::pixels::Reader;
use crate::vision::processor::Processor;

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
    reader: Reader,
    augment: Option<Augment>,
}

impl ImageRows {
    /// Rows of a store for a model, whose size the images have unless they are augmented.
    pub fn new(store: ImageStore, dims: &ImageDims, processor: &Processor, augment: Option<Augment>) -> Self {
        Self { store, size: dims.image, classes: dims.classes, reader: Reader::new(dims, processor), augment }
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
            self.reader.bytes(stored, pixels);
            return Ok(());
        };
        SCRATCH.with_borrow_mut(|Scratch { pixels: [own, other], bytes }| {
            let [height, width] = self.size;
            own.resize(height * width * CHANNELS, 0.0);
            other.resize(height * width * CHANNELS, 0.0);
            let mut rng = augment.rng(index, false);
            let view = augment.view(&mut rng, self.store.size());
            view.draw(stored, self.store.size()[1], self.size, own);
            augment.operations(&mut rng, self.size, own, bytes);
            let erased = augment.erased(&mut rng, self.size);
            erased.iter().for_each(|&rect| erase(&mut rng, rect, width, own));
            let mut shares = [(class, 1.0), (class, 0.0)];
            if let Some(mix) = augment.mix(&mut rng, self.size) {
                let (stored, class) = self.image(rng.below(self.len().max(1)))?;
                let mut rng = augment.rng(index, true);
                augment.view(&mut rng, self.store.size()).draw(stored, self.store.size()[1], self.size, other);
                augment.operations(&mut rng, self.size, other, bytes);
                blend(mix, width, other, own);
                let share = mix.share(self.size);
                shares = [(shares[0].0, share), (class, 1.0 - share)];
            }
            self.set_target(target, shares, augment.config.label_smoothing as f32);
            self.reader.reals(own, pixels);
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

/// Room for the changes of an image.
struct Scratch {
    /// Pixels of the image, and of the one that is mixed in.
    pixels: [Vec<f32>; 2],
    /// For operations on bytes.
    bytes: [Vec<u8>; 2],
}

thread_local! {
    static SCRATCH: RefCell<Scratch> =
        const { RefCell::new(Scratch { pixels: [Vec::new(), Vec::new()], bytes: [Vec::new(), Vec::new()] }) };
}

impl Dataset for ImageRows {
    fn len(&self) -> u64 {
        self.store.classes().len() as u64
    }

    fn batch(&self, rows: usize) -> HostBatch {
        let batch = HostBatch::new(rows).with_reals(PIXELS, self.reader.image_len()).with_ints(LABELS, 1);
        if self.mixes() { batch.with_reals(TARGETS, self.classes) } else { batch }
    }

    fn fill(&self, rows: &[u64], into: &mut HostBatch) -> Result<(), DataError> {
        into.tokens = rows.len() as u64;
        let ([labels], [pixels, targets]) = into.all_mut([LABELS], [PIXELS, TARGETS]);
        let (image, all) = (self.reader.image_len().max(1), self.classes.max(1));
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
    use super::super::store::Fit;
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
        let made = ImageStore::make(
            &folder.join("s.pixels"),
            &images,
            ([4, 6], Fit::Exact),
            BadImage::Error,
            &Stop::new(),
            Clone::clone,
        );
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

    /// A model of one channel sees Pillow's grey, augmented or not.
    #[test]
    fn grey_models_see_grey() {
        let folder = tempfile::tempdir().unwrap();
        let of = |augment: Option<AugmentConfig>| {
            let colours = rows(folder.path(), augment);
            let dims = ImageDims { channels: 1, ..DIMS };
            let rows = ImageRows { reader: Reader::new(&dims, &Processor::vit([4, 6])), ..colours };
            let mut batch = rows.batch(1);
            rows.fill(&[2], &mut batch).unwrap();
            batch.reals(PIXELS).to_vec()
        };
        let plain = of(None);
        // The second value is the pixel at x = 1, y = 0: red 10, green 0, blue 200.
        let grey = ((19595 * 10 + 7471 * 200 + 0x8000) >> 16) as f32;
        assert!(plain.len() == 24 && (plain[1] - (grey / 255.0 / 0.5 - 1.0)).abs() < 1e-6, "{plain:?}");
        // Without changes the grey is not rounded to a byte.
        assert!(plain.iter().zip(of(Some(AugmentConfig::default()))).all(|(a, b)| (a - b).abs() < 0.005));
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
            rand_augment: 9.0,
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
