//! `train`, `tune`, `eval classify` and `predict` of image classifiers.

use super::*;

/// Twelve noisy images of each of three colours, in a folder for each.
pub(super) fn write_colours(at: &Path) {
    for (class, colour) in [("blue", [30, 40, 200]), ("green", [40, 180, 50]), ("red", [200, 30, 40])] {
        let folder = at.join("colours").join(class);
        fs::create_dir_all(&folder).expect("folder");
        for i in 0..12_u32 {
            let noise = |x: u32, y: u32, c: u32| (x * 7 + y * 13 + i * 29 + c * 11) % 50;
            let pixel = |x, y| image::Rgb([0, 1, 2].map(|c: u32| (colour[c as usize] + noise(x, y, c)) as u8));
            image::RgbImage::from_fn(20, 18, pixel).save(folder.join(format!("{i}.png"))).expect("image");
        }
    }
}

pub(super) const TRAIN: [&str; 23] = [
    "train",
    "--data",
    "colours",
    "-q",
    "--set",
    "model.model_type=vit",
    "--set",
    "model.image_size=16",
    "--set",
    "model.patch_size=8",
    "--set",
    "model.hidden_size=12",
    "--set",
    "model.num_hidden_layers=2",
    "--set",
    "model.num_attention_heads=2",
    "--set",
    "model.intermediate_size=16",
    "--set",
    "train.batch_size=6",
    "--set",
    "data.val_fraction=0.25",
    "--json",
];

pub(super) fn train(at: &Path, more: &[&str]) -> Value {
    serde_json::from_str(&done(at, &[&TRAIN[..], more].concat())).expect("JSON")
}

const STEPS: [&str; 8] =
    ["--set", "train.steps=40", "--set", "train.lr=1e-2", "--set", "train.warmup_steps=4", "--set", "train.checkpoint_every=20"];

#[test]
fn a_classifier_is_trained_resumed_evaluated_and_asked() {
    let folder = temporary();
    let at = folder.path();
    write_colours(at);
    let changes = [
        "--set",
        "augment.crop_area=0.5",
        "--set",
        "augment.flip=true",
        "--set",
        "augment.mixup=0.2",
        "--set",
        "train.eval_every=20",
    ];
    let outcome = train(at, &[&["--out", "run"][..], &STEPS, &changes].concat());
    assert_eq!((&outcome["measure"]["name"], &outcome["best_val_accuracy"]), (&"accuracy".into(), &1.0.into()), "{outcome}");
    for file in
        ["config.json", "preprocessor_config.json", "model.safetensors", "MODEL_CARD.md", "best/config.json", "accuracy.svg"]
    {
        assert!(at.join("run").join(file).is_file(), "{file}");
    }
    let eval = ["eval", "classify", "--model", "run", "--data", "colours", "--split", "val", "--val-fraction", "0.25", "--json"];
    let found: Value = serde_json::from_str(&done(at, &eval)).expect("JSON");
    assert_eq!(
        (&found["images"], &found["accuracy"], &found["confusion"][2]),
        (&9.into(), &1.0.into(), &serde_json::json!([0, 0, 3]))
    );
    let predicted = done(at, &["predict", "--model", "run", "--json", "--top-k", "2", "colours/red/0.png", "colours/blue/1.png"]);
    let rows: Vec<Value> = predicted.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(
        (&rows[0]["label"], &rows[1]["label"], rows[0]["top"].as_array().map(Vec::len)),
        (&"red".into(), &"blue".into(), Some(2))
    );
    // Without its last checkpoint the run resumes at step 20, and ends with the same bits.
    let model = fs::read(at.join("run/model.safetensors")).expect("weights");
    fs::remove_dir_all(at.join("run/checkpoints/step-0000000040")).or_else(|_| newest_removed(at)).expect("a checkpoint");
    fs::remove_dir_all(at.join("colours")).expect("images");
    done(at, &["train", "--out", "run", "--resume", "-q"]);
    assert_eq!(fs::read(at.join("run/model.safetensors")).expect("weights"), model);
}

/// Removes the newest checkpoint, whatever its name is.
fn newest_removed(at: &Path) -> std::io::Result<()> {
    let mut steps: Vec<PathBuf> =
        fs::read_dir(at.join("run/checkpoints"))?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    steps.sort();
    steps.pop().map_or(Ok(()), fs::remove_dir_all)
}

