//! Runs that cannot go well: every one ends with an error that names what is wrong, and leaves whole files.

use std::fs;
use std::path::Path;

use samara::config::to_toml;
use samara::data::shards::{IdWidth, ShardWriter};
use samara::error::{Failure, Kind};
use samara::model_folder::safetensors::WeightsWriter;
use samara::train::config::RunConfig;
use samara::train::error::TrainingError;
use samara_tests::binary::samara;
use samara_tests::training::{golden, gpt, newest_checkpoint, resume, tensors, text, tiny, train, training_state};
use tempfile::TempDir;

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// The message of a failed run, which must be of this kind and say all of `parts`.
fn refused<T>(result: Result<T, TrainingError>, kind: Kind, parts: &[&str]) -> String {
    let Err(error) = result else { panic!("expected an error with {parts:?}") };
    let message = error.to_string();
    assert_eq!(error.kind(), kind, "{message}");
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
    message
}

#[test]
fn divergence_names_the_first_tensor_and_leaves_the_weights() {
    let out = folder();
    let mut config = tiny(&text(), 20);
    (config.train.lr, config.train.min_lr, config.train.warmup_steps) = (1e30, Some(1e30), 0);
    config.train.checkpoint_every = 1;
    refused(train(&config, out.path()), Kind::Diverged, &["diverged in step 2", "output 0 of node", "value", "train.lr"]);
    // The weights of the last step whose gradient was finite.
    for (name, values) in tensors(out.path()) {
        assert!(values.iter().all(|x| x.is_finite()), "{name}");
    }
    assert!(newest_checkpoint(out.path()).ends_with("step-0000001"));
}

#[test]
fn initial_weights_that_are_not_finite_are_named() {
    let (init, out) = (folder(), folder());
    let source = golden("trajectory/gpt2");
    fs::copy(source.join("config.json"), init.path().join("config.json")).unwrap();
    let mut all = tensors(&source);
    for (name, values) in &mut all {
        if name == "transformer.h.1.mlp.c_fc.weight" {
            values[5] = f32::NAN;
        }
    }
    let shapes = samara::model_folder::safetensors::Weights::open(&source).unwrap();
    let heads = all.iter().map(|(name, _)| (name.clone(), shapes.shape(name).unwrap().to_vec())).collect();
    let mut writer = WeightsWriter::create(&init.path().join("model.safetensors"), heads).unwrap();
    all.iter().for_each(|(name, values)| writer.values(name, values).unwrap());
    writer.finish().unwrap();
    let mut config = tiny(&text(), 3);
    config.train.init = Some(init.path().to_owned());
    refused(train(&config, out.path()), Kind::Data, &["tensor \"transformer.h.1.mlp.c_fc.weight\" is NaN at [0, 5]"]);
}

/// Shards of 300 tokens below 40, and a configuration that reads them.
fn shards(at: &Path) -> RunConfig {
    for split in ["train", "val"] {
        write_shard(&at.join(IdWidth::U16.file_name(split)), &(0..300).map(|i| i % 40).collect::<Vec<_>>());
    }
    let mut config = tiny(at, 3);
    config.model = config.model.with_vocab_size(40);
    config
}

fn write_shard(path: &Path, ids: &[u32]) {
    let mut writer = ShardWriter::create(path, IdWidth::U16).unwrap();
    writer.push(ids).unwrap();
    writer.finish().unwrap();
}

#[test]
fn token_ids_out_of_range_are_named() {
    for file in ["train.bin", "val.bin"] {
        let (data, out) = (folder(), folder());
        let config = shards(data.path());
        train(&config, &out.path().join("good")).unwrap();
        let mut ids: Vec<u32> = (0..300).map(|i| i % 40).collect();
        ids[217] = 40;
        write_shard(&data.path().join(file), &ids);
        refused(train(&config, &out.path().join("bad")), Kind::Data, &[file, "token 217", "id 40", "below 40"]);
    }
}

#[test]
fn truncated_shards_are_named() {
    let (data, out) = (folder(), folder());
    let config = shards(data.path());
    let path = data.path().join("train.bin");
    let bytes = fs::read(&path).unwrap();
    for (len, part) in [(599, "599 bytes"), (32, "16 tokens"), (2, "1 tokens"), (0, "0 tokens")] {
        fs::write(&path, &bytes[..len]).unwrap();
        refused(train(&config, out.path()), Kind::Data, &["train.bin", part]);
    }
    // As many tokens as one row needs.
    fs::write(&path, &bytes[..34]).unwrap();
    train(&config, out.path()).unwrap();
}

#[test]
fn shards_without_a_vocabulary_ask_for_it() {
    let (data, out) = (folder(), folder());
    let mut config = shards(data.path());
    gpt(&mut config).vocab_size = None;
    refused(train(&config, out.path()), Kind::Usage, &["model.vocab_size"]);
}

