//! A training step takes nothing from the heap after the first, whatever the number of threads.
//!
//! This file has no test harness, whose main thread would allocate beside the measurement; and each case is a process of its own, because the
//! threads of an older pool allocate while they end.

use std::alloc::{GlobalAlloc, Layout, System};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use samara::data::batches::{Order, Sampler};
use samara::data::shards::TokenList;
use samara::kernels::gemm::Gemm;
use samara::model::tune::config::{Method, TuneConfig};
use samara::session::{CpuDevice, Engine, Session};
use samara::train::config::RunConfig;
use samara::train::objectives::lm::Lm;
use samara::train::shape::{shape_of, update_numbers};
use samara::train::step::Stepper;
use samara_core::graph::Recompute;
use samara_tests::training::{text, tiny};

/// Counts what is taken from the heap while `COUNTING`.
struct Counting;

static COUNTING: AtomicBool = AtomicBool::new(false);
static TAKEN: AtomicU64 = AtomicU64::new(0);

impl Counting {
    fn count(&self) {
        if COUNTING.load(Ordering::Relaxed) {
            TAKEN.fetch_add(1, Ordering::Relaxed);
        }
    }
}

// SAFETY: hands everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.count();
        // SAFETY: the caller's contract is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.count();
        // SAFETY: the caller's contract is the same.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        self.count();
        // SAFETY: the caller's contract is the same.
        unsafe { System.realloc(pointer, layout, new_size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract is the same.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static GLOBAL: Counting = Counting;

/// The variable that tells a process which case it measures.
const CASE: &str = "SAMARA_TEST_CASE";

/// One to three threads, each with two sets of options.
const CASES: usize = 6;

fn main() {
    if let Some(case) = std::env::var(CASE).ok().and_then(|case| case.parse().ok()) {
        return count_allocations(case);
    }
    for case in 0..CASES {
        let status = Command::new(std::env::current_exe().unwrap()).env(CASE, case.to_string()).status().unwrap();
        assert!(status.success(), "case {case}: {status}");
    }
    println!("no allocation in {CASES} cases");
}

fn count_allocations(case: usize) {
    let threads = 1 + case / 2;
    let (gemm, dropout, ema_decay, accumulation) =
        if case.is_multiple_of(2) { (Gemm::Samara, 0.0, 0.0, 1) } else { (Gemm::Portable, 0.1, 0.9, 2) };
    let engine = Engine::new(threads, gemm).unwrap();
    for recompute in [Recompute::None, Recompute::Cheap, Recompute::Blocks] {
        let mut config = tiny(&text(), 100);
        config.model = config.model.with_vocab_size(40);
        config.train.recompute = recompute.into();
        config.train.dropout = dropout;
        config.train.ema_decay = ema_decay;
        config.train.grad_accumulation = accumulation;
        for method in [Method::Full, Method::Lora] {
            config.tune = TuneConfig { method, dropout, ..TuneConfig::default() };
            let taken = engine.install(|| taken_by_steps(Arc::clone(&engine), &config));
            let what = format!("{threads} threads, {recompute:?}, {gemm:?}, dropout {dropout}, {accumulation} micro-batches");
            assert_eq!(taken, 0, "{what}, {method:?}");
        }
    }
}

/// Allocations in 200 steps after the first, taken inside the pool as a run takes them.
fn taken_by_steps(engine: Arc<Engine>, config: &RunConfig) -> u64 {
    let source = TokenList::new("numbers", (0..1000).map(|i| i % 40).collect());
    let order = Sampler::new(Order::Random, 1, 16, 1000, "numbers").unwrap();
    let model = config.tune.applied_to(config.model.architecture().unwrap()).unwrap();
    let mut lm = Lm::new(model, shape_of(config), &config.train, source, order, None).unwrap();
    let mut stepper = Stepper::new(Session::new(CpuDevice::new(engine)), &mut lm, config.train.rule()).unwrap();
    stepper.initialise(1).unwrap();
    let numbers = update_numbers(&config.train, 1e-3);
    let mut run = |i| stepper.step(&mut lm, i, &numbers).unwrap();
    run(0);
    COUNTING.store(true, Ordering::SeqCst);
    (1..=200).for_each(run);
    COUNTING.store(false, Ordering::SeqCst);
    TAKEN.swap(0, Ordering::SeqCst)
}
