//! What models take on a device, held against `arena.toml`: nobody makes a plan or a file larger without noticing.
//!
//! Where it is meant, `SAMARA_RENEW=1 cargo test --workspace --test arena` writes the table anew; it belongs into the same commit.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::{env, fs};

use samara::export::spec::{FileSpec, Optimizer, TrainShape};
use samara_core::graph::DType;
use samara_core::model::gpt::GptConfig;
use samara_core::ops;
use samara_core::tune::Tune;
use samara_tests::device::{PLAIN, export};

/// The share by which a number may differ from the table's.
const TOLERANCE: f64 = 0.03;

/// A model that writes text: 260 k parameters.
const WRITER: GptConfig =
    GptConfig { vocab_size: 1024, n_positions: 128, n_embd: 64, n_layer: 4, n_head: 4, n_inner: 256, ..GptConfig::GPT2 };
/// A model that learns: 35 k parameters.
const LEARNER: GptConfig =
    GptConfig { vocab_size: 256, n_positions: 32, n_embd: 32, n_layer: 2, n_head: 4, n_inner: 128, ..GptConfig::GPT2 };

/// Bytes by model and by what they are for.
type Table = BTreeMap<String, BTreeMap<String, u64>>;

fn cases() -> Vec<(String, GptConfig, FileSpec)> {
    let mut cases = Vec::new();
    for (weights, kv) in [(DType::Real, DType::Real), (DType::Q8, DType::Real), (DType::Q8, DType::F16), (DType::Q4, DType::Q8)] {
        cases.push((format!("writer {weights:?} {kv:?}"), WRITER, FileSpec { weights, kv, ..PLAIN }));
    }
    for train in [Tune::Head, Tune::Bias, Tune::LastBlock] {
        for optimizer in [Optimizer::Sgd, Optimizer::Adamw] {
            let shape = TrainShape { batch: 1, block: 32, weighted: false };
            let spec = FileSpec { weights: DType::Q8, train, optimizer, shape, ..PLAIN };
            cases.push((format!("learner {train:?} {optimizer:?}"), LEARNER, spec));
        }
    }
    cases
}

fn measure() -> Table {
    let kernels = ops::training();
    let bytes_of = |(name, config, spec): (String, GptConfig, FileSpec)| {
        let file = export(config, spec, None);
        let sizes = file.open(&kernels).expect("a file").sizes();
        let of = |len: usize| (len * size_of::<f32>()) as u64;
        let bytes = [
            ("arena", of(sizes.arena_len)),
            ("state", of(sizes.state_len)),
            ("session", of(sizes.total_len())),
            ("file", file.bytes().len() as u64),
        ];
        (name, bytes.map(|(what, bytes)| (what.to_owned(), bytes)).into())
    };
    cases().into_iter().map(bytes_of).collect()
}

fn text(table: &Table) -> String {
    let mut text =
        "# Bytes that models take on a device: see arena.rs.\n# Renew: SAMARA_RENEW=1 cargo test --workspace --test arena\n"
            .to_owned();
    for (name, bytes) in table {
        let bytes: Vec<String> = bytes.iter().map(|(what, bytes)| format!("{what} = {bytes}")).collect();
        writeln!(text, "{name:?} = {{ {} }}", bytes.join(", ")).expect("a string");
    }
    text
}

#[test]
fn models_take_what_the_table_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/arena.toml");
    let found = measure();
    if env::var_os("SAMARA_RENEW").is_some() {
        fs::write(&path, text(&found)).expect("the table is written");
    }
    let expected: Table = toml::from_str(&fs::read_to_string(&path).expect("the table")).expect("a table of numbers");
    let renew = "if that is meant: SAMARA_RENEW=1 cargo test --workspace --test arena";
    assert!(found.keys().eq(expected.keys()), "the table has other models than the test; {renew}");
    for ((name, found), expected) in found.iter().zip(expected.values()) {
        for (what, &found) in found {
            let expected = expected.get(what).copied().unwrap_or(0);
            let change = found.abs_diff(expected) as f64;
            assert!(change <= TOLERANCE * expected as f64, "{name}: {what} takes {found} bytes, {expected} before; {renew}");
        }
    }
}
