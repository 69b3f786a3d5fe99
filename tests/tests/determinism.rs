//! The same bits: interrupted or not, with any number of threads, run after run, whatever is computed twice.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::Duration;

use samara::config::{Layers, to_toml};
use samara::data::config::DataOrder;
use samara::run::metrics::Metrics;
use samara::session::Engine;
use samara::train::config::{RecomputeChoice, RunConfig};
use samara::train::recompute::Policies;
use samara_core::graph::Recompute;
use samara_tests::binary::samara;
use samara_tests::training::{gpt, newest_checkpoint, records, resume, tensors, text, tiny, train, training_state};
use tempfile::TempDir;

/// A run in which everything random takes part: dropout, random rows, micro-batches, a moving average.
fn lively(steps: u64) -> RunConfig {
    let mut config = tiny(&text(), steps);
    config.train.dropout = 0.1;
    config.train.ema_decay = 0.95;
    config.train.grad_accumulation = 2;
    config.train.eval_every = 5;
    config.train.checkpoint_every = 10;
    config
}

/// A model large enough for many tasks in every operation.
fn wide(n_embd: usize, steps: u64) -> RunConfig {
    let mut config = lively(steps);
    let model = gpt(&mut config);
    (model.n_embd, model.n_head, model.n_positions, model.vocab_size) = (n_embd, 3, 48, Some(700));
    config.train.batch_size = 5;
    config.train.block_size = 48;
    config
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// What a run leaves that must not depend on how it ran.
#[derive(Debug, PartialEq)]
struct Result {
    training_state: Vec<u8>,
    weights: Vec<(String, Vec<f32>)>,
    best: Option<Vec<(String, Vec<f32>)>>,
    records: Vec<Metrics>,
}

impl Result {
    fn of(out: &Path) -> Self {
        let best = out.join("best");
        let without_time = |mut r: Metrics| {
            r.values.retain(|name, _| name != "tokens_per_s" && name != "wall_s");
            r
        };
        Self {
            training_state: training_state(out),
            weights: tensors(out),
            best: best.exists().then(|| tensors(&best)),
            records: records(out).into_iter().map(without_time).collect(),
        }
    }

    fn of_run(config: &RunConfig) -> Self {
        let out = folder();
        train(config, out.path()).unwrap();
        Self::of(out.path())
    }

    /// Compares without printing megabytes.
    fn assert_is(&self, expected: &Self, what: &str) {
        assert_eq!(self.records, expected.records, "{what}: records");
        assert!(self.weights == expected.weights, "{what}: weights");
        assert!(self.training_state == expected.training_state, "{what}: weights and moments");
        assert!(self.best == expected.best, "{what}: best weights");
    }
}

#[test]
fn twice_the_same_run() {
    let config = lively(12);
    let first = Result::of_run(&config);
    Result::of_run(&config).assert_is(&first, "second run");
    let mut other = config.clone();
    other.train.seed = 1;
    assert!(Result::of_run(&other).weights != first.weights);
    other = config;
    other.train.dropout = 0.11;
    assert!(Result::of_run(&other).weights != first.weights);
}

#[test]
fn resumed_is_never_interrupted() {
    for order in [DataOrder::Random, DataOrder::Shuffled] {
        let mut config = lively(20);
        config.data.order = order;
        let whole = Result::of_run(&config);
        let out = folder();
        train(&config, out.path()).unwrap();
        // As if the run had been killed before it wrote its last checkpoint.
        fs::remove_dir_all(newest_checkpoint(out.path())).unwrap();
        assert!(newest_checkpoint(out.path()).ends_with("step-0000010"));
        let mut now = config.clone();
        now.train.threads = 3;
        now.train.checkpoint_every = 4;
        let outcome = resume(&now, out.path()).unwrap();
        assert_eq!(outcome.steps, 20);
        Result::of(out.path()).assert_is(&whole, "resumed run");
    }
}

#[test]
fn resuming_a_finished_run_changes_nothing() {
    let config = lively(10);
    let out = folder();
    train(&config, out.path()).unwrap();
    let before = Result::of(out.path());
    assert_eq!(resume(&config, out.path()).unwrap().steps, 10);
    Result::of(out.path()).assert_is(&before, "finished run");
}

#[test]
fn resuming_in_an_empty_folder_begins() {
    let config = lively(6);
    let out = folder();
    resume(&config, out.path()).unwrap();
    Result::of(out.path()).assert_is(&Result::of_run(&config), "run begun by --resume");
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let mut config = wide(96, 4);
    let serial = Result::of_run(&config);
    for threads in [2, 3, 8] {
        config.train.threads = threads;
        Result::of_run(&config).assert_is(&serial, &format!("{threads} threads"));
    }
}

#[test]
fn recomputation_gives_the_same_bits() {
    for mut config in [lively(8), wide(96, 3)] {
        let kept = Result::of_run(&config);
        for recompute in [Recompute::Cheap, Recompute::Blocks] {
            config.train.recompute = recompute.into();
            Result::of_run(&config).assert_is(&kept, &format!("{recompute:?}"));
        }
    }
}

/// What recomputation a budget makes necessary, what the run remembers of it, and what its resumption does.
#[test]
fn a_resumed_run_computes_again_what_it_did_before() {
    let mut config = wide(96, 10);
    config.train.checkpoint_every = 5;
    let engine = Engine::new(1, config.train.gemm).unwrap();
    let policies = |config: &RunConfig| Policies::new(&engine, &*config.model.architecture().unwrap(), config);
    let [none, cheap, blocks] = policies(&config).unwrap().all.map(|(_, plan)| plan.total_bytes.div_ceil(1 << 20));
    assert!(blocks < cheap && cheap < none, "{none} {cheap} {blocks} MiB");
    let kept = Result::of_run(&config);
    for (budget, word) in [(none, "none"), (none - 1, "cheap"), (cheap, "cheap"), (blocks, "blocks")] {
        config.train.memory_budget_mib = budget;
        let out = folder();
        train(&config, out.path()).unwrap();
        let mut layers = Layers::<RunConfig>::new();
        layers.file(&out.path().join("run.toml")).unwrap();
        let former = layers.finish().unwrap();
        assert_eq!(policies(&former).unwrap().shape.recompute.name(), word, "{budget} MiB");
        assert_ne!(former.train.recompute, RecomputeChoice::Auto);
        // As if the run had been killed; it goes on as recorded, or in any other way, to the same bits.
        for recompute in [former.train.recompute, Recompute::None.into()] {
            fs::remove_dir_all(newest_checkpoint(out.path())).unwrap();
            let mut now = former.clone();
            (now.train.recompute, now.train.memory_budget_mib) = (recompute, 0);
            resume(&now, out.path()).unwrap();
            Result::of(out.path()).assert_is(&kept, &format!("{budget} MiB, {recompute:?}"));
        }
    }
    config.train.memory_budget_mib = blocks - 1;
    let error = train(&config, folder().path()).unwrap_err().to_string();
    assert!(error.starts_with(&format!("train.memory_budget_mib: expected at least {blocks} ")), "{error}");
}

#[test]
fn any_number_of_threads_generates_the_same_text() {
    let out = folder();
    let config = wide(48, 10);
    train(&config, out.path()).unwrap();
    let text_of = |threads: usize, seed: u64| {
        // More tokens than the model has positions.
        let flags = ["--prompt", "The ", "--max-new-tokens", "80", "--temperature", "1"];
        let mut command: Command = samara();
        command.arg("generate").args(flags).arg("--model").arg(out.path());
        command.args(["--threads", &threads.to_string(), "--seed", &seed.to_string()]);
        let output = command.output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        // The model has more ids than the tokenizer, and those beyond it have no text: tokens are counted, not characters.
        assert!(output.status.success() && told.contains("80 tokens, "), "{told}");
        output.stdout
    };
    let serial = text_of(1, 0);
    assert!(serial.starts_with(b"The ") && serial != text_of(1, 1));
    for threads in [2, 3, 8] {
        assert_eq!(text_of(threads, 0), serial, "{threads} threads");
    }
}

/// A run of the binary in a folder.
struct Process {
    child: Child,
}

impl Process {
    /// Starts or goes on with the run of `file` in `out`.
    fn start(file: &Path, out: &Path) -> Self {
        let mut command: Command = samara();
        command.args(["train", "--quiet", "--resume", "--config"]).arg(file).arg("--out").arg(out);
        Self { child: command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap() }
    }

    /// Waits until the run has written the record of `step`, or has ended.
    fn wait_for(&mut self, out: &Path, step: u64) {
        let done =
            || fs::read(out.join("metrics.jsonl")).is_ok_and(|text| text.iter().filter(|&&b| b == b'\n').count() as u64 > step);
        while !done() && self.child.try_wait().unwrap().is_none() {
            sleep(Duration::from_millis(2));
        }
    }

    /// Waits for the end; returns status and messages.
    fn end(mut self) -> (ExitStatus, String) {
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (self.child.wait().unwrap(), said)
    }
}

/// A run for the binary, and what comes out of it undisturbed.
fn run_of_binary() -> (TempDir, Result) {
    let mut config = wide(48, 20);
    config.train.checkpoint_every = 4;
    config.train.threads = 2;
    let files = folder();
    fs::write(files.path().join("run.toml"), to_toml(&config)).unwrap();
    (files, Result::of_run(&config))
}

#[cfg(unix)]
#[test]
fn killed_and_resumed_is_never_interrupted() {
    let (files, whole) = run_of_binary();
    let (file, out) = (files.path().join("run.toml"), files.path().join("out"));
    for step in [2, 6, 9, 15] {
        let mut process = Process::start(&file, &out);
        process.wait_for(&out, step);
        process.child.kill().unwrap();
        let (status, said) = process.end();
        assert!(std::os::unix::process::ExitStatusExt::signal(&status) == Some(9), "step {step}: {status} {said}");
    }
    let (status, said) = Process::start(&file, &out).end();
    assert!(status.success(), "{said}");
    Result::of(&out).assert_is(&whole, "killed run");
}

#[cfg(unix)]
#[test]
fn a_signal_saves_before_the_end() {
    let (files, whole) = run_of_binary();
    let (file, out) = (files.path().join("run.toml"), files.path().join("out"));
    let mut process = Process::start(&file, &out);
    process.wait_for(&out, 6);
    assert!(Command::new("kill").arg(process.child.id().to_string()).status().unwrap().success());
    let (status, said) = process.end();
    assert_eq!(status.code(), Some(143), "{said}");
    assert!(said.contains("--resume"), "{said}");
    // The step in progress is saved, though no checkpoint was due.
    let saved = records(&out).last().unwrap().step;
    assert!(newest_checkpoint(&out).ends_with(format!("step-{saved:07}")), "step {saved}");
    let (status, said) = Process::start(&file, &out).end();
    assert!(status.success(), "{said}");
    Result::of(&out).assert_is(&whole, "stopped run");
}
