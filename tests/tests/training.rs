//! Training runs against PyTorch: from the same weights, on the same batches, every step has the same loss, and the last weights are the same.
//! `golden/trajectory/make_trajectory.py` wrote what is expected.

use std::fs;
use std::path::Path;

use samara::kernels::gemm::Gemm;
use samara::model::folder::FolderConfig;
use samara::train::config::RunConfig;
use samara_tests::training::{golden, records, tensors, text, tiny, train};
use serde_json::Value;

const LOSS_TOLERANCE: f64 = 1e-5;
const NORM_TOLERANCE: f64 = 1e-5;
const WEIGHT_TOLERANCE: f32 = 1e-4;

struct Case {
    expected: Value,
    config: RunConfig,
    name: &'static str,
}

impl Case {
    fn open(name: &'static str) -> Self {
        let folder = golden("trajectory").join(name);
        let expected: Value = serde_json::from_slice(&fs::read(folder.join("expected.json")).unwrap()).unwrap();
        let settings = &expected["settings"];
        let (number, count) = (|key: &str| settings[key].as_f64().unwrap(), |key: &str| settings[key].as_u64().unwrap());
        let mut config = tiny(&text(), count("steps"));
        config.model = FolderConfig::read(&folder).unwrap().model;
        config.data.batches = Some(folder.join("batches.npy"));
        config.train.init = Some(folder);
        config.train.batch_size = count("batch_size") as usize;
        config.train.block_size = count("block_size") as usize;
        config.train.grad_accumulation = count("grad_accumulation") as usize;
        config.train.lr = number("lr");
        config.train.min_lr = Some(number("min_lr"));
        config.train.warmup_steps = count("warmup_steps");
        config.train.weight_decay = number("weight_decay");
        config.train.beta1 = number("beta1");
        config.train.beta2 = number("beta2");
        config.train.eps = number("eps");
        config.train.grad_clip = number("grad_clip");
        Self { expected, config, name }
    }

    fn numbers(&self, key: &str) -> Vec<f64> {
        self.expected[key].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
    }

    /// Trains and compares everything with PyTorch's run.
    fn check(&self) {
        let out = tempfile::tempdir().unwrap();
        let outcome = train(&self.config, out.path()).unwrap();
        let records = records(out.path());
        let column = |name: &str| -> Vec<f64> { records.iter().filter_map(|record| record.get(name)).collect() };
        self.compare("loss", &column("train_loss"), &self.numbers("losses"), LOSS_TOLERANCE);
        self.compare("gradient norm", &column("grad_norm"), &self.numbers("grad_norms"), NORM_TOLERANCE);
        self.compare("learning rate", &column("lr"), &self.numbers("learning_rates"), 1e-12);
        let val_loss = self.expected["val_loss"].as_f64().unwrap();
        self.compare("validation loss", &[outcome.val_loss.unwrap()], &[val_loss], LOSS_TOLERANCE);
        self.compare_weights(out.path());
    }

    fn compare(&self, what: &str, found: &[f64], expected: &[f64], tolerance: f64) {
        assert_eq!(found.len(), expected.len(), "{}: {what}", self.name);
        for (i, (x, y)) in found.iter().zip(expected).enumerate() {
            assert!((x - y).abs() <= tolerance, "{}: {what} {} is {x}, expected {y}", self.name, i + 1);
        }
    }

    fn compare_weights(&self, out: &Path) {
        let (found, expected) = (tensors(out), tensors(&golden("trajectory").join(self.name).join("expected.safetensors")));
        let names = |of: &[(String, Vec<f32>)]| of.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&found), names(&expected), "{}", self.name);
        for ((name, x), (_, y)) in found.iter().zip(&expected) {
            // The bias of keys moves all scores of a row alike: its gradient is rounding noise, which AdamW scales to steps of full size.
            let keys = if name.ends_with("c_attn.bias") { y.len() / 3..2 * y.len() / 3 } else { 0..0 };
            let apart = |(i, (x, y)): (usize, (&f32, &f32))| if keys.contains(&i) { 0.0 } else { (x - y).abs() };
            let apart = x.iter().zip(y).enumerate().map(apart).fold(0.0, f32::max);
            assert!(apart <= WEIGHT_TOLERANCE, "{}: {name} differs by {apart:e}", self.name);
        }
    }
}

#[test]
fn gpt2_learns_as_in_pytorch() {
    Case::open("gpt2").check();
}

#[test]
fn gpt2_without_bias_learns_as_in_pytorch_in_micro_batches() {
    Case::open("gpt2-accumulated-without-bias").check();
}

#[test]
fn gpt1_learns_as_in_pytorch() {
    Case::open("gpt1").check();
}

#[test]
fn llama_learns_as_in_pytorch() {
    Case::open("llama").check();
}

#[test]
fn qwen2_learns_as_in_pytorch_in_micro_batches() {
    Case::open("qwen2").check();
}

#[test]
fn micro_batches_are_one_batch() {
    let mut case = Case::open("gpt2-accumulated-without-bias");
    case.config.train.batch_size *= case.config.train.grad_accumulation;
    case.config.train.grad_accumulation = 1;
    case.check();
}

#[test]
fn every_matrix_product_learns_as_in_pytorch() {
    for gemm in [Gemm::Portable, Gemm::MatrixMultiply] {
        let mut case = Case::open("gpt2");
        case.config.train.gemm = gemm;
        case.check();
    }
}

/// A run ends after as many tokens or operations as are asked for, and its schedule with it.
#[test]
fn tokens_or_operations_end_a_run() {
    let mut config = tiny(&text(), 6);
    let by_steps = tempfile::tempdir().unwrap();
    train(&config, by_steps.path()).unwrap();
    (config.train.steps, config.train.tokens) = (1000, 6 * 4 * 16 - 1);
    let by_tokens = tempfile::tempdir().unwrap();
    assert_eq!(train(&config, by_tokens.path()).unwrap().steps, 6);
    assert!(tensors(by_steps.path()) == tensors(by_tokens.path()));
    // 6 N + 12 layers · width · block for each token, N without the position embedding.
    let n = 37 * 16 + 2 * (12 * 16 * 16 + 13 * 16) + 2 * 16;
    let per_step = (6 * n + 12 * 2 * 16 * 16) as f64 * 64.0;
    (config.train.tokens, config.train.flops) = (0, 5.5 * per_step);
    let by_flops = tempfile::tempdir().unwrap();
    assert_eq!(train(&config, by_flops.path()).unwrap().steps, 6);
    assert!(tensors(by_steps.path()) == tensors(by_flops.path()));
    let text = fs::read_to_string(by_flops.path().join("run.toml")).unwrap();
    assert!(text.contains("\nsteps = 6\n"), "{text}");
}

#[test]
fn the_average_of_weights_is_what_is_evaluated_and_saved_as_best() {
    let mut config = tiny(&text(), 6);
    config.train.eval_every = 6;
    let plain = tempfile::tempdir().unwrap();
    let last = train(&config, plain.path()).unwrap();
    config.train.ema_decay = 0.9;
    let averaged = tempfile::tempdir().unwrap();
    let average = train(&config, averaged.path()).unwrap();
    // The average follows the weights and does not lead them.
    assert_eq!(last.train_loss, average.train_loss);
    assert!(average.val_loss.unwrap() > last.val_loss.unwrap());
    assert_eq!(tensors(plain.path()), tensors(averaged.path()));
    assert_ne!(tensors(&averaged.path().join("best")), tensors(averaged.path()));
    assert_eq!(tensors(&plain.path().join("best")), tensors(plain.path()));
}
