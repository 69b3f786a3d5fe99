//! Documentation of a run in its folder: the machine at every start (`host.jsonl`), and the model card (`MODEL_CARD.md`): the model's origin, its
//! training data, its metrics, and its known limits.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use serde::Serialize;

use super::config::{ImageRunConfig, RunConfig, TrainConfig};
use super::error::TrainingError as Error;
use super::folder::{CONFIG_FILE, METRICS_FILE};
use super::request::TrainOutcome;
use crate::config::Table;
use crate::data::DataError;
use crate::host::Host;
use crate::model_folder::{WeightsFile, weights_files};
use crate::run::durable;

/// The model card.
pub const CARD_FILE: &str = "MODEL_CARD.md";
/// A line for every start of the run.
pub const HOST_FILE: &str = "host.jsonl";

/// Adds a line about this machine, on which the run begins or resumes after `step` steps with this many threads.
///
/// # Errors
/// The operating system refuses.
pub fn note_start(out: &Path, step: u64, threads: usize) -> Result<(), Error> {
    #[derive(Serialize)]
    struct Start {
        step: u64,
        threads_of_run: usize,
        #[serde(flatten)]
        host: Host,
    }
    let path = out.join(HOST_FILE);
    let mut line = serde_json::to_vec(&Start { step, threads_of_run: threads, host: Host::this() }).unwrap_or_default();
    line.push(b'\n');
    let file = OpenOptions::new().create(true).append(true).open(&path);
    file.and_then(|mut file| file.write_all(&line)).map_err(Error::io(&path, "write"))
}

/// What a card is about.
pub struct Subject<'s> {
    /// The model's type.
    pub model_type: &'s str,
    /// How it was trained.
    pub train: &'s TrainConfig,
    /// Its data.
    pub corpus: String,
    /// What is held out of it, and what is not known about the model's answers.
    pub limits: &'static str,
}

impl<'s> From<&'s RunConfig> for Subject<'s> {
    fn from(config: &'s RunConfig) -> Self {
        Self {
            model_type: config.model.model_type(),
            train: &config.train,
            corpus: shown(config.data.path.as_deref(), "the built-in corpus of tales"),
            limits: "on text held out from the same data. What the model says is not known to be true or harmless.",
        }
    }
}

impl<'s> From<&'s ImageRunConfig> for Subject<'s> {
    fn from(config: &'s ImageRunConfig) -> Self {
        Self {
            model_type: config.model.model_type(),
            train: &config.train,
            corpus: match config.shapes.show("target") {
                Some(target) => format!("the generated world of shapes, shapes.target = {target}"),
                None => shown(config.data.path.as_deref(), "no data"),
            },
            limits: "on images held out from the same data. How the model answers to other images is not known.",
        }
    }
}

fn shown(path: Option<&Path>, none: &str) -> String {
    path.map_or_else(|| none.to_owned(), |path| format!("`{}`", path.display()))
}

/// Writes the card of a finished training; the two texts give the model's parameters and which of them were trained; `data` is the fingerprint of the
/// data.
///
/// # Errors
/// The operating system refuses.
pub fn write<'s>(
    subject: impl Into<Subject<'s>>,
    [parameters, trained]: [&str; 2],
    data: &str,
    results: &TrainOutcome,
) -> Result<(), Error> {
    let subject = subject.into();
    // The card is written even if the base has been deleted meanwhile.
    let base = subject.train.init.as_deref().map(|init| weights(init).unwrap_or_else(|error| format!("; {error}")));
    let text = text(&subject, [parameters, trained], base.as_deref(), data, results);
    durable::write(&results.out.join(CARD_FILE), text.as_bytes()).map_err(Error::io(&results.out, "write into"))
}

