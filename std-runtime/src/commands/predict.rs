//! `samara predict`: the classes of images.

use std::path::PathBuf;

use serde::Serialize;

use super::args::EngineArgs;
use super::{Command, Console, Error, output};
use crate::say;
use crate::vision::classifier::{Classifier, probabilities, ranking};
use crate::vision::image::read::read;

const EXAMPLES: &str = "\
Examples:
  samara predict --model runs/photos cat.jpg dog.png
  samara predict --model runs/photos --json --top-k 3 *.jpg";

/// Predict the classes of images.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The folder of an image classifier.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Image files: PNG, JPEG, GIF, BMP or WebP.
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<PathBuf>,
    /// Classes to print, the most probable first.
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    top_k: u16,
    /// Print a line of JSON for every image: {"image", "label", "probability", "top"}.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineArgs,
}

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

impl Command for Args {
    fn run(&self, _: &Console) -> Result<(), Error> {
        let engine = self.engine.engine()?;
        let mut model = Classifier::open(engine, &self.model, BATCH.min(self.images.len()))?;
        let mut failed = 0;
        for chunk in self.images.chunks(model.batch()) {
            let mut read_ones = Vec::new();
            for path in chunk {
                match read(path) {
                    Ok(image) => read_ones.push((path, image)),
                    Err(error) => {
                        failed += 1;
                        say::line(&format!("error: {error}"));
                    }
                }
            }
            let (paths, images): (Vec<_>, Vec<_>) = read_ones.into_iter().unzip();
            for (path, logits) in paths.iter().zip(model.logits(&images)?) {
                let prediction = self.prediction(path.display().to_string(), &logits, &model.labels);
                output::show(self.json, &prediction, || prediction.text())?;
            }
        }
        if failed > 0 {
            return Err(Error::data(format!("{failed} of {} images could not be read", self.images.len())));
        }
        Ok(())
    }
}

impl Args {
    fn prediction(&self, image: String, logits: &[f32], labels: &[String]) -> Prediction {
        let probabilities = probabilities(logits);
        let top: Vec<Guess> = ranking(&probabilities)
            .into_iter()
            .take(usize::from(self.top_k))
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
