//! `samara eval classify`: the accuracy of an image classifier.

use std::path::PathBuf;

use rayon::prelude::*;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::super::args::EngineArgs;
use super::super::predict::template;
use super::super::{Console, Error, output};
use super::held_out::val_fraction;
use super::judge::Judge;
use super::labelled::{FieldArgs, Labelled, share, world};
use crate::image_text::folder::DualFolder;
use crate::image_text::zero_shot::TEMPLATE;
use crate::say;
use crate::stop::Stop;
use crate::vision::classifier::{Classifier, probabilities, ranking};
use crate::vision::data::list::{ImageList, Split};

const EXAMPLES: &str = "\
Data as samara train reads it: a folder with a folder for each class, perhaps in
train/, val/ and test/, or a table of images and labels. Rows of the confusion
matrix are true classes, columns predicted ones.

Examples:
  samara eval classify --model runs/photos --data photos --split val
  samara eval classify --model runs/photos --data photos/test --top-k 3 --json
  samara eval classify --model runs/shapes --set shapes.target=count --split test";

/// Evaluate an image classifier: accuracy, top-k accuracy, loss, confusion matrix.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The folder of an image classifier.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Labelled images.
    #[arg(long, value_name = "PATH", required_unless_present = "set", conflicts_with = "set")]
    data: Option<PathBuf>,
    /// A key of [shapes]: images of the generated world, as in shapes.target=count.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// A sentence about a class, which {} stands for, for a CLIP or SigLIP; several are an ensemble [default: "a photo of a {}."].
    #[arg(long, value_name = "TEXT", value_parser = template)]
    template: Vec<String>,
    /// Which images: all, or a split as in a training.
    #[arg(long, value_enum, value_name = "SPLIT", default_value = "all")]
    split: SplitArg,
    /// Count labels among the K most probable classes as well.
    #[arg(long, value_name = "K", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    top_k: u16,
    /// Images of a batch.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=4096))]
    batch_size: u16,
    /// The share that a training on this data held out (data.val_fraction) [default: that of the model's run, or 0.1].
    #[arg(long, value_name = "SHARE", value_parser = share)]
    val_fraction: Option<f64>,
    #[command(flatten)]
    fields: FieldArgs,
    /// Print {"accuracy", "top_k", "k", "loss", "images", "classes", "confusion"}.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineArgs,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum SplitArg {
    All,
    Train,
    Val,
    Test,
}

impl From<SplitArg> for Split {
    fn from(split: SplitArg) -> Self {
        match split {
            SplitArg::All => Self::All,
            SplitArg::Train => Self::Train,
            SplitArg::Val => Self::Val,
            SplitArg::Test => Self::Test,
        }
    }
}

/// Counts over a data set.
struct Counts {
    /// By true class, then by predicted class.
    confusion: Vec<Vec<u64>>,
    /// Labels among the best k.
    among: u64,
    /// Sum of −ln p of the labels.
    loss: f64,
    images: u64,
}

#[derive(Debug, Serialize)]
struct Outcome {
    schema: u32,
    accuracy: f64,
    top_k: f64,
    k: u16,
    /// Nats.
    loss: f64,
    images: u64,
    /// By name: images, recall, precision.
    classes: Map<String, Value>,
    confusion: Vec<Vec<u64>>,
}

impl Args {
    pub(super) fn run(&self, console: &Console) -> Result<(), Error> {
        let engine = self.engine.engine()?;
        let (mut model, size) = match DualFolder::read(&self.model)? {
            Some(DualFolder { model, .. }) => {
                let usual = [TEMPLATE.to_owned()];
                let templates = if self.template.is_empty() { &usual[..] } else { &self.template };
                (Judge::zero_shot(engine, &self.model, self.classes()?, templates)?, [model.image_size; 2])
            }
            None if !self.template.is_empty() => {
                return Err(Error::usage(
                    "--template is for models of images with texts; this one has its own classes: leave it out",
                ));
            }
            None => {
                let model = Classifier::open(engine, &self.model, usize::from(self.batch_size))?;
                let size = model.dims().image;
                (Judge::Trained(Box::new(model)), size)
            }
        };
        let images = self.images(model.labels(), size, console.quiet)?;
        let stop = Stop::install(true).map_err(|error| Error::failed(error.to_string()))?;
        let counts = self.count(&mut model, &images, &stop)?;
        let outcome = counts.outcome(self.top_k, model.labels())?;
        output::show(self.json, &outcome, || outcome.text(model.labels()))
    }

    /// The classes of the data, for a model without its own.
    fn classes(&self) -> Result<Vec<String>, Error> {
        match &self.data {
            Some(data) => Ok(ImageList::open(data, &self.fields.config(0.0))?.classes),
            None => Ok(world(&self.set)?.classes()),
        }
    }

