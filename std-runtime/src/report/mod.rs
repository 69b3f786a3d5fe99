//! One page of HTML about one or several runs: results, differences between configurations, curves, samples. It is self-contained.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment};
use serde::{Deserialize, Serialize};

use crate::error::{Failure, Kind};
use crate::files::{FileError, IoError, text_if_there};
use crate::run::metrics::{self, Metrics, MetricsError};
use crate::run::plot;
use crate::train::folder::{CONFIG_FILE, METRICS_FILE, SAMPLES_FILE};

/// How every page begins.
pub const PAGE_START: &[u8] =
    b"<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"generator\" content=\"samara report\">\n";

/// The rows of the first table.
const FIGURES: [&str; 6] = ["steps", "tokens", "training loss", "validation loss", "best validation loss", "hours"];

/// Keys of `metrics.jsonl` that are plotted besides the scalars of the training, with their units.
const OTHERS: [(&str, &str); 3] = [("lr", ""), ("grad_norm", ""), ("tokens_per_s", "tokens per second")];

/// Samples are shown from this many bytes before their end.
const SAMPLES_BYTES: usize = 16 << 10;

/// Pictures of errors of an evaluation in a run folder.
pub const GALLERY_FILE: &str = "gallery.json";

/// A picture of an error.
#[derive(Debug, Serialize, Deserialize)]
struct Picture {
    /// What kind of error.
    kind: String,
    caption: String,
    /// A data URI.
    picture: String,
}

/// A run folder as the page needs it.
#[derive(Debug)]
pub struct Run {
    name: String,
    config: String,
    keys: BTreeMap<String, String>,
    records: Vec<Metrics>,
    samples: String,
    gallery: Vec<Picture>,
}

/// A page that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A file that is not of a run.
    #[error(transparent)]
    File(#[from] FileError),
    /// The operating system refused.
    #[error(transparent)]
    Io(#[from] IoError),
    /// A metrics file that cannot be read.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The page or a picture cannot be written.
    #[error("cannot write the page: {0}")]
    Page(String),
}

impl Failure for ReportError {
    fn kind(&self) -> Kind {
        match self {
            Self::File(error) => error.kind(),
            Self::Io(error) => error.kind(),
            Self::Metrics(error) => error.kind(),
            Self::Page(_) => Kind::Failed,
        }
    }
}

impl Run {
    /// Reads a run folder, finished or not.
    ///
    /// # Errors
    /// The folder is not a run folder; a file in it cannot be read.
    pub fn read(folder: &Path) -> Result<Self, ReportError> {
        let path = folder.join(METRICS_FILE);
        if !path.is_file() {
            let expected = format!("a run folder of `samara train`, which has {METRICS_FILE}");
            return Err(FileError::format(folder, expected, "none").into());
        }
        let records = metrics::read(&path)?;
        let path = folder.join(CONFIG_FILE);
        let config = text_if_there(&path)?;
        let table: toml::Table = config.parse().map_err(|e: toml::de::Error| FileError::format(&path, "TOML", e.message()))?;
        let mut keys = BTreeMap::new();
        flatten("", &table, &mut keys);
        let samples = last_bytes(text_if_there(&folder.join(SAMPLES_FILE))?, SAMPLES_BYTES);
        let path = folder.join(GALLERY_FILE);
        let gallery = match text_if_there(&path)?.as_str() {
            "" => Vec::new(),
            text => {
                let wrong = |error: serde_json::Error| FileError::format(&path, "pictures of errors", error.to_string());
                serde_json::from_str(text).map_err(wrong)?
            }
        };
        Ok(Self { name: folder.display().to_string(), config, keys, records, samples, gallery })
    }

    /// The values of [`FIGURES`].
    fn figures(&self) -> Vec<String> {
        let last = |key: &str| self.records.iter().rev().find_map(|m| m.get(key));
        let best = self.records.iter().filter_map(|m| m.get("val_loss")).min_by(f64::total_cmp);
        let number = |value: Option<f64>, digits: usize| value.map_or_else(|| "-".to_owned(), |x| format!("{x:.digits$}"));
        let counts = self.records.last().map_or([0, 0], |m| [m.step, m.tokens]).map(|n| n.to_string());
        let hours = last("wall_s").map(|s| s / 3600.0);
        let losses = [last("train_loss"), last("val_loss"), best].map(|x| number(x, 4));
        counts.into_iter().chain(losses).chain([number(hours, 2)]).collect()
    }
}

/// The page about runs.
///
/// # Errors
/// A plot cannot be drawn.
pub fn page<'r>(runs: &'r [Run]) -> Result<String, ReportError> {
    #[derive(Serialize)]
    struct Row<'a> {
        key: &'a str,
        values: Vec<&'a str>,
    }
    #[derive(Serialize)]
    struct Shown<'a> {
        name: &'a str,
        figures: Vec<String>,
        samples: &'a str,
        config: &'a str,
        gallery: &'a [Picture],
    }
    let failed = |error: minijinja::Error| ReportError::Page(error.to_string());
    let names: Vec<&str> = runs.iter().map(|run| run.name.as_str()).collect();
    let all_keys: BTreeSet<&str> = runs.iter().flat_map(|run| run.keys.keys().map(String::as_str)).collect();
    let row = |key| Row { key, values: runs.iter().map(|run| run.keys.get(key).map_or("-", String::as_str)).collect() };
    let differs = |row: &Row<'_>| row.values.windows(2).any(|pair| pair.first() != pair.last());
    let differences: Vec<Row<'_>> = all_keys.into_iter().map(row).filter(differs).collect();
    let shown = |run: &'r Run| Shown {
        name: &run.name,
        figures: run.figures(),
        samples: &run.samples,
        config: &run.config,
        gallery: &run.gallery,
    };
    let context = minijinja::context! {
        title => format!("samara: {}", names.join(", ")),
        figures => FIGURES,
        runs => Serde(runs.iter().map(shown).collect::<Vec<_>>()),
        differences => Serde(differences),
        curves => curves(runs).map_err(|error| ReportError::Page(error.to_string()))?,
    };
    let mut environment = Environment::empty();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.add_filter("safe", minijinja::filters::safe);
    environment.add_filter("length", minijinja::filters::length);
    environment.template_from_str(include_str!("page.html")).and_then(|page| page.render(context)).map_err(failed)
}

