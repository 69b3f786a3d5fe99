//! The classes of images.

use serde::Serialize;

use super::super::{Error, output};
use super::Args;
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
struct Prediction {
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
    let engine = args.engine.engine()?;
    let mut model = Classifier::open(engine, &args.model, BATCH.min(args.images.len()))?;
    let mut drawings = args.draw.as_deref().map(Drawings::new).transpose()?;
    if drawings.is_some() && !model.has_attention() {
        return Err(Error::usage("--draw draws where a Vision Transformer looks, and this model has no attention: leave it out"));
    }
    args.each_batch(model.batch(), |paths, images| {
        for ((path, logits), image) in paths.iter().zip(model.logits(&images)?).zip(&images) {
            let prediction = args.prediction(path.display().to_string(), &logits, &model.labels);
            output::show(args.json, &prediction, || prediction.text())?;
            if let Some(drawings) = &mut drawings {
                drawings.write(path, &model.attention_over(image)?)?;
            }
        }
        Ok(())
    })
}

impl Args {
    fn prediction(&self, image: String, logits: &[f32], labels: &[String]) -> Prediction {
        let probabilities = probabilities(logits);
        let top: Vec<Guess> = ranking(&probabilities)
            .into_iter()
            .take(usize::from(self.top_k.unwrap_or(1)))
            .map(|class| Guess { label: labels[class].clone(), probability: probabilities[class] })
            .collect();
        let (label, probability) = top.first().map(|best| (best.label.clone(), best.probability)).unwrap_or_default();
        Prediction { schema: 1, image, label, probability, top }
    }
}

impl Prediction {
    fn text(&self) -> String {
        let guess = |guess: &Guess| format!("{} {:.1} %", guess.label, 100.0 * guess.probability);
        format!("{}: {}\n", self.image, self.top.iter().map(guess).collect::<Vec<_>>().join(", "))
    }
}
