//! `samara eval detect`: average precision of a detector or of detections, as COCO defines it.

mod files;
mod gallery;
mod model;

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Map, Value, json};

use self::files::{write_annotations, write_results};
use self::model::{Choice, Evaluation, Images};
use super::super::args::EngineArgs;
use super::super::out_file::refuse_content;
use super::super::{Console, Error, output};
use crate::detect::average_precision::{AveragePrecision, ClassPrecision, LABELS, evaluate};
use crate::detect::coco::{Category, Dataset, Finding, Findings};
use crate::files::FileError;
use crate::say;
use crate::stop::Stop;
use crate::threads::Pool;
use crate::vision::boxes::open::Part;
use crate::vision::detect::Detector;

const EXAMPLES: &str = "\
The twelve numbers are pycocotools' stats for boxes, to the last digit; -1 where
there are no objects. Annotations: {\"images\": [{\"id\"}], \"categories\": [{\"id\",
\"name\"}], \"annotations\": [{\"id\", \"image_id\", \"category_id\", \"bbox\"}]}, with
\"area\" and \"iscrowd\" where they are known. Predictions: [{\"image_id\",
\"category_id\", \"bbox\", \"score\"}]. A box is [x, y, width, height] in pixels. Both
may be gzip or Zstandard. What is odd about them is counted and told.

A model finds boxes in the images of --data: COCO's annotations, or a YOLO
folder, as samara train reads them; without --data in the images that its run
has held out. Classes are categories by name.

Examples:
  samara eval detect --model runs/boxes
  samara eval detect --model runs/boxes --data val.json --images val --per-class
  samara eval detect --model runs/boxes --by-layer --json
  samara eval detect --model runs/boxes --gallery && samara report runs/boxes
  samara eval detect --predictions found.json --annotations val.json --json";

/// Evaluate a detector, or detections in a file: COCO's average precision and recall, for all boxes, for each class and each decoder layer.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
#[group(id = "of", required = true, multiple = false, args = ["predictions", "model"])]
pub(super) struct Args {
    /// Detected boxes with scores: a list in COCO's format of results.
    #[arg(long, value_name = "FILE", requires = "annotations")]
    predictions: Option<PathBuf>,
    /// Annotated boxes in COCO's format.
    #[arg(long, value_name = "FILE", requires = "predictions", conflicts_with = "model")]
    annotations: Option<PathBuf>,
    /// The folder of a detector.
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Annotated images [default: those that the run of the model has held out].
    #[arg(long, value_name = "PATH", requires = "model")]
    data: Option<PathBuf>,
    /// The folder of the images that COCO's annotations name.
    #[arg(long, value_name = "DIR", requires = "data")]
    images: Option<PathBuf>,
    /// Which images: all, or a split as in a training [default: the validation split of the data, if there is one].
    #[arg(long, value_enum, value_name = "SPLIT", requires = "model")]
    split: Option<SplitArg>,
    /// The share that a training on this data held out (data.val_fraction).
    #[arg(long, value_name = "SHARE", default_value_t = 0.1, requires = "data", value_parser = super::labelled::share)]
    val_fraction: f64,
    /// The first N images only.
    #[arg(long, value_name = "N", requires = "model")]
    limit: Option<usize>,
    /// Leave out images that cannot be read, and list them.
    #[arg(long, requires = "model")]
    skip_bad: bool,
    /// Images of a batch.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=4096))]
    batch_size: u16,
    /// The layer of the decoder whose boxes are evaluated, from 1 [default: the last].
    #[arg(long, value_name = "N", requires = "model", value_parser = clap::value_parser!(u16).range(1..))]
    layer: Option<u16>,
    /// Print the average precision of every layer of the decoder as well.
    #[arg(long, requires = "model")]
    by_layer: bool,
    /// Write the detections in COCO's format of results.
    #[arg(long, value_name = "FILE", requires = "model")]
    predictions_out: Option<PathBuf>,
    /// Write the annotations of the evaluated images in COCO's format.
    #[arg(long, value_name = "FILE", requires = "model")]
    annotations_out: Option<PathBuf>,
    /// Write the worst errors as small pictures into the folder of the model, where samara report finds them.
    #[arg(long, requires = "model")]
    gallery: bool,
    /// Print a table of the classes as well.
    #[arg(long)]
    per_class: bool,
    /// Take annotations with id 0 for not found and let the last of equal ids stand for all, as pycocotools does.
    #[arg(long, requires = "predictions")]
    compat: bool,
    /// Print {"stats", "ap", "ap50", "ap75", "classes", "images", "annotations", "detections", "skipped", "notes", "layer", "layers"}.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineArgs,
}

/// Images of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum SplitArg {
    /// The training images; of a data set without splits all of them.
    All,
    Train,
    Val,
    Test,
}

