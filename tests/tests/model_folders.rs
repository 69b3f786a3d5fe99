//! Model folders of `transformers` are opened here with the logits that `transformers` computes, and written again without a change.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use samara::kernels::gemm::Gemm;
use samara::lm::register;
use samara::model::folder::{FolderConfig, save_folder};
use samara::model_folder::safetensors::{Weights, WeightsWriter};
use samara::model_folder::{layout, load_weights};
use samara::session::{CpuDevice, Engine, On, Session, SetId};
use samara_core::exec::Gradients;
use samara_core::model::lm::{self, LanguageModel, LmInputs};

/// Largest difference of a logit, in f32, over 2 to 12 layers.
const LOGIT_TOLERANCE: f32 = 1e-4;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/models").join(name)
}

/// An untrained model as a folder's config describes it.
fn model(config: &FolderConfig) -> (Session, SetId, Arc<dyn LanguageModel>) {
    let architecture = config.model.architecture().expect("model");
    let (owned, model) = register(&*architecture, 0, |_, _| ()).expect("registry");
    let mut session = Session::new(CpuDevice::new(Engine::new(1, Gemm::Samara).expect("engine")));
    let set = session.add_set("model", &owned).unwrap();
    (session, set, model)
}

fn load(folder: &Path, config: &FolderConfig) -> Result<(Session, SetId), String> {
    let (mut session, set, _) = model(config);
    let mut values = vec![f32::NAN; session.set(set).params().trainable_len()];
    let map = config.model.architecture().expect("model").name_map();
    load_weights(folder, &session.set(set).params(), &map, &mut values, &mut []).map_err(|error| error.to_string())?;
    session.set_mut(set).0.weights.get_mut().copy_from_slice(&values);
    Ok((session, set))
}

/// Logits (B·T, V) of a folder.
fn logits(folder: &Path, batch: usize, ids: &[i32]) -> Vec<f32> {
    let config = FolderConfig::read(folder).expect("config");
    let (.., model) = model(&config);
    let (mut session, set) = load(folder, &config).expect("weights");
    let len = ids.len() / batch;
    let (program, (inputs, logits)) = session
        .prepare(On::set(set), |g| {
            let inputs = LmInputs::new(g, model.as_ref(), batch, len);
            (inputs, g.output(lm::logits(g, model.as_ref(), model.hidden(g, &inputs, None))))
        })
        .expect("program");
    let positions: Vec<i32> = (0..batch).flat_map(|_| 0..len as i32).collect();
    session.write_ints(&program, inputs.tokens, ids).expect("tokens");
    session.write_ints(&program, inputs.positions, &positions).expect("positions");
    session.run_all(&program, On::set(set), Gradients::Overwrite);
    session.read(&program, logits).to_vec()
}

const FOLDERS: [&str; 5] = ["gpt2-2layer", "gpt2-2layer-erf", "gpt2-12layer", "gpt1-2layer", "gpt2-2layer-bf16-sharded"];

/// Folders of other families; what they compute is compared by `samara parity`.
const OTHERS: [&str; 4] = ["parity-llama-mha", "parity-llama-gqa-tied", "parity-mistral", "parity-qwen2"];

/// Tokens (B, T) of a golden folder; bytes are i32.
fn input_ids(folder: &Path) -> (usize, Vec<i32>) {
    let bytes = fs::read(folder.join("expected.safetensors")).expect("expected");
    let header = u64::from_le_bytes(bytes[..8].try_into().expect("length")) as usize;
    let json: serde_json::Value = serde_json::from_slice(&bytes[8..8 + header]).expect("header");
    let info = &json["input_ids"];
    let at = |i: usize| info["data_offsets"][i].as_u64().expect("offset") as usize + 8 + header;
    let ids = bytes[at(0)..at(1)].chunks_exact(4).map(|b| i32::from_le_bytes(b.try_into().expect("four"))).collect();
    (info["shape"][0].as_u64().expect("batch") as usize, ids)
}

#[test]
fn logits_are_those_of_transformers() {
    for name in FOLDERS {
        let folder = golden(name);
        let (batch, ids) = input_ids(&folder);
        let found = logits(&folder, batch, &ids);
        let expected = Weights::open(&folder.join("expected.safetensors")).expect("expected");
        let mut wanted = vec![0.0; found.len()];
        let shape = expected.shape("logits").expect("logits").to_vec();
        expected.read("logits", &shape, &mut wanted).expect("logits");
        let worst = found.iter().zip(&wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst <= LOGIT_TOLERANCE, "{name}: {worst}");
    }
}

