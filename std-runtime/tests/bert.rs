//! Training of a BERT from the command line.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// A BERT of some thousand parameters on a short text.
const TINY: [&str; 13] = [
    "model.model_type=bert",
    "model.hidden_size=32",
    "model.num_hidden_layers=1",
    "model.num_attention_heads=2",
    "model.intermediate_size=64",
    "model.max_position_embeddings=32",
    "data.corpus_bytes=20000",
    "data.tokenizer_vocab_size=200",
    "train.block_size=32",
    "train.batch_size=8",
    "train.lr=1e-2",
    "train.warmup_steps=3",
    "train.eval_every=10",
];

fn samara(at: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_samara")).args(args).current_dir(at).output().expect("the binary runs")
}

/// Trains in a folder, with flags and settings.
fn train(at: &Path, out: &str, flags: &[&str], settings: &[&str]) -> Output {
    let mut args = vec!["train", "--json", "--threads", "2", "--out", out];
    args.extend(flags);
    settings.iter().for_each(|setting| args.extend(["--set", setting]));
    samara(at, &args)
}

fn is_done(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_resumed_run_has_the_bits_of_an_uninterrupted_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let learning = [&TINY[..], &["train.steps=40"]].concat();
    let output = train(at, "whole", &[], &learning);
    is_done(&output);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("; by frequency alone: loss "), "{said}");
    let lines = fs::read_to_string(at.join("whole/metrics.jsonl")).expect("a file");
    let lines = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    let losses: Vec<f64> = lines.filter_map(|line| line["val_loss"].as_f64()).collect();
    assert!(losses.len() == 5 && losses[4] < losses[0] - 0.3, "{losses:?}");
    let kept = [&learning[..], &["train.checkpoint_every=20", "train.keep_checkpoints=9"]].concat();
    is_done(&train(at, "resumed", &[], &kept));
    fs::remove_dir_all(at.join("resumed/checkpoints/step-0000040")).expect("the last checkpoint");
    is_done(&train(at, "resumed", &["--resume"], &kept));
    for file in ["model.safetensors", "best/model.safetensors"] {
        assert_eq!(
            fs::read(at.join("whole").join(file)).expect(file),
            fs::read(at.join("resumed").join(file)).expect(file),
            "{file}"
        );
    }
    // A run goes on from its folder, whose tokenizer and sizes it takes.
    let further =
        ["train.steps=2", "train.batch_size=8", "train.block_size=32", "data.corpus_bytes=20000", "mlm.whole_word=true"];
    is_done(&train(at, "further", &["--init", "whole"], &further));
    let refused = |settings: &[&str]| {
        let output = train(at, "refused", &[], &[&TINY[..], settings].concat());
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(refused(&["train.dropout=0.1"]).contains("train.dropout: expected 0"));
    assert!(refused(&["data.order=shuffled"]).contains("every window of text comes once per epoch"));
    assert!(refused(&["model.vocab_size=9"]).contains("data.tokenizer_vocab_size"));
}
