//! Training of detectors from the command line.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use samara::vision::detector::DetectorFolder;
use serde_json::Value;

/// A DETR of 8,000 parameters on images of 32 pixels.
const TINY: [&str; 17] = [
    "model.model_type=detr",
    "model.image_size=32",
    "model.embedding_size=8",
    "model.hidden_sizes=[8, 16]",
    "model.depths=[1, 1]",
    "model.layer_type=basic",
    "model.d_model=16",
    "model.encoder_layers=1",
    "model.decoder_layers=2",
    "model.encoder_attention_heads=2",
    "model.decoder_attention_heads=2",
    "model.encoder_ffn_dim=32",
    "model.decoder_ffn_dim=32",
    "model.num_queries=8",
    "model.num_labels=8",
    "detect.val_images=10",
    "train.batch_size=4",
];

fn train(out: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_samara"));
    command.args(["train", "--quiet", "--json", "--threads", "2", "--out"]).arg(out);
    for set in TINY {
        command.args(["--set", set]);
    }
    command.args(more).output().expect("the binary runs")
}

fn outcome(out: &Path, more: &[&str]) -> Value {
    let output = train(out, more);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn the_loss_falls_and_a_resumed_run_has_the_bits_of_an_uninterrupted_one() {
    let out = tempfile::tempdir().expect("a folder");
    let (whole, resumed) = (out.path().join("whole"), out.path().join("resumed"));
    let learning = ["--set", "train.lr=3e-3", "--set", "train.warmup_steps=5", "--set", "detect.frozen_stages=1"];
    let sets = |steps: &'static str| [&learning[..], &["--set", steps]].concat();
    let steps = sets("train.steps=60");
    outcome(&whole, &steps);
    let metrics = fs::read_to_string(whole.join("metrics.jsonl")).expect("metrics");
    let losses: Vec<f64> =
        metrics.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()?["train_loss"].as_f64()).collect();
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    assert!(losses.len() >= 60 && mean(&losses[40..]) < 0.8 * mean(&losses[..10]), "{losses:?}");
    // The schedule of 60 steps from the start, and a stop after 30 of them.
    let shorter = sets("train.steps=30");
    let schedule = ["--set", "train.schedule=constant"];
    outcome(&resumed, &[&shorter[..], &schedule].concat());
    let longer = [&steps[..], &schedule, &["--resume"]].concat();
    outcome(&resumed, &longer);
    let constant = out.path().join("constant");
    outcome(&constant, &[&steps[..], &schedule].concat());
    let weights = |folder: &Path| fs::read(folder.join("model.safetensors")).expect("weights");
    assert!(weights(&resumed) == weights(&constant), "other weights after a resumption");
    let folder = DetectorFolder::read(&whole).expect("config.json").expect("a detector");
    fs::write(out.path().join("config.json"), folder.to_json(0.0).to_string()).expect("a file");
    assert_eq!(DetectorFolder::read(out.path()).expect("config.json").as_ref(), Some(&folder));
    assert_eq!((folder.labels[0].as_str(), folder.model.num_queries), ("circle", 8));
}

#[test]
fn settings_without_effect_are_refused_by_their_names() {
    let out = tempfile::tempdir().expect("a folder");
    for (set, expected) in [
        ("model.num_labels=7", "model.num_labels: expected 8"),
        ("detect.frozen_stages=4", "detect.frozen_stages: expected 0 to 3"),
        ("augment.flip=false", "augment.flip"),
        ("data.val_fraction=0.2", "data.val_fraction"),
        ("train.drop_at=0.5", "train.drop_at"),
        ("train.tokens=100", "train.tokens: expected 0"),
        ("model.d_model=18", "model.d_model: expected a multiple of 4"),
        ("model.depths=[1]", "model.hidden_sizes: expected 1 multiples of 1"),
        ("model.depths=3", "model.depths: expected a list of integers such as [2, 2]"),
    ] {
        let output = train(&out.path().join("run"), &["--set", set]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(error.contains(expected) && output.status.code() == Some(2), "{set}: {error}");
    }
}
