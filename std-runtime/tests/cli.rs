//! The binary as its users meet it: help, errors, exit codes, files.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use samara_core::file::ProgramFile;
use samara_core::ops;
use samara_core::session::Session;
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

/// A model that trains in a moment.
const TINY: [&str; 22] = [
    "--set",
    "data.tokenizer=byte",
    "--set",
    "train.lr=1e-3",
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
    "--set",
    "generate.max_new_tokens=3",
    "--set",
    "data.corpus_bytes=20000",
];

fn tiny<'a>(first: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [first, &TINY, more].concat()
}

const COMMANDS: [&[&str]; 17] = [
    &[],
    &["train"],
    &["generate"],
    &["score"],
    &["eval"],
    &["export"],
    &["plan"],
    &["config"],
    &["inspect"],
    &["tokenizer"],
    &["tokenizer", "train"],
    &["tokenizer", "encode"],
    &["tokenizer", "decode"],
    &["bench"],
    &["env"],
    &["completions"],
    &["man"],
];

#[test]
fn help_fits_a_terminal_and_has_examples() {
    let folder = temporary();
    for command in COMMANDS {
        for flag in ["--help", "-h"] {
            let help = done(folder.path(), &[command, &[flag]].concat());
            let widest = help.lines().map(|line| line.chars().count()).max().unwrap_or(0);
            assert!(widest <= 80, "{command:?} {flag}: {widest} columns");
            assert!(command == ["tokenizer"] || help.contains("samara "), "{command:?}");
            assert!(!help.contains('\u{1b}'), "{command:?}");
        }
    }
}

#[test]
fn wrong_usage_is_exit_code_2_with_the_nearest_name() {
    let folder = temporary();
    let at = folder.path();
    refused(at, &[], 2, &["Usage: samara"]);
    refused(at, &["trian"], 2, &["unrecognized subcommand 'trian'", "'train'"]);
    refused(at, &["train", "--dat", "x"], 2, &["unexpected argument '--dat'", "--data"]);
    refused(at, &["train", "--preset", "gpt2-124"], 2, &["gpt2-124m"]);
    refused(at, &["train", "--set", "train.stesp=3"], 2, &["--set train.stesp=3", "unknown key", "`steps`"]);
    refused(at, &["train", "--set", "train.steps"], 2, &["expected key=value"]);
    refused(at, &["train", "--seed", "-1"], 2, &["--seed: train.seed: expected an integer", "found -1"]);
    refused(at, &["train", "--threads", "many"], 2, &["--threads: train.threads", "found \"many\""]);
    refused(at, &["train", "--resume"], 2, &["--resume needs the run folder", "--out"]);
    refused(at, &["train", "--config", "absent.toml"], 2, &["absent.toml: cannot read"]);
    refused(at, &["score", "--model", "x"], 2, &["--text"]);
    refused(at, &["score", "--model", "x", "--tokens", "1,x"], 2, &["--tokens: id 1 is \"x\""]);
    refused(
        at,
        &["generate", "--model", "x", "--top-p", "1.5"],
        2,
        &["--top-p: generate.top_p: expected a number from 0 to 1, found 1.5"],
    );
    assert_eq!(fs::read_dir(at).expect("folder").count(), 0, "nothing is written");
}

#[test]
fn a_wrong_file_is_named_with_line_and_column() {
    let folder = temporary();
    let at = folder.path();
    for (toml, parts) in [
        ("[train]\nsteps = 3\nstesp = 4\n", &["run.toml:3:1: unknown key `train.stesp`; did you mean `steps`?"][..]),
        ("[train]\nsteps = 'x'\n", &["run.toml:2:9: train.steps: expected an integer", "found \"x\""]),
        ("[train]\nsteps = \n", &["run.toml:2:9: not TOML"]),
        ("[modle]\n", &["run.toml:1:2: unknown table `modle`; did you mean `model`?"]),
        ("\u{0}\u{1}", &["run.toml:1:3: not TOML"]),
        ("[model]\nn_layer = 0\n", &["run.toml:2:11: model.n_layer: expected a number from 1 to 4096, found 0"]),
        ("[model]\nn_embd = 130\n", &["run.toml:2:10: model.n_embd: expected a multiple of model.n_head = 4, found 130"]),
        ("[model]\nn_embd = 65536\nn_layer = 4096\n", &["model.n_layer: expected a model of at most 2147483647 parameters"]),
        ("[train]\nblock_size = 1000000\n", &["run.toml:2:14: train.block_size: expected at most model.n_positions"]),
        ("[train]\nlr = -1e-3\n", &["run.toml:2:6: train.lr: expected a number from 0 to 1000, found -1e-3"]),
        ("[train]\nlr = nan\n", &["run.toml:2:6: train.lr", "found nan"]),
        ("[train]\nbatch_size = 18446744073709551616\n", &["run.toml:2:14: train.batch_size: expected an integer"]),
    ] {
        fs::write(at.join("run.toml"), toml).expect("file");
        for command in ["train", "plan", "config"] {
            refused(at, &[command, "--config", "run.toml"], 2, parts);
        }
    }
    fs::write(at.join("run.toml"), [0xff, 0xfe, b'x']).expect("file");
    refused(at, &["config", "--config", "run.toml"], 2, &["run.toml: cannot read the configuration"]);
}

#[test]
fn the_effective_configuration_can_be_read_again() {
    let folder = temporary();
    let at = folder.path();
    let first = done(at, &["config", "--preset", "gpt3-125m", "--set", "train.lr=0.25", "--seed", "7"]);
    assert!(first.contains("lr = 0.25\n") && first.contains("seed = 7\n") && first.contains("window_size = 256\n"));
    fs::write(at.join("run.toml"), &first).expect("file");
    assert_eq!(done(at, &["config", "--config", "run.toml"]), first);
}

#[test]
fn plan_counts_and_writes_nothing() {
    let folder = temporary();
    let plan = done(folder.path(), &tiny(&["plan", "--json"], &["--time"]));
    let plan: Value = serde_json::from_str(&plan).expect("JSON");
    // V·C + P·C + (12·C² + 13·C) + 2·C with V = 256, C = 8, P = 16.
    assert_eq!(plan["parameters"], 256 * 8 + 16 * 8 + 12 * 64 + 13 * 8 + 16);
    assert_eq!(plan["tokens_per_step"], 32);
    assert!(plan["seconds_per_step"].as_f64().expect("time") > 0.0);
    let sum: u64 = plan["memory"].as_array().expect("memory").iter().filter_map(|class| class["bytes"].as_u64()).sum();
    assert_eq!(plan["resident_bytes"].as_u64().expect("sum"), sum);
    assert!(done(folder.path(), &tiny(&["train", "--plan"], &[])).contains("memory in all"));
    assert!(plan["peak"].is_null() && plan["policies"][0]["recompute"] == "none" && plan["policies"][0]["chosen"] == true);
    let plan = done(folder.path(), &tiny(&["plan", "--peak"], &["--set", "train.recompute=blocks"]));
    assert!(plan.contains("train.recompute=blocks") && plan.contains("The arena is fullest at "), "{plan}");
    // Every block is listed under one name, and nothing that the block's forward pass kept.
    assert!(plan.contains("h.*.") && !plan.contains("h.0.") && !plan.contains("forward: attention"), "{plan}");
    let small = tiny(&["plan"], &["--set", "model.n_embd=256", "--set", "train.memory_budget_mib=1"]);
    let refusal = ["train.memory_budget_mib: expected at least", "\"blocks\" takes", "a smaller model", "found 1"];
    refused(folder.path(), &small, 2, &refusal);
    assert_eq!(fs::read_dir(folder.path()).expect("folder").count(), 0);
}