fn text(
    subject: &Subject<'_>,
    [parameters, trained]: [&str; 2],
    base: Option<&str>,
    data: &str,
    results: &TrainOutcome,
) -> String {
    let (word, unit) = (results.measure.word(), results.measure.unit);
    let value = |value: Option<f64>| {
        value.map_or_else(|| "not measured".to_owned(), |value| format!("{value:.4} {unit}").trim_end().to_owned())
    };
    let Subject { model_type: model, train, corpus, limits } = subject;
    let mut text =
        format!("# Model card\n\nA {model} model of {parameters}, trained by samara {}.\n\n", env!("CARGO_PKG_VERSION"));
    let from = shown(train.init.as_deref(), "random weights");
    let base = base.unwrap_or_default();
    let rows = [
        ("begins with".to_owned(), format!("{from}{base}")),
        ("data".to_owned(), format!("{corpus}; {data}")),
        ("trained".to_owned(), trained.to_owned()),
        ("steps".to_owned(), results.steps.to_string()),
        ("seed".to_owned(), train.seed.to_string()),
        (format!("training {word}, last batch"), value(results.train_loss)),
        (format!("validation {word}, last"), value(results.val_loss)),
        (format!("validation {word}, best"), value(results.best_val_loss)),
    ];
    let kl = results.kl.map(|kl| ("KL from the reference, last batch".to_owned(), format!("{kl:.4} nats per completion")));
    text += "| | |\n| --- | --- |\n";
    for (name, value) in rows.into_iter().chain(kl) {
        let _ = writeln!(text, "| {name} | {} |", value.replace('|', "\\|"));
    }
    let _ = write!(
        text,
        "\n`{CONFIG_FILE}` is the whole configuration, `{METRICS_FILE}` every step, `{HOST_FILE}` the machines.\n\n\
         ## Limits\n\nOnly the values above were measured, {limits} The licences of the data{} hold for what is made of them.\n",
        if train.init.is_some() { " and of the model that it begins with" } else { "" }
    );
    text
}

/// Names, sizes and checksums of the files with weights in a folder.
fn weights(folder: &Path) -> Result<String, DataError> {
    let text = |file: WeightsFile| format!("; {}: crc32c {:08x}, {} bytes", file.name, file.crc32c, file.bytes);
    Ok(weights_files(folder)?.into_iter().map(text).collect())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::train::request::Measure;

    #[test]
    fn a_card_names_base_data_seed_and_losses() {
        let (base, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(base.path().join("model.safetensors"), "123456789").unwrap();
        let mut config = RunConfig::default();
        config.train.init = Some(base.path().to_owned());
        config.train.seed = 7;
        let out_folder = out.path().to_owned();
        let results = TrainOutcome {
            steps: 3,
            train_loss: Some(1.5),
            best_val_loss: Some(1.25),
            out: out_folder,
            ..TrainOutcome::default()
        };
        write(&config, ["42 parameters", "all"], "text: crc32c 00000001, 5 bytes, 1 documents", &results).unwrap();
        let card = fs::read_to_string(out.path().join(CARD_FILE)).unwrap();
        for part in [
            "42 parameters",
            "model.safetensors: crc32c e3069283, 9 bytes",
            "crc32c 00000001",
            "| seed | 7 |",
            "1.5000 nats",
            "last | not measured",
            "and of the model that it begins with",
        ] {
            assert!(card.contains(part), "{part}: {card}");
        }
        let scores =
            TrainOutcome { measure: Measure { name: "objective/scores", unit: "", is_larger_better: true }, ..results.clone() };
        write(&config, ["42 parameters", "all"], "", &scores).unwrap();
        let card = fs::read_to_string(out.path().join(CARD_FILE)).unwrap();
        assert!(
            card.contains("| training scores, last batch | 1.5000 |") && !card.contains("loss") && !card.contains("KL"),
            "{card}"
        );
        let scores = TrainOutcome { kl: Some(0.25), ..scores };
        write(&config, ["42 parameters", "all"], "", &scores).unwrap();
        let card = fs::read_to_string(out.path().join(CARD_FILE)).unwrap();
        assert!(card.contains("| KL from the reference, last batch | 0.2500 nats per completion |"), "{card}");
        base.close().unwrap();
        write(&config, ["42 parameters", "all"], "", &results).unwrap();
        assert!(fs::read_to_string(out.path().join(CARD_FILE)).unwrap().contains("cannot list: No such file"));
    }

    #[test]
    fn every_start_is_a_line() {
        let out = tempfile::tempdir().unwrap();
        note_start(out.path(), 0, 2).unwrap();
        note_start(out.path(), 5, 1).unwrap();
        let text = fs::read_to_string(out.path().join(HOST_FILE)).unwrap();
        let steps: Vec<u64> =
            text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["step"].as_u64().unwrap()).collect();
        assert_eq!(steps, [0, 5]);
    }
}
