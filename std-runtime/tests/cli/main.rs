//! The binary as its users meet it: help, errors, exit codes, files.

mod align;
mod align_data;
mod align_said;
mod assign;
mod data;
mod detect;
mod device;
mod embed;
mod guards;
mod images;
mod images_said;
#[cfg(unix)]
mod live;
mod llama;
mod models;
mod policies;
mod tokenizers;
mod train;
mod usage;

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use samara_core::file::ProgramFile;
use samara_core::ops;
use samara_core::session::{Hyper, Session};
use serde_json::Value;

fn samara(folder: &Path, args: &[&str]) -> Output {
    command(folder, args).output().expect("the binary runs")
}

fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_samara"));
    command.args(args).current_dir(folder).stdin(Stdio::null());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// Runs, expects success, returns standard output.
fn done(folder: &Path, args: &[&str]) -> String {
    let output = samara(folder, args);
    assert_eq!(output.status.code(), Some(0), "{args:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// Runs, expects an exit code and parts of the message.
fn refused(folder: &Path, args: &[&str], code: i32, parts: &[&str]) {
    let output = samara(folder, args);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {error}");
    for part in parts {
        assert!(error.contains(part), "{args:?}\n got {error}\nwant {part}");
    }
    assert!(!error.contains("panicked") && !error.contains('\u{1b}'), "{args:?}: {error}");
}

fn temporary() -> tempfile::TempDir {
    tempfile::tempdir().expect("folder")
}

fn golden(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/models").join(name).display().to_string()
}

/// A model that trains in a moment, whatever its data is.
const SMALL: [&str; 14] = [
    "--set",
    "model.n_embd=8",
    "--set",
    "model.n_layer=1",
    "--set",
    "model.n_head=2",
    "--set",
    "model.n_positions=16",
    "--set",
    "train.block_size=16",
    "--set",
    "train.batch_size=2",
    "--set",
    "train.eval_batches=2",
];

/// What it is for text.
const OF_TEXT: [&str; 6] = ["--set", "data.tokenizer=byte", "--set", "train.lr=1e-3", "--set", "generate.max_new_tokens=3"];

/// What a small built-in corpus is, for a run without data of its own.
const FEW_TALES: [&str; 2] = ["--set", "data.corpus_bytes=20000"];

fn tiny<'a>(first: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    let has = |word: &str| first.iter().chain(more).any(|arg| *arg == word);
    // Where nothing is held out, the batches of an evaluation, which come last, are refused.
    let small = if has("data.val_fraction=0") { &SMALL[..SMALL.len() - 2] } else { &SMALL };
    [first, small, &OF_TEXT, if has("--data") { &[] } else { &FEW_TALES }, more].concat()
}

/// A model 32 numbers wide, whose rows fall into blocks.
fn trained_wide(at: &Path) {
    let wide = ["--set", "model.n_embd=32", "--set", "train.steps=4", "--set", "train.eval_every=0", "-q"];
    done(at, &tiny(&["train", "--out", "run"], &wide));
}