#[test]
fn a_run_from_training_to_text() {
    let folder = temporary();
    let at = folder.path();
    let trained = samara(
        at,
        &tiny(&["train", "--out", "run", "--threads", "1"], &["--set", "train.steps=4", "--set", "train.eval_every=2"]),
    );
    assert_eq!(trained.status.code(), Some(0), "{}", text(&trained.stderr));
    assert!(text(&trained.stdout).starts_with("4 steps, train loss "));
    assert!(text(&trained.stderr).contains("samara generate --model run"));
    for output in [&trained.stdout, &trained.stderr] {
        assert!(!output.contains(&0x1b) && !output.contains(&b'\r'), "no escapes without a terminal");
    }
    let run: Value = serde_json::from_str(&done(at, &["inspect", "run", "--json"])).expect("JSON");
    assert_eq!((&run["run"]["step"], &run["model"]["n_embd"], &run["tokenizer"]["kind"]), (&4.into(), &8.into(), &"byte".into()));
    // Going on after the last step does nothing; another learning rate is refused.
    let quiet = samara(at, &["train", "--out", "run", "--resume", "--quiet"]);
    assert_eq!((quiet.status.code(), text(&quiet.stderr)), (Some(0), String::new()));
    refused(at, &["train", "--out", "run", "--resume", "--set", "train.lr=0.5"], 2, &["run.toml", "train.lr = 0.001, now 0.5"]);
    // The text does not depend on the number of threads.
    let generate = |threads: &str| {
        done(at, &["generate", "--model", "run", "--prompt", "a", "--max-new-tokens", "20", "--threads", threads, "-q"])
    };
    let one = generate("1");
    assert!(one.starts_with('a') && one.ends_with('\n'));
    assert_eq!(one, generate("3"));
    let with = |more: &[&'static str]| [&["generate", "--model", "run", "--prompt", "a", "--max-new-tokens", "5"], more].concat();
    assert!(done(at, &with(&["--kv-cache", "f16"])).starts_with('a'));
    refused(at, &with(&["--kv-cache", "q8"]), 2, &["--kv-cache q8: the model is 8 numbers wide", "multiple of 32", "f16"]);
    refused(at, &with(&["--kv-cache", "q4"]), 2, &["q4", "f32, f16, q8"]);
    let widths = ["--quantize q8: tensor wte.weight has rows of 8 numbers, expected a multiple of 32; leave --quantize out"];
    refused(at, &with(&["--quantize", "q8"]), 2, &widths);
    refused(at, &["score", "--model", "run", "--text", "abc", "--quantize", "q8"], 2, &widths);
    refused(at, &["eval", "--model", "run", "--data", "text.txt", "--quantize", "q8"], 2, &widths);
    // Evaluation of a text, and of its last tenth.
    fs::write(at.join("text.txt"), "Once upon a time. ".repeat(20)).expect("file");
    let eval = |split: &str| -> Value {
        serde_json::from_str(&done(at, &["eval", "--model", "run", "--data", "text.txt", "--split", split, "--json"]))
            .expect("JSON")
    };
    let (all, val) = (eval("all"), eval("val"));
    assert_eq!((&all["tokens"], &val["tokens"]), (&359.into(), &35.into()));
    for outcome in [all, val] {
        let (loss, perplexity) = (outcome["loss"].as_f64().expect("loss"), outcome["perplexity"].as_f64().expect("perplexity"));
        assert!((loss.exp() - perplexity).abs() < 1e-9 * perplexity);
        assert!(outcome["bits_per_byte"].as_f64().expect("bits") > 0.0);
    }
    // A folder with weights that lost their end.
    let weights = at.join("run/model.safetensors");
    let bytes = fs::read(&weights).expect("weights");
    fs::write(&weights, &bytes[..bytes.len() - 8]).expect("weights");
    refused(at, &["generate", "--model", "run"], 3, &["run/model.safetensors", "truncated"]);
    fs::write(at.join("run/config.json"), "{").expect("config");
    refused(at, &["generate", "--model", "run"], 3, &["run/config.json:1:1: not JSON"]);
}

#[test]
fn divergence_is_exit_code_5() {
    let folder = temporary();
    let wild = ["train.lr=1000", "train.min_lr=1000", "train.weight_decay=10", "train.warmup_steps=0", "train.steps=60"];
    let sets: Vec<&str> = wild.iter().flat_map(|set| ["--set", *set]).collect();
    refused(folder.path(), &tiny(&["train", "--out", "run"], &sets), 5, &["diverged", "not finite", "train.lr"]);
}

#[cfg(unix)]
#[test]
fn signals_stop_a_run_that_can_be_resumed() {
    for (signal, code) in [("-INT", 130), ("-TERM", 143)] {
        let folder = temporary();
        let args = tiny(&["train", "--out", "run", "--set", "train.steps=1000000", "--set", "train.eval_every=0"], &[]);
        let child = command(folder.path(), &args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary runs");
        let (metrics, begun) = (folder.path().join("run/metrics.jsonl"), Instant::now());
        while fs::metadata(&metrics).map_or(0, |m| m.len()) == 0 && begun.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let killed = Command::new("kill").args([signal, &child.id().to_string()]).status().expect("kill");
        assert!(killed.success());
        let output = child.wait_with_output().expect("an end");
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{error}");
        assert!(error.contains("--resume"), "{error}");
        let checkpoints = fs::read_dir(folder.path().join("run/checkpoints")).expect("checkpoints").count();
        assert!(checkpoints >= 1);
    }
}

#[test]
fn bad_data_is_exit_code_3_and_absent_files_are_4() {
    let folder = temporary();
    let at = folder.path();
    refused(at, &tiny(&["train", "--data", "absent.txt", "--out", "run"], &[]), 4, &["absent.txt"]);
    fs::write(at.join("bad.jsonl"), "{\"text\": \"a\"}\n{\"text\": 3}\n").expect("file");
    refused(at, &tiny(&["train", "--data", "bad.jsonl", "--out", "run"], &[]), 3, &["bad.jsonl:2:10"]);
    fs::write(at.join("latin.txt"), [b'a', 0xe4, b'b']).expect("file");
    refused(at, &tiny(&["train", "--data", "latin.txt", "--out", "run"], &[]), 3, &["latin.txt"]);
    fs::write(at.join("short.txt"), "abc").expect("file");
    refused(at, &tiny(&["train", "--data", "short.txt", "--out", "run"], &[]), 3, &["tokens"]);
    let no_model = ["config.json: cannot read", "expected a model folder, such as samara train and transformers write"];
    refused(at, &["generate", "--model", "absent"], 4, &no_model);
    refused(at, &["generate", "--model", "short.txt"], 4, &no_model);
    refused(at, &["plan", "--data", "absent.txt"], 4, &["absent.txt: cannot read"]);
    refused(at, &["score", "--model", &golden("gpt2-2layer"), "--tokens", "1"], 3, &["1 tokens, expected at least 2", "longer"]);
    if cfg!(unix) {
        let device = ["/dev/zero: expected a file, a folder or a pipe, found a device"];
        refused(at, &tiny(&["train", "--data", "/dev/zero", "--out", "run"], &[]), 3, &device);
        refused(at, &["assign", "/dev/zero"], 3, &device);
    }
    fs::write(at.join("tokenizer.json"), "hello").expect("file");
    let not_json = ["tokenizer.json:1:1: expected a tokenizer's JSON file, found: expected value"];
    refused(at, &["tokenizer", "encode", "--tokenizer", "tokenizer.json", "--text", "x"], 3, &not_json);
    fs::remove_file(at.join("tokenizer.json")).expect("file");
    refused(at, &["inspect", "absent"], 4, &["absent: cannot read"]);
    refused(at, &["inspect", "short.txt"], 3, &["short.txt: expected .safetensors"]);
    refused(at, &["inspect", "."], 3, &["expected a model folder"]);
    refused(
        at,
        &["score", "--model", &golden("gpt2-2layer"), "--tokens", "1,61"],
        3,
        &["token 1 has id 61, expected an id below 61"],
    );
    refused(at, &["score", "--model", &golden("gpt2-2layer"), "--text", "x"], 3, &["no tokenizer.json"]);
    refused(
        at,
        &["score", "--model", &golden("gptneo-banded"), "--tokens", "1,2"],
        3,
        &["config.json: model_type", "\"gpt_neo\""],
    );
}

#[test]
fn scores_are_those_of_transformers() {
    let folder = temporary();
    let path = folder.path().join("logits.npy");
    let model = golden("gpt2-2layer");
    let bytes = fs::read(Path::new(&model).join("expected.safetensors")).expect("expected values");
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().expect("eight")) as usize;
    let json: Value = serde_json::from_slice(&bytes[8..header]).expect("header");
    let words = |name: &str| -> Vec<[u8; 4]> {
        let offset = |i: usize| json[name]["data_offsets"][i].as_u64().expect("offset") as usize + header;
        bytes[offset(0)..offset(1)].as_chunks().0.to_vec()
    };
    let ids: Vec<String> = words("input_ids")[..17].iter().map(|&b| i32::from_le_bytes(b).to_string()).collect();
    let score = done(
        folder.path(),
        &["score", "--model", &model, "--tokens", &ids.join(","), "--logits", &path.display().to_string(), "--json"],
    );
    let score: Value = serde_json::from_str(&score).expect("JSON");
    let logprobs: Vec<f64> =
        score["logprobs"].as_array().expect("logprobs").iter().map(|x| x.as_f64().expect("number")).collect();
    let expected: Vec<f64> = words("token_logprobs")[..16].iter().map(|&b| f64::from(f32::from_le_bytes(b))).collect();
    assert_eq!(logprobs.len(), 16);
    assert!(logprobs.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-4), "{logprobs:?}\n{expected:?}");
    let mean = -expected.iter().sum::<f64>() / 16.0;
    assert!((score["loss"].as_f64().expect("loss") - mean).abs() < 1e-4);
    let array: Value = serde_json::from_str(&done(folder.path(), &["inspect", "logits.npy", "--json"])).expect("JSON");
    assert_eq!((&array["array"]["shape"], &array["array"]["dtype"]), (&serde_json::json!([17, 61]), &"f32".into()));
}

