//! How models say how well images and texts fit: by vectors of their own, or by a pass that reads both.

use super::data::tokens::Captions;
use super::encoder::{DualEncoder, DualError};
use super::scorer::PairScorer;
use crate::vision::image::Image;

/// A model with vectors of images and of texts, whose cosines tell how well they fit.
pub trait Vectors {
    /// Height and width of the model's images.
    fn size(&self) -> [usize; 2];
    /// Images of a batch.
    fn batch(&self) -> usize;
    /// Columns of a vector, E.
    fn width(&self) -> usize;
    /// The vectors (images, E) of length 1 of images of any size.
    ///
    /// # Errors
    /// The device failed.
    fn image_vectors(&mut self, images: &[Image]) -> Result<Vec<f32>, DualError>;
    /// The vectors (texts, E) of length 1, and how many texts were too long and are cut before their last token.
    ///
    /// # Errors
    /// A text that the tokenizer cannot encode, by its number from 1; a program that cannot be built.
    fn text_vectors(&mut self, texts: &[&str]) -> Result<(Vec<f32>, usize), DualError>;
}

/// A model that reads an image and a text together.
pub trait Fits {
    /// Height and width of the model's images.
    fn size(&self) -> [usize; 2];
    /// The tokens of texts.
    ///
    /// # Errors
    /// A text that the tokenizer cannot encode, by its number from 1.
    fn encode(&self, texts: &[&str]) -> Result<Captions, DualError>;
    /// How well each text fits an image of any size; larger is better.
    ///
    /// # Errors
    /// A program that cannot be built; the device failed.
    fn scores(&mut self, image: &Image, texts: &Captions) -> Result<Vec<f32>, DualError>;
}

impl Vectors for DualEncoder {
    fn size(&self) -> [usize; 2] {
        self.size()
    }

    fn batch(&self) -> usize {
        self.batch()
    }

    fn width(&self) -> usize {
        self.width()
    }

    fn image_vectors(&mut self, images: &[Image]) -> Result<Vec<f32>, DualError> {
        self.image_vectors(images)
    }

    fn text_vectors(&mut self, texts: &[&str]) -> Result<(Vec<f32>, usize), DualError> {
        self.text_vectors(texts)
    }
}

impl Fits for PairScorer {
    fn size(&self) -> [usize; 2] {
        self.size()
    }

    fn encode(&self, texts: &[&str]) -> Result<Captions, DualError> {
        self.encode(texts)
    }

    fn scores(&mut self, image: &Image, texts: &Captions) -> Result<Vec<f32>, DualError> {
        self.scores(image, texts)
    }
}
