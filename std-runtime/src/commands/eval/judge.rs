//! What `eval classify` evaluates: an image classifier, or a model of images with texts by sentences about the classes.

use std::path::Path;
use std::sync::Arc;

use super::super::Error;
use crate::image_text::zero_shot::ZeroShot;
use crate::session::Engine;
use crate::vision::classifier::Classifier;
use crate::vision::image::Image;

/// A model that classifies images.
pub(super) enum Judge {
    Trained(Box<Classifier>),
    ZeroShot(Box<ZeroShot>),
}

impl Judge {
    /// Opens a model of images with texts for the classes of the data.
    pub(super) fn zero_shot(
        engine: Arc<Engine>,
        folder: &Path,
        labels: Vec<String>,
        templates: &[String],
    ) -> Result<Self, Error> {
        Ok(Self::ZeroShot(Box::new(ZeroShot::open(engine, folder, labels, templates)?)))
    }

    /// The names of the classes.
    pub(super) fn labels(&self) -> &[String] {
        match self {
            Self::Trained(model) => &model.labels,
            Self::ZeroShot(model) => &model.labels,
        }
    }

    /// Images of a batch.
    pub(super) fn batch(&self) -> usize {
        match self {
            Self::Trained(model) => model.batch(),
            Self::ZeroShot(model) => model.batch(),
        }
    }

    /// The logits of images, one row for each.
    pub(super) fn logits(&mut self, images: &[Image]) -> Result<Vec<Vec<f32>>, Error> {
        Ok(match self {
            Self::Trained(model) => model.logits(images)?,
            Self::ZeroShot(model) => model.logits(images)?,
        })
    }
}