#[test]
fn a_profile_accounts_for_every_node_of_a_step() {
    let folder = temporary();
    let sizes = ["n_embd=16", "n_layer=2", "n_head=2", "n_positions=16", "vocab_size=61"].map(|size| format!("model.{size}"));
    let batch = ["train.batch_size=2", "train.block_size=8", "train.grad_accumulation=3"].map(str::to_owned);
    let set: Vec<&str> = sizes.iter().chain(&batch).flat_map(|key| ["--set", key]).collect();
    let profile = |kind| -> Value {
        let args = [&["bench", kind, "--profile", "--json", "--repeats", "1"], set.as_slice()].concat();
        serde_json::from_str(&done(folder.path(), &args)).expect("JSON")
    };
    let step = profile("step");
    let rows = step["profile"]["rows"].as_array().expect("rows");
    let calls = |name: &str| rows.iter().find(|row| row["name"] == name).map(|row| row["calls"].as_u64().expect("a count"));
    // Two blocks and three micro-batches; one update of each group of parameters.
    assert_eq!(calls("attention"), Some(6), "{rows:?}");
    assert_eq!(calls("linear backward 16x16x48"), Some(6), "{rows:?}");
    assert_eq!(calls("AdamW"), Some(2), "{rows:?}");
    let sum = |key: &str| rows.iter().map(|row| row[key].as_f64().expect("a number")).sum::<f64>();
    assert!((sum("share") - 1.0).abs() < 1e-9);
    for key in ["milliseconds", "floor_milliseconds"] {
        let total = step["profile"]["total"][key].as_f64().expect("a number");
        assert!(total > 0.0 && (sum(key) - total).abs() <= 1e-9 * total, "{key} {total}");
    }
    let token = profile("decode");
    assert_eq!(token["rows"].as_array().map(Vec::len), Some(2));
    assert!(token["profile"]["rows"].as_array().expect("rows").iter().any(|row| row["name"] == "linear 1x16x61"), "{token}");
}

#[test]
fn weights_in_blocks_and_what_they_cost() {
    let folder = temporary();
    let model = golden("gpt2-2layer");
    let score = |more: &[&str]| -> Value {
        let args = [&["score", "--model", &model, "--tokens", "3,1,4,1,5,9,2,6", "--json"], more].concat();
        serde_json::from_str(&done(folder.path(), &args)).expect("JSON")
    };
    let plain = score(&[]);
    assert!(plain.get("f32_loss").is_none());
    for (name, bound) in [("q8", 0.05), ("q4", 0.5)] {
        let quantised = score(&["--quantize", name]);
        assert_eq!(quantised["f32_loss"], plain["loss"]);
        let difference = quantised["loss"].as_f64().expect("loss") - plain["loss"].as_f64().expect("loss");
        assert!(difference != 0.0 && difference.abs() < bound, "{name}: {difference}");
    }
    let text = done(folder.path(), &["score", "--model", &model, "--tokens", "3,1,4", "--quantize", "q4"]);
    assert!(text.contains(" (f32 "), "{text}");
    refused(folder.path(), &["score", "--model", &model, "--tokens", "3,1", "--quantize", "q5"], 2, &["q5", "q8, q4"]);
}

