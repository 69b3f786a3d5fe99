//! Model folders of `transformers` are opened here with the logits that `transformers` computes, and written again without a change.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use samara::decoding::generator::Generator;
use samara::kernels::gemm::Gemm;
use samara::lm::{Model, register};
use samara::model::folder::{FolderConfig, save_folder};
use samara::model_folder::safetensors::{Weights, WeightsWriter};
use samara::model_folder::{layout, load_weights};
use samara::session::{CpuDevice, Engine, On, Session, SetId};
use samara::tokenizer::{Specials, Tokenizer};
use samara_core::decode::Sampling;
use samara_core::exec::Gradients;
use samara_core::graph::DType;
use samara_core::model::lm::{self, LanguageModel, LmInputs};
use samara_tests::binary::samara;

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
            "tensor \"score.weight\" has no place in this model; expected",
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

/// Commands that open the weights of `FOLDER`, run beside `ids.bin` and a golden recording.
const OPENING: [&str; 7] = [
    "score --model FOLDER --tokens 1,2,3",
    "score --model FOLDER --tokens 1,2,3 --quantize q8",
    "eval --model FOLDER --data ids.bin --block-size 4",
    "generate --model FOLDER --prompt Hello --max-new-tokens 2",
    "export --model FOLDER --out m.samara",
    "parity --model FOLDER --io IO --tolerance 100",
    "train --init FOLDER --data shards --out run --set train.steps=1 --set train.block_size=8 --set train.eval_every=0",
];

/// Exit code, and standard output and error together.
fn run(at: &Path, [recorded, in_blocks]: &[tempfile::TempDir; 2], line: &str) -> (Option<i32>, String) {
    let io = samara_tests::golden::path("models/parity-gpt2/io.safetensors");
    let folder = if line.contains("--quantize") { in_blocks.path() } else { recorded.path() };
    let words = line.split(' ').map(|word| match word {
        "FOLDER" => folder.display().to_string(),
        "IO" => io.display().to_string(),
        _ => word.to_owned(),
    });
    let output = samara().args(words).current_dir(at).output().expect("the binary");
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (output.status.code(), text)
}

/// A folder for commands to run in, with tokens.
fn place() -> tempfile::TempDir {
    let at = tempfile::tempdir().expect("folder");
    let ids: Vec<u8> = (0..400u16).flat_map(|i| (i * 7 % 41).to_le_bytes()).collect();
    fs::create_dir(at.path().join("shards")).expect("folder");
    for file in ["ids.bin", "shards/train.bin", "shards/val.bin"] {
        fs::write(at.path().join(file), &ids).expect("file");
    }
    at
}

/// The golden model that has a recording, and one whose rows are whole blocks, with letters for tokens.
fn with_letters(change: impl Fn(&mut Tensors)) -> [tempfile::TempDir; 2] {
    ["parity-gpt2", "gpt2-2layer"].map(|name| {
        let folder = changed(name, |_| (), &change);
        let tokenizer = samara_tests::golden::path("sampling/tokenizer.json");
        fs::copy(tokenizer, folder.path().join("tokenizer.json")).expect("tokenizer");
        folder
    })
}

#[test]
fn every_command_leaves_out_what_has_no_place_when_it_is_told_to() {
    let folders = with_letters(|tensors| tensors.push(("v_head.weight".to_owned(), vec![2], vec![1.0, f32::NAN])));
    let at = place();
    for line in OPENING {
        let (code, said) = run(at.path(), &folders, line);
        let names = said.contains("\"v_head.weight\" has no place") && said.contains("--ignore-extra");
        assert!(code == Some(3) && names, "{line}: {code:?} {said}");
        let (code, said) = run(at.path(), &folders, &format!("{line} --ignore-extra"));
        assert!(code == Some(0) && said.contains("ignored") && said.contains("v_head.weight"), "{line}: {code:?} {said}");
    }
    let written = Weights::open(&at.path().join("run")).expect("weights");
    assert!(!written.contains("v_head.weight") && written.names().count() > 10);
}