/// Pictures of every scalar of the trainings, then of the other columns.
fn curves(runs: &[Run]) -> std::io::Result<Vec<String>> {
    let measured = |run: &Run, key: &str| run.records.iter().any(|m| m.get(key).is_some());
    let of_prefix = |prefix: &'static str| {
        let keys = runs.iter().flat_map(|run| run.records.last()).flat_map(|m| m.values.keys());
        keys.filter_map(move |key| key.strip_prefix(prefix))
    };
    // Those that say what they belong to, such as policy/approxkl, are the training's.
    let with_stroke = of_prefix("").filter(|key| key.contains('/') && !key.starts_with("val_"));
    let names: BTreeSet<&str> = of_prefix("train_").chain(of_prefix("val_")).chain(with_stroke).collect();
    let unit = |name: &str| if name == "loss" { "nats per token" } else { "" };
    let mut curves = Vec::new();
    if let [run] = runs {
        for name in &names {
            curves.push(plot::curve(name, unit(name), &run.records)?);
        }
    }
    let several = names
        .iter()
        .filter(|_| runs.len() > 1)
        .flat_map(|name| ["train", "val"].map(|part| (metrics::key_of(part, name), unit(name))));
    let keys = several.chain(OTHERS.map(|(key, unit)| (key.to_owned(), unit)));
    let beside: Vec<(&str, &[Metrics])> = runs.iter().map(|run| (run.name.as_str(), run.records.as_slice())).collect();
    for (key, unit) in keys.filter(|(key, _)| runs.iter().any(|run| measured(run, key))) {
        curves.push(plot::overlay(&key, unit, &beside)?);
    }
    // Runs of a policy.
    let (across, upward) = (plot::SCORES_AND_KL.across.0, plot::SCORES_AND_KL.upward.0);
    if runs.iter().any(|run| measured(run, across) && measured(run, upward)) {
        curves.push(plot::against(&plot::SCORES_AND_KL, &beside)?);
    }
    Ok(curves)
}

/// The end of a text, from a line break on.
fn last_bytes(text: String, count: usize) -> String {
    let Some(rest) = text.len().checked_sub(count).and_then(|from| text.as_bytes().get(from..)) else { return text };
    let rest = rest.iter().position(|&b| b == b'\n').and_then(|at| rest.get(at + 1..)).unwrap_or(rest);
    String::from_utf8_lossy(rest).into_owned()
}

/// Values by the path of their keys.
fn flatten(prefix: &str, table: &toml::Table, to: &mut BTreeMap<String, String>) {
    for (key, value) in table {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            toml::Value::Table(table) => flatten(&path, table, to),
            other => {
                to.insert(path, other.to_string());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn run(name: &str, lr: &str, losses: &[f64]) -> Run {
        let folder = tempfile::tempdir().unwrap();
        let record = |(i, loss): (usize, &f64)| {
            format!(
                "{{\"step\":{i},\"tokens\":{},\"train_loss\":{loss},\"val_loss\":{},\"lr\":{lr},\"wall_s\":36}}\n",
                i * 64,
                loss + 0.5
            )
        };
        fs::write(folder.path().join(METRICS_FILE), losses.iter().enumerate().map(record).collect::<String>()).unwrap();
        fs::write(folder.path().join(CONFIG_FILE), format!("[train]\nlr = {lr}\nsteps = 3\n")).unwrap();
        fs::write(folder.path().join(SAMPLES_FILE), "<b>once & again").unwrap();
        Run { name: name.to_owned(), ..Run::read(folder.path()).unwrap() }
    }

    #[test]
    fn a_page_of_one_run() {
        let page = page(&[run("one", "0.5", &[3.0, 1.0, 2.0])]).unwrap();
        for part in
            ["<h1>samara: one</h1>", ">128<", ">2.0000<", ">2.5000<", ">1.5000<", ">0.01<", "&lt;b&gt;once &amp; again", "<svg"]
        {
            assert!(page.contains(part), "{part}");
        }
        assert!(page.as_bytes().starts_with(PAGE_START));
        assert!(!page.contains("What differs") && !page.contains("http://cdn") && !page.contains("<script"));
    }

    #[test]
    fn runs_beside_each_other_and_what_differs() {
        let page = page(&[run("a", "0.5", &[3.0]), run("b", "0.25", &[2.0])]).unwrap();
        assert!(page.contains("<td>train.lr</td><td>0.5</td><td>0.25</td>"));
        assert!(!page.contains("<td>train.steps</td>"));
        for curve in ["train_loss", "val_loss", "lr"] {
            assert!(page.contains(&format!(">\n{curve}")) || page.contains(&format!(">{curve}")), "{curve}");
        }
    }

    #[test]
    fn a_folder_of_no_run_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = Run::read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("expected a run folder of `samara train`, which has metrics.jsonl"), "{error}");
        assert_eq!(last_bytes("ab\ncd\nef".to_owned(), 4), "ef");
    }
}
