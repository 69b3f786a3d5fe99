//! An image classifier of a folder on this machine: images in, probabilities out.

use std::path::Path;
use std::sync::Arc;

use samara_core::exec::Gradients;
use samara_core::graph::{Graph, Tensor};
use samara_core::model::image::{self, ImageDims, ImageModel, PixelOrder};
use samara_core::nn::Dropout;

use super::folder::ImageFolder;
use super::image::{CHANNELS, Image, draw};
use super::pixels::{GREY, Reader};
use super::processor::Processor;
use super::rollout::rollout;
use super::weights::{ImageModelError, NamedWeights};
use crate::model_folder::{CONFIG_FILE, ExtraTensors, FolderError};
use crate::session::{CpuDevice, Engine, On, OwnedProgram, Session, SetId};

/// A model and its program for batches of B images.
pub struct Classifier {
    session: Session,
    set: SetId,
    program: OwnedProgram,
    pixels: Tensor,
    logits: Tensor,
    features: Tensor,
    batch: usize,
    dims: ImageDims,
    layers: Arc<dyn ImageModel>,
    /// A program of one image: its pixels and features.
    single: Option<(OwnedProgram, (Tensor, Tensor))>,
    reader: Reader,
    /// How its images are prepared.
    pub processor: Processor,
    /// The names of its classes.
    pub labels: Vec<String>,
}

impl Classifier {
    /// Opens a model folder for batches of this size. A folder without `preprocessor_config.json` has ViT's processor.
    ///
    /// # Errors
    /// The folder is not that of an image classifier; a model that cannot be built.
    pub fn open(engine: Arc<Engine>, folder: &Path, batch: usize) -> Result<Self, ImageModelError> {
        let weights = NamedWeights::read(folder, ExtraTensors::Refuse)?;
        let ImageFolder { model, labels, .. } = &weights.folder;
        let (registry, layers) = weights.model()?;
        let dims = layers.dims();
        if ![CHANNELS, GREY].contains(&dims.channels) {
            let (path, key, expected) = (folder.join(CONFIG_FILE), "num_channels".to_owned(), "3 or 1".to_owned());
            return Err(FolderError::Key { path, key, expected, found: dims.channels.to_string() }.into());
        }
        let processor = Processor::read(folder)?.unwrap_or_else(|| Processor::usual(model.model_type(), dims.image));
        processor.check(folder, dims.image)?;
        let mut session = Session::new(CpuDevice::new(engine));
        let set = session.add_set("model", &registry)?;
        let (own, _) = session.set_mut(set);
        weights.give(model, Default::default(), &registry.view(), own.weights.get_mut(), own.frozen.get_mut())?;
        let (program, (pixels, features, logits)) = session.prepare(On::set(set), |g: &Graph<'_>| {
            let pixels = dims.pixels(g, batch);
            let features = layers.backbone(g, pixels, Dropout::NONE); // (B, C)
            let logits = image::logits(g, &*layers, layers.before_head(g, features)); // (B, classes)
            (pixels, g.output(features), g.output(logits))
        })?;
        let (reader, labels) = (Reader::new(&dims, &processor), labels.clone());
        Ok(Self { session, set, program, pixels, logits, features, batch, dims, layers, single: None, reader, processor, labels })
    }

    /// Its sizes.
    pub fn dims(&self) -> &ImageDims {
        &self.dims
    }

    /// Images of a batch, B.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Whether it is a transformer, whose attention can be shown.
    pub fn has_attention(&self) -> bool {
        matches!(self.dims.order, PixelOrder::Patches(_))
    }

    /// An image with its attention rollout as heat over it, the largest 1: the picture as the model gets it if its middle is cut out, else the image.
    ///
    /// # Errors
    /// The device failed.
    pub fn attention_over(&mut self, image: &Image) -> Result<Image, ImageModelError> {
        let (shares, grid) = self.rollout(image)?;
        let largest = shares.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        let heat: Vec<f32> = shares.iter().map(|x| (x / largest) as f32).collect();
        let mut picture = if self.processor.crop.is_some() { self.processor.shape(image) } else { image.clone() };
        draw::heat(&mut picture, &heat, grid);
        Ok(picture)
    }

    /// The share that every patch takes in the class token by attention rollout, and rows and columns of patches; none for a model without attention.
    ///
    /// # Errors
    /// The device failed.
    pub fn rollout(&mut self, image: &Image) -> Result<(Vec<f64>, [usize; 2]), ImageModelError> {
        let PixelOrder::Patches(side) = self.dims.order else { return Ok((Vec::new(), [0; 2])) };
        let grid @ [high, wide] = self.dims.image.map(|extent| extent / side.max(1));
        if self.single.is_none() {
            self.single = Some(self.session.prepare(On::set(self.set), |g: &Graph<'_>| {
                let pixels = self.dims.pixels(g, 1);
                (pixels, g.output(self.layers.features(g, pixels, Dropout::NONE))) // (1, C)
            })?);
        }
        let mut values = vec![0.0; self.dims.image_len()];
        self.fill(image, &mut values);
        let Some((program, (pixels, _))) = &self.single else { return Ok((Vec::new(), grid)) };
        // The shape is the program's own.
        let written = self.session.write(program, *pixels, &values);
        debug_assert!(written.is_ok(), "{written:?}");
        let all = rollout(&mut self.session, program, On::set(self.set));
        self.session.sync()?;
        let tokens = all.len().isqrt();
        // The class token's row; prompts are between it and the patches.
        Ok((all.get(tokens.saturating_sub(high * wide)..tokens).unwrap_or_default().to_vec(), grid))
    }

    /// Writes an image's values in the order of the model.
    fn fill(&self, image: &Image, to: &mut [f32]) {
        self.reader.bytes(self.processor.shape(image).pixels(), to);
    }

    /// The logits of up to B images of any size, one row for each.
    ///
    /// # Errors
    /// The device failed.
    pub fn logits(&mut self, images: &[Image]) -> Result<Vec<Vec<f32>>, ImageModelError> {
        self.rows(images, self.logits, self.dims.classes)
    }

    /// The backbone's features of up to B images of any size, one row for each.
    ///
    /// # Errors
    /// The device failed.
    pub fn features(&mut self, images: &[Image]) -> Result<Vec<Vec<f32>>, ImageModelError> {
        self.rows(images, self.features, self.dims.width)
    }

    /// Rows of an output (B, columns).
    fn rows(&mut self, images: &[Image], output: Tensor, columns: usize) -> Result<Vec<Vec<f32>>, ImageModelError> {
        let mut pixels = vec![0.0; self.batch * self.dims.image_len()];
        for (image, to) in images.iter().zip(pixels.chunks_exact_mut(self.dims.image_len().max(1))) {
            self.fill(image, to);
        }
        // The shape is the program's own.
        let written = self.session.write(&self.program, self.pixels, &pixels);
        debug_assert!(written.is_ok(), "{written:?}");
        self.session.run_all(&self.program, On::set(self.set), Gradients::Overwrite);
        self.session.sync()?;
        let values = self.session.read(&self.program, output);
        Ok(values.chunks(columns.max(1)).take(images.len()).map(<[f32]>::to_vec).collect())
    }
}

/// The probabilities of classes.
pub fn probabilities(logits: &[f32]) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> = logits.iter().map(|&x| f64::from(x - largest).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

/// The classes by probability, the first largest; of equal ones the lower number first.
pub fn ranking(probabilities: &[f64]) -> Vec<usize> {
    let mut classes: Vec<usize> = (0..probabilities.len()).collect();
    classes.sort_by(|&a, &b| probabilities[b].total_cmp(&probabilities[a]));
    classes
}
