//! Matrix products against the FMA peak of this machine, three crates and PyTorch, in turns.
//!
//! `cargo bench -p samara-benches --features peers --bench gemm -- [--threads N] [--only TEXT] [--rounds N] [--torch PYTHON] [--json]` prints
//! GFLOP/s: the median and the best of the rounds, since other work on the machine only ever slows one down. Without the feature the crates gemm and
//! faer are left out. PyTorch is timed in the same rounds by a process of
//! that interpreter.

mod peers;

use std::hint::black_box;
use std::time::Instant;

use samara::bench::rates::peak_flops_per_s;
use samara::kernels::gemm::{Gemm, GemmChoice};
use samara::threads::Pool;
use serde_json::{Value, json};

use peers::{Peer, Torch};

/// How the operands of C (m, n) = A (m, k) · B (k, n) lie in memory.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Layout {
    /// A (m, k), B (k, n): dX = dY · W of a linear layer.
    Plain,
    /// B is stored as (n, k): y = x · Wᵀ.
    BTransposed,
    /// A is stored as (k, m): dW = dYᵀ · x.
    ATransposed,
}

struct Product {
    name: String,
    layout: Layout,
    m: usize,
    n: usize,
    k: usize,
}

/// Squares, and the three products of every linear layer of GPT-2 124M with 256 tokens and of `nanogpt-char-cpu`.
fn products() -> Vec<Product> {
    let square = |n: usize| Product { name: format!("square {n}"), layout: Layout::Plain, m: n, n, k: n };
    let mut all: Vec<Product> = [256, 512, 1024, 2048].map(square).into();
    // Model, tokens, and inputs and outputs of each layer.
    type Layer = (&'static str, usize, usize);
    let models: [(&str, usize, &[Layer]); 2] = [
        ("gpt2", 256, &[("proj", 768, 768), ("qkv", 768, 2304), ("up", 768, 3072), ("down", 3072, 768), ("head", 768, 50257)]),
        ("nano", 768, &[("proj", 128, 128), ("qkv", 128, 384), ("up", 128, 512), ("down", 512, 128), ("head", 128, 65)]),
    ];
    for (model, rows, layers) in models {
        for &(layer, inputs, outputs) in layers {
            let product = |what: &str, layout, m, n, k| Product { name: format!("{model} {layer} {what}"), layout, m, n, k };
            all.push(product("y", Layout::BTransposed, rows, outputs, inputs));
            all.push(product("dX", Layout::Plain, rows, inputs, outputs));
            all.push(product("dW", Layout::ATransposed, outputs, inputs, rows));
        }
    }
    all
}

/// What the command line asks for.
struct Options {
    threads: usize,
    rounds: usize,
    only: String,
    torch: Option<String>,
    json: bool,
}

impl Options {
    fn parse() -> Self {
        let mut options = Self { threads: 1, rounds: 15, only: String::new(), torch: None, json: false };
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            let mut value = || args.next().unwrap_or_else(|| panic!("{arg} needs a value"));
            match arg.as_str() {
                "--threads" => options.threads = value().parse().expect("--threads: a number"),
                "--rounds" => options.rounds = value().parse().expect("--rounds: a number"),
                "--only" => options.only = value(),
                "--torch" => options.torch = Some(value()),
                "--json" => options.json = true,
                // Cargo adds it.
                "--bench" => {}
                unknown => panic!("unknown argument {unknown}"),
            }
        }
        options
    }
}

fn main() {
    let options = Options::parse();
    let pool = Pool::new(options.threads).expect("threads");
    let mut torch = options.torch.as_deref().map(|python| Torch::start(python, options.threads));
    let choices = GemmChoice::all().filter(|choice| choice.gemm() != Gemm::Portable).collect::<Vec<_>>();
    let mut rows = Vec::new();
    if !options.json {
        println!("{} thread(s); GFLOP/s, median (best) of {} rounds", options.threads, options.rounds);
    }
    for product in products().iter().filter(|p| p.name.contains(&options.only)) {
        let speeds = pool.install(|| measure(product, &choices, &pool, torch.as_mut(), options.rounds));
        if options.json {
            rows.push(record(product, &speeds));
        } else {
            print(product, &speeds);
        }
    }
    if options.json {
        println!("{}", json!({ "threads": options.threads, "rounds": options.rounds, "unit": "GFLOP/s", "products": rows }));
    }
}

/// Median and best GFLOP/s of a contender.
struct Speed {
    name: String,
    median: f64,
    best: f64,
}

/// The peak first, then every contender, in turns.
fn measure(product: &Product, choices: &[GemmChoice], pool: &Pool, torch: Option<&mut Torch>, rounds: usize) -> Vec<Speed> {
    let Product { layout, m, n, k, .. } = *product;
    let flops = 2.0 * (m * n * k) as f64;
    // Long enough for the clock, short enough for turns.
    let calls = (2e7 / flops).ceil().max(1.0) as usize;
    let mut peers: Vec<(String, Box<dyn Peer + '_>)> = Vec::new();
    for choice in choices {
        peers.push((choice.name().to_owned(), peers::samara(choice, pool, layout, m, n, k)));
    }
    #[cfg(feature = "peers")]
    {
        let operands = || peers::Operands::new(m, n, k);
        peers.push(("gemm".to_owned(), peers::gemm_crate(operands(), pool.threads(), layout)));
        peers.push(("faer".to_owned(), peers::faer(operands(), pool.threads(), layout)));
    }
    if let Some(torch) = torch {
        peers.push(("torch".to_owned(), Box::new(torch.product(layout, m, n, k))));
    }
    let mut times = vec![Vec::new(); peers.len() + 1];
    for _ in 0..rounds {
        times[0].push(peak_flops_per_s(pool) / 1e9);
        for ((_, peer), times) in peers.iter_mut().zip(&mut times[1..]) {
            peer.seconds(1);
            times.push(flops / peer.seconds(calls) / 1e9);
        }
    }
    let names = std::iter::once("peak".to_owned()).chain(peers.into_iter().map(|(name, _)| name));
    names.zip(times).map(|(name, speeds)| speed(name, speeds)).collect()
}

fn speed(name: String, mut speeds: Vec<f64>) -> Speed {
    speeds.sort_by(f64::total_cmp);
    Speed { name, median: speeds[speeds.len() / 2], best: speeds[speeds.len() - 1] }
}

fn print(product: &Product, speeds: &[Speed]) {
    let Product { name, m, n, k, .. } = product;
    let of_peak = speeds[1].median / speeds[0].median;
    let figures: Vec<String> = speeds.iter().map(|s| format!("{} {:.1} ({:.1})", s.name, s.median, s.best)).collect();
    println!("{name:<14} {m:>5} x {n:>5} x {k:>5}  {:>3.0} % of peak  {}", 100.0 * of_peak, figures.join("  "));
}

fn record(product: &Product, speeds: &[Speed]) -> Value {
    let Product { name, layout, m, n, k } = product;
    let speeds: serde_json::Map<String, Value> =
        speeds.iter().map(|s| (s.name.clone(), json!({ "median": s.median, "best": s.best }))).collect();
    json!({ "name": name, "layout": format!("{layout:?}"), "m": m, "n": n, "k": k, "speeds": speeds })
}

/// Seconds of each of some calls.
fn seconds_of(calls: usize, mut call: impl FnMut()) -> f64 {
    let begun = Instant::now();
    for _ in 0..calls {
        call();
    }
    black_box(begun.elapsed().as_secs_f64() / calls as f64)
}
