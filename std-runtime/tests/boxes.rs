//! Images with boxes: COCO's files, YOLO's folders, their faults, augmented rows, and the commands that use them.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use image::{Rgb, RgbImage};
use samara::data::dataset::{Dataset, HostBatch};
use samara::stop::Stop;
use samara::vision::boxes::augment::BoxAugment;
use samara::vision::boxes::check::check;
use samara::vision::boxes::config::{BoxAugmentConfig, BoxDataConfig};
use samara::vision::boxes::open::Boxes;
use samara::vision::boxes::rows::{BoxRows, EXTENTS};
use samara::vision::boxes::store::BoxStore;
use samara::vision::config::BadImage;
use samara::vision::processor::Processor;
use serde_json::{Value, json};

/// Pictures of one bright rectangle each: width, height, and the rectangle (x, y, width, height).
const PICTURES: [(u32, u32, [u32; 4]); 6] = [
    (64, 48, [10, 8, 20, 16]),
    (48, 64, [4, 30, 12, 24]),
    (64, 64, [0, 0, 32, 32]),
    (40, 20, [16, 4, 20, 12]),
    (50, 50, [20, 20, 10, 28]),
    (64, 32, [40, 2, 24, 30]),
];
const NAMES: [&str; 2] = ["dark", "light"];

fn paint(path: &Path, (width, height, [x, y, w, h]): (u32, u32, [u32; 4])) {
    let inside = |px: u32, py: u32| (x..x + w).contains(&px) && (y..y + h).contains(&py);
    let picture = RgbImage::from_fn(width, height, |px, py| Rgb(if inside(px, py) { [250, 250, 250] } else { [0, 0, 0] }));
    picture.save(path).expect("a picture");
}

/// Writes the pictures as a COCO data set, `change` applied to its annotations; returns the file.
fn coco(folder: &Path, change: impl Fn(&mut Value)) -> std::path::PathBuf {
    fs::create_dir_all(folder.join("pictures")).expect("a folder");
    let mut dataset =
        json!({ "images": [], "annotations": [], "categories": [{"id": 3, "name": NAMES[0]}, {"id": 90, "name": NAMES[1]}] });
    for (i, &(width, height, bbox)) in PICTURES.iter().enumerate() {
        paint(&folder.join(format!("pictures/{i}.png")), PICTURES[i]);
        let list = |dataset: &mut Value, name: &str, entry: Value| dataset[name].as_array_mut().expect("a list").push(entry);
        list(&mut dataset, "images", json!({ "id": 100 + i, "file_name": format!("{i}.png"), "width": width, "height": height }));
        let category = if i % 2 == 0 { 3 } else { 90 };
        let object = json!({ "id": i + 1, "image_id": 100 + i, "category_id": category, "bbox": bbox, "area": bbox[2] * bbox[3], "iscrowd": 0 });
        list(&mut dataset, "annotations", object);
    }
    change(&mut dataset);
    let file = folder.join("all.json");
    fs::write(&file, dataset.to_string()).expect("a file");
    file
}

/// The same as a YOLO folder.
fn yolo(folder: &Path) {
    for name in ["images", "labels"] {
        fs::create_dir_all(folder.join(name)).expect("a folder");
    }
    for (i, &(width, height, [x, y, w, h])) in PICTURES.iter().enumerate() {
        paint(&folder.join(format!("images/{i}.png")), PICTURES[i]);
        let share = |at: u32, extent: u32, all: u32| (f64::from(at) + f64::from(extent) / 2.0) / f64::from(all);
        let (cx, cy) = (share(x, w, width), share(y, h, height));
        let line = format!("{} {cx} {cy} {} {}\n", i % 2, f64::from(w) / f64::from(width), f64::from(h) / f64::from(height));
        fs::write(folder.join(format!("labels/{i}.txt")), line).expect("labels");
    }
    fs::write(folder.join("data.yaml"), "train: images\nnames:\n  0: dark\n  1: light\n").expect("a file");
}