impl SplitArg {
    fn part(self) -> Part {
        match self {
            Self::All | Self::Train => Part::Train,
            Self::Val => Part::Val,
            Self::Test => Part::Test,
        }
    }
}

/// An evaluation of detections.
#[derive(Debug, Serialize)]
struct Outcome {
    schema: u32,
    /// pycocotools' `stats`.
    stats: [f64; 12],
    ap: f64,
    ap50: f64,
    ap75: f64,
    /// By name.
    classes: Map<String, Value>,
    images: usize,
    /// Those that were compared.
    annotations: usize,
    detections: usize,
    /// How many entries were left out, by reason; and how often something else was found.
    skipped: Map<String, Value>,
    notes: Map<String, Value>,
    compat: bool,
    /// The layer of the decoder, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    layer: Option<usize>,
    /// The numbers of every layer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    layers: Vec<LayerPrecision>,
}

/// The average precision of a layer of the decoder.
#[derive(Clone, Debug, Serialize)]
struct LayerPrecision {
    layer: usize,
    ap: f64,
    ap50: f64,
    ap75: f64,
    stats: [f64; 12],
}

impl Args {
    pub(super) fn run(&self, console: &Console) -> Result<(), Error> {
        match (&self.model, &self.predictions, &self.annotations) {
            (Some(model), ..) => self.run_model(model),
            (None, Some(predictions), Some(annotations)) => self.run_files(predictions, annotations, console),
            _ => Err(Error::usage("give --model, or --predictions and --annotations")),
        }
    }

    /// Evaluates detections in a file.
    fn run_files(&self, predictions: &Path, annotations: &Path, console: &Console) -> Result<(), Error> {
        let mut dataset = Dataset::open(annotations)?;
        let (mut detections, mut found) = dataset.open_detections(predictions)?;
        if self.compat {
            dataset.merge_same_ids();
        }
        let counts = (dataset.images.len(), dataset.annotations.len(), detections.len());
        let categories = dataset.categories.len();
        let result = Pool::new(0)?
            .install(|| evaluate(&mut dataset.annotations, &mut detections, categories, self.compat))
            .map_err(FileError::memory(annotations, "evaluate fewer categories at once"))?;
        found.add(Finding::DetectionBeyond, result.beyond);
        if !console.quiet {
            tell(annotations, &dataset.findings);
            tell(predictions, &found);
        }
        let findings = [&dataset.findings, &found];
        let outcome = Outcome { compat: self.compat, ..outcome(&result, &dataset.categories, counts, &findings) };
        output::show(self.json, &outcome, || self.text(&result, &dataset.categories, &outcome))
    }

    /// Runs a detector over images, and evaluates what it finds.
    fn run_model(&self, folder: &Path) -> Result<(), Error> {
        for out in [&self.predictions_out, &self.annotations_out].into_iter().flatten() {
            refuse_content(out)?;
        }
        let every_layer = self.by_layer || self.layer.is_some();
        let mut detector = Detector::open(self.engine.engine()?, folder, usize::from(self.batch_size), every_layer)?;
        let layers = detector.model.decoder_layers;
        let layer = self.layer.map_or(layers, usize::from);
        if layer > layers {
            return Err(Error::usage(format!("--layer {layer}: the decoder has {layers} layers")));
        }
        let images = self.choose(folder)?;
        let world = images.world();
        let stop = Stop::install(true).map_err(|error| Error::failed(error.to_string()))?;
        let evaluation = Evaluation::of(&mut detector, images, self.skip_bad, &stop)?;
        if evaluation.images.is_empty() {
            return Err(Error::data("no image could be read"));
        }
        let chosen = if every_layer { layer - 1 } else { 0 };
        let detections = evaluation.layers.get(chosen).map(Vec::as_slice).unwrap_or_default();
        if let Some(out) = &self.annotations_out {
            write_annotations(out, &evaluation)?;
        }
        if let Some(out) = &self.predictions_out {
            write_results(out, &evaluation, detections)?;
        }
        if self.gallery {
            gallery::write(folder, &evaluation, detections, world)?;
        }
        let counts = (evaluation.images.len(), evaluation.annotations.len(), detections.len());
        let (result, layers) = self.numbers(folder, &evaluation, chosen)?;
        let outcome = Outcome { layer: Some(layer), layers, ..outcome(&result, &evaluation.categories, counts, &[]) };
        output::show(self.json, &outcome, || self.text(&result, &evaluation.categories, &outcome))
    }

