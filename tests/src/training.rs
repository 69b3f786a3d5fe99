//! Short training runs, and the files that they leave.

use std::fs;
use std::path::{Path, PathBuf};

use samara::data::config::TokenizerChoice;
use samara::model::ModelConfig;
use samara::model::gpt::GptModel;
use samara::model_folder::safetensors::Weights;
use samara::run::checkpoint::Checkpoints;
use samara::run::metrics::{self, Metrics};
use samara::train;
use samara::train::config::RunConfig;
use samara::train::error::TrainingError;
use samara::train::progress::View;
use samara::train::request::{TrainOutcome, TrainRequest};

/// A file or folder under `golden/`.
pub fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(path)
}

/// The text of the golden trajectories: 1160 characters, 37 different ones.
pub fn text() -> PathBuf {
    golden("trajectory/text.txt")
}

/// A model of two layers, width 16, that learns `text` character by character for `steps` steps and generates nothing.
pub fn tiny(text: &Path, steps: u64) -> RunConfig {
    let model = GptModel { n_positions: 16, n_embd: 16, n_layer: 2, n_head: 2, ..GptModel::default() };
    let mut config = RunConfig { model: model.into(), ..RunConfig::default() };
    config.data.path = Some(text.to_owned());
    config.data.tokenizer = TokenizerChoice::Char;
    config.train.steps = steps;
    config.train.batch_size = 4;
    config.train.block_size = 16;
    config.train.warmup_steps = 5;
    config.train.lr = 3e-3;
    config.train.eval_every = 0;
    config.train.checkpoint_every = 0;
    config.train.threads = 1;
    config.generate.max_new_tokens = 0;
    config
}

/// The keys of a run's model, which is a GPT.
pub fn gpt(config: &mut RunConfig) -> &mut GptModel {
    match &mut config.model {
        ModelConfig::Gpt(model) => model,
        other => panic!("a GPT, not {other:?}"),
    }
}

/// A new run in the folder `out`.
pub fn request(config: &RunConfig, out: &Path) -> TrainRequest {
    TrainRequest {
        config: config.clone(),
        out: Some(out.to_owned()),
        name: "test".to_owned(),
        init: config.train.init.clone(),
        resume: false,
        begins: true,
        view: View::Quiet,
    }
}

/// Trains in the folder `out`.
///
/// # Errors
/// The training fails.
pub fn train(config: &RunConfig, out: &Path) -> Result<TrainOutcome, TrainingError> {
    train::run(&request(config, out))
}

/// Resumes the run in the folder `out`.
///
/// # Errors
/// The training fails.
pub fn resume(config: &RunConfig, out: &Path) -> Result<TrainOutcome, TrainingError> {
    train::run(&TrainRequest { resume: true, ..request(config, out) })
}

/// The records of a run.
pub fn records(out: &Path) -> Vec<Metrics> {
    metrics::read(&out.join("metrics.jsonl")).expect("metrics")
}

/// The folder of the newest checkpoint of a run, which must be valid.
pub fn newest_checkpoint(out: &Path) -> PathBuf {
    let newest = Checkpoints::open(&out.join("checkpoints"), 2).and_then(|c| c.newest_valid()).expect("checkpoints");
    assert!(newest.rejected.is_empty(), "{:?}", newest.rejected);
    newest.checkpoint.expect("a checkpoint").folder
}

/// The bytes of all weights and moments in the newest checkpoint of a run.
pub fn training_state(out: &Path) -> Vec<u8> {
    fs::read(newest_checkpoint(out).join("training.safetensors")).expect("training state")
}

/// Every tensor of a model folder or a safetensors file, in order of name.
pub fn tensors(path: &Path) -> Vec<(String, Vec<f32>)> {
    let weights = Weights::open(path).expect("weights");
    let read = |name: &str| {
        let shape = weights.shape(name).expect("shape");
        let mut values = vec![0.0; shape.iter().product()];
        weights.read(name, shape, &mut values).expect("values");
        (name.to_owned(), values)
    };
    let mut tensors: Vec<_> = weights.names().map(read).collect();
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    tensors
}