#[test]
fn flags_that_would_change_nothing_are_refused() {
    let folder = temporary();
    let at = folder.path();
    for (args, parts) in [
        (
            &["bench", "step", "--quantize", "q8"][..],
            &["bench step has no use for --quantize (it is for decode); leave it out"][..],
        ),
        (&["bench", "gemm", "--profile"], &["bench gemm has no use for --profile (it is for step, decode)"]),
        (&["bench", "gemm", "--seed", "1"], &["--seed (it is for step, decode)"]),
        (&["bench", "step", "--prompt-tokens", "4"], &["--prompt-tokens (it is for decode"]),
        (&["bench", "assign", "--preset", "gpt2-124m"], &["bench assign has no use for --preset (it is for gemm, step, decode)"]),
        (&["bench", "assign", "--set", "train.lr=1"], &["--set"]),
        (&["bench", "decode", "--data", "x"], &["--data (which makes its own data)"]),
        (
            &["bench", "decode", "--prompt-tokens", "100", "--new-tokens", "64", "--set", "model.n_positions=128"],
            &["a prompt of 100 tokens and 64 more: expected at most 128 together", "--prompt-tokens", "model.n_positions"],
        ),
        (&["bench", "decode", "--quantize", "q4", "--set", "model.n_embd=48"], &["--quantize q4: tensor", "rows of 48 numbers"]),
        (&["generate", "--model", "x", "--set", "train.lr=3"], &["--set train.lr=3: this command reads [generate] only"]),
        (
            &["eval", "--model", "x", "--data", "x", "--set", "train.lr=3"],
            &["reads [data] only: expected a key such as data.KEY"],
        ),
        (&["eval", "--model", "x", "--data", "x", "--batch-size", "0"], &["invalid value '0' for '--batch-size <N>'"]),
        (&["generate", "--model", "x", "--threads", "-1"], &["--threads: train.threads: expected", "found -1"]),
    ] {
        refused(at, args, 2, parts);
    }
}

#[test]
fn evaluation_says_how_long_a_block_may_be() {
    let folder = temporary();
    let at = folder.path();
    done(at, &tiny(&["train", "--out", "run"], &["--set", "train.steps=1", "--set", "train.eval_every=0", "-q"]));
    fs::write(at.join("text.txt"), "Once upon a time. ".repeat(20)).expect("file");
    let with = |more: &[&'static str]| [&["eval", "--model", "run", "--data", "text.txt"], more].concat();
    let parts = ["--block-size 17: the model has 16 positions: expected at most 16, or 0 for all of them"];
    refused(at, &with(&["--block-size", "17"]), 2, &parts);
    refused(at, &with(&["--block-size", "-1"]), 2, &["invalid value '-1' for '--block-size <N>'"]);
    let empty =
        ["text.txt: this split has 0 tokens, expected at least 2; choose another --split, or change --set data.val_fraction"];
    refused(at, &with(&["--split", "val", "--set", "data.val_fraction=0"]), 3, &empty);
    // No more blocks at a time than there are.
    assert_eq!(done(at, &with(&["--batch-size", "100000000"])), done(at, &with(&["--batch-size", "23"])));
}

#[test]
fn the_model_of_somebody_else_is_not_overwritten() {
    let folder = temporary();
    let at = folder.path();
    fs::create_dir(at.join("model")).expect("folder");
    for file in ["config.json", "model.safetensors"] {
        fs::copy(Path::new(&golden("gpt2-2layer")).join(file), at.join("model").join(file)).expect("copy");
    }
    for resume in [&[][..], &["--resume"]] {
        let args = tiny(&["train", "--out", "model"], resume);
        refused(at, &args, 2, &["model: the folder holds a model and no run.toml", "another --out", "--init model"]);
    }
    assert_eq!(fs::read_dir(at.join("model")).expect("folder").count(), 2);
}

#[cfg(unix)]
#[test]
fn a_run_goes_on_when_nobody_listens() {
    let folder = temporary();
    let args = tiny(&["train", "--out", "run"], &["--set", "train.steps=2"]);
    let mut child = command(folder.path(), &args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("binary");
    drop(child.stderr.take());
    let output = child.wait_with_output().expect("end");
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout).starts_with("2 steps"));
}

#[test]
fn generate_says_what_blocks_cost() {
    let folder = temporary();
    let at = folder.path();
    trained_wide(at);
    let generate = |more: &[&str]| {
        let args = [&["generate", "--model", "run", "--prompt", "abc", "--max-new-tokens", "5"], more].concat();
        let output = samara(at, &args);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", text(&output.stderr));
        (text(&output.stdout), text(&output.stderr))
    };
    let costs = ["loss on the prompt: ", " (f32 ", ", 2 tokens\n", "loss on the text generated: ", ", 5 tokens\n"];
    for kind in ["q8", "q4"] {
        let (plain, said) = generate(&["--quantize", kind]);
        for part in costs {
            assert!(said.contains(part), "{said}");
        }
        // The text is the same without it.
        let (skipped, said) = generate(&["--quantize", kind, "--skip-f32"]);
        assert!(said.contains(&format!("weights in {kind}: ")) && !said.contains("loss"), "{said}");
        assert_eq!((&skipped, &generate(&["--quantize", kind, "-q"])), (&plain, &(plain.clone(), String::new())));
    }
    assert!(!generate(&[]).1.contains("loss"));
    refused(at, &["generate", "--model", "run", "--skip-f32"], 2, &["--quantize <TYPE>"]);
    // Nothing comes before the first token of a prompt, and it has no loss.
    let one = samara(at, &["generate", "--model", "run", "--prompt", "a", "--max-new-tokens", "0", "--quantize", "q8"]);
    assert!(one.status.success() && !text(&one.stderr).contains("loss"), "{}", text(&one.stderr));
    // The same losses as those of `score`, on a text of the user's.
    let score: Value =
        serde_json::from_str(&done(at, &["score", "--model", "run", "--text", "abc", "--quantize", "q4", "--json"]))
            .expect("JSON");
    let prompt = format!(
        "loss on the prompt: {:.6} (f32 {:.6}, ",
        score["loss"].as_f64().expect("loss"),
        score["f32_loss"].as_f64().expect("loss")
    );
    assert!(generate(&["--quantize", "q4"]).1.contains(&prompt), "{prompt}");
    let skipped = done(at, &["score", "--model", "run", "--text", "abc", "--quantize", "q4", "--skip-f32"]);
    assert!(!skipped.contains("f32"), "{skipped}");
}

