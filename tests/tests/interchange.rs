//! From folder to folder: what `transformers` wrote is scored, continued and trained on; what a run leaves behind opens again.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use safetensors::SafeTensors;
use samara::data::config::DataConfig;
use samara::data::shards::{IdWidth, ShardWriter};
use samara::decoding::generator::Generator;
use samara::eval::{Selection, bits_per_byte, mean_loss, text_bytes, tokens};
use samara::kernels::gemm::Gemm;
use samara::lm::Model;
use samara::lm::score;
use samara::model::ModelConfig;
use samara::model::folder::{FolderConfig, save_folder};
use samara::model::gpt::{GptModel, ModelType};
use samara::session::Engine;
use samara::tokenizer::Tokenizer;
use samara::train::config::RunConfig;
use samara_core::decode::Sampling;
use samara_core::graph::DType;
use samara_tests::training::{golden, gpt, newest_checkpoint, records, tensors, text, tiny, train};
use serde_json::Value;

const LOGPROB_TOLERANCE: f32 = 1e-4;
const LOSS_TOLERANCE: f64 = 1e-5;

const FOLDERS: [&str; 5] = [
    "models/gpt2-2layer",
    "models/gpt2-2layer-erf",
    "models/gpt2-12layer",
    "models/gpt1-2layer",
    "models/gpt2-2layer-bf16-sharded",
];

/// The tensors of a golden `expected.safetensors`: shape and raw values.
fn expected(folder: &Path) -> BTreeMap<String, (Vec<usize>, Vec<u8>)> {
    let bytes = fs::read(folder.join("expected.safetensors")).unwrap();
    let all = SafeTensors::deserialize(&bytes).unwrap();
    all.tensors().into_iter().map(|(name, t)| (name, (t.shape().to_vec(), t.data().to_vec()))).collect()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect()
}

fn ints(bytes: &[u8]) -> Vec<i32> {
    bytes.as_chunks().0.iter().map(|&b| i32::from_le_bytes(b)).collect()
}

fn open(folder: &Path) -> Model {
    Model::open(Engine::new(1, Gemm::Samara).unwrap(), folder, DType::Real).unwrap()
}

#[test]
fn scores_are_those_of_transformers() {
    for name in FOLDERS {
        let folder = golden(name);
        let expected = expected(&folder);
        let (shape, ids) = &expected["input_ids"];
        let wanted = floats(&expected["token_logprobs"].1);
        for (ids, wanted) in ints(ids).chunks(shape[1]).zip(wanted.chunks(shape[1] - 1)) {
            let logprobs = score::log_probabilities(&mut open(&folder).bound(), ids).unwrap();
            assert_eq!(logprobs.len(), wanted.len());
            for (i, (x, y)) in logprobs.iter().zip(wanted).enumerate() {
                assert!((x - y).abs() <= LOGPROB_TOLERANCE, "{name}: token {} has log-probability {x}, expected {y}", i + 1);
            }
            let loss = -wanted.iter().map(|&x| f64::from(x)).sum::<f64>() / wanted.len() as f64;
            let found = score::mean_loss(&logprobs);
            assert!((found - loss).abs() <= LOSS_TOLERANCE, "{name}: loss {found}, expected {loss}");
        }
    }
}

#[test]
fn a_greedy_text_is_that_of_transformers() {
    let folder = golden("models/gpt2-2layer");
    let expected = expected(&folder);
    let mut gpt = open(&folder);
    let sampling = Sampling { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0 };
    let mut generator = Generator::new(&mut gpt.bound(), &ints(&expected["greedy.prompt"].1), sampling, 0).unwrap();
    let wanted = ints(&expected["greedy.ids"].1);
    let found: Vec<i32> = wanted.iter().map(|_| generator.next(&mut gpt.bound()).unwrap()).collect();
    assert_eq!(found, wanted);
}

#[test]
fn saved_and_loaded_again_has_the_same_bits() {
    for bias in [true, false] {
        for model_type in [ModelType::Gpt2, ModelType::OpenAiGpt] {
            let tiny = gpt(&mut tiny(&text(), 1)).clone();
            let model = GptModel { model_type, bias, vocab_size: Some(37), ..tiny };
            let mut first =
                Model::new(Engine::new(1, Gemm::Samara).unwrap(), ModelConfig::from(model.clone()).architecture().unwrap())
                    .unwrap();
            first.initialise(7);
            let out = tempfile::tempdir().unwrap();
            let config = FolderConfig::new(model, 0.0);
            save_folder(out.path(), &config, &first.weights().params(), first.weights().weights.get()).unwrap();
            assert_eq!(FolderConfig::read(out.path()).unwrap().model, config.model);
            let again = open(out.path());
            assert!(again.weights().weights.get() == first.weights().weights.get(), "{:?}", config.model);
        }
    }
}