fn rows(folder: &Path, data: &Path, images: Option<&Path>, augment: Option<BoxAugmentConfig>) -> BoxRows {
    let config = BoxDataConfig { val_fraction: 0.0, ..BoxDataConfig::default() };
    let (mut list, _) = Boxes::open(data, images).unwrap().splits(&config).unwrap();
    let processor = Processor::square(64, Some([[0.0; 3], [1.0; 3]]));
    let side = if augment.is_some() { 80 } else { 64 };
    let path = folder.join(format!("stored-{side}.pixels"));
    let made = BoxStore::make(&path, &mut list, (side, &processor), [BadImage::Error; 2], &Stop::new()).unwrap();
    assert!(made.skipped.is_empty(), "{:?}", made.skipped);
    drop(made);
    let store = BoxStore::open(&path).unwrap();
    BoxRows::new(store, 64, &processor, augment.map(|config| BoxAugment { config, seed: 5 }))
}

fn fill(rows: &BoxRows, numbers: &[u64]) -> HostBatch {
    let mut batch = rows.batch(numbers.len());
    rows.fill(numbers, &mut batch).unwrap();
    batch
}

#[test]
fn a_yolo_folder_and_cocos_annotations_of_the_same_images_are_the_same_rows() {
    let folder = tempfile::tempdir().expect("a folder");
    let (one, other) = (folder.path().join("coco"), folder.path().join("yolo"));
    let file = coco(&one, |_| ());
    yolo(&other);
    let numbers: Vec<u64> = (0..6).collect();
    let [a, b] = [
        fill(&rows(&one, &file, Some(&one.join("pictures")), None), &numbers),
        fill(&rows(&other, &other, None, None), &numbers),
    ];
    assert_eq!((a.ints("class_labels"), a.ints(EXTENTS)), (b.ints("class_labels"), b.ints(EXTENTS)));
    assert_eq!(a.ints("class_labels"), [0, 1, 0, 1, 0, 1]);
    // In proportion, as large as fits: 64 x 48 stays, 40 x 20 becomes 64 x 32.
    assert_eq!(a.ints(EXTENTS), [48, 64, 64, 48, 64, 64, 32, 64, 64, 64, 32, 64]);
    assert!(a.reals("boxes").iter().zip(b.reals("boxes")).all(|(a, b)| (a - b).abs() < 1e-6));
    assert_eq!(a.reals("pixel_values"), b.reals("pixel_values"));
}

/// Where the pixels of a row are bright: left, top, right, bottom.
fn bright(pixels: &[f32]) -> [f32; 4] {
    let at = pixels.chunks(3).enumerate().filter(|(_, pixel)| pixel[0] > 0.5).map(|(i, _)| [(i % 64) as f32, (i / 64) as f32]);
    let all: Vec<[f32; 2]> = at.collect();
    let end = |axis: usize, of: fn(f32, f32) -> f32, from: f32| all.iter().map(|place| place[axis]).fold(from, of);
    [end(0, f32::min, 64.0), end(1, f32::min, 64.0), end(0, f32::max, 0.0) + 1.0, end(1, f32::max, 0.0) + 1.0]
}