/// A model 32 numbers wide, whose rows fall into blocks.
fn trained_wide(at: &Path) {
    let wide = ["--set", "model.n_embd=32", "--set", "train.steps=4", "--set", "train.eval_every=0", "-q"];
    done(at, &tiny(&["train", "--out", "run"], &wide));
}

fn export(at: &Path, more: &[&str]) -> Value {
    let args = [&["export", "--model", "run", "--out", "model.samara", "--json"], more].concat();
    serde_json::from_str(&done(at, &args)).expect("JSON")
}

/// Elements of memory that a session with a file needs.
fn ram_len(path: &Path) -> usize {
    let bytes = fs::read(path).expect("a file");
    let mut words = vec![0u64; bytes.len().div_ceil(8)];
    bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(&bytes);
    let kernels = ops::training();
    let file = ProgramFile::open(&bytemuck::cast_slice(&words)[..bytes.len()], &kernels).expect("a sound file");
    Session::ram_len(&file)
}

#[test]
fn export_says_what_a_device_needs() {
    let folder = temporary();
    let at = folder.path();
    trained_wide(at);
    let file = at.join("model.samara");
    let flags: [&[&str]; 7] = [
        &[],
        &["--quantize", "q8", "--kv", "f16", "--context", "8"],
        &["--quantize", "q4", "--kv", "q8", "--strip-names"],
        &["--train", "head", "--batch", "2"],
        &["--train", "bias", "--optimizer", "adamw", "--block", "5"],
        &["--train", "last-block", "--quantize", "q8", "--target", "stm32f746"],
        &["--train", "last-block", "--optimizer", "adamw", "--batch", "2", "--block", "4"],
    ];
    for flags in flags {
        let outcome = export(at, flags);
        let value = |flag: &str, default: &str| {
            flags.iter().position(|&f| f == flag).map_or(default.to_owned(), |at| flags[at + 1].to_owned())
        };
        assert_eq!((&outcome["weights"], &outcome["kv"]), (&value("--quantize", "f32").into(), &value("--kv", "f32").into()));
        assert_eq!(outcome["context"].to_string(), value("--context", "16"));
        let trains = flags.contains(&"--train");
        assert_eq!(outcome["programs"].as_array().map(Vec::len), Some(if trains { 3 } else { 1 }), "{flags:?}");
        // What is said is what a session takes, and what the file is.
        let (ram, number) = (&outcome["ram"], |value: &Value| value.as_u64().expect("a number"));
        let session = 4 * ram_len(&file) as u64;
        assert_eq!((number(&ram["session_bytes"]), number(&ram["total_bytes"])), (session, session + 4096), "{flags:?}");
        let parts = ["arena_bytes", "state_bytes", "ints_bytes", "trainable_bytes", "moments_bytes"];
        assert_eq!(parts.iter().map(|part| number(&ram[*part])).sum::<u64>(), session);
        assert_eq!(number(&ram["trainable_bytes"]) > 0, trains);
        assert_eq!(number(&ram["moments_bytes"]) > 0, flags.contains(&"adamw"));
        let file_bytes = fs::metadata(&file).expect("a file").len();
        assert_eq!(number(&outcome["file_bytes"]), file_bytes);
        let engine = number(&outcome["engine_bytes"]);
        assert!(
            if trains { (40 << 10..=64 << 10).contains(&engine) } else { (30 << 10..=36 << 10).contains(&engine) },
            "{flags:?}"
        );
        assert_eq!(number(&outcome["flash_bytes"]), file_bytes + engine);
        let names = outcome["flash"].as_array().is_some_and(|parts| parts.iter().any(|part| part["what"] == "names"));
        assert_eq!(names, !flags.contains(&"--strip-names"));
    }
    let said = done(at, &["export", "--model", "run", "--out", "model.samara", "--target", "rp2350"]);
    for part in ["model.samara: decode; weights f32, keys and values f32, context 16", "fits rp2350", "add --data TEXT"] {
        assert!(said.contains(part), "{said}");
    }
    assert!(said.contains(&(4 * ram_len(&file) + 4096).to_string()), "{said}");
    let session = format!("session, {} numbers of four bytes", ram_len(&file));
    assert!(done(at, &["export", "--model", "run", "--out", "model.samara", "--quiet"]).contains(&session), "{said}");
}