#[test]
fn every_command_refuses_weights_that_are_not_finite() {
    for (bad, shown) in [(f32::NAN, "NaN"), (f32::NEG_INFINITY, "-inf")] {
        let folders = with_letters(|tensors| {
            let (_, shape, values) = tensors.iter_mut().find(|t| t.0.ends_with("h.1.mlp.c_fc.weight")).expect("a matrix");
            values[3 * shape[1] + 5] = bad;
        });
        let at = place();
        for line in OPENING {
            let (code, said) = run(at.path(), &folders, line);
            let place = format!("h.1.mlp.c_fc.weight\" is {shown} at [3, 5], expected weights that are finite as f32");
            assert!(code == Some(3) && said.contains(&place), "{line}: {code:?} {said}");
        }
        assert!(!at.path().join("m.samara").exists() && !at.path().join("run/model.safetensors").exists());
        let (code, said) = run(at.path(), &folders, "inspect FOLDER");
        let line = format!("not finite: transformer.h.1.mlp.c_fc.weight is {shown} at [3,5]");
        assert!(code == Some(0) && said.contains(&line), "{said}");
    }
}

/// Folders as people publish them, each with the files of its kind; make_folders.py wrote them, and what `transformers` makes of each.
const SHAPES: [&str; 10] = [
    "gpt1-vocab-merges",
    "gpt2-added-tokens",
    "gpt2-bare-no-tokenizer",
    "gpt2-tokenizer-json",
    "gpt2-vocab-merges",
    "llama-json-only",
    "llama2-tied-f16",
    "llama3-eos-list",
    "mistral-sharded-bf16",
    "qwen2-all-files",
];

/// A folder, and what `transformers` makes of it.
fn shape(name: &str) -> (PathBuf, serde_json::Value) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/folders").join(name);
    let expected = serde_json::from_slice(&fs::read(folder.join("expected.json")).expect("expected")).expect("JSON");
    (folder, expected)
}

fn ids(json: &serde_json::Value) -> Vec<u32> {
    serde_json::from_value(json.clone()).expect("ids")
}

#[test]
fn folders_of_ten_shapes_have_the_ids_of_transformers() {
    for name in SHAPES {
        let (folder, expected) = shape(name);
        let tokenizer = Tokenizer::of_model(&folder).expect(name);
        let cases = expected["cases"].as_array().expect("cases");
        assert_eq!(tokenizer.is_none(), cases.is_empty(), "{name}");
        for case in cases {
            let (tokenizer, text) = (tokenizer.as_ref().expect(name), case[0].as_str().expect("text"));
            let found = tokenizer.encode(text.as_bytes(), Specials::All).expect(text);
            assert_eq!(found, ids(&case[1]), "{name}: {text:?}");
            assert_eq!(tokenizer.with_template(&found), Some(ids(&case[2])), "{name}: {text:?}");
            let decoded = tokenizer.decode(&found).expect(text);
            assert_eq!(String::from_utf8_lossy(&decoded), case[3].as_str().expect("text"), "{name}: {text:?}");
        }
    }
}

#[test]
fn folders_of_ten_shapes_go_on_as_in_transformers() {
    for name in SHAPES {
        let (folder, expected) = shape(name);
        let prompt: Vec<i32> = ids(&expected["prompt"]).into_iter().map(|id| id as i32).collect();
        let all = logits(&folder, 1, &prompt);
        let wanted: Vec<f32> = serde_json::from_value(expected["logits"].clone()).expect("logits");
        let last = all.rchunks(all.len() / prompt.len()).next().expect("a row");
        for (i, x) in wanted.iter().enumerate() {
            let found = last[i * (last.len() / wanted.len())];
            assert!((found - x).abs() <= LOGIT_TOLERANCE, "{name}: logit {i} is {found}, expected {x}");
        }
        let stops = FolderConfig::read(&folder).expect(name).eos_token_ids;
        let mut model = Model::open(Engine::new(1, Gemm::Samara).expect("engine"), &folder, DType::Real).expect(name);
        let greedy = Sampling { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0 };
        let mut generator = Generator::new(&mut model.bound(), &prompt, greedy, 0).expect(name);
        let mut found = Vec::new();
        while found.len() < 12 && !found.last().is_some_and(|id| stops.contains(id)) {
            found.push(generator.next(&mut model.bound()).expect(name) as u32);
        }
        assert_eq!(found, ids(&expected["greedy"]), "{name}");
    }
}