    /// The images of the split.
    fn images(&self, labels: &[String], size: [usize; 2], quiet: bool) -> Result<Labelled, Error> {
        let split = self.split.into();
        if let Some(data) = &self.data {
            let config = self.fields.config(val_fraction(self.val_fraction, &self.model));
            let (files, notes) = ImageList::of_split(data, split, &config, labels)?;
            notes.iter().filter(|_| !quiet).for_each(|note| say::line(&format!("note: {note}")));
            return Ok(Labelled::Files(files));
        }
        let world = world(&self.set)?;
        if world.classes() != labels {
            let [own, found] = [labels, &world.classes()].map(|names| names.join(", "));
            return Err(Error::usage(format!("--set shapes.target: expected classes as the model has ({own}), found {found}")));
        }
        Ok(Labelled::Shapes { world, split, size })
    }

    fn count(&self, model: &mut Judge, images: &Labelled, stop: &Stop) -> Result<Counts, Error> {
        let classes = model.labels().len();
        let mut counts = Counts { confusion: vec![vec![0; classes]; classes], among: 0, loss: 0.0, images: 0 };
        let (all, batch) = (images.len(), model.batch() as u64);
        for first in (0..all).step_by(model.batch().max(1)) {
            stop.check()?;
            let rows = first..all.min(first + batch);
            let decoded: Vec<_> = rows.into_par_iter().filter_map(|row| images.image(row)).collect();
            let mut good = Vec::new();
            for (class, image) in decoded {
                good.extend(self.fields.kept(image)?.map(|image| (class, image)));
            }
            let (labels, images): (Vec<_>, Vec<_>) = good.into_iter().unzip();
            for (class, logits) in labels.into_iter().zip(model.logits(&images)?) {
                counts.add(class, &logits, usize::from(self.top_k));
            }
        }
        Ok(counts)
    }
}

impl Counts {
    fn add(&mut self, class: usize, logits: &[f32], k: usize) {
        let probabilities = probabilities(logits);
        let ranking = ranking(&probabilities);
        let predicted = ranking.first().copied().unwrap_or(0);
        self.confusion[class][predicted] += 1;
        self.among += u64::from(ranking.iter().take(k).any(|&found| found == class));
        self.loss -= probabilities[class].max(f64::MIN_POSITIVE).ln();
        self.images += 1;
    }

    fn outcome(self, k: u16, labels: &[String]) -> Result<Outcome, Error> {
        if self.images == 0 {
            return Err(Error::data("no image could be read"));
        }
        let share = |part: u64, all: u64| if all == 0 { Value::Null } else { json!(part as f64 / all as f64) };
        let right = |class: usize| self.confusion[class][class];
        let of_class = |(class, name): (usize, &String)| {
            let (all, predicted): (u64, u64) =
                (self.confusion[class].iter().sum(), self.confusion.iter().map(|row| row[class]).sum());
            let value = json!({ "images": all, "recall": share(right(class), all), "precision": share(right(class), predicted) });
            (name.clone(), value)
        };
        let correct: u64 = (0..labels.len()).map(right).sum();
        let mean = |sum: f64| sum / self.images as f64;
        Ok(Outcome {
            schema: 1,
            accuracy: mean(correct as f64),
            top_k: mean(self.among as f64),
            k,
            loss: mean(self.loss),
            images: self.images,
            classes: labels.iter().enumerate().map(of_class).collect(),
            confusion: self.confusion,
        })
    }
}

/// More classes than this have no confusion matrix on the terminal.
const SHOWN: usize = 20;

impl Outcome {
    fn text(&self, labels: &[String]) -> String {
        let percent = |x: f64| format!("{:.2} %", 100.0 * x);
        let mut text = format!(
            "{} images: accuracy {}, top-{} {}, loss {:.4} nats\n\n",
            self.images,
            percent(self.accuracy),
            self.k,
            percent(self.top_k),
            self.loss
        );
        let shown = |value: &Value| value.as_f64().map_or_else(|| "-".to_owned(), percent);
        let mut rows = vec![["class", "images", "recall", "precision"].map(str::to_owned).to_vec()];
        rows.extend(self.classes.iter().map(|(name, class)| {
            vec![name.clone(), class["images"].to_string(), shown(&class["recall"]), shown(&class["precision"])]
        }));
        text += &output::table(&rows);
        if labels.len() <= SHOWN {
            let header = ["true \\ predicted".to_owned()].into_iter().chain(labels.iter().cloned()).collect();
            let row =
                |(name, row): (&String, &Vec<u64>)| [name.clone()].into_iter().chain(row.iter().map(u64::to_string)).collect();
            let rows: Vec<Vec<String>> = [header].into_iter().chain(labels.iter().zip(&self.confusion).map(row)).collect();
            text += "\n";
            text += &output::table(&rows);
        }
        text
    }
}
