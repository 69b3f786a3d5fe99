//! Results that may not change by a bit: training, logits, generation and the programs for microcontrollers, each as one hash in `frozen_bits.toml`.
//!
//! A change of structure leaves every hash as it is. Where a change of bits is meant, the failure prints the group as it is now: it goes into
//! the table in the same commit, with the reason in a comment there. Everything goes through the binary and the files that it writes, so that the test
//! does not depend on how the library is cut.
//!
//! The hashes are those of x86-64 with AVX2 or AVX-512, which give the same bits. Sums are taken in another order elsewhere: there only the programs for
//! microcontrollers are compared, because reference kernels give the same bits on every machine.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use safetensors::SafeTensors;
use samara_tests::binary::samara;
use serde_json::Value;
use tempfile::TempDir;

/// The programs themselves, whose `crate` is this test here.
#[allow(dead_code, unreachable_pub, missing_docs, reason = "entry points are of use on boards alone")]
#[path = "../firmware/src/lib.rs"]
mod firmware;
use firmware::{Hash, Program, board, decimals, figure, programs};

/// Hash by name.
type Group = BTreeMap<String, String>;

/// Holds a group of hashes against the table: the same names, the same bits.
fn check(group: &str, found: &Group) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/frozen_bits.toml");
    let table: BTreeMap<String, Group> =
        toml::from_str(&fs::read_to_string(path).expect("the table")).expect("a table of hashes");
    let frozen = table.get(group).cloned().unwrap_or_default();
    if *found == frozen {
        return;
    }
    let mut text = format!("[{group}] is no longer what tests/tests/frozen_bits.toml says. Different:\n");
    for name in frozen.keys().chain(found.keys().filter(|name| !frozen.contains_key(*name))) {
        let of = |group: &Group| group.get(name).map_or_else(|| "nothing".to_owned(), Clone::clone);
        if of(found) != of(&frozen) {
            writeln!(text, "  {name}: now {}, frozen {}", of(found), of(&frozen)).expect("text");
        }
    }
    writeln!(text, "If the change is meant, put this into the table and say there why:\n[{group}]").expect("text");
    found.iter().for_each(|(name, hash)| writeln!(text, "{name} = \"{hash}\"").expect("text"));
    panic!("{text}");
}

/// Whether this machine's fast kernels are those whose bits the table holds.
fn has_frozen_kernels() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}

fn hex(hash: Hash) -> String {
    format!("{:016x}", hash.value())
}

/// The hash of doubles by their bits.
fn hash_of(numbers: impl IntoIterator<Item = f64>) -> String {
    let mut hash = Hash::default();
    numbers.into_iter().for_each(|x| hash.bytes(&x.to_bits().to_le_bytes()));
    hex(hash)
}

fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(path)
}

