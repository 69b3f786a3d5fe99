//! `samara parity` on models of `transformers` with recorded logits, hidden states, loss and gradients.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use samara::model_folder::safetensors::{Weights, WeightsWriter};
use samara::model_folder::{ParamValues, load_weights, save_weights};
use samara::vision::folder::{ImageFolder, name_maps};
use samara::vision::register;
use serde_json::{Value, json};

/// Largest difference of logits and hidden states.
const OUTPUT_TOLERANCE: f64 = 1e-5;
/// Largest difference of the loss, in nats.
const LOSS_TOLERANCE: f64 = 1e-5;
/// Largest relative difference of a gradient.
const GRADIENT_TOLERANCE: f64 = 1e-4;

const FOLDERS: [&str; 12] = [
    "parity-gpt2",
    "parity-llama-mha",
    "parity-llama-gqa-tied",
    "parity-mistral",
    "parity-qwen2",
    "../vision/vit",
    "../vision/vit-grey",
    "../vision/vit-timm",
    "../vision/resnet-basic",
    "../vision/resnet-bottleneck",
    "../vision/resnet-timm",
    "../vision/resnet-v1.5",
];

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/models").join(name)
}

fn parity(model: &Path, io: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_samara"));
    command.args(["parity", "--threads", "1", "--model"]).arg(model).arg("--io").arg(io).args(more);
    command.output().expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// The JSON of a comparison that found no large difference.
fn equal(model: &Path, io: &Path, more: &[&str]) -> Value {
    let output = parity(model, io, &[more, &["--json"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn grads(folder: &Path) -> String {
    folder.join("grads.safetensors").display().to_string()
}

/// Asserts that a folder computes what is recorded in another one: outputs of these names, the loss, and all gradients, which may differ by `tolerance`.
fn assert_computes(folder: &Path, recorded: &Path, outputs: &[&str], tolerance: f64, is_zero: impl Fn(&str) -> bool) {
    let name = folder.display();
    let allowed = tolerance.to_string();
    let found = equal(folder, &recorded.join("io.safetensors"), &["--grads", &grads(recorded), "--tolerance", &allowed]);
    let meta: Value = serde_json::from_slice(&fs::read(recorded.join("meta.json")).expect("meta")).expect("JSON");
    let (loss, expected) = (found["loss"].as_f64().expect("loss"), meta["loss"].as_f64().expect("loss"));
    assert!((loss - expected).abs() <= LOSS_TOLERANCE * expected.max(1.0), "{name}: {loss} for {expected}");
    let found_outputs = found["outputs"].as_object().expect("outputs");
    assert_eq!(found_outputs.keys().collect::<Vec<_>>(), outputs, "{name}");
    for (output, difference) in found_outputs {
        let max_abs = difference["max_abs"].as_f64().expect("a number");
        assert!(max_abs <= OUTPUT_TOLERANCE, "{name} {output}: {max_abs}");
    }
    let gradients = found["gradients"].as_object().expect("gradients");
    let weights = Weights::open(&recorded.join("grads.safetensors")).expect("gradients");
    assert_eq!(gradients.keys().map(String::as_str).collect::<Vec<_>>(), weights.names().collect::<Vec<_>>(), "{name}");
    for (gradient, difference) in gradients {
        let relative = difference["relative"].as_f64().expect("a number");
        assert_eq!(difference["negligible"] == json!(true), is_zero(gradient), "{name} {gradient}");
        assert!(is_zero(gradient) || relative <= tolerance, "{name} {gradient}: {relative}");
    }
    assert_eq!((&found["not_compared"], &found["schema"]), (&json!([]), &json!(1)), "{name}");
}

/// Softmax does not change when the same is added to all scores, so a bias of the keys has no gradient but rounding.
fn is_bias_of_keys(gradient: &str) -> bool {
    gradient.ends_with("k_proj.bias")
}

#[test]
fn every_family_computes_what_transformers_computes() {
    for name in FOLDERS {
        let folder = golden(name);
        let outputs = ["hidden_states.0", "hidden_states.1", "hidden_states.2", "logits"];
        assert_computes(&folder, &folder, &outputs, GRADIENT_TOLERANCE, |gradient| {
            name.contains("vit") && is_bias_of_keys(gradient)
        });
    }
}

#[test]
fn detectors_compute_what_transformers_computes_under_all_names() {
    for (name, recorded) in [
        ("detr", "detr"),
        ("detr-auxiliary", "detr-auxiliary"),
        ("detr-timm", "detr-auxiliary"),
        ("detr-learned", "detr-learned"),
        ("detr-authors", "detr-learned"),
        ("detr-pre-norm", "detr-pre-norm"),
    ] {
        let of = |name: &str| golden(&format!("../vision/{name}"));
        let outputs = ["encoder_last_hidden_state", "last_hidden_state", "logits", "pred_boxes"];
        // The first layer of the decoder reads zeros, or the bias of its norm: all its values are equal, whatever the scores are.
        let is_pre_norm = name == "detr-pre-norm";
        let is_constant = |gradient: &str| match gradient.strip_prefix("model.decoder.layers.0.self_attn") {
            Some(".v_proj.weight") => !is_pre_norm,
            Some("_layer_norm.weight") => is_pre_norm,
            part => part.is_some_and(|part| part.starts_with(".q_proj") || part.starts_with(".k_proj")),
        };
        // Some gradients are so small that rounding shows.
        let tolerance = 10.0 * GRADIENT_TOLERANCE;
        assert_computes(&of(name), &of(recorded), &outputs, tolerance, |gradient| {
            is_bias_of_keys(gradient) || is_constant(gradient)
        });
    }
}

#[test]
fn an_encoder_of_text_computes_what_transformers_computes() {
    let folder = golden("../image_text/bert");
    let outputs = ["hidden_states.0", "hidden_states.1", "hidden_states.2", "logits"];
    assert_computes(&folder, &folder, &outputs, GRADIENT_TOLERANCE, |gradient| gradient.ends_with("key.bias"));
}

#[test]
fn models_of_images_with_texts_compute_what_transformers_computes() {
    for (name, recorded) in [("clip", "clip"), ("clip-openai", "clip"), ("clip-old", "clip-old"), ("siglip", "siglip")] {
        let of = |name: &str| golden(&format!("../image_text/{name}"));
        assert_computes(&of(name), &of(recorded), &["image_embeds", "text_embeds"], GRADIENT_TOLERANCE, is_bias_of_keys);
    }
}

#[test]
fn a_vilt_computes_what_transformers_computes_under_all_names() {
    let outputs = ["hidden_states.0", "hidden_states.1", "hidden_states.2", "last_hidden_state", "logits", "pooler_output"];
    for (name, recorded) in
        [("vilt", "vilt"), ("vilt-authors", "vilt"), ("vilt-rank", "vilt-rank"), ("vilt-square", "vilt-square")]
    {
        let of = |name: &str| golden(&format!("../image_text/{name}"));
        // A bias of all scores changes none of their differences.
        let is_zero = |gradient: &str| gradient.ends_with("key.bias") || gradient == "rank_output.bias";
        assert_computes(&of(name), &of(recorded), &outputs, GRADIENT_TOLERANCE, is_zero);
    }
}

/// Writes f32 tensors of a file through `change`, under names that it may change too.
fn rewritten(from: &Path, to: &Path, change: impl Fn(&str, &mut Vec<f32>) -> Option<String>) {
    let weights = Weights::open(from).expect("weights");
    let mut all = Vec::new();
    for name in weights.names() {
        let shape = weights.shape(name).expect("shape").to_vec();
        let mut values = vec![0.0; shape.iter().product()];
        weights.read(name, &shape, &mut values).expect("values");
        if let Some(name) = change(name, &mut values) {
            all.push((name, shape, values));
        }
    }
    let heads = all.iter().map(|(name, shape, _)| (name.clone(), shape.clone())).collect();
    let mut writer = WeightsWriter::create(to, heads).expect("file");
    all.iter().for_each(|(name, _, values)| writer.values(name, values).expect("values"));
    writer.finish().expect("file");
}

#[test]
fn one_wrong_value_is_found_and_named() {
    let (folder, out) = (golden("parity-llama-gqa-tied"), tempfile::tempdir().expect("folder"));
    let changed = out.path().join("grads.safetensors");
    let gate = "model.layers.1.mlp.gate_proj.weight";
    rewritten(Path::new(&grads(&folder)), &changed, |name, values| {
        if name == gate {
            values[7] += 0.5;
        }
        Some(format!("grad.{name}"))
    });
    let changed = changed.display().to_string();
    let output = parity(&folder, &folder.join("io.safetensors"), &["--grads", &changed]);
    assert_eq!(output.status.code(), Some(1));
    let error = text(&output.stderr);
    assert!(error.contains(&format!("grad.{gate} differs by more than 1e-4 (0 others)")), "{error}");
    assert!(text(&output.stdout).contains("hidden_states.2"));
    equal(&folder, &folder.join("io.safetensors"), &["--grads", &changed, "--tolerance", "100"]);
}

#[test]
fn gradients_have_names_on_disk_or_in_memory() {
    let (folder, out) = (golden("parity-gpt2"), tempfile::tempdir().expect("folder"));
    let file = out.path().join("g.safetensors");
    rewritten(Path::new(&grads(&folder)), &file, |name, _| match name {
        // Vectors are the same on both sides.
        "transformer.h.0.attn.c_attn.bias" => Some("h.0.attn.c_attn.bias".to_owned()),
        "transformer.h.1.mlp.c_fc.weight" => Some(name.to_owned()),
        "transformer.ln_f.weight" => Some("nothing.like.it".to_owned()),
        _ => None,
    });
    let found = equal(&folder, &folder.join("io.safetensors"), &["--grads", &file.display().to_string()]);
    let names: Vec<&String> = found["gradients"].as_object().expect("gradients").keys().collect();
    assert_eq!(names, ["h.0.attn.c_attn.bias", "transformer.h.1.mlp.c_fc.weight"]);
    assert_eq!(found["not_compared"], json!(["nothing.like.it"]));
}

#[test]
fn images_of_another_size_and_inputs_of_texts_are_refused() {
    let (vit, grey, llama) = (golden("../vision/vit"), golden("../vision/vit-grey"), golden("parity-llama-mha"));
    for (model, io, expected) in [
        (&vit, &grey, "in.pixel_values: expected shape (batch, 3, 12, 12), found shape [3, 1, 12, 12]"),
        (&vit, &llama, "in.attention_mask: expected an input of an image classifier: pixel_values, labels, found attention_mask"),
        (&llama, &vit, "expected an input of a language model: input_ids, attention_mask, position_ids, labels, found labels"),
    ] {
        let output = parity(model, &io.join("io.safetensors"), &[]);
        let error = text(&output.stderr);
        assert!(output.status.code() == Some(3) && (error.contains(expected) || error.contains("found pixel_values")), "{error}");
    }
}

/// A recording of f32 outputs and i64 inputs.
fn recording(path: &Path, tensors: &[(&str, safetensors::Dtype, &[usize], Vec<u8>)]) {
    let views: Vec<_> = tensors
        .iter()
        .map(|(name, dtype, shape, data)| {
            (*name, safetensors::tensor::TensorView::new(*dtype, shape.to_vec(), data).expect("a tensor"))
        })
        .collect();
    safetensors::serialize_to_file(views, None, path).expect("file");
}

fn integers(values: &[i64]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

#[test]
fn what_cannot_be_compared_is_listed_or_refused() {
    use safetensors::Dtype::{F32, I64};
    let (folder, out) = (golden("parity-llama-mha"), tempfile::tempdir().expect("folder"));
    let io = out.path().join("io.safetensors");
    let ids = ("in.input_ids", I64, &[1, 2][..], integers(&[3, 4]));
    let refused = |more: &[(&str, safetensors::Dtype, &[usize], Vec<u8>)], code: i32, part: &str| {
        recording(&io, more);
        let output = parity(&folder, &io, &[]);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{error}");
        assert!(error.contains(part), "got {error}\nwant {part}");
    };
    refused(std::slice::from_ref(&ids), 3, "io.safetensors: expected out.NAME, gradients or a loss to compare with, found none");
    refused(&[("in.labels", I64, &[1, 2], integers(&[3, 4]))], 3, "in.input_ids: expected token ids (batch, tokens), found none");
    refused(&[("in.input_ids", F32, &[1, 1], vec![0; 4])], 3, "has dtype F32, expected I64, I32");
    refused(
        &[("in.input_ids", I64, &[2], integers(&[3, 4]))],
        3,
        "in.input_ids: expected shape (batch, tokens), found shape [2]",
    );
    refused(&[("in.input_ids", I64, &[1, 2], integers(&[3, 61]))], 3, "value 61 at position 1 is not in 0..=60");
    refused(
        &[ids.clone(), ("in.pixel_values", F32, &[1], vec![0; 4])],
        3,
        "in.pixel_values: expected an input of a language model",
    );
    refused(
        &[ids.clone(), ("in.labels", I64, &[1, 3], integers(&[1, 2, 3]))],
        3,
        "in.labels: expected shape [1, 2], found shape [1, 3]",
    );
    refused(&[ids.clone(), ("out.logits", F32, &[1, 2, 60], vec![0; 480])], 3, "shape [1, 2, 60], expected [1, 2, 61]");
    let nan = f32::NAN.to_le_bytes().repeat(122);
    refused(&[ids.clone(), ("out.logits", F32, &[1, 2, 61], nan)], 1, "logits differs by more than 1e-4");
    let not_a_number = parity(&folder, &io, &["--tolerance", "NaN"]);
    assert_eq!(not_a_number.status.code(), Some(2));
    recording(&io, &[ids, ("out.logits", F32, &[1, 2, 61], vec![0; 488]), ("out.attentions.0", F32, &[1], vec![0; 4])]);
    let found = equal(&folder, &io, &["--tolerance", "1000"]);
    assert_eq!((&found["not_compared"], &found["loss"]), (&json!(["attentions.0"]), &Value::Null));
}

#[test]
fn rows_of_padding_are_left_out() {
    use safetensors::Dtype::{F32, I64};
    let (folder, out) = (golden("parity-qwen2"), tempfile::tempdir().expect("folder"));
    let source = Weights::open(&folder.join("io.safetensors")).expect("recording");
    let read = |name: &str| source.integers(name).expect(name).1;
    let mut logits = vec![0.0; 3 * 11 * 61];
    source.read("out.logits", &[3, 11, 61], &mut logits).expect("logits");
    // The last row of the second sequence is padding.
    logits[(2 * 11 - 1) * 61..2 * 11 * 61].fill(1e9);
    let bytes = logits.iter().flat_map(|x| x.to_le_bytes()).collect();
    let io = out.path().join("io.safetensors");
    recording(
        &io,
        &[
            ("in.input_ids", I64, &[3, 11], integers(&read("in.input_ids"))),
            ("in.attention_mask", I64, &[3, 11], integers(&read("in.attention_mask"))),
            ("in.labels", I64, &[3, 11], integers(&[5; 33])),
            ("out.logits", F32, &[3, 11, 61], bytes),
        ],
    );
    fs::write(out.path().join("meta.json"), r#"{"loss": 1.0}"#).expect("meta");
    let found = equal(&folder, &io, &[]);
    assert!(found["outputs"]["logits"]["max_abs"].as_f64().expect("a number") <= OUTPUT_TOLERANCE);
    // Padding predicts labels here, which every implementation does in its own way.
    assert_eq!(found["not_compared"], json!(["loss"]));
    fs::write(out.path().join("meta.json"), r#"{"loss": "low"}"#).expect("meta");
    let output = parity(&folder, &io, &[]);
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("meta.json: loss: expected a number, found \"low\""));
}

/// A model of images is written with the names, shapes and values that `transformers` wrote, whatever names it was read from.
#[test]
fn folders_of_image_models_are_written_as_they_were_read() {
    let image_folders = FOLDERS.into_iter().filter_map(|name| name.strip_prefix("../vision/"));
    for name in image_folders {
        let (from, out) = (golden(&format!("../vision/{name}")), tempfile::tempdir().expect("folder"));
        let config = ImageFolder::read(&from).expect("a folder").expect("an image model");
        let architecture = config.model.architecture().expect("a model");
        let (registry, _) = register(&*architecture).expect("parameters");
        let map = name_maps(&from, &*architecture).expect("maps").remove(0);
        let (params, own) = (registry.view(), architecture.name_maps().remove(0).1);
        let mut values = vec![0.0; params.trainable_len()];
        let mut frozen = vec![0_f32; params.frozen_bytes() / 4];
        let bytes = bytemuck::cast_slice_mut(&mut frozen);
        load_weights(&from, &params, &map, &mut values, bytes).expect("weights");
        save_weights(out.path(), &params, &own, ParamValues { trainable: &values, frozen: bytes }).expect("a file");
        let of_transformers = golden(&format!("../vision/{}", name.replace("vit-timm", "vit").replace("timm", "bottleneck")));
        let [written, expected] = [out.path(), &of_transformers].map(|path| Weights::open(path).expect("weights"));
        let names = |weights: &Weights| {
            let all = weights.names().filter(|name| !name.ends_with("num_batches_tracked"));
            all.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(names(&written), names(&expected), "{name}");
        for tensor in names(&expected) {
            let shape = expected.shape(&tensor).expect("a shape");
            let of = |weights: &Weights| {
                let mut values = vec![0.0; shape.iter().product()];
                weights.read(&tensor, shape, &mut values).expect("values");
                values
            };
            assert_eq!(of(&written), of(&expected), "{name}: {tensor}");
        }
        fs::write(out.path().join("config.json"), config.to_json(0.0).to_string()).expect("a file");
        assert_eq!(ImageFolder::read(out.path()).expect("a folder"), Some(config), "{name}");
    }
}
