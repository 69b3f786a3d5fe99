//! Low-rank adapters: gradients, PEFT's folders in and out, training over frozen weights, merging, and what is refused.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use samara::data::dataset::HostBatch;
use samara::kernels::gemm::Gemm;
use samara::lm::merged::merged;
use samara::lm::score::logits;
use samara::lm::step::{DropoutNumbers, Step, StepShape};
use samara::lm::{Bound, Caches, Model, register};
use samara::model::adapters::{Adapters, BaseFormat};
use samara::model::architecture::Architecture;
use samara::model::folder::FolderConfig;
use samara::model::llama::LlamaModel;
use samara::model::tune::config::{Method, TuneConfig};
use samara::model::tune::peft::{self, AdapterFolder, Base, Source};
use samara::model::tune::tuned::Adapted;
use samara::model_folder::{ExtraTensors, load_weights};
use samara::session::{CpuDevice, Engine, Session};
use samara::stop::Stop;
use samara::train::config::RunConfig;
use samara_core::graph::{DType, Recompute};
use samara_core::model::gpt::{Gpt, GptConfig};
use samara_core::model::llama::{Llama, LlamaConfig};
use samara_core::ops::reference;
use samara_core::params::{Lora, ParamInfo, Params, Registry, Scope};
use samara_core::schedule::Decay;
use samara_tests::binary::samara;
use samara_tests::draw::Draw;
use samara_tests::fd;
use samara_tests::golden::{Arrays, arrays};
use samara_tests::gpt::{Batch, Model as Small};
use samara_tests::session::Table;
use samara_tests::training::{golden, newest_checkpoint, records, resume, tensors, text, tiny, train, training_state};
use tempfile::TempDir;

const GPT: GptConfig =
    GptConfig { vocab_size: 11, n_positions: 12, n_embd: 8, n_layer: 2, n_head: 2, n_inner: 16, ..GptConfig::GPT2 };
const LLAMA: LlamaConfig = LlamaConfig {
    vocab_size: 11,
    hidden_size: 8,
    intermediate_size: 12,
    num_hidden_layers: 2,
    num_attention_heads: 2,
    num_key_value_heads: 1,
    head_dim: 4,
    max_position_embeddings: 12,
    qkv_bias: true,
    ..LlamaConfig::SMOLLM2_135M
};

/// Gradients of A, B and everything around them, in f64: every linear layer, and a choice of them.
#[test]
fn gradients_are_those_of_finite_differences() {
    let (kernels, batch) = (reference::<f64>(), Batch::new(2, Draw::new(1).ints(12, 0, 10)));
    let lora = |targets: &'static [&'static str]| Lora { rank: 2, scale: 1.5, targets };
    let models = [
        Small::random_of(|s| Gpt::register(&GPT, &mut s.adapted(lora(&[]))), 1),
        Small::random_of(|s| Gpt::register(&GptConfig { post_norm: true, ..GPT }, &mut s.adapted(lora(&["c_fc"]))), 2),
        Small::random_of(|s| Llama::register(&LLAMA, &mut s.adapted(lora(&[]))), 3),
        Small::random_of(|s| Llama::register(&LLAMA, &mut s.adapted(lora(&["q_proj", "mlp.down_proj"]))), 4),
    ];
    for (model, adapters) in models.iter().zip([16, 4, 28, 8]) {
        assert_eq!(model.params.infos().iter().filter(|info| info.adapter).count(), adapters);
        let error = model.gradient_error(Table::serial(&kernels), &batch);
        assert!(error <= 1e-6, "{adapters}: {error:e}");
    }
}

