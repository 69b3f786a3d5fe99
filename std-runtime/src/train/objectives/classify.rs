//! Classification of images: cross-entropy of each image's class, or against a mixture of classes.

use std::sync::Arc;

use samara_core::graph::Graph;
use samara_core::model::image::{self, ImageDims, ImageModel, PixelOrder};
use samara_core::nn::Dropout;

use super::supervised::{Inputs, Task, Terms};
use crate::data::dataset::IGNORE;
use crate::train::objective::Direction;
use crate::vision::data::features::FEATURES;
use crate::vision::data::rows::{LABELS, PIXELS, TARGETS};

/// An image classifier.
pub struct Classify {
    /// The model.
    pub model: Arc<dyn ImageModel>,
    /// The share of the target that all classes have in common.
    pub label_smoothing: f64,
    /// Whether training targets are mixtures, an input of its own.
    pub mixes: bool,
    /// Whether rows are features of the backbone instead of pixels.
    pub cached: bool,
}

impl Classify {
    fn terms_of(&self, g: &Graph<'_>, inputs: &mut Inputs, mixes: bool, smoothing: f64) -> Terms {
        let (model, dims) = (&*self.model, self.model.dims());
        let features = if self.cached {
            inputs.reals(g, FEATURES, &[dims.width]) // (B, C)
        } else {
            let pixels = inputs.reals(g, PIXELS, &row(&dims));
            model.backbone(g, pixels, Dropout::NONE) // (B, C)
        };
        let classes = inputs.ints(g, LABELS, &[], IGNORE..=dims.classes.saturating_sub(1) as i32); // (B)
        let features = model.before_head(g, features); // (B, C)
        let logits = image::logits(g, model, features); // (B, classes)
        let losses = if mixes {
            let targets = inputs.reals(g, TARGETS, &[dims.classes]); // (B, classes)
            g.soft_loss(logits, targets, None) // (B)
        } else {
            image::losses(g, model, features, classes, smoothing) // (B)
        };
        let terms = Terms::minimise("loss", losses).unit("nats").ranks("accuracy", logits, LABELS, 1);
        let terms = if dims.classes > BEST { terms.ranks("top5", logits, LABELS, BEST) } else { terms };
        terms.judge_by("accuracy", Direction::Larger)
    }
}

/// The extents of an image in the order of the model.
fn row(dims: &ImageDims) -> Vec<usize> {
    let [height, width] = dims.image;
    match dims.order {
        PixelOrder::Pixels => vec![height, width, dims.channels],
        PixelOrder::Patches(side) => vec![(height / side) * (width / side), dims.channels * side * side],
    }
}

/// The second accuracy counts labels among so many best classes.
const BEST: usize = 5;

impl Task for Classify {
    fn terms(&self, g: &Graph<'_>, inputs: &mut Inputs) -> Terms {
        self.terms_of(g, inputs, self.mixes, self.label_smoothing)
    }

    fn counted(&self) -> &'static str {
        "images"
    }

    fn evaluated(&self, g: &Graph<'_>, inputs: &mut Inputs) -> Terms {
        self.terms_of(g, inputs, false, 0.0)
    }
}