#[test]
fn every_method_tunes_what_it_says_and_its_folder_opens() {
    let folder = temporary();
    let at = folder.path();
    write_colours(at);
    train(at, &["--out", "base", "--set", "train.steps=3"]);
    let tensors = |run: &str| {
        let bytes = fs::read(at.join(run).join("model.safetensors")).expect("weights");
        let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("tensors");
        let all: std::collections::BTreeMap<String, Vec<u8>> =
            tensors.tensors().into_iter().map(|(name, tensor)| (name, tensor.data().to_vec())).collect();
        all
    };
    let before = tensors("base");
    for (method, moved) in [
        ("linear", vec!["classifier."]),
        ("mlp-2", vec!["classifier.", "hidden."]),
        ("sidetune", vec!["classifier.", "side."]),
        ("partial-1", vec!["classifier.", "vit.encoder.layer.1.", "vit.layernorm."]),
        ("bias", vec![".bias", "classifier."]),
        ("vpt-shallow", vec!["classifier.", "prompts."]),
        ("vpt-deep", vec!["classifier.", "prompts."]),
        ("adapter", vec!["classifier.", "adapter."]),
        ("lora", vec!["classifier.", "attention.attention."]),
    ] {
        let more = ["--init", "base", "--out", method, "--set", "train.steps=10", "--set", "train.lr=1e-2", "--set"];
        train(at, &[&more[..], &[&format!("tune.method={method}"), "--set", "train.warmup_steps=0"]].concat());
        for (name, values) in tensors(method) {
            let is_trained = moved.iter().any(|part| name.contains(part));
            // Of a bias of keys the gradient is 0, but for rounding; low-rank adapters have no biases.
            let may_rest = name.ends_with("key.bias") || method == "lora" && name.ends_with(".bias");
            let is_moved = before.get(&name) != Some(&values);
            assert!(is_moved == is_trained || may_rest, "{method}: {name} moved: {is_moved}");
        }
        let predicted = done(at, &["predict", "--model", method, "--json", "colours/red/0.png"]);
        assert!(predicted.contains("\"label\""), "{predicted}");
    }
    assert!(fs::read_to_string(at.join("vpt-deep/config.json")).expect("config").contains("\"samara_added\""));
    assert!(!fs::read_to_string(at.join("lora/config.json")).expect("config").contains("samara_added"));
}

#[test]
fn a_head_for_other_classes_and_another_image_size_are_said() {
    let folder = temporary();
    let at = folder.path();
    write_colours(at);
    train(at, &["--out", "base", "--set", "train.steps=2"]);
    fs::remove_dir_all(at.join("colours/blue")).expect("folder");
    let args = [
        "train",
        "--data",
        "colours",
        "--init",
        "base",
        "--out",
        "next",
        "--set",
        "train.steps=2",
        "--set",
        "model.image_size=32",
    ];
    let output = samara(at, &args);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("the head for 3 classes is replaced by one for 2"), "{said}");
    assert!(said.contains("position embeddings are resized from 2 x 2 to 4 x 4 patches"), "{said}");
    let processor = fs::read_to_string(at.join("next/preprocessor_config.json")).expect("file");
    assert!(processor.contains("\"height\": 32"), "{processor}");
    let wider = ["train", "--data", "colours", "--init", "base", "--out", "wider", "--set", "model.hidden_size=24"];
    refused(at, &wider, 3, &["base: cls_token: expected 24 values for this model", "found 12"]);
}

