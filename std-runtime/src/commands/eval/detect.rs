//! `samara eval detect`: average precision of detections, as COCO defines it.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::super::{Console, Error, output};
use crate::detect::average_precision::{AveragePrecision, ClassPrecision, LABELS, evaluate};
use crate::detect::coco::{Category, Dataset, Finding, Findings};
use crate::files::FileError;
use crate::say;
use crate::threads::Pool;

const EXAMPLES: &str = "\
The twelve numbers are pycocotools' stats for boxes, to the last digit; -1 where
there are no objects. Annotations: {\"images\": [{\"id\"}], \"categories\": [{\"id\",
\"name\"}], \"annotations\": [{\"id\", \"image_id\", \"category_id\", \"bbox\"}]}, with
\"area\" and \"iscrowd\" where they are known. Predictions: [{\"image_id\",
\"category_id\", \"bbox\", \"score\"}]. A box is [x, y, width, height] in pixels. Both
may be gzip or Zstandard. What is odd about them is counted and told.

Examples:
  samara eval detect --predictions found.json --annotations val.json
  samara eval detect --predictions found.json --annotations val.json --per-class
  samara eval detect --predictions found.json --annotations val.json --json";

/// Evaluate detections: COCO's average precision and recall, for all boxes and for each class.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Detected boxes with scores: a list in COCO's format of results.
    #[arg(long, value_name = "FILE")]
    predictions: PathBuf,
    /// Annotated boxes in COCO's format.
    #[arg(long, value_name = "FILE")]
    annotations: PathBuf,
    /// Print a table of the classes as well.
    #[arg(long)]
    per_class: bool,
    /// Take annotations with id 0 for not found and let the last of equal ids stand for all, as pycocotools does.
    #[arg(long)]
    compat: bool,
    /// Print {"stats", "ap", "ap50", "ap75", "classes", "images", "annotations", "detections", "skipped", "notes"}.
    #[arg(long)]
    json: bool,
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
}

impl Args {
    pub(super) fn run(&self, console: &Console) -> Result<(), Error> {
        let mut dataset = Dataset::open(&self.annotations)?;
        let (mut detections, mut found) = dataset.open_detections(&self.predictions)?;
        if self.compat {
            dataset.merge_same_ids();
        }
        let counts = (dataset.annotations.len(), detections.len());
        let categories = dataset.categories.len();
        let result = Pool::new(0)?
            .install(|| evaluate(&mut dataset.annotations, &mut detections, categories, self.compat))
            .map_err(FileError::memory(&self.annotations, "evaluate fewer categories at once"))?;
        found.add(Finding::DetectionBeyond, result.beyond);
        if !console.quiet {
            tell(&self.annotations, &dataset.findings);
            tell(&self.predictions, &found);
        }
        let findings = [&dataset.findings, &found];
        let outcome = outcome(&result, &dataset, counts, &findings, self.compat);
        output::show(self.json, &outcome, || self.text(&result, &dataset.categories))
    }

    /// The twelve lines of pycocotools, and a table of the classes.
    fn text(&self, result: &AveragePrecision, categories: &[Category]) -> String {
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
        text
    }
}

/// Says what a file has besides.
fn tell(path: &Path, findings: &Findings) {
    findings.lines().iter().for_each(|line| say::line(&format!("note: {}: {line}", path.display())));
}

fn outcome(
    result: &AveragePrecision,
    dataset: &Dataset,
    (annotations, detections): (usize, usize),
    findings: &[&Findings],
    compat: bool,
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
        classes: by_name(&dataset.categories, classes),
        images: dataset.images.len(),
        annotations,
        detections,
        skipped: counts(true),
        notes: counts(false),
        compat,
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
