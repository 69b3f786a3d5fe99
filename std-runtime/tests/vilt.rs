//! Training of a ViLT from the command line, on the generated world of captions and on files.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use samara::image_text::vilt_folder::ViltFolder;
use samara::model_folder::safetensors::Weights;
use serde_json::Value;

/// A ViLT of some thousand parameters on nine patches.
const TINY: [&str; 10] = [
    "model.model_type=vilt",
    "model.image_size=24",
    "model.patch_size=8",
    "model.hidden_size=32",
    "model.num_hidden_layers=2",
    "model.num_attention_heads=2",
    "model.intermediate_size=64",
    "model.max_position_embeddings=24",
    "train.lr=3e-3",
    "train.warmup_steps=5",
];

/// Its generated world, where there are no files.
const WORLD: [&str; 4] = ["captions.objects=1", "captions.train=256", "captions.val=32", "data.vocab_size=120"];

fn samara(at: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_samara")).args(args).current_dir(at).output().expect("the binary runs")
}

/// Trains in a folder, with settings; others begin with two dashes.
fn train(at: &Path, out: &str, settings: &[&[&str]]) -> Output {
    let mut args = vec!["train", "--quiet", "--json", "--threads", "2", "--out", out];
    for &setting in settings.iter().copied().flatten() {
        if setting.starts_with("--") {
            args.extend(setting.split(' '));
        } else {
            args.extend(["--set", setting]);
        }
    }
    samara(at, &args)
}

fn done(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
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

/// The values of a scalar in the lines of a run that have one.
fn scalar(run: &Path, name: &str) -> Vec<f64> {
    let lines = fs::read_to_string(run.join("metrics.jsonl")).expect("a file");
    lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).expect("JSON")[name].as_f64()).collect()
}

#[test]
fn tokens_are_restored_and_a_resumed_run_has_the_bits_of_an_uninterrupted_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    // Five of nine patches are seen.
    let learning = ["train.batch_size=16", "train.steps=80", "train.eval_every=40", "vilt.max_patches=5", "mlm.whole_word=true"];
    let kept = ["train.checkpoint_every=40", "train.keep_checkpoints=9"];
    done(&train(at, "whole", &[&TINY, &WORLD, &learning]));
    done(&train(at, "resumed", &[&TINY, &WORLD, &learning, &kept]));
    fs::remove_dir_all(at.join("resumed/checkpoints/step-0000080")).expect("the last checkpoint");
    done(&train(at, "resumed", &[&TINY, &WORLD, &learning, &kept, &["--resume"]]));
    assert_eq!(weights(&at.join("whole")), weights(&at.join("resumed")));
    let losses = scalar(&at.join("whole"), "val_mlm_loss");
    // By chance ln 120 nats.
    assert!(losses[0] > 4.0 && losses[2] < 2.5, "{losses:?}");
    let described = ViltFolder::read(&at.join("whole")).expect("a folder").expect("a ViLT");
    assert!(described.heads.masked_lm && described.heads.matching && !described.heads.rank);
    for file in ["tokenizer.json", "preprocessor_config.json", "MODEL_CARD.md", "run.toml"] {
        assert!(at.join("whole").join(file).is_file(), "{file}");
    }
}

#[test]
fn a_step_in_micro_batches_has_the_gradient_of_the_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    // Plain gradient descent: the weights show the gradients of all steps.
    let steps = ["train.steps=2", "train.optimizer=sgd", "train.lr=0.1", "train.warmup_steps=0", "train.eval_every=0"];
    let terms = ["vilt.rank_weight=1", "vilt.negatives=3", "vilt.max_patches=6"];
    for (out, sizes) in [
        ("whole", ["train.batch_size=12", "train.grad_accumulation=1"]),
        ("parts", ["train.batch_size=4", "train.grad_accumulation=3"]),
    ] {
        done(&train(at, out, &[&TINY, &WORLD, &steps, &terms, &sizes]));
    }
    for ((name, a), (_, b)) in weights(&at.join("whole")).iter().zip(&weights(&at.join("parts"))) {
        let norm = a.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        let difference = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt();
        assert!(difference <= 1e-5 * norm.max(1e-3), "{name}: {difference} of {norm}");
    }
}

