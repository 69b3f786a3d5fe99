//! What the commands of images say, and what they refuse.

use super::images::{TRAIN, train, write_colours};
use super::*;

#[test]
fn settings_that_do_not_fit_are_refused_before_images_are_read() {
    let folder = temporary();
    let at = folder.path();
    write_colours(at);
    train(at, &["--out", "base", "--set", "train.steps=2"]);
    let with = |more: &[&'static str]| [&["train", "--data", "colours", "--init", "base", "--out", "next"][..], more].concat();
    let other = ["base: its model is a vit, and model.model_type = resnet", "leave model.model_type or --init out"];
    refused(at, &with(&["--set", "model.model_type=resnet"]), 2, &other);
    let blocks = ["tune.method: expected at most partial-2: the model has 2 blocks, found partial-3"];
    refused(at, &with(&["--set", "tune.method=partial-3"]), 2, &blocks);
    let cached = with(&["--set", "tune.method=linear", "--set", "tune.cache=true", "--set", "augment.flip=true"]);
    refused(at, &cached, 2, &["tune.cache: expected no value; augment changes images in every epoch"]);
    refused(
        at,
        &["train", "--set", "model.model_type=vti"],
        2,
        &["expected one of gpt2", "vit, resnet, detr, clip", "found \"vti\""],
    );
    let inside = [&TRAIN[..], &["--set", "train.steps=2", "--out", "colours/runs/a"]].concat();
    refused(at, &inside, 2, &["--out colours/runs/a: is in the folder of the data, colours", "choose another folder"]);
    assert!(!at.join("colours/runs").exists() && !at.join("next").exists());
    let sweep =
        ["sweep", "--data", "colours", "--init", "base", "--set", "data.val_fraction=0", "--grid", "train.lr=1,2", "--out", "s"];
    refused(at, &sweep, 2, &["data.val_fraction: nothing is held out", "set data.val_fraction above 0"]);
    let keys = done(at, &["config", "--set", "model.model_type=vit"]);
    assert!(keys.contains("\nsteps = ") && !keys.contains("block_size") && !keys.contains("sample_every"), "{keys}");
    refused(at, &["train", "--set", "model.model_type=detr", "--out", "nets", "--resume"], 2, &["nets: no run to resume"]);
}

#[test]
fn what_the_data_decides_is_said() {
    let folder = temporary();
    let at = folder.path();
    write_colours(at);
    let args: Vec<&str> = TRAIN.iter().copied().filter(|arg| !["-q", "--json"].contains(arg)).collect();
    let output = samara(at, &[&args[..], &["--set", "train.steps=1", "--set", "model.num_labels=7", "--out", "run"]].concat());
    let said = text(&output.stderr);
    assert!(said.contains("note: model.num_labels = 7 has no effect: the data has 3 classes"), "{said}");
    let tiny = [
        "image_size=32",
        "embedding_size=8",
        "hidden_sizes=[8]",
        "depths=[1]",
        "layer_type=basic",
        "d_model=16",
        "encoder_layers=1",
        "decoder_layers=1",
        "encoder_attention_heads=2",
        "decoder_attention_heads=2",
        "encoder_ffn_dim=16",
        "decoder_ffn_dim=16",
        "num_queries=2",
        "model_type=detr",
    ];
    let tiny: Vec<String> = tiny.iter().map(|key| format!("model.{key}")).collect();
    let sets: Vec<&str> = tiny.iter().flat_map(|key| ["--set", key.as_str()]).collect();
    let more = ["--set", "train.steps=1", "--set", "train.batch_size=2", "--set", "detect.val_images=0", "--out", "boxes"];
    let output = samara(at, &[&["train"][..], &sets, &more].concat());
    let said = text(&output.stderr);
    assert!(said.contains("warning: model.num_queries = 2: many training images have more objects, at most 5"), "{said}");
    assert_eq!(output.status.code(), Some(0), "{said}");
    let found: Value = serde_json::from_str(&done(at, &["inspect", "boxes", "--json"])).expect("JSON");
    assert_eq!(
        (&found["model"]["model_type"], &found["processor"]["image_processor_type"]),
        (&"detr".into(), &"DetrImageProcessor".into())
    );
    assert!(found["model"]["parameters"].as_u64().is_some_and(|count| count > 1000), "{found}");
    let found: Value = serde_json::from_str(&done(at, &["inspect", "run", "--json"])).expect("JSON");
    assert_eq!((&found["model"]["model_type"], &found["model"]["hidden_size"]), (&"vit".into(), &12.into()));
    let found: Value = serde_json::from_str(&done(at, &["inspect", &golden("../image_text/clip"), "--json"])).expect("JSON");
    assert!(found["model"]["parameters"].as_u64().is_some_and(|count| count > 1000), "{found}");
}

#[test]
fn bad_images_are_found_named_and_left_out() {
    let folder = temporary();
    let at = folder.path();
    write_colours(at);
    train(at, &["--out", "run", "--set", "train.steps=2"]);
    assert!(
        done(at, &["data", "check", "colours"])
            .ends_with("36 images, 3 classes\n  blue: 12\n  green: 12\n  red: 12\nno errors\n")
    );
    fs::write(at.join("colours/red/bad.png"), "no image").expect("file");
    fs::copy(at.join("colours/red/0.png"), at.join("colours/red/again.png")).expect("file");
    let output = samara(at, &["data", "check", "colours", "--json"]);
    let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(
        (output.status.code(), &found["errors"], &found["problems"]["repeated_images"]["count"]),
        (Some(3), &1.into(), &1.into())
    );
    assert!(
        found["problems"]["bad_images"]["places"][0].as_str().is_some_and(|place| place.contains("red/bad.png: expected")),
        "{found}"
    );
    let named = ["image ", " of ", "colours/red/bad.png: expected", "data.on_bad_image=skip; samara data check lists all"];
    refused(at, &[&TRAIN[..], &["--set", "train.steps=2", "--out", "next"]].concat(), 3, &named);
    let probe = ["eval", "probe", "--model", "run", "--data", "colours", "--shots", "1", "--seeds", "1"];
    refused(at, &probe, 3, &["colours/red/bad.png", "--skip-bad"]);
    done(at, &[&probe[..], &["--skip-bad"]].concat());
    let rows: String = (0..3).flat_map(|i| ["red", "blue"].map(|class| format!("colours/{class}/{i}.png,{class}\n"))).collect();
    fs::write(at.join("t.csv"), format!("file,colour\n{rows}")).expect("file");
    let table =
        ["eval", "classify", "--model", "run", "--data", "t.csv", "--image-field", "file", "--label-field", "colour", "--json"];
    let found: Value = serde_json::from_str(&done(at, &table)).expect("JSON");
    assert_eq!(found["images"], 6);
    let draw = ["predict", "--model", "run", "--draw", "drawn", "colours/red/0.png", "colours/blue/0.png"];
    done(at, &draw);
    assert!(at.join("drawn/0.png").is_file() && at.join("drawn/0-1.png").is_file());
    refused(at, &draw, 2, &["--draw drawn: drawn/0.png is there and is not overwritten"]);
    refused(at, &["predict", "--model", "run", "--draw", "colours/red", "colours/red/0.png"], 2, &["0.png is there"]);
}