/// What the binary prints; it must succeed.
fn run(arguments: &[&str], set: &[(&str, String)], inputs: &[(&str, &Path)]) -> Vec<u8> {
    let mut command: Command = samara();
    command.args(arguments).arg("--quiet");
    for (key, value) in set {
        command.arg("--set").arg(format!("{key}={value}"));
    }
    for (flag, path) in inputs {
        command.arg(flag).arg(path);
    }
    let output = command.output().expect("the binary");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Names and bytes of all tensors of a model folder, in the order of their names.
fn weights(folder: &Path) -> String {
    let bytes = fs::read(folder.join("model.safetensors")).expect("weights");
    let mut tensors = SafeTensors::deserialize(&bytes).expect("safetensors").tensors();
    tensors.sort_by(|(x, _), (y, _)| x.cmp(y));
    let mut hash = Hash::default();
    for (name, tensor) in tensors {
        hash.bytes(name.as_bytes());
        hash.bytes(tensor.data());
    }
    hex(hash)
}

/// The values of a key in all records of a run, null ones left out.
fn column(folder: &Path, key: &str) -> String {
    let text = fs::read_to_string(folder.join("metrics.jsonl")).expect("metrics");
    let record = |line: &str| serde_json::from_str::<Value>(line).expect("a record")[key].as_f64();
    let values: Vec<f64> = text.lines().filter_map(record).collect();
    assert!(!values.is_empty(), "no {key} in {}", folder.display());
    hash_of(values)
}

/// What a finished run leaves behind, under names that begin with `name`.
fn add_run(found: &mut Group, name: &str, folder: &Path) {
    for key in ["train_loss", "grad_norm", "val_loss"] {
        found.insert(format!("{name}-{key}"), column(folder, key));
    }
    found.insert(format!("{name}-weights"), weights(folder));
}

/// Everything at once: dropout, micro-batches, clipping and an average of weights.
fn settings(steps: u32) -> Vec<(&'static str, String)> {
    let text = golden("trajectory/text.txt");
    [
        ("model.n_positions", "64"),
        ("model.n_embd", "64"),
        ("model.n_layer", "2"),
        ("model.n_head", "4"),
        ("data.tokenizer", "char"),
        ("data.path", text.to_str().expect("a path in UTF-8")),
        ("train.steps", &steps.to_string()),
        ("train.batch_size", "4"),
        ("train.block_size", "32"),
        ("train.grad_accumulation", "2"),
        ("train.warmup_steps", "20"),
        ("train.dropout", "0.1"),
        ("train.ema_decay", "0.95"),
        ("train.grad_clip", "1.0"),
        ("train.eval_every", "50"),
        ("train.checkpoint_every", "0"),
        ("generate.max_new_tokens", "0"),
    ]
    .map(|(key, value)| (key, value.to_owned()))
    .into()
}

/// A run of `steps` steps with some settings changed.
fn trained(steps: u32, changes: &[(&'static str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let mut set = settings(steps);
    set.extend(changes.iter().map(|&(key, value)| (key, value.to_owned())));
    run(&["train"], &set, &[("--out", folder.path())]);
    folder
}

/// How a model is kept, and the arguments that say so.
const FORMS: [(&str, &[&str]); 4] = [
    ("f32", &[]),
    ("q8", &["--quantize", "q8", "--skip-f32"]),
    ("q4", &["--quantize", "q4", "--skip-f32"]),
    ("f16-cache", &["--kv-cache", "f16"]),
];

/// The text that a seed draws, for prompts of several lengths.
fn add_texts(found: &mut Group, name: &str, folder: &Path) {
    let text = fs::read_to_string(golden("trajectory/text.txt")).expect("text");
    for (form, arguments) in FORMS {
        for len in [1, 3, 7, 40] {
            let prompt: String = text.chars().skip(4).take(len).collect();
            let common = ["generate", "--prompt", &prompt, "--max-new-tokens", "20", "--seed", "7"];
            let mut hash = Hash::default();
            hash.bytes(&run(&[&common, arguments].concat(), &[], &[("--model", folder)]));
            found.insert(format!("{name}-{form}-{len}"), hex(hash));
        }
    }
}

/// Log-probabilities and losses that `score` and `eval` print.
fn add_scores(found: &mut Group, name: &str, folder: &Path) {
    let text = fs::read_to_string(golden("trajectory/text.txt")).expect("text");
    let file = golden("trajectory/text.txt");
    for (form, arguments) in &FORMS[..3] {
        for len in [2, 4, 7, 60] {
            let part: String = text.chars().skip(4).take(len).collect();
            let score = run(&[&["score", "--json", "--text", &part], *arguments].concat(), &[], &[("--model", folder)]);
            found.insert(format!("{name}-score-{form}-{len}"), score_hash(&score));
        }
        let eval = run(&[&["eval", "--json"], *arguments].concat(), &[], &[("--model", folder), ("--data", &file)]);
        let eval: Value = serde_json::from_slice(&eval).expect("JSON");
        let numbers = ["loss", "bits_per_byte", "tokens"].map(|key| eval[key].as_f64().expect(key));
        found.insert(format!("{name}-eval-{form}"), hash_of(numbers));
    }
}

fn score_hash(json: &[u8]) -> String {
    let score: Value = serde_json::from_slice(json).expect("JSON");
    let logprobs = score["logprobs"].as_array().expect("logprobs").iter().map(|x| x.as_f64().expect("a number"));
    hash_of(logprobs.chain(score["loss"].as_f64()))
}

/// The numbers of a `.npy` file by their bits, without its header.
fn npy(path: &Path) -> String {
    let bytes = fs::read(path).expect("logits");
    let header = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let mut hash = Hash::default();
    hash.bytes(&bytes[10 + header..]);
    hex(hash)
}

#[test]
fn a_run_with_everything_switched_on_and_what_its_model_says() {
    if !has_frozen_kernels() {
        return;
    }
    let folder = trained(300, &[]);
    let mut found = Group::new();
    add_run(&mut found, "run", folder.path());
    found.insert("run-average".to_owned(), weights(&folder.path().join("best")));
    add_scores(&mut found, "run", folder.path());
    check("trained", &found);
    let mut texts = Group::new();
    add_texts(&mut texts, "text", folder.path());
    check("generated", &texts);
}

#[test]
fn runs_of_other_models() {
    if !has_frozen_kernels() {
        return;
    }
    let cases: [(&str, &[(&str, &str)]); 4] = [
        ("gpt1", &[("model.model_type", "openai-gpt")]),
        ("banded", &[("model.window_size", "6"), ("model.activation_function", "gelu")]),
        ("unbiased", &[("model.bias", "false"), ("model.activation_function", "relu"), ("train.recompute", "blocks")]),
        (
            "in-order",
            &[("data.order", "shuffled"), ("train.schedule", "linear"), ("train.recompute", "cheap"), ("train.dropout", "0")],
        ),
    ];
    let mut found = Group::new();
    for (name, changes) in cases {
        let folder = trained(60, changes);
        add_run(&mut found, name, folder.path());
        let score = ["score", "--json", "--text", "The wind carries it"];
        found.insert(format!("{name}-score"), score_hash(&run(&score, &[], &[("--model", folder.path())])));
        let text = ["generate", "--prompt", "The wind", "--max-new-tokens", "30"];
        let mut hash = Hash::default();
        hash.bytes(&run(&text, &[], &[("--model", folder.path())]));
        found.insert(format!("{name}-text"), hex(hash));
    }
    check("families", &found);
}

#[test]
fn runs_on_given_batches() {
    if !has_frozen_kernels() {
        return;
    }
    let mut found = Group::new();
    for name in ["gpt1", "gpt2", "gpt2-accumulated-without-bias"] {
        let source = golden("trajectory").join(name);
        let expected: Value = serde_json::from_slice(&fs::read(source.join("expected.json")).expect("settings")).expect("JSON");
        let keys = ["steps", "batch_size", "block_size", "grad_accumulation", "lr", "min_lr", "warmup_steps", "weight_decay"];
        let keys = keys.into_iter().chain(["beta1", "beta2", "eps", "grad_clip"]);
        let names: Vec<String> = keys.clone().map(|key| format!("train.{key}")).collect();
        let mut set: Vec<(&str, String)> =
            keys.zip(&names).map(|(key, name)| (name.as_str(), expected["settings"][key].to_string())).collect();
        let path = |path: &Path| path.to_str().expect("a path in UTF-8").to_owned();
        set.push(("data.path", path(&golden("trajectory/text.txt"))));
        set.push(("data.tokenizer", "char".to_owned()));
        set.push(("data.batches", path(&source.join("batches.npy"))));
        set.push(("train.eval_every", "0".to_owned()));
        set.push(("generate.max_new_tokens", "0".to_owned()));
        let out = tempfile::tempdir().expect("a folder");
        run(&["train"], &set, &[("--init", &source), ("--out", out.path())]);
        add_run(&mut found, name, out.path());
    }
    check("given-batches", &found);
}

#[test]
fn logits_of_golden_models() {
    if !has_frozen_kernels() {
        return;
    }
    const TOKENS: &str = "1,2,3,40,5,60,7,8,31,10,11,0,13,29,15,16,52,18,19,20,44,22,23,24";
    let out = tempfile::tempdir().expect("a folder");
    let file = out.path().join("logits.npy");
    let mut found = Group::new();
    for name in ["gpt1-2layer", "gpt2-2layer", "gpt2-2layer-erf", "gpt2-2layer-bf16-sharded", "gpt2-12layer"] {
        let folder = golden("models").join(name);
        for len in [2, 4, 9, 24] {
            let tokens = TOKENS.split(',').take(len).collect::<Vec<_>>().join(",");
            run(&["score", "--json", "--tokens", &tokens], &[], &[("--model", &folder), ("--logits", &file)]);
            found.insert(format!("{name}-{len}"), npy(&file));
        }
    }
    check("logits", &found);
}

#[test]
fn programs_for_microcontrollers() {
    fn hash<P: Program>() -> String {
        // Too large for the stack of a test.
        let mut program = Box::new(P::NEW);
        hex(program.run().expect("the program"))
    }
    let found = [
        ("assignment", hash::<programs::assignment::Assignment>()),
        ("generate", hash::<programs::generate::Generate>()),
        ("generate-llama", hash::<programs::generate_llama::GenerateLlama>()),
        ("finetune-sgd", hash::<programs::finetune::WithSgd>()),
        ("finetune-adamw", hash::<programs::finetune::WithAdamw>()),
        ("kernels", hash::<programs::kernels::LinearLayers>()),
        ("reinforce", hash::<programs::reinforce::Reinforce>()),
        ("prompts", hash::<programs::prompts::Prompts>()),
    ];
    check("programs", &found.map(|(name, hash)| (name.to_owned(), hash)).into());
}