/// Pictures of four colours in several proportions, with a caption each.
fn write_colours(at: &Path) {
    let colours = [("red", [200, 0, 0]), ("green", [0, 200, 0]), ("blue", [0, 0, 200]), ("white", [220; 3])];
    let mut rows = String::new();
    for (i, (name, rgb)) in colours.iter().cycle().take(24).enumerate() {
        let (width, height) = [(24, 24), (40, 24), (24, 33)][i % 3];
        let image = image::RgbImage::from_fn(width, height, |x, _| image::Rgb(rgb.map(|v: u8| v.saturating_add(x as u8))));
        image.save(at.join(format!("{name}{i}.png"))).expect("file");
        rows += &format!("{{\"image\": \"{name}{i}.png\", \"caption\": \"a {name} picture\"}}\n");
    }
    fs::write(at.join("pairs.jsonl"), &rows).expect("file");
}

#[test]
fn a_pre_trained_model_learns_to_rank_texts_for_images_of_any_proportions() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    write_colours(at);
    let data =
        ["data.path=pairs.jsonl", "data.val_fraction=0", "data.vocab_size=60", "train.eval_every=0", "train.batch_size=12"];
    done(&train(at, "pre", &[&TINY, &data, &["train.steps=2"]]));
    let ranking = ["vilt.mlm_weight=0", "vilt.itm_weight=0", "vilt.wpa_weight=0", "vilt.rank_weight=1", "vilt.negatives=5"];
    let tuning = ["--init pre", "data.path=pairs.jsonl", "data.val_fraction=0", "train.eval_every=0", "train.batch_size=12"];
    // A score begins as the second row of the head that compares.
    done(&train(at, "begun", &[&tuning, &ranking, &["train.steps=1", "train.lr=1e-9"]]));
    let of =
        |folder: &str, tensor: &str| weights(&at.join(folder)).into_iter().find(|(name, _)| name == tensor).expect("a tensor").1;
    let (score, logits) = (of("begun", "rank_output.weight"), of("pre", "itm_score.fc.weight"));
    assert!(score.iter().zip(&logits[32..]).all(|(a, b)| (a - b).abs() < 1e-6));
    done(&train(at, "ranked", &[&tuning, &ranking, &["train.steps=150", "train.lr=3e-3", "train.warmup_steps=5"]]));
    let found = done(&samara(at, &["eval", "retrieval", "--model", "ranked", "--data", "pairs.jsonl", "--json"]));
    // Six captions are equal: they count as before an image's own, but not beyond the six.
    assert!(found["image_to_text"]["r10"].as_f64().expect("a recall") > 0.9, "{found}");
    let losses = scalar(&at.join("ranked"), "train_rank_loss");
    // One of six by chance: ln 6 nats.
    assert!(losses[0] > 1.2 && losses[140..].iter().sum::<f64>() < 8.0, "{losses:?}");
    let predict =
        ["predict", "--model", "ranked", "--labels", "red,white", "--template", "a {} picture", "--draw", "drawn", "--json"];
    assert_eq!(done(&samara(at, &[&predict[..], &["white3.png"]].concat()))["label"], "white");
    // The image and one picture for each of three words, 168 pixels high.
    assert_eq!(image::image_dimensions(at.join("drawn/white3.png")).expect("a picture"), (4 * 168, 168));
    // Both heads compare: that of pre-training by its logits.
    let found = done(&samara(at, &["eval", "retrieval", "--model", "pre", "--data", "pairs.jsonl", "--json"]));
    assert_eq!((&found["images"], &found["captions"]), (&24.into(), &24.into()));
}

#[test]
fn what_cannot_be_trained_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let refused = |more: &[&str], expected: &str| {
        let output = train(at, "refused", &[&TINY, &WORLD, &["train.steps=1", "train.batch_size=4"], more]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.contains(expected), "{error}\nwant {expected}");
    };
    refused(&["vilt.mlm_weight=0", "vilt.itm_weight=0", "vilt.wpa_weight=0"], "vilt.mlm_weight: expected above 0");
    refused(&["train.batch_size=1"], "train.batch_size: expected at least 2 pairs in a step");
    refused(&["vilt.rank_weight=1"], "vilt.negatives: expected fewer than the 4 pairs of a step");
    refused(&["vilt.negatives=2"], "vilt.negatives: expected no value; vilt.rank_weight is 0");
    refused(&["vilt.mlm_weight=0", "mlm.whole_word=true"], "mlm.whole_word: expected no value; vilt.mlm_weight is 0");
    refused(&["data.tokenizer=char", "data.vocab_size=300"], "data.tokenizer: expected a tokenizer");
    refused(&["model.patch_size=7"], "model.image_size: expected a multiple of model.patch_size = 7, found 24");
    refused(&["train.flops=1e9"], "train.flops: expected 0");
    refused(&["captions.train=3"], "train.batch_size: expected at most the 3 pairs");
}