#[test]
fn boxes_follow_the_pixels_of_every_augmentation_and_a_row_is_a_function_of_its_index() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = coco(folder.path(), |_| ());
    let config = BoxAugmentConfig { min_scale: 0.6, crop: 0.7, ..BoxAugmentConfig::default() };
    let rows = rows(folder.path(), &file, Some(&folder.path().join("pictures")), Some(config));
    let numbers: Vec<u64> = (0..120).collect();
    let batch = fill(&rows, &numbers);
    let mut seen = 0;
    for (row, pixels) in batch.reals("pixel_values").chunks(64 * 64 * 3).enumerate() {
        let &[height, width] = &batch.ints(EXTENTS)[2 * row..2 * row + 2] else { panic!() };
        let beyond = pixels.chunks(64 * 3).enumerate().flat_map(|(y, line)| {
            line.chunks(3)
                .enumerate()
                .filter(move |(x, _)| y >= height as usize || *x >= width as usize)
                .map(|(_, pixel)| pixel[0])
        });
        assert!(beyond.into_iter().all(|x| x == 0.0), "row {row}: something in the padding");
        if batch.ints("class_labels")[row] < 0 {
            continue;
        }
        let place = &batch.reals("boxes")[4 * row..4 * row + 4];
        let (w, h) = (width as f32, height as f32);
        let expected = [
            (place[0] - place[2] / 2.0) * w,
            (place[1] - place[3] / 2.0) * h,
            (place[0] + place[2] / 2.0) * w,
            (place[1] + place[3] / 2.0) * h,
        ];
        let found = bright(pixels);
        // A sliver narrower than two pixels may be dark.
        if expected[2] - expected[0] > 2.0 && expected[3] - expected[1] > 2.0 {
            let apart = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(apart < 1.6, "row {row}: bright {found:?}, box {expected:?}");
            seen += 1;
        }
    }
    assert!(seen > 80, "{seen}");
    let again = fill(&rows, &[77]);
    assert_eq!(again.reals("pixel_values"), &batch.reals("pixel_values")[77 * 64 * 64 * 3..78 * 64 * 64 * 3]);
    assert_eq!(again.reals("boxes"), &batch.reals("boxes")[77 * 4..78 * 4]);
}

/// A data set with one fault of every kind.
fn faults(dataset: &mut Value) {
    let objects = dataset["annotations"].as_array_mut().expect("a list");
    let object = |id: u32, image: u32, category: u32, bbox: Value, crowd: u32| json!({ "id": id, "image_id": image, "category_id": category, "bbox": bbox, "area": 9, "iscrowd": crowd });
    objects.push(object(20, 100, 3, json!([1, 1, 0, 5]), 0));
    objects.push(object(21, 101, 3, json!([100, 1, 5, 5]), 0));
    objects.push(object(22, 7, 3, json!([1, 1, 5, 5]), 0));
    objects.push(object(23, 102, 4, json!([1, 1, 5, 5]), 0));
    objects.push(object(24, 102, 3, json!([1, null, 5, 5]), 0));
    objects.push(object(25, 102, 3, json!([60, 1, 9, 5]), 0));
    objects.push(object(26, 102, 3, json!([1, 1, 5, 5]), 1));
    objects.push(object(1, 102, 3, json!([1, 1, 5, 5]), 0));
    let images = dataset["images"].as_array_mut().expect("a list");
    images[3]["width"] = 20.into();
    images[3]["height"] = 40.into();
    images[4]["width"] = 51.into();
    images.push(json!({ "id": 300, "file_name": "absent.png", "width": 4, "height": 4 }));
}

const FAULTS: [&str; 11] = [
    "missing_images",
    "swapped_sizes",
    "wrong_sizes",
    "boxes_not_finite",
    "boxes_without_extent",
    "boxes_outside",
    "objects_of_unknown_images",
    "objects_of_unknown_categories",
    "objects_with_the_same_id",
    "boxes_that_reach_out",
    "crowds",
];