#[test]
fn batches_that_do_not_fit_are_named_before_the_first_step() {
    let out = folder();
    let mut config = tiny(&text(), 41);
    config.data.batches = Some(golden("trajectory/gpt2/batches.npy"));
    refused(train(&config, &out.path().join("steps")), Kind::Usage, &["train.steps", "40", "41", "batches.npy"]);
    config.train.steps = 40;
    config.train.batch_size = 5;
    refused(train(&config, &out.path().join("rows")), Kind::Usage, &["train.batch_size", "4", "5", "batches.npy"]);
    config.train.batch_size = 4;
    config.train.block_size = 8;
    config.data.val_fraction = 0.5;
    refused(train(&config, &out.path().join("starts")), Kind::Data, &["batches.npy", "offsets below"]);
}

#[test]
fn an_occupied_folder_is_left_alone() {
    let out = folder();
    let config = tiny(&text(), 3);
    train(&config, out.path()).unwrap();
    let before = (training_state(out.path()), fs::read(out.path().join("run.toml")).unwrap());
    let mut other = config.clone();
    other.train.steps = 5;
    refused(train(&other, out.path()), Kind::Usage, &["already contains a run", "--resume"]);
    assert!((training_state(out.path()), fs::read(out.path().join("run.toml")).unwrap()) == before);
}

#[test]
fn resuming_with_other_values_is_refused_with_the_differences() {
    let out = folder();
    let config = tiny(&text(), 3);
    train(&config, out.path()).unwrap();
    let before = training_state(out.path());
    let mut other = config.clone();
    gpt(&mut other).n_embd = 32;
    (other.train.lr, other.data.batches) = (0.5, Some("other.npy".into()));
    (other.train.threads, other.train.checkpoint_every, other.generate.seed) = (2, 7, 5);
    let message = refused(
        resume(&other, out.path()),
        Kind::Usage,
        &["run.toml", "train.lr = 0.003, now 0.5", "model.n_embd = 16, now 32", "data.batches = none, now \"other.npy\""],
    );
    for harmless in ["threads", "checkpoint_every", "generate"] {
        assert!(!message.contains(harmless), "{message}");
    }
    assert!(training_state(out.path()) == before);
}

/// A run with checkpoints of steps 4 and 8.
fn run_with_checkpoints(out: &Path) -> RunConfig {
    let mut config = tiny(&text(), 8);
    config.train.checkpoint_every = 4;
    train(&config, out).unwrap();
    config
}

/// Flips a bit in the middle of a file.
fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_damaged_checkpoint_is_passed_over_with_a_warning() {
    for file in ["training.safetensors", "manifest.json"] {
        let (files, out) = (folder(), folder());
        let config = run_with_checkpoints(out.path());
        let whole = training_state(out.path());
        let newest = newest_checkpoint(out.path());
        flip(&newest.join(file));
        let path = files.path().join("run.toml");
        fs::write(&path, to_toml(&config)).unwrap();
        let mut command = samara();
        command.args(["train", "--quiet", "--resume", "--config"]).arg(path).arg("--out").arg(out.path());
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains("warning") && said.contains("step-0000008"), "{said}");
        assert!(said.contains(file), "{said}");
        assert!(newest_checkpoint(out.path()).ends_with("step-0000008") && training_state(out.path()) == whole);
    }
}

#[test]
fn a_run_without_a_whole_checkpoint_is_not_begun_again() {
    let out = folder();
    let config = run_with_checkpoints(out.path());
    for step in ["step-0000004", "step-0000008"] {
        flip(&out.path().join("checkpoints").join(step).join("training.safetensors"));
    }
    let weights = tensors(out.path());
    refused(resume(&config, out.path()), Kind::Data, &["step-0000008", "training.safetensors"]);
    assert!(tensors(out.path()) == weights);
}

#[test]
fn a_damaged_configuration_is_named_when_resuming() {
    let out = folder();
    let config = run_with_checkpoints(out.path());
    let file = out.path().join("run.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("steps = 8", "steps = eight")).unwrap();
    refused(resume(&config, out.path()), Kind::Usage, &["run.toml"]);
    fs::remove_file(&file).unwrap();
    let error = resume(&config, out.path()).unwrap_err().to_string();
    assert!(error.contains("run.toml"), "{error}");
}

#[test]
fn initial_weights_of_another_model_are_refused() {
    let out = folder();
    let mut config = tiny(&text(), 3);
    config.train.init = Some(golden("trajectory/gpt2"));
    gpt(&mut config).n_embd = 32;
    refused(train(&config, out.path()), Kind::Data, &["model.safetensors", "wte.weight", "[37, 16]", "[37, 32]"]);
}