#[test]
fn a_folder_written_again_has_the_same_bits() {
    for name in FOLDERS.into_iter().chain(OTHERS) {
        let folder = golden(name);
        let config = FolderConfig::read(&folder).expect("config");
        let (session, set) = load(&folder, &config).expect("weights");
        let out = tempfile::tempdir().expect("folder");
        let path = out.path().join("new/model");
        save_folder(&path, &config, &session.set(set).params(), session.set(set).weights.get()).expect("saved");
        assert_eq!(FolderConfig::read(&path).expect("config"), config);
        let (old, new) = (Weights::open(&folder).expect("old"), Weights::open(&path).expect("new"));
        assert_eq!(old.names().collect::<Vec<_>>(), new.names().collect::<Vec<_>>(), "{name}");
        for tensor in old.names() {
            let shape = old.shape(tensor).expect("shape").to_vec();
            let (mut a, mut b) = (vec![0.0; shape.iter().product()], vec![1.0; shape.iter().product()]);
            old.read(tensor, &shape, &mut a).expect(tensor);
            new.read(tensor, &shape, &mut b).expect(tensor);
            assert_eq!(a, b, "{name} {tensor}");
        }
        let written: Vec<String> =
            fs::read_dir(&path).expect("folder").map(|f| f.expect("file").file_name().into_string().expect("name")).collect();
        assert_eq!(written.len(), 3, "{written:?}");
    }
}

/// Tensors of a safetensors file by name.
type Tensors = Vec<(String, Vec<usize>, Vec<f32>)>;

/// Writes a copy of a golden folder whose tensors went through `change`.
fn changed(name: &str, config: impl Fn(&mut serde_json::Value), change: impl Fn(&mut Tensors)) -> tempfile::TempDir {
    let folder = golden(name);
    let out = tempfile::tempdir().expect("folder");
    let mut json: serde_json::Value =
        serde_json::from_slice(&fs::read(folder.join("config.json")).expect("config")).expect("json");
    config(&mut json);
    fs::write(out.path().join("config.json"), json.to_string()).expect("config");
    let weights = Weights::open(&folder).expect("weights");
    let mut all: Tensors = Vec::new();
    for tensor in weights.names() {
        let shape = weights.shape(tensor).expect("shape").to_vec();
        let mut values = vec![0.0; shape.iter().product()];
        weights.read(tensor, &shape, &mut values).expect("values");
        all.push((tensor.to_owned(), shape, values));
    }
    change(&mut all);
    let heads = all.iter().map(|(name, shape, _)| (name.clone(), shape.clone())).collect();
    let mut writer = WeightsWriter::create(&out.path().join("model.safetensors"), heads).expect("file");
    for (name, _, values) in &all {
        writer.values(name, values).expect("values");
    }
    writer.finish().expect("file");
    out
}

fn open(folder: &Path) -> Result<Vec<f32>, String> {
    let config = FolderConfig::read(folder).map_err(|error| error.to_string())?;
    let (session, set) = load(folder, &config)?;
    Ok(session.set(set).weights.get().to_vec())
}

#[test]
fn bare_models_old_buffers_and_a_repeated_head_are_opened() {
    let expected = open(&golden("gpt2-2layer")).expect("golden");
    let folder = changed(
        "gpt2-2layer",
        |_| (),
        |tensors| {
            let head = tensors.iter().find(|t| t.0.ends_with("wte.weight")).expect("wte").clone();
            for tensor in tensors.iter_mut() {
                tensor.0 = tensor.0.trim_start_matches("transformer.").to_owned();
            }
            tensors.push(("h.0.attn.bias".to_owned(), vec![1, 1, 2, 2], vec![1.0, 0.0, 1.0, 1.0]));
            tensors.push(("h.1.attn.masked_bias".to_owned(), vec![], vec![-1e4]));
            tensors.push(("lm_head.weight".to_owned(), head.1, head.2));
        },
    );
    assert_eq!(open(folder.path()).expect("bare"), expected);
}

#[test]
fn bare_llamas_and_a_repeated_head_are_opened() {
    let expected = open(&golden("parity-llama-gqa-tied")).expect("golden");
    let bare = |head: f32| {
        changed(
            "parity-llama-gqa-tied",
            |_| (),
            move |tensors| {
                for tensor in tensors.iter_mut() {
                    tensor.0 = tensor.0.trim_start_matches("model.").to_owned();
                }
                let (_, shape, values) = tensors.iter().find(|t| t.0 == "embed_tokens.weight").expect("table").clone();
                tensors.push(("lm_head.weight".to_owned(), shape, values.iter().map(|x| x + head).collect()));
                tensors.push(("layers.0.self_attn.rotary_emb.inv_freq".to_owned(), vec![1], vec![1.0]));
            },
        )
    };
    assert_eq!(open(bare(0.0).path()).expect("bare"), expected);
    let error = open(bare(1.0).path()).expect_err("another head");
    assert!(error.contains("\"lm_head.weight\" differs from \"embed_tokens.weight\""), "{error}");
}