/// A short run that evaluates, saves and writes samples.
fn run() -> RunConfig {
    let mut config = tiny(&text(), 12);
    config.train.eval_every = 4;
    config.train.checkpoint_every = 3;
    config.train.sample_every = 6;
    config.generate.max_new_tokens = 20;
    config
}

#[test]
fn a_run_leaves_a_whole_folder() {
    let out = tempfile::tempdir().unwrap();
    let out = out.path();
    let outcome = train(&run(), out).unwrap();
    let json = |file: &str| -> Value { serde_json::from_slice(&fs::read(out.join(file)).unwrap()).unwrap() };
    assert_eq!(json("config.json")["model_type"], "gpt2");
    assert_eq!(json("config.json")["vocab_size"], 37);
    assert!(json("generation_config.json").is_object() && json("tokenizer.json").is_object());
    assert_eq!(json("tokenizer_config.json")["tokenizer_class"], "PreTrainedTokenizerFast");
    assert!(fs::read_to_string(out.join("run.toml")).unwrap().contains("\nsteps = 12\n"));
    let plot = fs::read_to_string(out.join("loss.svg")).unwrap();
    assert!(plot.starts_with("<svg") && plot.trim_end().ends_with("</svg>"));
    let names: Vec<String> = fs::read_dir(out).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    let events: Vec<_> = names.iter().filter(|name| name.starts_with("events.out.tfevents.")).collect();
    assert!(events.len() == 1 && fs::metadata(out.join(events[0])).unwrap().len() > 500, "{names:?}");
    assert!(!names.iter().any(|name| name.contains("tmp")), "{names:?}");
    let samples = fs::read_to_string(out.join("samples.txt")).unwrap();
    let headings = samples.lines().filter(|line| line.starts_with("--- sample")).collect::<Vec<_>>();
    assert_eq!(headings, ["--- sample at step 0 ---", "--- sample at step 6 ---", "--- sample at step 12 ---"]);
    let mut checkpoints: Vec<_> = fs::read_dir(out.join("checkpoints")).unwrap().map(|e| e.unwrap().file_name()).collect();
    checkpoints.sort();
    assert_eq!(checkpoints, ["step-0000009", "step-0000012"]);
    let records = records(out);
    assert_eq!(records.iter().map(|r| r.step).collect::<Vec<_>>(), (0..=12).collect::<Vec<_>>());
    for r in &records {
        assert_eq!(r.tokens, r.step * 64);
        assert_eq!(r.get("val_loss").is_some(), r.step % 4 == 0, "step {}", r.step);
        assert!(
            r.step == 0
                || ["train_loss", "lr", "grad_norm", "tokens_per_s"].iter().all(|name| r.get(name).is_some_and(|x| x > 0.0))
        );
    }
    assert!(records.windows(2).all(|pair| pair[0].get("wall_s") <= pair[1].get("wall_s")));
    let best = records.iter().filter(|r| r.step > 0).filter_map(|r| r.get("val_loss")).fold(f64::MAX, f64::min);
    assert_eq!((outcome.best_val_loss, outcome.steps), (Some(best), 12));
}