    fn choose(&self, folder: &Path) -> Result<Images, Error> {
        Images::choose(&Choice {
            model: folder,
            data: self.data.as_deref(),
            images: self.images.as_deref(),
            split: self.split.map(SplitArg::part),
            all: self.split == Some(SplitArg::All),
            val_fraction: self.val_fraction,
            limit: self.limit,
        })
    }

    /// The average precision of the chosen layer, and if they are wanted of all layers.
    fn numbers(
        &self,
        folder: &Path,
        evaluation: &Evaluation,
        chosen: usize,
    ) -> Result<(AveragePrecision, Vec<LayerPrecision>), Error> {
        let pool = Pool::new(0)?;
        let mut annotations = evaluation.annotations.clone();
        let mut of = |detections: &Vec<_>| {
            let mut detections = detections.clone();
            pool.install(|| evaluate(&mut annotations, &mut detections, evaluation.categories.len(), false))
                .map_err(FileError::memory(folder, "evaluate fewer categories at once"))
        };
        let mut layers = Vec::new();
        for (number, detections) in evaluation.layers.iter().enumerate().filter(|_| self.by_layer) {
            let stats @ [ap, ap50, ap75, ..] = of(detections)?.stats;
            layers.push(LayerPrecision { layer: number + 1, ap, ap50, ap75, stats });
        }
        let result = evaluation.layers.get(chosen).map(of).transpose()?;
        Ok((result.ok_or_else(|| Error::failed("a detector without layers"))?, layers))
    }

    /// The twelve lines of pycocotools, and a table of the classes.
    fn text(&self, result: &AveragePrecision, categories: &[Category], outcome: &Outcome) -> String {
        let line = |(label, value): (&&str, &f64)| format!(" {label} = {value:0.3}\n");
        let mut text: String = LABELS.iter().zip(&result.stats).map(line).collect();
        if self.per_class {
            let mut rows = vec![["class", "id", "annotations", "AP", "AP50"].map(str::to_owned).to_vec()];
            rows.extend(categories.iter().zip(&result.classes).map(|(category, class)| {
                let &ClassPrecision { ap, ap50, annotations } = class;
                vec![
                    category.name.clone(),
                    category.id.to_string(),
                    annotations.to_string(),
                    format!("{ap:0.3}"),
                    format!("{ap50:0.3}"),
                ]
            }));
            text += &output::table(&rows);
        }
        if !outcome.layers.is_empty() {
            let mut rows = vec![["decoder layer", "AP", "AP50", "AP75"].map(str::to_owned).to_vec()];
            rows.extend(outcome.layers.iter().map(|layer| {
                let numbers = [layer.ap, layer.ap50, layer.ap75].map(|x| format!("{x:0.3}"));
                [layer.layer.to_string()].into_iter().chain(numbers).collect()
            }));
            text += &output::table(&rows);
        }
        text
    }
}

/// Says what a file has besides.
fn tell(path: &Path, findings: &Findings) {
    findings.lines().iter().for_each(|line| say::line(&format!("note: {}: {line}", path.display())));
}

fn outcome(
    result: &AveragePrecision,
    categories: &[Category],
    (images, annotations, detections): (usize, usize, usize),
    findings: &[&Findings],
) -> Outcome {
    let AveragePrecision { stats, classes, .. } = result;
    let counts = |skipped: bool| {
        let all = findings.iter().flat_map(|findings| findings.iter());
        let wanted = all.filter(|(finding, _)| finding.is_skipped() == skipped);
        wanted.map(|(finding, found)| (finding.name().to_owned(), found.count.into())).collect()
    };
    let [ap, ap50, ap75, ..] = *stats;
    Outcome {
        schema: 1,
        stats: *stats,
        ap,
        ap50,
        ap75,
        classes: by_name(categories, classes),
        images,
        annotations,
        detections,
        skipped: counts(true),
        notes: counts(false),
        compat: false,
        layer: None,
        layers: Vec::new(),
    }
}

/// Classes by name; one whose name another has before it gets its id as well.
fn by_name(categories: &[Category], classes: &[ClassPrecision]) -> Map<String, Value> {
    let mut all = Map::new();
    for (Category { id, name }, class) in categories.iter().zip(classes) {
        let name = if all.contains_key(name) { format!("{name} (id {id})") } else { name.clone() };
        let ClassPrecision { ap, ap50, annotations } = class;
        all.insert(name, json!({ "id": id, "ap": ap, "ap50": ap50, "annotations": annotations }));
    }
    all
}
