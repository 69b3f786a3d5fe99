//! Contrastive training from the command line, on the generated world of captions and on files.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use samara::image_text::folder::DualFolder;
use samara::model_folder::safetensors::Weights;
use serde_json::Value;

/// A CLIP of some thousand parameters on images of 16 pixels.
const TINY: [&str; 15] = [
    "model.image_size=16",
    "model.patch_size=4",
    "model.vision_hidden_size=16",
    "model.vision_num_hidden_layers=1",
    "model.vision_num_attention_heads=2",
    "model.vision_intermediate_size=32",
    "model.text_hidden_size=16",
    "model.text_num_hidden_layers=1",
    "model.text_num_attention_heads=2",
    "model.text_intermediate_size=32",
    "model.projection_dim=16",
    "model.max_position_embeddings=24",
    "data.vocab_size=300",
    "train.lr=3e-3",
    "train.warmup_steps=5",
];

/// Its generated world, where there are no files.
const WORLD: [&str; 3] = ["captions.objects=1", "captions.train=512", "captions.val=64"];

fn train(out: &Path, model_type: &str, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_samara"));
    command.args(["train", "--quiet", "--json", "--threads", "2", "--set", &format!("model.model_type={model_type}"), "--out"]);
    command.arg(out);
    let has_files = more.iter().any(|set| set.starts_with("data.path"));
    for set in TINY.iter().chain(WORLD.iter().filter(|_| !has_files)) {
        command.args(["--set", set]);
    }
    for set in more {
        match *set {
            "--resume" => command.arg(set),
            set => command.args(["--set", set]),
        };
    }
    command.output().expect("the binary runs")
}

fn outcome(out: &Path, model_type: &str, more: &[&str]) -> Value {
    let output = train(out, model_type, more);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// All weights of a folder by name.
fn weights(folder: &Path) -> Vec<(String, Vec<f32>)> {
    let weights = Weights::open(folder).expect("weights");
    let read = |name: &str| {
        let shape = weights.shape(name).expect("a tensor").to_vec();
        let mut values = vec![0.0; shape.iter().product()];
        weights.read(name, &shape, &mut values).expect("values");
        (name.to_owned(), values)
    };
    weights.names().map(read).collect()
}

#[test]
fn a_batch_in_chunks_is_the_whole_batch() {
    for (model_type, more) in [("clip", ""), ("siglip", ""), ("clip", "contrast.multi_positive=true")] {
        let folder = tempfile::tempdir().expect("a folder");
        // Plain gradient descent: the weights show the gradients of all steps.
        let steps = ["train.steps=3", "train.optimizer=sgd", "train.lr=0.1", "train.warmup_steps=0", "train.eval_every=0"];
        let of = |name: &str, chunks: [&str; 2]| {
            let out = folder.path().join(name);
            let more = if more.is_empty() { vec![] } else { vec![more] };
            outcome(&out, model_type, &[&steps[..], &chunks, &more].concat());
            weights(&out)
        };
        let whole = of("whole", ["train.batch_size=32", "train.grad_accumulation=1"]);
        let chunked = of("chunked", ["train.batch_size=8", "train.grad_accumulation=4"]);
        for ((name, a), (_, b)) in whole.iter().zip(&chunked) {
            let norm = a.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
            let difference = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt();
            assert!(difference <= 1e-5 * norm.max(1e-3), "{model_type} {more} {name}: {difference} of {norm}");
        }
    }
}

#[test]
fn captions_find_their_images_and_a_resumed_run_has_the_bits_of_an_uninterrupted_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let [whole, resumed] = ["whole", "resumed"].map(|name| folder.path().join(name));
    let learning = ["train.batch_size=16", "train.grad_accumulation=2", "train.eval_every=100", "contrast.multi_positive=true"];
    let found = outcome(&whole, "clip", &[&learning[..], &["train.steps=300"]].concat());
    // One of 64 images is found by chance; no two have the same caption.
    assert!(found["val_text_to_image_r1"].as_f64().expect("a recall") > 0.1, "{found}");
    outcome(
        &resumed,
        "clip",
        &[&learning[..], &["train.steps=300", "train.checkpoint_every=150", "train.keep_checkpoints=9"]].concat(),
    );
    fs::remove_dir_all(resumed.join("checkpoints/step-0000300")).expect("the last checkpoint");
    outcome(
        &resumed,
        "clip",
        &[&learning[..], &["train.steps=300", "train.checkpoint_every=150", "train.keep_checkpoints=9", "--resume"]].concat(),
    );
    assert_eq!(weights(&whole), weights(&resumed));
    let described = DualFolder::read(&whole).expect("a folder").expect("a CLIP");
    assert_eq!(described.model.eos_token_id + 1, described.model.vocab_size);
    // Other programs find the end of a text as well.
    let tokenizer = samara::tokenizer::Tokenizer::load(&whole).expect("a tokenizer");
    assert_eq!(tokenizer.ids_after(), [described.model.eos_token_id as u32]);
    for file in ["tokenizer.json", "preprocessor_config.json", "MODEL_CARD.md"] {
        assert!(whole.join(file).is_file(), "{file}");
    }
}