#[test]
fn export_refuses_slips_of_the_hand() {
    let folder = temporary();
    let at = folder.path();
    trained_wide(at);
    let weights = fs::read(at.join("run/model.safetensors")).expect("weights");
    let with = |more: &[&'static str]| [&["export", "--model", "run"], more].concat();
    refused(at, &with(&["--out", "run/model.safetensors"]), 2, &["run/model.safetensors", "something else", "another name"]);
    assert_eq!(fs::read(at.join("run/model.safetensors")).expect("weights"), weights);
    for flag in [["--optimizer", "sgd"], ["--batch", "2"], ["--block", "4"]] {
        refused(at, &with(&["--out", "x.samara", flag[0], flag[1]]), 2, &["--optimizer, --batch and --block", "--train"]);
    }
    refused(at, &with(&["--out", "x.samara", "--train", "all", "--quantize", "q8"]), 2, &["--quantize", "--train all"]);
    fs::write(at.join("short.txt"), "a").expect("file");
    refused(at, &with(&["--out", "x.samara", "--data", "short.txt"]), 3, &["tokens", "longer text"]);
    assert!(!at.join("x.samara").exists());
    // A program file is one whatever it is called.
    done(at, &["export", "--model", "run", "--out", "model.bin"]);
    assert!(done(at, &["inspect", "model.bin"]).contains("device"));
    done(at, &["export", "--model", "run", "--out", "model.bin"]);
}

#[test]
fn export_says_what_formats_cost() {
    let folder = temporary();
    let at = folder.path();
    trained_wide(at);
    fs::write(at.join("text.txt"), "Once upon a time. ".repeat(60)).expect("file");
    let outcome = export(at, &["--quantize", "q8", "--kv", "f16", "--data", "text.txt"]);
    let losses = outcome["losses"].as_array().expect("losses");
    let formats: Vec<_> = losses.iter().map(|l| format!("{} {}", l["weights"], l["kv"]).replace('"', "")).collect();
    assert_eq!(formats, ["f32 f32", "f32 f16", "q8 f16", "q4 f16", "q8 f32", "q8 q8"]);
    let loss = |i: usize| losses[i]["loss"].as_f64().expect("a loss");
    assert!((0..losses.len()).all(|i| loss(i) > 1.0 && (loss(i) - loss(0)).abs() < 0.2), "{losses:?}");
    let said = done(at, &["export", "--model", "run", "--out", "model.samara", "--data", "text.txt"]);
    assert!(said.contains("of held-out text:") && said.contains("+0.0000"), "{said}");
}

#[test]
fn export_refuses_what_cannot_be() {
    let folder = temporary();
    let at = folder.path();
    done(at, &tiny(&["train", "--out", "run"], &["--set", "train.steps=2", "--set", "train.eval_every=0", "-q"]));
    let with = |more: &[&'static str]| [&["export", "--model", "run", "--out", "model.samara"], more].concat();
    refused(at, &with(&["--quantize", "q8"]), 2, &["--quantize q8: tensor ", "rows of 8 numbers, expected a multiple of 32"]);
    refused(at, &with(&["--kv", "q8"]), 2, &["--kv q8: the model is 8 numbers wide", "multiple of 32", "f16"]);
    refused(at, &with(&["--context", "17"]), 2, &["--context 17: the model has 16 positions", "at most 16"]);
    refused(at, &with(&["--block", "9", "--context", "8"]), 2, &["--block 9: expected at most the context, 8"]);
    refused(at, &with(&["--target", "stm32"]), 2, &["stm32", "rp2040"]);
    refused(at, &with(&["--train", "half"]), 2, &["half", "last-block"]);
    refused(at, &["export", "--model", "absent", "--out", "x.samara"], 4, &["absent"]);
    // A batch that no microcontroller has room for: the number says why.
    let large = with(&["--train", "last-block", "--batch", "1024", "--target", "m7-160k"]);
    let output = samara(at, &large);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{error}");
    assert!(error.contains("model.samara: not written: RAM: ") && error.contains(" bytes, m7-160k has 163840;"), "{error}");
    assert!(!at.join("model.samara").exists());
    let bytes = error.split("RAM: ").nth(1).and_then(|rest| rest.split(' ').next()).and_then(|n| n.parse::<usize>().ok());
    export(at, &["--train", "last-block", "--batch", "1024"]);
    assert_eq!(bytes, Some(4 * ram_len(&at.join("model.samara")) + 4096));
}

#[test]
fn inspection_describes_program_files() {
    let folder = temporary();
    let at = folder.path();
    trained_wide(at);
    let outcome = export(at, &["--quantize", "q8", "--train", "bias", "--optimizer", "adamw"]);
    let found: Value = serde_json::from_str(&done(at, &["inspect", "model.samara", "--json"])).expect("JSON");
    let device = &found["device"];
    assert_eq!((&device["version"], &device["context"], &device["tokenizer"]), (&1.into(), &16.into(), &"byte".into()));
    for (program, arena) in device["programs"].as_object().expect("programs") {
        assert!(outcome["programs"].as_array().is_some_and(|names| names.contains(&program.as_str().into())), "{program}");
        assert!(arena["nodes"].as_u64() > Some(5) && arena["tensors"].as_u64() > Some(20), "{arena}");
    }
    for bytes in ["session_bytes", "arena_bytes", "state_bytes", "ints_bytes", "trainable_bytes", "moments_bytes"] {
        assert_eq!(device["memory"][bytes], outcome["ram"][bytes], "{bytes}");
    }
    let sections = device["sections"].as_object().expect("sections");
    let sum: u64 = sections.values().filter_map(Value::as_u64).sum();
    let parts = outcome["flash"].as_array().expect("parts");
    assert_eq!(sum, parts.iter().filter_map(|part| part["bytes"].as_u64()).sum::<u64>());
    let parameters = device["parameters"]["tensors"].as_array().expect("parameters");
    let parameter = |name: &str| parameters.iter().find(|p| p["name"] == name).expect("a parameter");
    assert_eq!(parameter("wte.weight")["dtype"], "q8");
    assert_eq!(parameter("h.0.ln_1.bias")["trained"], true);
    let said = done(at, &["inspect", "model.samara"]);
    for part in ["vocabulary: ", "decode.nodes: ", "frozen: ", "session_bytes: ", "h.0.mlp.c_fc.weight", "trained"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    // Without names, and damaged.
    export(at, &["--strip-names"]);
    assert!(!done(at, &["inspect", "model.samara"]).contains("wte.weight"));
    let mut bytes = fs::read(at.join("model.samara")).expect("a file");
    bytes[5000] ^= 1;
    fs::write(at.join("damaged.samara"), &bytes).expect("a file");
    refused(at, &["inspect", "damaged.samara"], 3, &["damaged.samara: the checksum is ", "export it again"]);
    fs::write(at.join("short.samara"), &bytes[..1000]).expect("a file");
    refused(at, &["inspect", "short.samara"], 3, &["short.samara: 1000 bytes, the header tells of "]);
    fs::write(at.join("other.samara"), "a text".repeat(20)).expect("a file");
    refused(at, &["inspect", "other.samara"], 3, &["other.samara: not a program file"]);
    refused(at, &["inspect", "absent.samara"], 4, &["absent.samara: cannot read"]);
}

#[test]
fn tokenizers_from_the_command_line() {
    let folder = temporary();
    let at = folder.path();
    fs::write(at.join("text.txt"), "the cat and the hat and the bat ".repeat(30)).expect("file");
    for (kind, ids) in [("bpe", "266"), ("char", "9"), ("byte", "257")] {
        let size: &[&str] = if kind == "bpe" { &["--vocab-size", "266"] } else { &[] };
        let args = [&["tokenizer", "train", "--data", "text.txt", "--kind", kind, "--out", kind], size].concat();
        let trained = done(at, &args);
        assert!(trained.starts_with(&format!("{ids} ids -> {kind}")), "{trained}");
        let encoded = done(at, &["tokenizer", "encode", "--tokenizer", kind, "--text", "the bat"]);
        let decoded = done(at, &["tokenizer", "decode", "--tokenizer", kind, "--tokens", encoded.trim()]);
        assert_eq!(decoded, "the bat", "{kind} {encoded}");
    }
    refused(at, &["tokenizer", "encode", "--tokenizer", "char", "--text", "thx"], 3, &["--text", "'x'"]);
    refused(at, &["tokenizer", "decode", "--tokenizer", "char", "--tokens", "99"], 3, &["99"]);
    refused(at, &["tokenizer", "decode", "--tokenizer", "absent", "--tokens", "9"], 4, &["absent"]);
    refused(at, &["tokenizer", "decode", "--tokenizer", "char", "--tokens", "-1"], 2, &["--tokens: id 0 is \"-1\""]);
    let train = |more: &[&'static str]| [&["tokenizer", "train", "--data", "text.txt", "--out", "x"], more].concat();
    refused(at, &train(&["--vocab-size", "10"]), 2, &["vocabulary of 10", "ask for at least 257"]);
    refused(at, &train(&["--kind", "char", "--vocab-size", "10"]), 2, &["--vocab-size: only --kind bpe takes it; leave it out"]);
    refused(at, &train(&["--kind", "byte", "--min-count", "2"]), 2, &["--min-count: only --kind bpe takes it"]);
    fs::write(at.join("file"), "").expect("file");
    refused(at, &["tokenizer", "train", "--data", "text.txt", "--out", "file"], 4, &["file: cannot create the folder"]);
    // Any bytes, through standard input.
    let mut child = command(at, &["tokenizer", "encode", "--tokenizer", "bpe"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("binary");
    child.stdin.take().expect("input").write_all(&[0, 255, b'a']).expect("written");
    let ids = child.wait_with_output().expect("end").stdout;
    let bytes = samara(at, &["tokenizer", "decode", "--tokenizer", "bpe", "--tokens", text(&ids).trim()]).stdout;
    assert_eq!(bytes, [0, 255, b'a']);
}

#[test]
fn inspection_counts_what_is_not_finite() {
    let folder = temporary();
    let header = r#"{"a.weight":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}"#;
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    [1.0, f32::NAN, f32::NEG_INFINITY, -3.0].iter().for_each(|x| file.extend(x.to_le_bytes()));
    fs::write(folder.path().join("x.safetensors"), &file).expect("file");
    let found: Value = serde_json::from_str(&done(folder.path(), &["inspect", "x.safetensors", "--json"])).expect("JSON");
    let tensor = &found["weights"]["tensors"][0];
    assert_eq!((&tensor["nan"], &tensor["infinite"], &tensor["largest"]), (&1.into(), &1.into(), &3.0.into()));
    assert!(done(folder.path(), &["inspect", "x.safetensors"]).contains("a.weight"));
    let model = done(folder.path(), &["inspect", &golden("gpt2-2layer-bf16-sharded")]);
    assert!(model.contains("BF16") && model.contains("transformer.wte.weight"), "{model}");
    let shards = folder.path().join("data");
    fs::create_dir(&shards).expect("folder");
    fs::write(shards.join("train.bin"), [1, 0, 7, 0, 2, 1]).expect("shard");
    let found: Value = serde_json::from_str(&done(folder.path(), &["inspect", "data", "--json"])).expect("JSON");
    assert_eq!(found["train.bin"], serde_json::json!({"tokens": 3, "width": "u16", "largest_id": 258}));
}

/// A matrix as NumPy writes it.
fn npy(shape: &[usize], values: &[f64]) -> Vec<u8> {
    let shape: String = shape.iter().map(|n| format!("{n}, ")).collect();
    let mut header = format!("{{'descr': '<f8', 'fortran_order': False, 'shape': ({shape}), }}");
    header += &" ".repeat(63 - (header.len() + 10) % 64);
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.bytes());
    bytes.extend(values.iter().flat_map(|x| x.to_le_bytes()));
    bytes
}

#[test]
fn assign_reads_matrices_and_says_where_they_are_bad() {
    let folder = temporary();
    let at = folder.path();
    fs::write(at.join("a.csv"), "4, 1, 3\n2, 0, 5\n3, 2, 2\n").expect("file");
    fs::write(at.join("a.npy"), npy(&[3, 3], &[4.0, 1.0, 3.0, 2.0, 0.0, 5.0, 3.0, 2.0, 2.0])).expect("file");
    let expected = serde_json::json!({"rows": [0, 1, 2], "columns": [1, 0, 2], "total": 5.0});
    for file in ["a.csv", "a.npy"] {
        let found: Value = serde_json::from_str(&done(at, &["assign", file, "--json"])).expect("JSON");
        assert_eq!(found, expected, "{file}");
        let found: Value = serde_json::from_str(&done(at, &["assign", file, "--json", "--duals"])).expect("JSON");
        let sum = |key: &str| found[key].as_array().expect("duals").iter().filter_map(Value::as_f64).sum::<f64>();
        assert_eq!(sum("row_duals") + sum("column_duals"), 5.0, "{found}");
    }
    assert!(done(at, &["assign", "a.csv"]).contains("total 5"));
    let found: Value =
        serde_json::from_str(&done(at, &["assign", "a.csv", "--maximize", "--ties=scipy", "--json"])).expect("JSON");
    assert_eq!(found["total"], 11.0);
    let found: Value = serde_json::from_str(&done(at, &["assign", "a.csv", "--cost-limit", "1.5", "--json"])).expect("JSON");
    assert_eq!(found, serde_json::json!({"rows": [1], "columns": [1], "total": 0.0}));

    for (name, content, parts) in [
        ("word.csv", "1,2\n3,x4\n", &["word.csv:2:3", "expected a number", "\"x4\""][..]),
        ("short.csv", "1,2\n3\n", &["short.csv:2:1", "expected 2 numbers", "found 1"]),
        ("semicolons.csv", "1;2\n", &["semicolons.csv:1:1", "expected numbers between commas, found semicolons"]),
        ("nan.csv", "1,2\n\n3,nan\n", &["nan.csv:3: ", "row 1, column 1", "NaN", "--dirty forbid"]),
        ("full.csv", "inf,inf\n3,4\n", &["full.csv", "cost matrix is infeasible: row 0", "--dirty forbid"]),
    ] {
        fs::write(at.join(name), content).expect("file");
        refused(at, &["assign", name], 3, parts);
    }
    refused(at, &["assign", "a.csv", "--cost-limit", "nan"], 2, &["--cost-limit: expected a number, found NaN"]);
    // What the errors advise is what helps.
    for (name, pairs) in [("nan.csv", [[0, 1], [1, 0]].as_slice()), ("full.csv", &[[1, 0]])] {
        let found: Value = serde_json::from_str(&done(at, &["assign", name, "--dirty", "forbid", "--json"])).expect("JSON");
        let column = |k: usize| -> Vec<i32> { pairs.iter().map(|pair| pair[k]).collect() };
        assert_eq!((&found["rows"], &found["columns"]), (&column(0).into(), &column(1).into()), "{name}");
    }
    refused(
        at,
        &["assign", "a.csv", "--ties", "scipy", "--cost-limit", "1"],
        2,
        &["--ties", "--cost-limit", "cannot be used with"],
    );
    refused(at, &["assign", "a.csv", "--ties", "first"], 2, &["first", "any, scipy"]);
    refused(at, &["assign", "a.csv", "--cost-limit", "much"], 2, &["--cost-limit", "much"]);
    let help = done(at, &["assign", "--help"]);
    for flag in ["--maximize", "--cost-limit", "--ties", "--dirty", "--duals", "--json", "Examples:"] {
        assert!(help.contains(flag), "{help}");
    }
    let rows: Value = serde_json::from_str(&done(at, &["bench", "assign", "--repeats", "1", "--json"])).expect("JSON");
    let names: Vec<&str> = rows.as_array().expect("rows").iter().filter_map(|row| row["name"].as_str()).collect();
    assert!(names.contains(&"low-rank 400x400, ties as scipy") && names.contains(&"uniform 100x7"), "{names:?}");
    fs::write(at.join("line.npy"), npy(&[3], &[1.0, 2.0, 3.0])).expect("file");
    refused(at, &["assign", "line.npy"], 3, &["line.npy", "expected a matrix (2-D array), got a 1 array"]);
    let whole = npy(&[3, 3], &[1.0; 9]);
    fs::write(at.join("cut.npy"), &whole[..whole.len() - 8]).expect("file");
    let output = samara(at, &["assign", "cut.npy"]);
    assert!(output.status.code() != Some(0) && text(&output.stderr).contains("cut.npy"), "{}", text(&output.stderr));
    assert!(!samara(at, &["assign", "none.csv"]).status.success());
}

/// An array of 64-bit integers as numpy.save writes it.
fn npy_of_integers(shape: &[usize], values: &[i64]) -> Vec<u8> {
    let floats: Vec<f64> = values.iter().map(|&x| f64::from_bits(x as u64)).collect();
    let mut bytes = npy(shape, &floats);
    let at = bytes.windows(3).position(|word| word == b"<f8").expect("a type");
    bytes[at + 1] = b'i';
    bytes
}

#[test]
fn assign_adds_integers_exactly() {
    let folder = temporary();
    let at = folder.path();
    let large = 1_i64 << 60;
    let near = [large, large + 1, large + 1, large];
    fs::write(at.join("near.npy"), npy_of_integers(&[2, 2], &near)).expect("file");
    let lines = format!("{},{}\n{},{}\n", near[0], near[1], near[2], near[3]);
    fs::write(at.join("near.csv"), lines).expect("file");
    for file in ["near.npy", "near.csv"] {
        let found: Value = serde_json::from_str(&done(at, &["assign", file, "--json", "--duals"])).expect("JSON");
        assert_eq!((&found["columns"], &found["total"]), (&serde_json::json!([0, 1]), &serde_json::json!(2 * large)), "{file}");
        let duals = |key: &str| -> Vec<i64> { found[key].as_array().expect("duals").iter().filter_map(Value::as_i64).collect() };
        let (u, v) = (duals("row_duals"), duals("column_duals"));
        assert_eq!(u.iter().chain(&v).sum::<i64>(), 2 * large, "{found}");
        assert!((0..4).all(|k| u[k / 2] + v[k % 2] <= near[k]), "{found}");
        let most: Value = serde_json::from_str(&done(at, &["assign", file, "--json", "--maximize"])).expect("JSON");
        assert_eq!((&most["columns"], &most["total"]), (&serde_json::json!([1, 0]), &serde_json::json!(2 * large + 2)));
    }
    assert!(done(at, &["assign", "near.npy"]).contains("total 2305843009213693952\n"));
    // More rows than columns: the duals of the columns take what the costs have in common.
    fs::write(at.join("tall.npy"), npy_of_integers(&[3, 1], &[large + 2, large, large + 1])).expect("file");
    let found: Value = serde_json::from_str(&done(at, &["assign", "tall.npy", "--json", "--duals"])).expect("JSON");
    let expected = serde_json::json!({"rows": [1], "columns": [0], "total": large, "row_duals": found["row_duals"], "column_duals": found["column_duals"]});
    assert_eq!(found, expected);
    let sum = |key: &str| found[key].as_array().expect("duals").iter().filter_map(Value::as_i64).sum::<i64>();
    assert_eq!(sum("row_duals") + sum("column_duals"), large, "{found}");

    fs::write(at.join("far.npy"), npy_of_integers(&[2, 2], &[large, -large, 0, large])).expect("file");
    let next = ["far.npy", "expected integers whose sums fit into 64 bits", "divide all costs", "float64"];
    refused(at, &["assign", "far.npy"], 3, &next);
    refused(at, &["assign", "near.npy", "--cost-limit", "0.5"], 2, &["--cost-limit: expected an integer", "found 0.5"]);
    // A limit that is no integer counts as it is: two pairs of cost 1 gain less than one of cost 0.
    fs::write(at.join("small.npy"), npy_of_integers(&[2, 2], &[0, 1, 1, 9])).expect("file");
    for (limit, rows) in [("1.5", vec![0]), ("3", vec![0, 1]), ("-1", vec![])] {
        let found = done(at, &["assign", "small.npy", "--cost-limit", limit, "--ties", "any", "--json"]);
        let found: Value = serde_json::from_str(&found).expect("JSON");
        assert_eq!(found["rows"], serde_json::json!(rows), "{limit}");
    }
    // A transposed array, which numpy.save writes in Fortran order: [[9, 1, 9], [2, 9, 9]].
    let mut transposed = npy_of_integers(&[2, 3], &[9, 2, 1, 9, 9, 9]);
    let word = transposed.windows(5).position(|word| word == b"False").expect("an order");
    transposed.splice(word..word + 5, *b"True ");
    fs::write(at.join("transposed.npy"), transposed).expect("file");
    let found: Value = serde_json::from_str(&done(at, &["assign", "transposed.npy", "--json"])).expect("JSON");
    assert_eq!(found, serde_json::json!({"rows": [0, 1], "columns": [1, 0], "total": 3}));
    // The largest integer forbids a pair.
    fs::write(at.join("forbidden.npy"), npy_of_integers(&[2, 2], &[i64::MAX, large, large + 5, large])).expect("file");
    let found: Value = serde_json::from_str(&done(at, &["assign", "forbidden.npy", "--json"])).expect("JSON");
    assert_eq!((&found["columns"], &found["total"]), (&serde_json::json!([1, 0]), &serde_json::json!(2 * large + 5)));
}

#[test]
fn completions_manual_and_environment() {
    let folder = temporary();
    let at = folder.path();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        assert!(done(at, &["completions", shell]).contains("samara"), "{shell}");
    }
    assert!(done(at, &["man"]).contains(".TH samara 1"));
    done(at, &["man", "--out", "man1"]);
    let pages: Vec<PathBuf> = fs::read_dir(at.join("man1")).expect("folder").map(|f| f.expect("file").path()).collect();
    assert!(
        pages.contains(&at.join("man1/samara-train.1")) && pages.contains(&at.join("man1/samara-tokenizer-train.1")),
        "{pages:?}"
    );
    let env: Value = serde_json::from_str(&done(at, &["env", "--json"])).expect("JSON");
    assert_eq!((&env["version"], &env["cuda"]), (&env!("CARGO_PKG_VERSION").into(), &"not built in".into()));
    assert!(env["threads"].as_u64().is_some_and(|n| n >= 1));
}

#[test]
fn a_reader_that_stops_early_is_no_error() {
    let folder = temporary();
    let mut child =
        command(folder.path(), &["completions", "bash"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("binary");
    let mut out = child.stdout.take().expect("output");
    out.read_exact(&mut [0; 10]).expect("ten bytes");
    drop(out);
    let output = child.wait_with_output().expect("end");
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
}
