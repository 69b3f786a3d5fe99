//! A training run takes as much memory as its plan says.
//!
//! Each measurement is a process of its own, so that nothing else allocates meanwhile.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use samara::data::config::TokenizerChoice;
use samara::kernels::gemm::Gemm;
use samara::lm::Model;
use samara::lm::plan::TrainingPlan;
use samara::model::folder::{FolderConfig, save_folder};
use samara::model::gpt::GptModel;
use samara::session::Engine;
use samara::train::shape::shape_of;
use samara_core::graph::{DType, Recompute};
use samara_tests::training::{tiny, train};

/// The variable that tells a test that it is the child process, and which case it measures.
const CHILD: &str = "SAMARA_TEST_CHILD";

/// Calls `measure` for every case, in a process of its own that runs only the test `name`.
fn alone(name: &str, cases: usize, measure: fn(usize)) {
    if let Some(case) = std::env::var(CHILD).ok().and_then(|case| case.parse().ok()) {
        return measure(case);
    }
    for case in 0..cases {
        let mut child = Command::new(std::env::current_exe().unwrap());
        // With one thread the harness does not go on beside the test.
        let output =
            child.args(["--exact", name, "--nocapture", "--test-threads=1"]).env(CHILD, case.to_string()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
        println!("{said}");
    }
}

#[test]
fn a_run_takes_the_memory_of_its_plan() {
    alone("a_run_takes_the_memory_of_its_plan", 2, measure_memory);
}

/// Anonymous memory of this process that is in RAM, in bytes; `None` where the system does not say.
fn resident_anonymous_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? << 10)
}

/// Share of the plan, and bytes, by which a run may differ from it.
const MARGIN: (f64, f64) = (0.03, 16.0 * 1048576.0);

fn measure_memory(case: usize) {
    if resident_anonymous_bytes().is_none() {
        return;
    }
    let (recompute, ema_decay) = if case == 0 { (Recompute::None, 0.0) } else { (Recompute::Blocks, 0.9) };
    let mut config = tiny(Path::new("unused"), 3);
    config.data.path = None;
    // Text must not stand in memory many times over while it is prepared.
    config.data.corpus_bytes = if case == 0 { 3000 } else { 60_000_000 };
    config.train.eval_batches = 2;
    config.data.tokenizer = TokenizerChoice::Byte;
    let model = GptModel { n_embd: 384, n_layer: 4, n_head: 6, n_positions: 1024, vocab_size: Some(256), ..GptModel::default() };
    config.model = model.into();
    config.train.batch_size = 2;
    config.train.block_size = 64;
    config.train.recompute = recompute.into();
    config.train.ema_decay = ema_decay;
    config.train.threads = 2;
    config.generate.max_new_tokens = 5;
    config.generate.prompt = "Once".to_owned();
    let engine = Engine::new(1, Gemm::Samara).unwrap();
    let plan = TrainingPlan::new(
        &*engine,
        &*config.model.architecture().unwrap(),
        &shape_of(&config),
        config.train.rule(),
        u8::from(ema_decay > 0.0),
    )
    .unwrap();
    drop(engine);
    assert!(plan.total_bytes > 60_000_000, "{plan:?}");
    let out = tempfile::tempdir().unwrap();
    let peak = peak_while(|| {
        train(&config, out.path()).unwrap();
    });
    let (planned, found) = (plan.total_bytes as f64, peak as f64);
    println!("{recompute:?}: planned {planned:.4e}, resident {found:.4e}, difference {:.4e}", found - planned);
    assert!((found - planned).abs() <= MARGIN.0 * planned + MARGIN.1, "{plan:?}, resident {peak}");
}

/// A model opens in blocks in the memory of its blocks: never as numbers of 32 bits.
#[test]
fn a_model_in_blocks_takes_the_memory_of_its_blocks() {
    alone("a_model_in_blocks_takes_the_memory_of_its_blocks", 1, measure_blocks);
}

/// What the process has besides weights, and rows on their way.
const BLOCKS_MARGIN: u64 = 4 << 20;

fn measure_blocks(_: usize) {
    let Some(before) = resident_anonymous_bytes() else { return };
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::new(1, Gemm::Samara).unwrap();
    let model = GptModel { n_embd: 512, n_layer: 4, n_head: 8, n_positions: 64, vocab_size: Some(8192), ..GptModel::default() };
    let mut gpt = Model::new(engine.clone(), Arc::new(model.to_core().unwrap())).unwrap();
    gpt.initialise(1);
    let config = FolderConfig::new(model, 0.0);
    save_folder(folder.path(), &config, &gpt.weights().params(), gpt.weights().weights.get()).unwrap();
    let f32_bytes = gpt.weight_bytes() as u64;
    drop(gpt);
    let mut bytes = 0;
    let peak = peak_while(|| bytes = Model::open(engine, folder.path(), DType::Q8).unwrap().weight_bytes() as u64);
    println!("f32 {f32_bytes}, blocks {bytes}, before {before}, peak {peak}");
    assert!(f32_bytes > 3 * bytes && bytes > 2 * BLOCKS_MARGIN, "{f32_bytes} {bytes}");
    assert!(peak < before + bytes + BLOCKS_MARGIN, "before {before}, blocks {bytes}, peak {peak}");
}

/// The largest resident anonymous memory while `f` runs.
fn peak_while(f: impl FnOnce()) -> u64 {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut peak = 0;
            while !done.load(Ordering::Relaxed) {
                peak = peak.max(resident_anonymous_bytes().unwrap_or(0));
                std::thread::sleep(Duration::from_micros(500));
            }
            peak
        });
        f();
        done.store(true, Ordering::Relaxed);
        watch.join().unwrap()
    })
}
