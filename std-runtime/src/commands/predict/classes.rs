//! The classes of images.

use serde::Serialize;

use super::super::{Error, output};
use super::args::Args;
use super::drawing::Drawings;
use crate::vision::classifier::{Classifier, probabilities, ranking};

/// Images of a batch.
const BATCH: usize = 16;

/// A class with its probability.
#[derive(Debug, Serialize)]
struct Guess {
    label: String,
    probability: f64,
}

/// The prediction for an image.
#[derive(Debug, Serialize)]
pub(super) struct Prediction {
    schema: u32,
    image: String,
    label: String,
    probability: f64,
    top: Vec<Guess>,
}

/// Prints the classes of images, and draws where the model looks.
pub(super) fn run(args: &Args) -> Result<(), Error> {
    if args.threshold.is_some() {
        return Err(Error::usage("--threshold is for detectors: leave it out, or choose --top-k"));
    }
    if !args.labels.is_empty() || !args.template.is_empty() {
        return Err(Error::usage(
            "--labels and --template are for models of images with texts; this one has its own classes: leave them out",
        ));
    }
    let engine = args.engine.engine()?;
    let mut model = Classifier::open(engine, &args.model, BATCH.min(args.images.len()))?;
    let drawings = args.draw.as_deref().map(|folder| Drawings::new(folder, &args.images)).transpose()?;
    if drawings.is_some() && !model.has_attention() {
        return Err(Error::usage("--draw draws where a Vision Transformer looks, and this model has no attention: leave it out"));
    }
    args.each_batch(model.batch(), |paths, images| {
        for ((path, logits), image) in paths.iter().zip(model.logits(&images)?).zip(&images) {
            let prediction = prediction(path.display().to_string(), &logits, &model.labels, args.top_k.unwrap_or(1));
            output::show(args.json, &prediction, || prediction.text())?;
            if let Some(drawings) = &drawings {
                drawings.write(path, &model.attention_over(image)?)?;
            }
        }
        Ok(())
    })
}

/// The prediction from the logits of an image.
pub(super) fn prediction(image: String, logits: &[f32], labels: &[String], top_k: u16) -> Prediction {
    let probabilities = probabilities(logits);
    let top: Vec<Guess> = ranking(&probabilities)
        .into_iter()
        .take(usize::from(top_k))
        .map(|class| Guess { label: labels[class].clone(), probability: probabilities[class] })
        .collect();
    let (label, probability) = top.first().map(|best| (best.label.clone(), best.probability)).unwrap_or_default();
    Prediction { schema: 1, image, label, probability, top }
}

impl Prediction {
    pub(super) fn text(&self) -> String {
        let guess = |guess: &Guess| format!("{} {:.1} %", guess.label, 100.0 * guess.probability);
        format!("{}: {}\n", self.image, self.top.iter().map(guess).collect::<Vec<_>>().join(", "))
    }
}