/// Ten pictures of each of four colours, with two captions each; returns the rows.
fn write_colours(at: &Path) -> String {
    let colours = [("red", [200, 0, 0]), ("green", [0, 200, 0]), ("blue", [0, 0, 200]), ("white", [220; 3])];
    let mut rows = String::new();
    for (i, (name, rgb)) in colours.iter().cycle().take(40).enumerate() {
        let image =
            image::RgbImage::from_fn(16, 16, |x, _| image::Rgb(rgb.map(|v: u8| v.saturating_add((x * i as u32 / 10) as u8))));
        fs::create_dir_all(at.join("images").join(name)).expect("folder");
        image.save(at.join(format!("images/{name}/{i}.png"))).expect("file");
        rows +=
            &format!("{{\"image\": \"images/{name}/{i}.png\", \"caption\": [\"a {name} picture\", \"all of it is {name}\"]}}\n");
    }
    fs::write(at.join("pairs.jsonl"), &rows).expect("file");
    rows
}

/// Runs another command in a folder; returns standard output and standard error.
fn samara(at: &Path, args: &[&str], code: i32) -> [String; 2] {
    let output = Command::new(env!("CARGO_BIN_EXE_samara")).args(args).current_dir(at).output().expect("the binary runs");
    let [out, error] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    assert_eq!(output.status.code(), Some(code), "{args:?}: {error}");
    [out, error]
}

fn json(line: &str) -> Value {
    serde_json::from_str(line).expect("JSON")
}