#[test]
fn every_fault_is_named_and_the_exit_code_tells() {
    let folder = tempfile::tempdir().expect("a folder");
    let (file, pictures) = (coco(folder.path(), faults), folder.path().join("pictures"));
    let report = check(&file, Some(&pictures)).unwrap();
    let count = |name: &str| report.problems.get(name).map_or(0, |problem| problem["count"].as_u64().unwrap_or(0));
    assert_eq!(FAULTS.map(count), [1; 11], "{:?}", report.lines());
    assert_eq!(report.errors, 9);
    let lines = report.lines().join("\n");
    assert!(
        lines.contains("annotation 20 of 0.png ([1, 1, 0, 5] in 64 x 48)") && lines.contains("orientation in EXIF"),
        "{lines}"
    );
    let output = samara(&["data", "check", file.to_str().unwrap(), "--images", pictures.to_str().unwrap(), "--json"]);
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn training_ends_at_a_fault_or_leaves_it_out_and_crowds_always() {
    let folder = tempfile::tempdir().expect("a folder");
    let (file, pictures) = (coco(folder.path(), faults), folder.path().join("pictures"));
    let config = BoxDataConfig { val_fraction: 0.0, ..BoxDataConfig::default() };
    let list = || Boxes::open(&file, Some(&pictures)).unwrap().splits(&config).unwrap().0;
    let processor = Processor::square(64, None);
    let make =
        |bad: [BadImage; 2]| BoxStore::make(&folder.path().join("x.pixels"), &mut list(), (64, &processor), bad, &Stop::new());
    let error = make([BadImage::Error; 2]).err().expect("an error").to_string();
    assert!(error.contains("absent.png") && error.contains("data.on_bad_image=skip"), "{error}");
    let error = make([BadImage::Skip, BadImage::Error]).err().expect("an error").to_string();
    assert!(error.contains("annotations[") && error.contains("data.on_bad_box=skip"), "{error}");
    let made = make([BadImage::Skip; 2]).unwrap();
    // Four images; their four objects, the clipped one, and the one with the id of another.
    assert_eq!((made.store.len(), made.store.objects(), made.skipped.len()), (4, 6, 9));
}

fn samara(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_samara")).args(args).output().expect("the binary runs")
}

fn json_of(args: &[&str]) -> Value {
    let output = samara(args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

const TINY: &str = "model.model_type=detr model.image_size=64 model.embedding_size=8 model.hidden_sizes=[8,16] model.depths=[1,1] \
                    model.layer_type=basic model.d_model=16 model.encoder_layers=1 model.decoder_layers=2 model.encoder_attention_heads=2 \
                    model.decoder_attention_heads=2 model.encoder_ffn_dim=32 model.decoder_ffn_dim=32 model.num_queries=6 train.batch_size=3 \
                    train.steps=6 train.dropout=0.1 train.schedule=step train.drop_at=0.5 augment.crop=0.5 augment.min_scale=0.7";

/// A folder with pictures, their annotations, and a detector trained on two thirds of them.
struct Trained {
    folder: tempfile::TempDir,
    data: String,
    pictures: String,
    /// The setting that names their folder.
    images: String,
    run: String,
}

impl Trained {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
        let data = coco(folder.path(), |_| ()).to_string_lossy().into_owned();
        let images = format!("data.images={:?}", at("pictures"));
        let new = Self { data, pictures: at("pictures"), images, run: at("run"), folder };
        assert_eq!(json_of(&new.train(&["--quiet", "--json", "--out", &new.run]))["steps"], 6);
        new
    }

    fn at(&self, name: &str) -> String {
        self.folder.path().join(name).to_string_lossy().into_owned()
    }

    /// The arguments of its training.
    fn train<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        let set = TINY.split_whitespace().flat_map(|set| ["--set", set]);
        let data = ["--data", &self.data, "--set", &self.images, "--set", "data.val_fraction=0.34", "--threads", "2"];
        ["train"].into_iter().chain(set).chain(data).chain(more.iter().copied()).collect()
    }
}

#[test]
fn an_evaluation_of_a_detector_is_that_of_the_files_it_writes_and_does_not_depend_on_the_batch() {
    let trained = Trained::new();
    let Trained { data, pictures, run, .. } = &trained;
    let (found, truth) = (trained.at("found.json"), trained.at("truth.json"));
    let files = ["--predictions-out", &found, "--annotations-out", &truth, "--gallery"];
    let outcome = json_of(&[&["eval", "detect", "--model", run, "--by-layer", "--json"], &files[..]].concat());
    let count = |key: &str| outcome[key].as_u64();
    assert_eq!(["images", "detections", "layer"].map(count), [Some(2), Some(12), Some(2)]);
    let again = json_of(&["eval", "detect", "--predictions", &found, "--annotations", &truth, "--json"]);
    assert_eq!((&outcome["stats"], &outcome["classes"]), (&again["stats"], &again["classes"]));
    assert_eq!(outcome["layers"][1]["stats"], outcome["stats"]);
    let all = ["eval", "detect", "--model", run, "--data", data, "--images", pictures, "--split", "all", "--json"];
    let [one, several] = ["1", "8"].map(|batch| json_of(&[&all[..], &["--batch-size", batch]].concat()));
    assert_eq!((&one, one["images"].as_u64()), (&several, Some(6)));
    let page = trained.at("page.html");
    assert!(samara(&["report", run, "--out", &page]).status.success());
    let page = fs::read_to_string(page).expect("a page");
    assert!(page.contains("missed: ") && page.contains("base64,iVBOR"), "no picture in the report");
}

#[test]
fn a_detector_is_planned_asked_and_tuned_to_other_classes() {
    let trained = Trained::new();
    let plan = samara(&trained.train(&["--plan"]));
    let plan = String::from_utf8_lossy(&plan.stdout).into_owned();
    assert!(plan.contains("training images") && plan.contains("FLOP per image"), "{plan}");
    let (picture, drawn) = (trained.at("pictures/3.png"), trained.at("drawn"));
    let boxes = json_of(&["predict", "--model", &trained.run, "--json", "--threshold", "0", "--draw", &drawn, &picture]);
    assert_eq!((boxes["width"].as_u64(), boxes["boxes"].as_array().map(Vec::len)), (Some(40), Some(6)));
    let drawn = image::open(Path::new(&drawn).join("3.png")).expect("a picture");
    assert_eq!((drawn.width(), drawn.height()), (40, 20));
    let other = trained.folder.path().join("yolo");
    yolo(&other);
    fs::write(other.join("data.yaml"), "train: images\nnames: [a, b, c]\n").expect("a file");
    let (other, tuned) = (other.to_string_lossy().into_owned(), trained.at("tuned"));
    let args = [
        "train",
        "--init",
        &trained.run,
        "--data",
        &other,
        "--out",
        &tuned,
        "--set",
        "train.steps=2",
        "--set",
        "train.batch_size=2",
    ];
    assert_eq!(json_of(&[&args[..], &["--json", "--quiet"]].concat())["steps"], 2);
    let json =
        |name: &str| -> Value { serde_json::from_slice(&fs::read(Path::new(&tuned).join(name)).expect("a file")).expect("JSON") };
    assert_eq!(json("config.json")["id2label"], json!({ "0": "a", "1": "b", "2": "c" }));
    let processor = json("preprocessor_config.json");
    assert_eq!((&processor["image_processor_type"], &processor["pad_size"]["width"]), (&json!("DetrImageProcessor"), &json!(64)));
}

#[test]
fn the_attention_of_a_transformer_is_drawn_over_the_picture() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    for class in ["a", "b"] {
        fs::create_dir_all(folder.path().join("data").join(class)).expect("a folder");
        (0..4).for_each(|i| paint(&folder.path().join(format!("data/{class}/{i}.png")), PICTURES[i]));
    }
    let set = "model.model_type=vit model.image_size=16 model.patch_size=4 model.hidden_size=8 model.num_hidden_layers=2 \
               model.num_attention_heads=2 model.intermediate_size=16 train.steps=3 train.batch_size=2 data.val_fraction=0";
    let set: Vec<&str> = set.split_whitespace().flat_map(|set| ["--set", set]).collect();
    let (data, run, drawn) = (at("data"), at("run"), at("drawn"));
    json_of(&[&["train", "--quiet", "--json", "--data", &data, "--out", &run], &set[..]].concat());
    json_of(&["predict", "--model", &run, "--json", "--draw", &drawn, &at("data/a/0.png")]);
    let picture = image::open(Path::new(&drawn).join("0.png")).expect("a picture").into_rgb8();
    assert_eq!((picture.width(), picture.height()), (64, 48));
    // Somewhere it is reddest.
    assert!(picture.pixels().any(|Rgb([red, _, blue])| red > blue) && picture.pixels().any(|Rgb([red, _, blue])| red <= blue));
}