#[test]
fn what_cannot_be_trained_or_read_is_refused_by_name() {
    let folder = temporary();
    let at = folder.path();
    write_colours(at);
    fs::write(at.join("bad.png"), "no image").expect("file");
    let with = |more: &[&'static str]| [&TRAIN[..], &["--set", "train.steps=2"], more].concat();
    refused(
        at,
        &["train", "--set", "model.model_type=vit"],
        2,
        &["data.path: expected a folder with a folder of images for each class"],
    );
    refused(at, &with(&["--set", "model.num_channels=2"]), 2, &["model.num_channels: expected 3, for colours, or 1, for grey"]);
    refused(at, &with(&["--set", "train.block_size=8"]), 2, &["train.block_size", "an image has no tokens"]);
    refused(at, &with(&["--set", "model.n_embd=8"]), 2, &["unknown key", "model.n_embd"]);
    refused(at, &with(&["--set", "tune.method=vpt-deep"]), 2, &["tune.method: expected \"full\"", "--init DIR"]);
    refused(at, &with(&["--set", "tune.method=vpt"]), 2, &["expected one of full, linear"]);
    refused(
        at,
        &["train", "--preset", "tales", "--set", "model.model_type=vit"],
        2,
        &["--preset tales is one of language models"],
    );
    fs::copy(at.join("bad.png"), at.join("colours/red/bad.png")).expect("file");
    refused(at, &with(&["--out", "run"]), 3, &["colours/red/bad.png: expected a PNG, JPEG, GIF, BMP or WebP image"]);
    assert!(!at.join("run").exists());
    let skipped = samara(at, &with(&["--out", "run", "--set", "data.on_bad_image=skip"]));
    assert_eq!(skipped.status.code(), Some(0), "{}", text(&skipped.stderr));
    assert!(text(&skipped.stderr).contains("left out: colours/red/bad.png"));
    refused(at, &["predict", "--model", "run", "bad.png"], 3, &["bad.png: expected", "1 of 1 images could not be read"]);
    refused(at, &["eval", "classify", "--model", "run", "--data", "colours"], 3, &["colours/red/bad.png"]);
    fs::create_dir(at.join("colours/yellow")).expect("folder");
    fs::copy(at.join("colours/red/0.png"), at.join("colours/yellow/0.png")).expect("file");
    refused(at, &["eval", "classify", "--model", "run", "--data", "colours"], 3, &["expected one of 3 classes", "\"yellow\" of"]);
    fs::write(at.join("run/preprocessor_config.json"), r#"{"image_processor_type": "SamImageProcessor"}"#).expect("file");
    refused(
        at,
        &["predict", "--model", "run", "colours/red/0.png"],
        3,
        &["image_processor_type: expected one of ViTImageProcessor"],
    );
}

#[test]
fn a_table_of_labels_is_read_and_its_errors_have_lines() {
    let folder = temporary();
    let at = folder.path();
    write_colours(at);
    let row = |class: &str, i: usize, split: &str| format!("colours/{class}/{i}.png,{class},{split}\n");
    let rows = |split: &'static str, range: std::ops::Range<usize>| {
        range.flat_map(move |i| ["red", "blue"].map(|class| row(class, i, split))).collect::<String>()
    };
    fs::write(at.join("labels.csv"), format!("image,label,split\n{}{}", rows("train", 0..6), rows("val", 6..9))).expect("file");
    let args = |data: &'static str| -> Vec<&'static str> {
        TRAIN.iter().map(|&arg| if arg == "colours" { data } else { arg }).collect()
    };
    let planned = done(at, &[&args("labels.csv")[..TRAIN.len() - 1], &["--plan"]].concat());
    assert!(planned.contains("training images") && planned.contains("FLOP per image"), "{planned}");
    done(at, &[&args("labels.csv")[..], &["--out", "run", "--set", "train.steps=2"]].concat());
    let content = fs::read_to_string(at.join("run/data/content.txt")).expect("file");
    assert!(
        content.contains("training: 12 images") && content.contains("held out: 6 images") && content.ends_with("2 classes"),
        "{content}"
    );
    fs::write(at.join("bad.csv"), "image,label\ncolours/red/0.png,red\n,blue\n").expect("file");
    refused(at, &args("bad.csv"), 3, &["bad.csv:3:1: expected the file of an image under \"image\""]);
    fs::write(at.join("one.csv"), "image,label\ncolours/red/0.png,red\n").expect("file");
    refused(at, &args("one.csv"), 3, &["one.csv: expected at least two classes, found one: \"red\""]);
}

const SHAPES: [&str; 16] = [
    "--set",
    "shapes.target=colour",
    "--set",
    "shapes.train=64",
    "--set",
    "shapes.val=32",
    "--set",
    "shapes.test=40",
    "--set",
    "train.batch_size=16",
    "--set",
    "train.warmup_steps=0",
    "--set",
    "train.eval_every=0",
    "--threads",
    "1",
];

/// A model of the generated world, without any files.
fn shapes_model(at: &Path) {
    let model = [&TRAIN[4..18], &SHAPES, &["--set", "train.steps=2", "--out", "base", "-q"]].concat();
    done(at, &[&["train"][..], &model].concat());
}

#[test]
fn features_that_are_computed_once_give_the_bits_of_those_of_every_step() {
    let folder = temporary();
    let at = folder.path();
    shapes_model(at);
    for method in ["linear", "mlp-3"] {
        let run = |out: &str, cache: &str| {
            let (method, cache) = (format!("tune.method={method}"), format!("tune.cache={cache}"));
            let more = ["--init", "base", "--out", out, "-q", "--set", "train.steps=6", "--set", &method, "--set", &cache];
            done(at, &[&["train"][..], &SHAPES, &more].concat());
            fs::read(at.join(out).join("model.safetensors")).expect("weights")
        };
        assert!(run(&format!("{method}-once"), "true") == run(&format!("{method}-always"), "false"), "{method}");
    }
    let more = ["train", "--init", "base", "--out", "deep", "--set", "tune.method=vpt-deep", "--set", "tune.cache=false"];
    refused(at, &[&more[..], &SHAPES].concat(), 2, &["tune.cache: expected no value", "leave the backbone alone"]);
}

#[test]
fn a_sweep_is_resumed_extended_and_measured_on_test_images() {
    let folder = temporary();
    let at = folder.path();
    shapes_model(at);
    let sweep = |grid: &'static str| {
        let more =
            ["sweep", "--init", "base", "--out", "s", "--set", "train.steps=3", "--set", "tune.method=linear", "-q", "--json"];
        let args = [&more[..], &SHAPES, &["--grid", grid, "--seeds", "3,4"]].concat();
        serde_json::from_str::<Value>(&done(at, &args)).expect("JSON")
    };
    let first = sweep("train.lr=1e-2,0");
    let cells = first["cells"].as_array().expect("cells");
    assert_eq!((cells.len(), &first["measure"], &first["chosen"]["test"]["n"]), (3, &"accuracy".into(), &2.into()), "{first}");
    let tests: Vec<f64> = cells.iter().filter_map(|cell| cell["test"].as_f64()).collect();
    assert_eq!((tests.len(), tests.iter().sum::<f64>() / 2.0), (2, first["chosen"]["test"]["mean"].as_f64().unwrap()));
    assert!(
        fs::read_to_string(at.join("s/sweep.csv"))
            .expect("file")
            .starts_with("train.lr,seed,validation accuracy,test accuracy,train.steps,tune.method,")
    );
    assert_eq!(fs::read_dir(at.join("s/cells")).expect("folder").count(), 2);
    // Nothing is trained again.
    assert_eq!(sweep("train.lr=1e-2,0"), first);
    let more = sweep("train.lr=1e-2,0,2e-2");
    assert!(more["cells"].as_array().expect("cells").len() > 3 && more["cells"][0] == first["cells"][0], "{more}");
    let args = ["sweep", "--data", "x.txt", "--out", "t", "--grid", "vpt"];
    refused(at, &args, 2, &["--grid vpt is a protocol of image classifiers"]);
    refused(at, &["sweep", "--data", "x.txt", "--out", "t", "--grid", "train.lr"], 2, &["--grid", "a key with values"]);
    assert!(!at.join("t").exists());
}

