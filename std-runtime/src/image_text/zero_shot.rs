//! Classification by sentences about the classes, without training on them (Radford et al. 2021, 3.1).

use std::path::Path;
use std::sync::Arc;

use super::encoder::{DualEncoder, DualError};
use crate::model_folder::ExtraTensors;
use crate::session::Engine;
use crate::vision::image::Image;

/// The sentence of a class where none is given.
pub const TEMPLATE: &str = "a photo of a {}.";

/// A model of images with texts as a classifier.
pub struct ZeroShot {
    encoder: DualEncoder,
    /// Of classes (classes, E).
    vectors: Vec<f32>,
    /// The names of the classes.
    pub labels: Vec<String>,
}

impl ZeroShot {
    /// Opens a folder for these classes; every template is a sentence in which `{}` stands for the class.
    ///
    /// # Errors
    /// As [`DualEncoder::open`] and [`DualEncoder::class_vectors`].
    pub fn open(engine: Arc<Engine>, folder: &Path, labels: Vec<String>, templates: &[String]) -> Result<Self, DualError> {
        let mut encoder = DualEncoder::open(engine, folder, ExtraTensors::Refuse)?;
        let vectors = encoder.class_vectors(&labels, templates)?;
        Ok(Self { encoder, vectors, labels })
    }

    /// Images of a batch.
    pub fn batch(&self) -> usize {
        self.encoder.batch()
    }

    /// The logits of images of any size, one row for each: cosines times the model's factor.
    ///
    /// # Errors
    /// The device failed.
    pub fn logits(&mut self, images: &[Image]) -> Result<Vec<Vec<f32>>, DualError> {
        let (width, factor) = (self.encoder.width().max(1), self.encoder.factor());
        let found = self.encoder.image_vectors(images)?;
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        let row = |image: &[f32]| self.vectors.chunks_exact(width).map(|class| (factor * dot(image, class)) as f32).collect();
        Ok(found.chunks_exact(width).map(row).collect())
    }
}
