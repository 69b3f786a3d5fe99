//! Byte-level BPE: seconds to train on a text and to encode it, on one thread.
//!
//! `cargo bench -p samara-benches --bench tokenizer -- [TEXT] [--vocab N] [--out FOLDER]` prints a line of JSON; without a text it takes a megabyte
//! of tales. With a folder it leaves the trained tokenizer and the text there, for peers to encode with the same merges.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use samara::data::corpus::tales;
use samara::tokenizer::{BpeTrainOptions, BpeTrainer, Specials};

use serde_json::json;

const ROUNDS: usize = 5;

fn main() {
    let (mut text, mut vocab_size, mut out) = (None, 1024, None);
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--vocab" => vocab_size = args.next().and_then(|n| n.parse().ok()).expect("--vocab: a number"),
            "--out" => out = args.next().map(PathBuf::from),
            _ => text = Some(arg),
        }
    }
    let text = match text {
        Some(path) => fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}")),
        None => tales(1, 1_000_000).into_bytes(),
    };
    let train = || {
        let options = BpeTrainOptions { vocab_size, specials: Vec::new(), ..BpeTrainOptions::default() };
        let mut trainer = BpeTrainer::new(options).expect("options");
        trainer.add(&text);
        trainer.train().expect("a tokenizer")
    };
    let (train_s, tokenizer) = least_s(train);
    let (encode_s, ids) = least_s(|| tokenizer.encode(&text, Specials::None).expect("ids"));
    if let Some(folder) = out {
        fs::create_dir_all(&folder).expect("a folder");
        tokenizer.save(&folder, None).expect("a folder");
        fs::write(folder.join("text.txt"), &text).expect("a folder");
    }
    let mb_per_s = text.len() as f64 / encode_s / 1e6;
    println!(
        "{}",
        json!({ "vocab_size": vocab_size, "tokens": ids.len(), "train_ms": 1e3 * train_s, "encode_mb_per_s": mb_per_s })
    );
}

/// The least seconds of some calls, and what the last one gave.
fn least_s<T>(mut call: impl FnMut() -> T) -> (f64, T) {
    let mut timed = || {
        let begun = Instant::now();
        let value = call();
        (begun.elapsed().as_secs_f64(), value)
    };
    let mut best = timed();
    for _ in 1..ROUNDS {
        let (seconds, value) = timed();
        best = (best.0.min(seconds), value);
    }
    best
}