#[test]
fn a_trained_model_retrieves_classifies_and_searches() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    write_colours(at);
    let data = format!("data.path={}", at.join("pairs.jsonl").display());
    let steps =
        ["train.steps=120", "train.batch_size=16", "train.eval_every=0", "contrast.multi_positive=true", "data.val_fraction=0"];
    outcome(&at.join("run"), "clip", &[&steps[..], &[data.as_str()]].concat());
    // Ten images share a caption: an image of another number with the same cosine, or a larger one, counts as before it, but not beyond the ten.
    let [out, _] = samara(at, &["eval", "retrieval", "--model", "run", "--data", "pairs.jsonl", "--json"], 0);
    let found = json(&out);
    assert_eq!((&found["images"], &found["captions"]), (&40.into(), &80.into()));
    assert!(found["text_to_image"]["r10"].as_f64().expect("a recall") > 0.9, "{found}");
    let template = ["--template", "a {} picture", "--template", "all of it is {}"];
    let classify = [&["eval", "classify", "--model", "run", "--data", "images", "--json"][..], &template].concat();
    assert!(json(&samara(at, &classify, 0)[0])["accuracy"].as_f64().expect("an accuracy") > 0.9);
    let predict = [&["predict", "--model", "run", "--labels", "red,blue", "--json", "images/blue/2.png"][..], &template].concat();
    assert_eq!(json(&samara(at, &predict, 0)[0])["label"], "blue");
    samara(at, &["predict", "--model", "run", "images/blue/2.png"], 2);
    samara(at, &["predict", "--model", "run", "--labels", "red", "--template", "none", "images/blue/2.png"], 2);
    fs::write(at.join("images/broken.png"), "no picture").expect("file");
    let search =
        ["search", "--model", "run", "--images", "images", "--index", "kept", "--html", "found.html", "--top-k", "3", "--json"];
    let [first, warned] = samara(at, &[&search[..], &["a green picture", "<b>red</b>"]].concat(), 0);
    let [second, _] = samara(at, &[&search[..], &["a green picture", "<b>red</b>"]].concat(), 0);
    assert_eq!(first, second);
    assert!(warned.contains("broken.png"), "{warned}");
    let green = json(first.lines().next().expect("a line"));
    assert!(
        green["found"].as_array().expect("images").iter().all(|image| image["image"].as_str().unwrap().contains("green")),
        "{green}"
    );
    let page = fs::read_to_string(at.join("found.html")).expect("a page");
    assert!(page.contains("&lt;b&gt;red") && page.matches("data:image/png").count() == 6, "{page}");
    // A changed image is encoded again.
    fs::copy(at.join("images/green/1.png"), at.join("images/red/0.png")).expect("file");
    let [third, _] = samara(
        at,
        &["search", "--model", "run", "--images", "images", "--index", "kept", "--top-k", "11", "--json", "a green picture"],
        0,
    );
    assert!(third.contains("images/red/0.png"), "{third}");
    fs::write(at.join("kept/index.json"), "{").expect("file");
    let [_, error] = samara(at, &[&search[..], &["x"]].concat(), 3);
    assert!(error.contains("index.json") && error.contains("remove its folder"), "{error}");
}

#[test]
fn pairs_of_files_are_read_and_what_is_wrong_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let rows = write_colours(at);
    let data = format!("data.path={}", at.join("pairs.jsonl").display());
    let short = ["train.steps=2", "train.batch_size=4", data.as_str()];
    let found =
        outcome(&at.join("run"), "siglip", &[&short[..], &["model.text_hidden_size=16", "model.vision_hidden_size=16"]].concat());
    assert_eq!(found["steps"], 2);
    // A resumed run goes on with the data in its folder, and says so in its files.
    let siglip = ["train.steps=3", "train.batch_size=4", "data.path=/none", "--resume"];
    outcome(&at.join("run"), "siglip", &siglip);
    assert!(fs::read_to_string(at.join("run/run.toml")).expect("a file").contains("pairs.jsonl"));
    fs::remove_dir_all(at.join("run/data")).expect("a folder");
    let output = train(&at.join("run"), "siglip", &["train.steps=4", "train.batch_size=4", data.as_str(), "--resume"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("is gone, and a resumed run reads no other"));
    let refused = |more: &[&str], expected: &str| {
        let output = train(&at.join("refused"), "clip", &[&short[..], more].concat());
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.contains(expected), "{error}\nwant {expected}");
    };
    refused(&["train.batch_size=1"], "train.batch_size: expected at least 2 pairs in a step");
    refused(&["train.batch_size=500"], "train.batch_size: expected at most the 72 pairs for training in a step");
    refused(&["captions.objects=3"], "captions.objects: expected no value; data.path names the pairs");
    refused(&["train.block_size=8"], "train.block_size: expected no value");
    refused(&["model.patch_size=5"], "model.image_size: expected a multiple of model.patch_size = 5, found 16");
    fs::write(at.join("pairs.jsonl"), rows.replace("white/7.png", "white/absent.png")).expect("file");
    refused(&[], "absent.png");
}