#[test]
fn a_probe_and_an_evaluation_read_the_generated_world() {
    let folder = temporary();
    let at = folder.path();
    shapes_model(at);
    let world =
        ["--set", "shapes.target=colour", "--set", "shapes.train=80", "--set", "shapes.test=48", "--split", "test", "--json"];
    let probe = [&["eval", "probe", "--model", "base", "--shots", "1,8", "--seeds", "3"][..], &world].concat();
    let found: Value = serde_json::from_str(&done(at, &probe)).expect("JSON");
    let accuracy = |i: usize| found["shots"][i]["accuracy"]["mean"].as_f64().expect("a number");
    assert_eq!((&found["images"], &found["classes"], &found["shots"][1]["accuracy"]["n"]), (&48.into(), &8.into(), &3.into()));
    // Colours are told apart by random features as well.
    assert!(accuracy(1) > accuracy(0) && accuracy(1) > 0.18, "{found}");
    let eval = [&["eval", "classify", "--model", "base"][..], &world].concat();
    let found: Value = serde_json::from_str(&done(at, &eval)).expect("JSON");
    assert_eq!(found["images"], 48);
    let grey = ["--set", "model.num_channels=1", "--set", "train.steps=2", "--out", "grey", "-q"];
    done(at, &[&["train"][..], &TRAIN[4..18], &SHAPES, &grey].concat());
    let eval = [&["eval", "classify", "--model", "grey"][..], &world].concat();
    let found: Value = serde_json::from_str(&done(at, &eval)).expect("JSON");
    assert_eq!(found["images"], 48);
    let other = ["eval", "classify", "--model", "base", "--set", "shapes.target=count", "--split", "test"];
    refused(at, &other, 2, &["expected classes as the model has (red, green", "found 1, 2"]);
    let both = [&["train", "--set", "model.model_type=vit", "--data", "x", "--out", "y"][..], &SHAPES].concat();
    refused(at, &both, 2, &["shapes.target: expected no value beside data.path"]);
    refused(
        at,
        &["train", "--set", "model.model_type=vit", "--set", "shapes.style=noisy"],
        2,
        &["it applies with shapes.target"],
    );
    refused(at, &[&probe[..5], &["11"], &probe[6..]].concat(), 3, &["--shots 11: a class has fewer training images"]);
}
