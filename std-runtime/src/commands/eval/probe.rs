//! `samara eval probe`: what a few labelled images say about a model's features.

use std::path::PathBuf;

use rayon::prelude::*;
use serde::Serialize;

use super::super::args::EngineArgs;
use super::super::{Error, output};
use super::held_out::val_fraction;
use super::labelled::{FieldArgs, Labelled, pair, share};
use crate::eval::probe::{Probe, draw};
use crate::stop::Stop;
use crate::sweep::record::Spread;
use crate::vision::classifier::Classifier;
use crate::vision::data::list::Split;

const EXAMPLES: &str = "\
The backbone is fixed: a ridge regression in closed form tells the classes from
its features, with so many images of every class drawn by each seed.

Examples:
  samara eval probe --model runs/photos --data flowers --shots 1,5,10
  samara eval probe --model runs/shapes --set shapes.target=count --split test";

/// Measure a model's features by few-shot linear probes: accuracy with k images of every class.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The folder of an image classifier, whose head is not used.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Labelled images, of any classes.
    #[arg(long, value_name = "PATH", required_unless_present = "set", conflicts_with = "set")]
    data: Option<PathBuf>,
    /// A key of [shapes]: images of the generated world, as in shapes.target=count.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Images of every class that the probe learns from, for each row of the result.
    #[arg(long, value_name = "K,...", value_delimiter = ',', default_values_t = [1, 5, 10], value_parser = clap::value_parser!(u32).range(1..))]
    shots: Vec<u32>,
    /// How many times they are drawn.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=10000))]
    seeds: u32,
    /// λ of the penalty λ |W|², over standardised features.
    #[arg(long, value_name = "LAMBDA", default_value_t = 1.0, value_parser = positive)]
    ridge: f64,
    /// The images that the accuracy is measured on.
    #[arg(long, value_enum, value_name = "SPLIT", default_value = "val")]
    split: SplitArg,
    /// The share that a training on this data held out (data.val_fraction) [default: that of the model's run, or 0.1].
    #[arg(long, value_name = "SHARE", value_parser = share)]
    val_fraction: Option<f64>,
    #[command(flatten)]
    fields: FieldArgs,
    /// Images of a batch.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=4096))]
    batch_size: u16,
    /// Print {"schema", "images", "classes", "shots": [{"shots", "accuracy"}]}.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineArgs,
}

fn positive(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|x| *x > 0.0 && f64::is_finite(*x)).ok_or_else(|| "a number above 0".to_owned())
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum SplitArg {
    Val,
    Test,
}

#[derive(Debug, Serialize)]
struct Outcome {
    schema: u32,
    /// Images that were classified.
    images: usize,
    classes: usize,
    shots: Vec<Shots>,
}

/// The accuracy over seeds.
#[derive(Debug, Serialize)]
struct Shots {
    shots: u32,
    accuracy: Spread,
}

/// Features with classes.
#[derive(Default)]
struct Featured {
    features: Vec<Vec<f32>>,
    classes: Vec<usize>,
}

impl Args {
    pub(super) fn run(&self) -> Result<(), Error> {
        let mut model = Classifier::open(self.engine.engine()?, &self.model, usize::from(self.batch_size))?;
        let split = match self.split {
            SplitArg::Val => Split::Val,
            SplitArg::Test => Split::Test,
        };
        let size = model.dims().image;
        let config = self.fields.config(val_fraction(self.val_fraction, &self.model));
        let ([train, held], names) = pair(self.data.as_deref(), &self.set, split, &config, size)?;
        let stop = Stop::install(true).map_err(|error| Error::failed(error.to_string()))?;
        let [train, held] = [self.features(&mut model, &train, &stop)?, self.features(&mut model, &held, &stop)?];
        if held.classes.is_empty() {
            return Err(Error::data(
                "no images are held out to measure the accuracy on: choose another --split, or raise --val-fraction",
            ));
        }
        let of = |&shots: &u32| {
            stop.check()?;
            let accuracy = self.accuracy(shots, &train, &held, names.len())?;
            Ok::<_, Error>(Shots { shots, accuracy })
        };
        let shots = self.shots.iter().map(of).collect::<Result<_, _>>()?;
        let outcome = Outcome { schema: 1, images: held.classes.len(), classes: names.len(), shots };
        output::show(self.json, &outcome, || outcome.text())
    }

    /// The features of all images.
    fn features(&self, model: &mut Classifier, images: &Labelled, stop: &Stop) -> Result<Featured, Error> {
        let mut all = Featured::default();
        let batch = model.batch() as u64;
        for first in (0..images.len()).step_by(model.batch().max(1)) {
            stop.check()?;
            let rows = first..images.len().min(first + batch);
            let decoded: Vec<_> = rows.into_par_iter().filter_map(|row| images.image(row)).collect();
            let mut pictures = Vec::new();
            for (class, image) in decoded {
                if let Some(image) = self.fields.kept(image)? {
                    pictures.push(image);
                    all.classes.push(class);
                }
            }
            all.features.extend(model.features(&pictures)?);
        }
        Ok(all)
    }

    fn accuracy(&self, shots: u32, train: &Featured, held: &Featured, classes: usize) -> Result<Spread, Error> {
        let of_seed = |seed: u32| {
            let rows = draw(&train.classes, classes, shots as usize, u64::from(seed))?;
            let features: Vec<&[f32]> = rows.iter().map(|&row| train.features[row].as_slice()).collect();
            let labels: Vec<usize> = rows.iter().map(|&row| train.classes[row]).collect();
            let probe = Probe::fit(&features, &labels, classes, self.ridge);
            let right = held.features.iter().zip(&held.classes).filter(|(row, class)| probe.class(row) == **class).count();
            Some(right as f64 / held.classes.len() as f64)
        };
        let all: Option<Vec<f64>> = (0..self.seeds).into_par_iter().map(of_seed).collect();
        let few = || Error::data(format!("--shots {shots}: a class has fewer training images; choose fewer"));
        all.and_then(|all| Spread::of(&all)).ok_or_else(few)
    }
}

impl Outcome {
    fn text(&self) -> String {
        let mut rows = vec![["shots", "accuracy", "sd"].map(str::to_owned).to_vec()];
        rows.extend(self.shots.iter().map(|shots| {
            let Spread { mean, sd, .. } = shots.accuracy;
            let sd = sd.map_or_else(|| "-".to_owned(), |sd| format!("{:.2} %", 100.0 * sd));
            vec![shots.shots.to_string(), format!("{:.2} %", 100.0 * mean), sd]
        }));
        let chance = 100.0 / self.classes.max(1) as f64;
        format!("{} images of {} classes, chance {chance:.2} %\n\n{}", self.images, self.classes, output::table(&rows))
    }
}
