//! Instructions that kernels, a training step and a token take, counted by callgrind and held against `instructions.toml`.
//!
//! `cargo bench -p samara-benches --bench instructions [-- --write] [--only TEXT]` runs this program again under `valgrind --tool=callgrind`, one
//! process for each case, on one thread. Counts do not depend on what else the machine does, so that a regression shows in CI: a case that takes
//! over 5 % more instructions than the file says fails, and so does a whole step or a whole token that takes over 1 % more. `--write` writes the file anew. Valgrind knows AVX2 but not AVX-512, so that every machine
//! with AVX2 counts the same kernels.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;

use samara::assignment::Solver;
use samara::assignment::families::Family;
use samara::config::Layers;
use samara::data::batches::{Order, Sampler};
use samara::data::corpus::tales;
use samara::data::shards::TokenList;
use samara::decoding::generator::Generator;
use samara::kernels::gemm::{Gemm, GemmChoice, gemm, gemm_scratch_len};
use samara::lm::Model;
use samara::model::architecture::Architecture;
use samara::session::update::Update;
use samara::session::{CpuDevice, Engine, On, OwnedProgram, Session};
use samara::tokenizer::{Specials, Tokenizer};
use samara::train::config::RunConfig;
use samara::train::objectives::lm::Lm;
use samara::train::presets::find;
use samara::train::shape::shape_of;
use samara::train::shape::update_numbers;
use samara::train::step::Stepper;
use samara_core::assignment::{Costs, Options};
use samara_core::decode::Sampling;
use samara_core::exec::Gradients;
use samara_core::gemm::{Major, MatRef, Store};
use samara_core::threads::Serial;

/// A count this much above the file's fails: a whole step or token shows less noise of the compiler's than a kernel alone, and matters more.
fn most(case: &str) -> f64 {
    if matches!(case, "step" | "token") { 1.01 } else { 1.05 }
}

/// A count this much below the file's is worth writing down.
const LEAST: f64 = 0.95;

/// Everything that is counted; operations by their names, the first node that has it in a step of `nanogpt-char-cpu` with two sequences.
const CASES: [&str; 17] = [
    "product 256",
    "linear",
    "linear backward",
    "attention",
    "attention backward",
    "layer norm",
    "layer norm backward",
    "binary",
    "embedding",
    "head loss and gradients",
    "AdamW",
    "step",
    "token",
    "encode",
    "assignment 30x30",
    "assignment 100x7",
    "assignment 400x400",
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["--case", name] => run(name),
        [] => return compare("", false),
        ["--write"] => return compare("", true),
        ["--only", part] => return compare(part, false),
        unknown => panic!("unknown arguments {unknown:?}: expected --write or --only TEXT"),
    }
    ExitCode::SUCCESS
}

/// Where callgrind counts: from the entry of this function to its return.
#[inline(never)]
fn counted_region<T>(f: impl FnOnce() -> T) -> T {
    f()
}

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.toml")
}