#[test]
fn the_folder_of_a_run_is_its_last_model_and_best_its_best() {
    let out = tempfile::tempdir().unwrap();
    let outcome = train(&run(), out.path()).unwrap();
    let eval = |model: &Path| {
        let data = DataConfig { path: Some(text()), ..DataConfig::default() };
        let tokenizer = Tokenizer::of_model(model).unwrap();
        let mut gpt = open(model);
        let source = tokens(&data, Selection::Val, tokenizer.as_ref(), model, gpt.dims.vocab_size).unwrap().tokens;
        let block = gpt.dims.n_positions;
        let bytes = text_bytes(&tokenizer.unwrap(), source.as_ref()).unwrap();
        (mean_loss(&mut gpt, source.as_ref(), Some(3), block, &mut |_, _| ()).unwrap(), bytes)
    };
    let ((last, bytes), (best, _)) = (eval(out.path()), eval(&out.path().join("best")));
    assert!((last.loss - outcome.val_loss.unwrap()).abs() < 1e-6);
    assert!((best.loss - outcome.best_val_loss.unwrap()).abs() < 1e-6);
    assert_eq!(last.tokens, 115);
    // One byte for each character.
    let bits = bits_per_byte(&last, bytes).unwrap();
    assert!((bits - last.loss / std::f64::consts::LN_2 * 115.0 / 116.0).abs() < 1e-9);
    let model = open(out.path());
    let saved = tensors(&newest_checkpoint(out.path()).join("training.safetensors"));
    let saved: BTreeMap<String, Vec<f32>> = saved.into_iter().collect();
    for info in model.weights().params().infos() {
        let (found, wanted) = (&model.weights().weights.get()[info.range()], &saved[&format!("{}/weight", info.name)]);
        assert!(found == wanted, "{}", info.name);
    }
}

/// A run from the weights of a golden folder on tokens of its vocabulary.
fn fine_tuning(folder: &Path, shards: &Path) -> RunConfig {
    for split in ["train", "val"] {
        let mut writer = ShardWriter::create(&shards.join(IdWidth::U16.file_name(split)), IdWidth::U16).unwrap();
        let ids: Vec<u32> = (0..400u32).map(|i| (i * i + 3 * i) % 61).collect();
        writer.push(&ids).unwrap();
        writer.finish().unwrap();
    }
    let mut config = tiny(shards, 4);
    config.model = FolderConfig::read(folder).unwrap().model;
    config.train.init = Some(folder.to_owned());
    config
}

#[test]
fn a_folder_of_transformers_is_trained_on() {
    for name in FOLDERS {
        let (shards, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let folder = golden(name);
        let mut config = fine_tuning(&folder, shards.path());
        // Without a learning rate the weights that come out are those that went in.
        (config.train.lr, config.train.min_lr) = (0.0, Some(0.0));
        let still = train(&config, out.path()).unwrap();
        assert!(tensors(out.path()) == tensors(&folder), "{name}");
        let (before, after) = (FolderConfig::read(&folder).unwrap(), FolderConfig::read(out.path()).unwrap());
        assert_eq!((before.model, before.dropout), (after.model, after.dropout), "{name}");
        (config.train.lr, config.train.min_lr) = (3e-3, None);
        let out = tempfile::tempdir().unwrap();
        let moved = train(&config, out.path()).unwrap();
        assert!(moved.val_loss < still.val_loss, "{name}: {moved:?} after {still:?}");
        assert_eq!(open(out.path()).dims, open(&folder).dims);
    }
}

#[test]
fn what_a_folder_says_beside_its_weights_survives_training() {
    let (source, shards, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for entry in fs::read_dir(golden("models/gpt2-2layer")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, source.path().join(path.file_name().unwrap())).unwrap();
    }
    let edit = |name: &str, key: &str, value: Value| {
        let path = source.path().join(name);
        let mut json: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        json[key] = value;
        fs::write(path, json.to_string()).unwrap();
    };
    edit("config.json", "task_specific_params", serde_json::json!({"text": {"max_length": 50}}));
    edit("generation_config.json", "temperature", 0.6.into());
    edit("generation_config.json", "eos_token_id", serde_json::json!([60, 3]));
    fs::write(source.path().join("README.md"), "Of cats").unwrap();
    fs::write(source.path().join("model-q8.gguf"), "stale").unwrap();
    train(&fine_tuning(source.path(), shards.path()), out.path()).unwrap();
    for folder in [out.path().to_owned(), out.path().join("best")] {
        let json = |name: &str| -> Value { serde_json::from_slice(&fs::read(folder.join(name)).unwrap()).unwrap() };
        assert_eq!(json("config.json")["task_specific_params"]["text"]["max_length"], 50);
        assert_eq!(json("generation_config.json")["temperature"], 0.6);
        assert_eq!(FolderConfig::read(&folder).unwrap().eos_token_ids, [60, 3]);
        assert_eq!(fs::read_to_string(folder.join("README.md")).unwrap(), "Of cats");
        assert!(!folder.join("model-q8.gguf").exists() && !folder.join("expected.safetensors").exists());
    }
    assert!(tensors(out.path()) != tensors(source.path()));
}
