//! Image classifiers: the interface that training, evaluation and prediction need.

use crate::graph::{Graph, Tensor};
use crate::nn::Dropout;
use crate::params::ParamId;

/// The order of the values of an image in the input of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PixelOrder {
    /// Patches row by row, each in the order (channel, y, x): (B, H/P · W/P, channels·P·P). The weight of a patch embedding is then that of a linear
    /// layer, and no image is in the arena.
    Patches(usize),
    /// Rows of pixels: (B, H, W, channels).
    Pixels,
}

/// The sizes of an image classifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageDims {
    /// Height and width of its images in pixels.
    pub image: [usize; 2],
    /// Values of a pixel.
    pub channels: usize,
    /// Their order.
    pub order: PixelOrder,
    /// Columns of the features, C.
    pub width: usize,
    /// Classes.
    pub classes: usize,
    /// Blocks.
    pub blocks: usize,
}

impl ImageDims {
    /// Values of an image.
    pub const fn image_len(&self) -> usize {
        self.image[0] * self.image[1] * self.channels
    }

    /// Declares the pixels of `batch` images, with the shape of [`PixelOrder`].
    #[track_caller]
    pub fn pixels(&self, g: &Graph<'_>, batch: usize) -> Tensor {
        let [height, width] = self.image;
        match self.order {
            PixelOrder::Pixels => g.input(&[batch, height, width, self.channels]),
            PixelOrder::Patches(side) => {
                let along = |pixels: usize| pixels.checked_div(side).unwrap_or(0);
                g.input(&[batch, along(height) * along(width), self.channels * side * side])
            }
        }
    }
}

/// An image classifier with registered parameters. Programs may be built from it on several threads.
pub trait ImageModel: Send + Sync {
    /// Its sizes.
    fn dims(&self) -> ImageDims;

    /// The features (B, C) of images before anything that belongs to the head; hidden states between blocks are marked as checkpoints.
    #[track_caller]
    fn backbone(&self, g: &Graph<'_>, pixels: Tensor, dropout: Dropout) -> Tensor;

    /// The input of the last layer of the head, of the backbone's features; both (B, C).
    #[track_caller]
    fn before_head(&self, g: &Graph<'_>, features: Tensor) -> Tensor {
        let _ = g;
        features
    }

    /// The input (B, C) of the last layer of the head.
    #[track_caller]
    fn features(&self, g: &Graph<'_>, pixels: Tensor, dropout: Dropout) -> Tensor {
        self.before_head(g, self.backbone(g, pixels, dropout))
    }

    /// Weight (classes, C) and bias (classes) of the head.
    fn head(&self) -> [ParamId; 2];
}

/// The logits (B, classes) of features (B, C).
#[track_caller]
pub fn logits(g: &Graph<'_>, model: &dyn ImageModel, features: Tensor) -> Tensor {
    let [weight, bias] = model.head().map(|id| g.param(id));
    g.linear(features, weight, Some(bias))
}

/// The cross-entropy of each image's class in nats; 0 for a negative class. features (B, C), classes and result (B).
#[track_caller]
pub fn losses(g: &Graph<'_>, model: &dyn ImageModel, features: Tensor, classes: Tensor, smoothing: f64) -> Tensor {
    let [weight, bias] = model.head().map(|id| g.param(id));
    g.head_loss(features, weight, Some(bias), classes, smoothing)
}
