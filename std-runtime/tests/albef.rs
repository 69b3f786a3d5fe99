//! Training of an ALBEF from the command line, on the generated world of captions.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use samara::image_text::albef_folder::AlbefFolder;
use samara::model_folder::safetensors::Weights;
use serde_json::Value;

/// An ALBEF of some thousand parameters on four patches, and its generated world.
const TINY: [&str; 21] = [
    "model.model_type=albef",
    "model.image_size=16",
    "model.patch_size=8",
    "model.vision_hidden_size=16",
    "model.vision_num_hidden_layers=1",
    "model.vision_num_attention_heads=2",
    "model.vision_intermediate_size=32",
    "model.hidden_size=16",
    "model.num_hidden_layers=2",
    "model.fusion_layer=1",
    "model.num_attention_heads=2",
    "model.intermediate_size=32",
    "model.embed_dim=8",
    "model.max_position_embeddings=24",
    "data.vocab_size=120",
    "captions.objects=1",
    "captions.train=256",
    "captions.val=32",
    "train.batch_size=16",
    "train.lr=3e-3",
    "train.warmup_steps=5",
];

/// A tokenizer that the model can use.
const WORDS: &str = "data.tokenizer=wordpiece";

/// Trains in a folder, with settings; others begin with two dashes.
fn train(at: &Path, out: &str, settings: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_samara"));
    command.args(["train", "--quiet", "--json", "--threads", "2", "--out", out]).current_dir(at);
    for setting in TINY.iter().chain(settings) {
        if setting.starts_with("--") {
            command.arg(setting);
        } else {
            command.args(["--set", setting]);
        }
    }
    command.output().expect("the binary runs")
}

fn done(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// All weights of a folder by name.
fn weights(folder: &Path) -> Vec<(String, Vec<f32>)> {
    let weights = Weights::open(folder).expect("weights");
    let read = |name: &str| {
        let shape = weights.shape(name).expect("a tensor").to_vec();
        let mut values = vec![0.0; shape.iter().product()];
        weights.read(name, &shape, &mut values).expect("values");
        (name.to_owned(), values)
    };
    weights.names().map(read).collect()
}

/// The values of a scalar of training, of every step that has one.
fn scalar(run: &Path, name: &str) -> Vec<f64> {
    let lines = fs::read_to_string(run.join("metrics.jsonl")).expect("a file");
    lines
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).expect("JSON")[format!("train_{name}")].as_f64())
        .collect()
}

#[test]
fn losses_fall_and_a_resumed_run_has_the_bits_of_an_uninterrupted_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    // The queue turns within a batch, and α still rises where the run goes on.
    let learning = [WORDS, "train.steps=80", "train.eval_every=40", "albef.queue_size=40", "albef.alpha_steps=60"];
    let kept = [&learning[..], &["train.checkpoint_every=40", "train.keep_checkpoints=9"]].concat();
    done(&train(at, "whole", &learning));
    done(&train(at, "resumed", &kept));
    let of_first = scalar(&at.join("resumed"), "loss");
    fs::remove_dir_all(at.join("resumed/checkpoints/step-0000080")).expect("the last checkpoint");
    done(&train(at, "resumed", &[&kept[..], &["--resume"]].concat()));
    assert_eq!(weights(&at.join("whole")), weights(&at.join("resumed")));
    let whole = at.join("whole");
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    for name in ["loss", "mlm_loss"] {
        let losses = scalar(&whole, name);
        assert!(mean(&losses[70..]) < 0.9 * mean(&losses[..10]), "{name}: {losses:?}");
    }
    assert_eq!(scalar(&whole, "loss"), of_first);
    let alpha = scalar(&whole, "alpha");
    assert!(alpha[0] == 0.0 && (alpha[30] - 0.2).abs() < 1e-6 && (alpha[79] - 0.4).abs() < 1e-6, "{alpha:?}");
    let described = AlbefFolder::open(&whole).expect("a folder").model;
    assert_eq!((described.fusion_layer, described.embed_dim), (1, 8));
    for file in ["tokenizer.json", "preprocessor_config.json", "MODEL_CARD.md", "run.toml"] {
        assert!(whole.join(file).is_file(), "{file}");
    }
}

#[test]
fn every_term_can_be_left_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let terms = ["itc_loss", "itm_loss", "mlm_loss", "alpha"];
    for (out, settings, gone) in [
        ("all", &["albef.queue_size=8"][..], ""),
        ("no-contrast", &["albef.itc=0", "albef.hard_negatives=false"], "itc_loss"),
        ("no-matching", &["albef.itm=0", "albef.queue_size=8"], "itm_loss"),
        ("no-masks", &["albef.mlm=0", "albef.queue_size=8"], "mlm_loss"),
        ("no-distillation", &["albef.alpha=0", "albef.queue_size=8"], "alpha"),
        ("no-queue", &["albef.queue_size=0"], ""),
        ("random", &["albef.hard_negatives=false", "albef.multi_positive=true", "albef.queue_size=8"], ""),
    ] {
        done(&train(at, out, &[settings, &[WORDS, "train.steps=2", "train.eval_every=0"]].concat()));
        let run = at.join(out);
        for term in terms {
            let values = scalar(&run, term);
            assert_eq!(values.len(), if term == gone { 0 } else { 2 }, "{out} {term}: {values:?}");
        }
    }
}

#[test]
fn what_cannot_be_trained_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let refused = |more: &[&str], expected: &str| {
        let output = train(folder.path(), "refused", &[&["train.steps=1"], more].concat());
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.contains(expected), "{error}\nwant {expected}");
    };
    refused(&["data.tokenizer=bpe", "data.vocab_size=300"], "data.tokenizer: expected a tokenizer");
    for (settings, expected) in [
        (&["albef.itc=0"][..], "albef.hard_negatives: expected false without albef.itc"),
        (&["albef.itc=0", "albef.itm=0"], "albef.itm: expected a weight above 0"),
        (&["albef.itc=0", "albef.hard_negatives=false", "albef.queue_size=8"], "albef.queue_size: expected no value"),
        (&["albef.alpha=0", "albef.alpha_steps=8"], "albef.alpha_steps: expected no value; albef.alpha = 0"),
        (&["albef.mlm=0", "mlm.probability=0.2"], "mlm.probability: expected no value; albef.mlm = 0"),
        (&["albef.itm=0", "albef.hard_negatives=true"], "albef.hard_negatives: expected no value; albef.itm = 0"),
        (&["train.batch_size=1"], "train.batch_size: expected at least 2"),
        (&["train.grad_accumulation=2"], "train.grad_accumulation: expected 1"),
        (&["model.fusion_layer=2"], "model.fusion_layer: expected less than model.num_hidden_layers = 2"),
        (&["model.patch_size=7"], "model.image_size: expected a multiple of model.patch_size = 7, found 16"),
        (&["train.ema_decay=0.9"], "train.ema_decay: expected 0"),
    ] {
        refused(&[&[WORDS], settings].concat(), expected);
    }
}