/// Counts and holds the counts against the file, or writes them there.
fn compare(only: &str, write: bool) -> ExitCode {
    let known: BTreeMap<String, u64> =
        fs::read_to_string(file()).ok().map_or_else(BTreeMap::new, |text| toml::from_str(&text).expect("instructions.toml"));
    let (mut text, mut failed) = (HEAD.to_owned(), 0);
    for case in CASES.iter().filter(|case| case.contains(only)) {
        let count = count(case);
        let verdict = match known.get(*case) {
            None => "new",
            Some(&before) if count as f64 > most(case) * before as f64 => "TOO MANY",
            Some(&before) if (count as f64) < LEAST * before as f64 => "fewer: renew the file with --write",
            Some(_) => "as before",
        };
        let before = known.get(*case).map_or("-".to_owned(), |before| format!("{before}"));
        println!("{case:<24} {count:>14}  known {before:>14}  {verdict}");
        writeln!(text, "{case:?} = {count}").expect("a string");
        failed += usize::from(matches!(verdict, "TOO MANY" | "new"));
    }
    if write {
        fs::write(file(), text).expect("instructions.toml");
    } else if failed > 0 {
        println!("{failed} cases take more instructions than {} allows, or are not in it", file().display());
        println!("if that is meant, renew the file: cargo bench -p samara-benches --bench instructions -- --write");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

const HEAD: &str = "\
# Instructions of each case of instructions.rs under callgrind with AVX2.
# Renew: cargo bench -p samara-benches --bench instructions -- --write
";

/// Instructions of a case.
fn count(case: &str) -> u64 {
    let this = std::env::current_exe().expect("this program");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--collect-atstart=no"])
        .arg("--toggle-collect=*counted_region*")
        .arg(this)
        .args(["--case", case])
        .output()
        .expect("valgrind runs: install it, as in apt-get install valgrind");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{case}: {said}");
    let collected = said.lines().find_map(|line| line.split_once("Collected :")).map(|(_, count)| count.trim().parse());
    collected.and_then(Result::ok).filter(|&count| count > 0).unwrap_or_else(|| panic!("{case}: no count in {said}"))
}

/// Runs one case once; callgrind counts what happens in [`counted_region`].
fn run(case: &str) {
    match case {
        "product 256" => product(256),
        "step" => step(None),
        "token" => token(),
        "encode" => encode(),
        "assignment 30x30" => assignment(30, 30),
        "assignment 100x7" => assignment(100, 7),
        "assignment 400x400" => assignment(400, 400),
        operation => step(Some(operation)),
    }
}

fn product(n: usize) {
    let choice = GemmChoice::new(Gemm::Samara);
    let (a, b, mut c) = (vec![0.5; n * n], vec![0.25; n * n], vec![0.0; n * n]);
    let mut scratch = vec![0.0; gemm_scratch_len(&choice, Major::Rows, n, n, n)];
    let (a, b) = (MatRef::new(&a, n, n), MatRef::new(&b, n, n));
    counted_region(|| gemm(&choice, &Serial, a, b, &mut c, n, Store::Overwrite, None, &mut scratch));
}

/// nanoGPT's character model.
fn architecture() -> (Arc<dyn Architecture>, RunConfig) {
    let mut layers = Layers::<RunConfig>::new();
    layers.preset(find("nanogpt-char-cpu").expect("a preset")).expect("TOML");
    // Callgrind is fifty times slower than the processor.
    layers.set("train.batch_size=2").expect("a key");
    let config = layers.finish().expect("a configuration");
    (config.model.clone().with_vocab_size(65).architecture().expect("a model"), config)
}

/// A training step, or the first of its nodes with that operation.
fn step(operation: Option<&str>) {
    let (model, config) = architecture();
    let train = &config.train;
    let len = 4 * train.block_size as u32 + 2;
    let source = TokenList::new("noise", (0..len).map(|i| i * 31 % 65).collect());
    let order = Sampler::new(Order::Random, 1, train.block_size, u64::from(len), "noise").expect("a sampler");
    let mut lm = Lm::new(model, shape_of(&config), train, source, order, None).expect("a model");
    let engine = Engine::new(1, Gemm::Samara).expect("a thread");
    let mut stepper = Stepper::new(Session::new(CpuDevice::new(Arc::clone(&engine))), &mut lm, train.rule()).expect("programs");
    let numbers = update_numbers(train, 1e-3);
    // Callgrind counts on the thread that enters the region: the one that does the work.
    engine.install(|| match operation {
        None => {
            counted_region(|| stepper.step(&mut lm, 0, &numbers)).expect("a step");
        }
        Some(name) => {
            let (session, updates) = stepper.session_and_updates();
            let updates: Vec<&Update> = updates.collect();
            let on = On::set(updates.first().expect("a trained set").set());
            let programs = lm.program().into_iter().chain(updates.iter().map(|update| update.program()));
            let found = programs.filter_map(|program| Some((program, first_of(program, name)?))).next();
            let (program, i) = found.unwrap_or_else(|| panic!("no {name} in the step"));
            counted_region(|| session.run(program, on, i..i + 1, Gradients::Overwrite));
        }
    });
}

/// The first node of a program with an operation.
fn first_of(program: &OwnedProgram, operation: &str) -> Option<usize> {
    let view = program.view();
    let is_meant =
        |i: &usize| view.node(*i).filter(|n| !n.record().dead).and_then(|n| n.op()).is_some_and(|op| op.name() == operation);
    (0..view.nodes().len()).find(is_meant)
}

/// One token after a prompt of 32.
fn token() {
    // All weights are 0: no kernel takes another path for that.
    let mut model = Model::new(Engine::new(1, Gemm::Samara).expect("a thread"), architecture().0).expect("a model");
    let prompt: Vec<i32> = (0..32).collect();
    let engine = model.session.engine().clone();
    engine.install(|| {
        let mut text = Generator::new(&mut model.bound(), &prompt, Sampling::GREEDY, 1).expect("programs");
        // The first token comes from the prompt.
        text.next(&mut model.bound()).expect("a token");
        counted_region(|| text.next(&mut model.bound())).expect("a token");
    });
}

fn encode() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/tokenizer/saved/bpe/tokenizer.json");
    let tokenizer = Tokenizer::load(&path).expect("a tokenizer");
    let text = tales(1, 20_000);
    let ids = counted_region(|| tokenizer.encode(text.as_bytes(), Specials::None)).expect("ids");
    assert!(ids.len() < text.len());
}

/// Sixteen problems of a shape, in memory that has been used before.
fn assignment(rows: usize, columns: usize) {
    let matrices: Vec<Vec<f64>> = (0..16).map(|seed| Family::Uniform.costs(rows, columns, seed)).collect();
    let mut solver = Solver::default();
    let mut solve = || {
        for costs in &matrices {
            let costs = Costs::new(costs, rows, columns).expect("costs");
            let solved = solver.solve_with(costs, &Options::default(), |answer| answer.columns().len());
            assert_eq!(solved, Ok(rows));
        }
    };
    solve();
    counted_region(solve);
}