fn values_of(register: impl Fn(&mut Scope<'_>) -> Gpt) -> Vec<(String, Vec<f32>)> {
    let mut infos = vec![ParamInfo::default(); Registry::count(&register)];
    let mut registry = Registry::new(&mut infos);
    register(&mut registry.scope());
    let params: Params<'_> = registry.finish(4).unwrap();
    let mut flat = vec![0.0; params.trainable_len()];
    params.initialise(7, &mut flat);
    params.infos().iter().map(|info| (info.name.to_string(), flat[info.range()].to_vec())).collect()
}

/// A is uniform within 1/√in, B is 0, and the other parameters begin as they do without adapters.
#[test]
fn adapters_leave_other_initial_values_as_they_are() {
    let plain = values_of(|s| Gpt::register(&GPT, s));
    let adapted = values_of(|s| Gpt::register(&GPT, &mut s.adapted(Lora { rank: 4, scale: 1.0, targets: &["c_fc"] })));
    let (adapters, rest): (Vec<_>, Vec<_>) = adapted.into_iter().partition(|(name, _)| name.contains(".lora_"));
    assert!(rest == plain && adapters.len() == 4);
    for (name, values) in adapters {
        let largest = values.iter().fold(0.0_f32, |m, x| m.max(x.abs()));
        let bound = 1.0 / 8.0_f32.sqrt();
        let expected = if name.ends_with("lora_B.weight") { 0.0..=0.0 } else { 0.8 * bound..=bound };
        assert!(expected.contains(&largest), "{name}: {largest}");
    }
}

fn engine() -> Arc<Engine> {
    Engine::new(1, Gemm::Samara).unwrap()
}

/// The adapters that `golden/lora/make_lora.py` wrote, each with the folder of its base.
fn recorded() -> [(PathBuf, PathBuf); 2] {
    [("gpt2", "gpt2-2layer"), ("llama", "parity-llama-gqa-tied")]
        .map(|(adapter, base)| (golden("lora").join(adapter), golden("models").join(base)))
}

fn expected_of(adapter: &Path) -> (Arrays, Vec<i32>) {
    let name = adapter.file_name().unwrap().to_str().unwrap();
    let arrays = arrays(&format!("lora/{name}/expected.safetensors"));
    let ids = arrays["input_ids"].values.iter().map(|&id| id as i32).collect();
    (arrays, ids)
}

fn source(adapter: &Path, base: &Path) -> Source {
    Source::of(adapter, Some(base)).unwrap()
}

fn largest_difference(found: &[f32], expected: impl IntoIterator<Item = f64>) -> f64 {
    found.iter().zip(expected).map(|(&a, b)| (f64::from(a) - b).abs()).fold(0.0, f64::max)
}

#[test]
fn an_adapter_of_peft_computes_what_peft_computes_merged_or_not() {
    for (adapter, base) in recorded() {
        let (expected, ids) = expected_of(&adapter);
        let source = source(&adapter, &base);
        let mut model = Model::open_source(engine(), &source, DType::Real, ExtraTensors::Refuse).unwrap();
        let found = logits(&mut model.bound(), &ids).unwrap();
        assert_eq!(found.len(), expected["logits"].values.len());
        let error = largest_difference(&found, expected["logits"].values.iter().copied());
        assert!(error <= 1e-4, "{}: {error:e}", adapter.display());
        let out = tempfile::tempdir().unwrap();
        merged(engine(), &source).unwrap().save(out.path(), &FolderConfig::read(&base).unwrap()).unwrap();
        let mut plain = Model::open(engine(), out.path(), DType::Real).unwrap();
        let error = largest_difference(&logits(&mut plain.bound(), &ids).unwrap(), found.iter().map(|&x| f64::from(x)));
        assert!(error <= 1e-5, "{}: merged {error:e}", adapter.display());
        let names = |folder: &Path| tensors(folder).into_iter().map(|(name, values)| (name, values.len())).collect::<Vec<_>>();
        assert_eq!(names(out.path()), names(&base));
    }
}

/// The adapter of a folder, its model, and the names and gradients of the mean loss over a text by what the folder holds.
fn gradients(adapter: &Path, base: &Path, ids: &[i32]) -> Vec<(String, Vec<f32>)> {
    let plain = FolderConfig::read(base).unwrap().model.architecture().unwrap();
    let folder = AdapterFolder::open(adapter, base, &plain).unwrap();
    let model = Adapted { base: plain, adapters: folder.adapters.clone() };
    let map = model.name_map();
    let (registry, layers) = register(&model, 0, |_, _| ()).unwrap();
    let mut session = Session::new(CpuDevice::new(engine()));
    let (set, caches) = (session.add_set("model", &registry).unwrap(), Caches::new(&mut session));
    let weights = session.set_mut(set).0.weights.get_mut();
    load_weights(base, &registry.view(), &map, weights, &mut []).unwrap();
    folder.load(&map, &registry.view(), weights, &mut []).unwrap();
    let mut bound = Bound { dims: layers.dims(), layers, session: &mut session, set, caches };
    let (block, dropout, recompute) = (ids.len(), false, Recompute::None);
    let shape = StepShape { batch: 1, block, accumulation: 1, packed: false, dropout, adapter_dropout: false, recompute };
    let mut step = Step::new(&mut bound, shape).unwrap();
    let mut batch = HostBatch::new(1).with_ints("input_ids", block).with_ints("labels", block);
    let [inputs, labels] = batch.ints_mut(["input_ids", "labels"]);
    inputs.copy_from_slice(ids);
    labels[..block - 1].copy_from_slice(&ids[1..]);
    labels[block - 1] = -1;
    batch.tokens = block as u64 - 1;
    let numbers = DropoutNumbers { probability: 0.0, of_adapters: 0.0, seed: 0, step: 0 };
    step.queue(&mut bound, &[batch], &numbers, &Stop::new()).unwrap();
    bound.session.sync().unwrap();
    // Gradients have the places of weights: they are written under the same names.
    let out = tempfile::tempdir().unwrap();
    let base = Base { folder: base.to_owned(), crc32c: String::new() };
    peft::save(out.path(), (&map, &registry.view()), (&folder.adapters, None), &base, session.set(set).grads[0].get()).unwrap();
    tensors(&out.path().join("adapter_model.safetensors"))
}

#[test]
fn gradients_of_adapters_are_those_of_torch() {
    for (adapter, base) in recorded() {
        let (expected, ids) = expected_of(&adapter);
        let found = gradients(&adapter, &base, &ids);
        assert_eq!(found.len(), expected.len() - 2);
        for (name, values) in found {
            let values: Vec<f64> = values.into_iter().map(f64::from).collect();
            let error = fd::error(&values, &expected[&format!("grad.{name}")].values);
            assert!(error <= 1e-4, "{name}: {error:e}");
        }
    }
}

/// What PEFT wrote is written again as it was, and its description with the keys that matter.
#[test]
fn an_adapter_is_written_as_it_was_read() {
    for (adapter, base) in recorded() {
        let mut model = Model::open_source(engine(), &source(&adapter, &base), DType::Real, ExtraTensors::Refuse).unwrap();
        let (map, adapters) = (model.architecture().name_map(), model.architecture().adapters().unwrap().clone());
        let out = tempfile::tempdir().unwrap();
        let set = model.weights_mut();
        let base_of = Base { folder: base.clone(), crc32c: "00000000".to_owned() };
        peft::save(out.path(), (&map, &set.params()), (&adapters, None), &base_of, set.weights.get()).unwrap();
        let file = |folder: &Path| tensors(&folder.join("adapter_model.safetensors"));
        assert!(file(out.path()) == file(&adapter));
        let keys = |folder: &Path| -> serde_json::Value {
            serde_json::from_slice(&fs::read(folder.join("adapter_config.json")).unwrap()).unwrap()
        };
        let (found, expected) = (keys(out.path()), keys(&adapter));
        for key in ["peft_type", "task_type", "r", "bias", "fan_in_fan_out", "modules_to_save", "use_rslora"] {
            assert_eq!(found[key], expected[key], "{key}");
        }
        assert_eq!(found["lora_alpha"].as_f64(), expected["lora_alpha"].as_f64());
    }
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// A base of either family, trained for a step. Its weights are large enough for a frozen head to tell tokens apart.
fn base(is_llama: bool) -> (TempDir, RunConfig) {
    let mut config = tiny(&text(), 1);
    if is_llama {
        config.model = LlamaModel {
            hidden_size: 32,
            intermediate_size: 64,
            num_hidden_layers: 2,
            num_attention_heads: 2,
            max_position_embeddings: 16,
            initializer_range: 0.2,
            ..LlamaModel::default()
        }
        .into();
    } else {
        let model = samara_tests::training::gpt(&mut config);
        (model.n_embd, model.initializer_range) = (32, 0.2);
    }
    let out = folder();
    train(&config, out.path()).unwrap();
    (out, config)
}

/// A run that goes on from a base with adapters.
fn adapting(base: &Path, former: &RunConfig, steps: u64) -> RunConfig {
    let mut config = former.clone();
    config.model = FolderConfig::read(base).unwrap().model;
    config.data.tokenizer = samara::data::config::TokenizerChoice::Path(base.to_owned());
    config.train.init = Some(base.to_owned());
    config.train.steps = steps;
    (config.train.warmup_steps, config.train.schedule, config.train.lr) = (0, Decay::Constant, 1e-2);
    config.tune = TuneConfig { method: Method::Lora, rank: 4, alpha: 8.0, targets: "all-linear".into(), ..TuneConfig::default() };
    config
}

fn losses(out: &Path) -> Vec<f64> {
    records(out).iter().filter_map(|record| record.get("train_loss")).collect()
}

#[test]
fn training_lowers_the_loss_and_leaves_the_base_as_it_was() {
    for (is_llama, quantize) in
        [(false, BaseFormat::F32), (false, BaseFormat::Q4), (true, BaseFormat::F32), (true, BaseFormat::Q8)]
    {
        let (base, former) = base(is_llama);
        let weights = fs::read(base.path().join("model.safetensors")).unwrap();
        let mut config = adapting(base.path(), &former, 40);
        config.tune.quantize = quantize;
        let out = folder();
        train(&config, out.path()).unwrap();
        let losses = losses(out.path());
        let mean = |of: &[f64]| of.iter().sum::<f64>() / of.len() as f64;
        let (first, last) = (mean(&losses[..5]), mean(&losses[35..]));
        assert!(last < first - 0.3, "{is_llama}, {quantize:?}: {losses:?}");
        assert_eq!(fs::read(base.path().join("model.safetensors")).unwrap(), weights);
        assert!(!out.path().join("config.json").exists() && !out.path().join("model.safetensors").exists());
        let only_adapters = |all: Vec<(String, Vec<f32>)>| all.iter().all(|(name, _)| name.contains(".lora_"));
        assert!(only_adapters(tensors(&out.path().join("adapter_model.safetensors"))));
        assert!(only_adapters(tensors(&newest_checkpoint(out.path()).join("training.safetensors"))));
        let card = fs::read_to_string(out.path().join("MODEL_CARD.md")).unwrap();
        assert!(
            card.contains("low-rank adapters of")
                && card.contains("rank 4, alpha 8")
                && card.contains("model.safetensors: crc32c"),
            "{card}"
        );
        // Merged and unmerged agree, a quantised base in the blocks that the adapter knows.
        let source = Source::of(out.path(), None).unwrap();
        let ids: Vec<i32> = (0..12).collect();
        let merged_folder = folder();
        let merged = merged(engine(), &source).unwrap();
        assert_eq!(merged.about.note.is_some(), quantize != BaseFormat::F32);
        merged.save(merged_folder.path(), &FolderConfig::read(base.path()).unwrap()).unwrap();
        let of = |model: &mut Model| logits(&mut model.bound(), &ids).unwrap();
        let mut plain = Model::open(engine(), merged_folder.path(), DType::Real).unwrap();
        let mut adapted = Model::open_source(engine(), &source, quantize.dtype(), ExtraTensors::Refuse).unwrap();
        let error = largest_difference(&of(&mut plain), of(&mut adapted).into_iter().map(f64::from));
        // Products with blocks round activations to signed bytes.
        let tolerance = if quantize == BaseFormat::F32 { 1e-5 } else { 0.1 };
        assert!(error <= tolerance, "{is_llama}, {quantize:?}: {error:e}");
    }
}

/// A run with dropout of adapters, micro-batches and an average: the same bits interrupted or not, with one thread or two.
#[test]
fn adapters_resume_to_the_bit_with_any_number_of_threads() {
    let (base, former) = base(true);
    let mut config = adapting(base.path(), &former, 8);
    (config.tune.dropout, config.tune.modules_to_save) = (0.2, "norm".into());
    (config.train.grad_accumulation, config.train.ema_decay) = (2, 0.9);
    let (whole, two, parts) = (folder(), folder(), folder());
    train(&config, whole.path()).unwrap();
    let mut threads = config.clone();
    threads.train.threads = 2;
    train(&threads, two.path()).unwrap();
    let mut first = config.clone();
    first.train.steps = 3;
    train(&first, parts.path()).unwrap();
    resume(&config, parts.path()).unwrap();
    for other in [&two, &parts] {
        assert!(training_state(other.path()) == training_state(whole.path()));
        let file = |out: &TempDir| fs::read(out.path().join("adapter_model.safetensors")).unwrap();
        assert!(file(other) == file(&whole));
    }
    let names = tensors(&whole.path().join("adapter_model.safetensors")).into_iter().map(|(name, _)| name);
    assert!(names.into_iter().any(|name| name == "base_model.model.model.norm.weight"));
    // Dropout of adapters does something.
    let without = folder();
    config.tune.dropout = 0.0;
    train(&config, without.path()).unwrap();
    assert!(training_state(without.path()) != training_state(whole.path()));
    // Another base than the one that the run was begun with.
    let mut file = fs::read(base.path().join("model.safetensors")).unwrap();
    let last = file.len() - 1;
    file[last] ^= 1;
    fs::write(base.path().join("model.safetensors"), file).unwrap();
    let mut longer = first;
    longer.train.steps = 9;
    let error = resume(&longer, parts.path()).unwrap_err().to_string();
    assert!(error.contains("the run started from weights with crc32c"), "{error}");
}

/// Only what the method names changes, and the folder is a whole model.
#[test]
fn parts_of_a_model_are_trained_alone() {
    let (base, former) = base(false);
    type Names = fn(&str) -> bool;
    let cases: [(Method, Names); 2] = [
        (Method::Bias, |name| name.ends_with("bias") || name.contains("ln_")),
        (Method::LastBlock, |name| name.contains(".h.1.") || name.contains("ln_f")),
    ];
    for (method, is_trained) in cases {
        let mut config = adapting(base.path(), &former, 3);
        config.tune = TuneConfig { method, ..TuneConfig::default() };
        config.train.weight_decay = 0.0;
        let out = folder();
        train(&config, out.path()).unwrap();
        for ((name, before), (_, after)) in tensors(base.path()).into_iter().zip(tensors(out.path())) {
            assert_eq!(before != after, is_trained(&name), "{method:?}: {name}");
        }
        Model::open(engine(), out.path(), DType::Real).unwrap();
    }
}

/// The adapters that a key asks for, or what is wrong with it.
fn tuned(is_llama: bool, set: impl FnOnce(&mut TuneConfig)) -> Result<Arc<dyn Architecture>, String> {
    let model: Arc<dyn Architecture> = if is_llama { Arc::new(LLAMA) } else { Arc::new(GPT) };
    let mut config = TuneConfig { method: Method::Lora, rank: 2, ..TuneConfig::default() };
    set(&mut config);
    config.applied_to(model).map_err(|error| error.to_string())
}

#[test]
fn what_makes_no_adapter_is_refused_by_its_key() {
    let targets = |model: Arc<dyn Architecture>| model.adapters().unwrap().targets.clone();
    assert_eq!(targets(tuned(false, |_| ()).unwrap()), ["c_attn"]);
    assert_eq!(targets(tuned(true, |_| ()).unwrap()), ["q_proj", "v_proj"]);
    let all = tuned(false, |tune| tune.targets = "all-linear".into()).unwrap();
    assert_eq!(targets(all), ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"]);
    type Set = fn(&mut TuneConfig);
    let cases: [(bool, Set, &str); 7] = [
        (
            false,
            |tune| tune.targets = "c_atn".into(),
            "tune.targets: expected names of linear layers separated by commas, or \"all-linear\"; did you mean `c_attn`?, found \"c_atn\"",
        ),
        (true, |tune| tune.targets = "q_proj, attn.c_attn".into(), "known are mlp.down_proj, mlp.gate_proj"),
        (false, |tune| tune.rank = 9, "tune.rank: expected at most 8, the smaller dimension of h.0.attn.c_attn, found 9"),
        (
            false,
            |tune| tune.quantize = BaseFormat::Q8,
            "tune.quantize: expected \"none\": wte.weight has rows of 8 values, not a multiple of the quantisation block of 32",
        ),
        (
            false,
            |tune| tune.modules_to_save = "ln_g".into(),
            "tune.modules_to_save: expected parts of the model separated by commas; did you mean `ln_1`?, found \"ln_g\"",
        ),
        (
            false,
            |tune| tune.modules_to_save = "wte".into(),
            "tune.modules_to_save: expected another part: the token embedding is the head as well, found \"wte\"",
        ),
        (true, |tune| tune.method = Method::Linear, "tune.method: expected another method: \"linear\" trains an untied head"),
    ];
    for (is_llama, set, expected) in cases {
        let error = tuned(is_llama, set).err().unwrap_or_default();
        assert!(error.contains(expected), "got {error}\nwant {expected}");
    }
    let mut config = tiny(&text(), 1);
    config.tune.method = Method::Lora;
    let error = train(&config, folder().path()).unwrap_err().to_string();
    assert!(error.contains("tune.method: expected \"full\" for a model with random weights"), "{error}");
}

/// A copy of the recorded adapter of a GPT-2 with another description.
fn copied(change: impl FnOnce(&mut serde_json::Value)) -> TempDir {
    let (from, out) = (&recorded()[0].0, folder());
    fs::copy(from.join("adapter_model.safetensors"), out.path().join("adapter_model.safetensors")).unwrap();
    let mut json = serde_json::from_slice(&fs::read(from.join("adapter_config.json")).unwrap()).unwrap();
    change(&mut json);
    fs::write(out.path().join("adapter_config.json"), json.to_string()).unwrap();
    out
}

#[test]
fn adapters_that_cannot_be_opened_say_why() {
    let [(_, gpt), (llama_adapter, llama)] = recorded();
    let open = |adapter: &Path, base: Option<&Path>| {
        let source = Source::of(adapter, base).map_err(|error| error.to_string())?;
        Model::open_source(engine(), &source, DType::Real, ExtraTensors::Refuse).map(drop).map_err(|error| error.to_string())
    };
    let with = |key: &'static str, value: serde_json::Value| copied(move |json| json[key] = value);
    let (plain, deep) = (copied(|_| ()), golden("models/gpt2-12layer"));
    let cases = [
        (with("peft_type", "IA3".into()), Some(&gpt), "adapter_config.json: peft_type: expected \"LORA\""),
        (with("r", 0.into()), Some(&gpt), "adapter_config.json: r: expected a rank from 1 to 65536, found 0"),
        (with("r", 4.into()), Some(&gpt), "has shape [3, 32], expected [4, 32]"),
        (with("use_dora", true.into()), Some(&gpt), "use_dora: expected false, found true"),
        (with("modules_to_save", serde_json::Value::Null), Some(&gpt), "belongs to no part of the base"),
        (copied(|_| ()), Some(&llama), "attn.c_attn.lora_A.weight\" belongs to no part of the base"),
        (
            copied(|_| ()),
            None,
            "base_model_name_or_path is \"gpt2-2layer\", which is not a model folder: give the base with --base DIR",
        ),
        (copied(|_| ()), Some(&deep), "is not the base that the adapter was trained on"),
    ];
    for (adapter, base, expected) in &cases {
        let error = open(adapter.path(), base.map(PathBuf::as_path)).unwrap_err();
        assert!(error.contains(expected), "got {error}\nwant {expected}");
    }
    open(plain.path(), Some(&gpt)).unwrap();
    let error = open(&gpt, Some(&llama)).unwrap_err();
    assert!(error.contains("is a whole model, not an adapter: leave --base out"), "{error}");
    let error = FolderConfig::read(&llama_adapter).unwrap_err().to_string();
    assert!(error.contains("an adapter, expected a whole model; merge it into its base first: samara merge"), "{error}");
}

/// The commands, as a user types them.
#[test]
fn an_adapter_is_scored_and_merged_on_the_command_line() {
    let [(adapter, base), _] = recorded();
    let out = folder();
    let path = |path: &Path| path.display().to_string();
    let run = |args: &[&str]| {
        let output = samara().args(args).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let merged = path(&out.path().join("merged"));
    let (adapter, base) = (path(&adapter), path(&base));
    let (code, json, error) = run(&["merge", "--model", &adapter, "--base", &base, "--out", &merged, "--json"]);
    assert_eq!(code, Some(0), "{error}");
    assert!(json.contains("\"layers\":6") || json.contains("\"layers\": 6"), "{json}");
    let loss = |args: &[&str]| -> f64 {
        let (code, json, error) = run(&[&["score", "--tokens", "1,2,3,4,5", "--json"], args].concat());
        assert_eq!(code, Some(0), "{error}");
        serde_json::from_str::<serde_json::Value>(&json).unwrap()["loss"].as_f64().unwrap()
    };
    let (of_adapter, of_merged) = (loss(&["--model", &adapter, "--base", &base]), loss(&["--model", &merged]));
    assert!((of_adapter - of_merged).abs() <= 1e-5, "{of_adapter} {of_merged}");
    assert!((of_adapter - loss(&["--model", &base])).abs() > 1e-3);
    let (code, _, error) = run(&["merge", "--model", &adapter, "--base", &base, "--out", &merged]);
    assert!(code == Some(2) && error.contains("the folder holds a model already"), "{error}");
    let (code, _, error) = run(&["merge", "--model", &base, "--out", "x"]);
    assert!(code == Some(2) && error.contains("found a whole model: nothing to merge"), "{error}");
    let (code, text, error) =
        run(&["plan", "--init", &base, "--set", "tune.method=lora", "--set", "data.tokenizer=byte", "--set", "tune.rank=2"]);
    assert_eq!(code, Some(0), "{error}");
    assert!(text.contains("\nfrozen") && text.contains("\nfrozen weights"), "{text}");
    let (code, _, error) = run(&["train", "--init", &base, "--set", "tune.rank=2", "--plan"]);
    assert!(code == Some(2) && error.contains("it applies to low-rank adapters"), "{error}");
    let (code, _, error) = run(&["plan", "--init", &base, "--set", "tune.method=lora", "--set", "tune.rank=0"]);
    assert!(code == Some(2) && error.contains("tune.rank: expected a number from 1 to 65536, found 0"), "{error}");
    let (_, text, _) = run(&["inspect", &adapter]);
    assert!(text.contains("lora_alpha: 6"), "{text}");
}

/// The scale is α / r, or α / √r.
#[test]
fn the_scale_follows_alpha_and_rank() {
    let adapters = Adapters {
        rank: 4,
        alpha: 6.0,
        by_root: false,
        dropout: 0.0,
        targets: vec!["c_fc".to_owned()],
        modules_to_save: vec!["ln_f".to_owned()],
        base: BaseFormat::Q8,
    };
    assert_eq!((adapters.scale(), Adapters { by_root: true, ..adapters.clone() }.scale()), (1.5, 3.0));
    assert!(adapters.saves("ln_f.weight") && adapters.saves("h.ln_f.bias") && !adapters.saves("h.0.ln_fx.weight"));
    assert_eq!(adapters.describe(), "low-rank adapters of c_fc, rank 4, alpha 6, over q8 weights");
}