#[test]
fn what_does_not_fit_a_llama_is_named() {
    let remove = |name: &'static str| move |tensors: &mut Tensors| tensors.retain(|t| t.0 != name);
    let nothing = |_: &mut serde_json::Value| ();
    for (folder, expected) in [
        (
            changed("parity-qwen2", nothing, remove("model.layers.1.self_attn.k_proj.bias")),
            "no tensor \"model.layers.1.self_attn.k_proj.bias\"",
        ),
        (
            changed("parity-llama-gqa-tied", |c| c["num_key_value_heads"] = 4.into(), |_| ()),
            "tensor \"model.layers.0.self_attn.k_proj.weight\" has shape [12, 16], expected [24, 16]",
        ),
        (
            changed("parity-llama-mha", |c| c["attention_bias"] = false.into(), |_| ()),
            "tensor \"model.layers.0.self_attn.k_proj.bias\" has no place in this model (7 more",
        ),
        (changed("parity-llama-gqa-tied", |c| c["tie_word_embeddings"] = false.into(), |_| ()), "no tensor \"lm_head.weight\""),
    ] {
        let error = open(folder.path()).expect_err(expected);
        assert!(error.contains(expected), "{error}\nwant {expected}");
    }
}

fn without_biases(config: &mut serde_json::Value) {
    config["bias"] = false.into();
}

#[test]
fn a_model_without_biases_has_zeros_in_its_file() {
    let zero = |tensors: &mut Tensors| tensors.iter_mut().filter(|t| t.0.ends_with(".bias")).for_each(|t| t.2.fill(0.0));
    let with = changed("gpt2-2layer", |_| (), zero);
    let (batch, ids) = input_ids(&golden("gpt2-2layer"));
    let expected = logits(with.path(), batch, &ids);
    let zeros = changed("gpt2-2layer", without_biases, zero);
    let absent = changed("gpt2-2layer", without_biases, |tensors| tensors.retain(|t| !t.0.ends_with(".bias")));
    for folder in [&zeros, &absent] {
        assert_eq!(logits(folder.path(), batch, &ids), expected);
        let config = FolderConfig::read(folder.path()).expect("config");
        let (session, set) = load(folder.path(), &config).expect("weights");
        let out = tempfile::tempdir().expect("folder");
        save_folder(out.path(), &config, &session.set(set).params(), session.set(set).weights.get()).expect("saved");
        let names = |path: &Path| Weights::open(path).expect("weights").names().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(names(out.path()), names(&golden("gpt2-2layer")));
        let layout = layout(&config.model.architecture().expect("model").name_map(), &session.set(set).params()).expect("layout");
        assert_eq!(layout.tensors().len(), names(out.path()).len());
        assert_eq!(logits(out.path(), batch, &ids), expected);
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let remove = |name: &'static str| move |tensors: &mut Tensors| tensors.retain(|t| t.0 != name);
    let nothing = |_: &mut serde_json::Value| ();
    for (folder, expected) in [
        (changed("gpt2-2layer", nothing, remove("transformer.h.1.ln_2.bias")), "no tensor \"transformer.h.1.ln_2.bias\""),
        (changed("gpt2-2layer", |c| c["n_layer"] = 3.into(), |_| ()), "no tensor \"transformer.h.2.ln_1.weight\""),
        (
            changed("gpt2-2layer", |c| c["n_layer"] = 1.into(), |_| ()),
            "tensor \"transformer.h.1.attn.c_attn.bias\" has no place in this model (11 more",
        ),
        (
            changed("gpt2-2layer", |c| c["n_inner"] = 64.into(), |_| ()),
            "tensor \"transformer.h.0.mlp.c_fc.weight\" has shape [32, 128], expected [32, 64]",
        ),
        (changed("gpt2-2layer", without_biases, |_| ()), "ln_1.bias\" has values other than 0"),
        (
            changed("gpt2-2layer", nothing, |tensors| {
                let head = tensors.iter().find(|t| t.0.ends_with("wte.weight")).expect("wte").clone();
                tensors.push(("lm_head.weight".to_owned(), head.1, head.2.iter().map(|x| x + 1.0).collect()));
            }),
            "tensor \"lm_head.weight\" differs from \"transformer.wte.weight\"",
        ),
        (
            changed("gpt2-2layer", nothing, |tensors| tensors.push(("score.weight".to_owned(), vec![2], vec![0.0; 2]))),
            "tensor \"score.weight\" has no place in this model (0 more",
        ),
        (
            changed("gpt2-2layer", |c| c["model_type"] = "bert".into(), |_| ()),
            "model_type: expected one of \"gpt2\", \"openai-gpt\", \"llama\", \"mistral\", \"qwen2\", found \"bert\"",
        ),
    ] {
        let error = open(folder.path()).expect_err(expected);
        assert!(error.contains(expected) && error.contains(&*folder.path().to_string_lossy()), "{error}\nwant {expected}");
    }
    let error = open(&golden("no such folder")).expect_err("absent");
    assert!(error.contains("config.json: cannot read"), "{error}");
}
