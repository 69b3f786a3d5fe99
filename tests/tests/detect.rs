//! Average precision as pycocotools computes it (`tests/golden/detect`), and readers of COCO's files on text of any kind.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use samara::detect::average_precision::{AveragePrecision, evaluate};
use samara::detect::coco::{CocoError, Dataset, Finding, Findings};
use samara_tests::golden::{numbers, path};
use serde_json::{Value, json};

/// An entry of a list, with the values of a row.
fn entry(keys: &[&str], row: &Value) -> Value {
    let values = row.as_array().expect("a row");
    keys.iter().zip(values).map(|(key, value)| ((*key).to_owned(), value.clone())).collect::<serde_json::Map<_, _>>().into()
}

/// The two files of a set.
fn files(set: &Value) -> (Value, Value) {
    let rows = |name: &str| set[name].as_array().expect("rows").iter();
    let annotation = ["id", "image_id", "category_id", "bbox", "area", "iscrowd"];
    let dataset = json!({
        "annotations": rows("annotations").map(|row| entry(&annotation, row)).collect::<Vec<_>>(),
        "images": rows("images").map(|id| json!({ "id": id })).collect::<Vec<_>>(),
        "categories": rows("categories").map(|id| json!({ "id": id, "name": id.to_string() })).collect::<Vec<_>>(),
    });
    let detection = ["image_id", "category_id", "bbox", "score"];
    (dataset, rows("detections").map(|row| entry(&detection, row)).collect())
}

fn dataset(text: &str) -> Result<Dataset, CocoError> {
    Dataset::read(text.as_bytes(), Path::new("val.json"))
}

fn evaluated(annotations: &str, detections: &str, compat: bool) -> AveragePrecision {
    let mut dataset = dataset(annotations).unwrap();
    let (mut detections, _) = dataset.read_detections(detections.as_bytes(), Path::new("found.json")).unwrap();
    if compat {
        dataset.merge_same_ids();
    }
    evaluate(&mut dataset.annotations, &mut detections, dataset.categories.len(), compat).unwrap()
}

/// With `SAMARA_DETECT_SETS=FILE` of another file, made by `make_detect.py --sets 300 --out FILE`.
#[test]
fn random_sets_have_the_numbers_of_pycocotools() {
    let file = std::env::var_os("SAMARA_DETECT_SETS").map_or_else(|| path("detect/sets.json"), PathBuf::from);
    let recorded: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    let (mut largest, mut count) = (0.0_f64, 0);
    for set in recorded["sets"].as_array().unwrap() {
        let (annotations, detections) = files(set);
        let found = evaluated(&annotations.to_string(), &detections.to_string(), set["compat"] == true);
        let classes: Vec<f64> = set["classes"].as_array().unwrap().iter().flat_map(numbers).collect();
        let expected = numbers(&set["stats"]).into_iter().chain(classes);
        let of_classes = found.classes.iter().flat_map(|class| [class.ap, class.ap50]);
        let found: Vec<f64> = found.stats.into_iter().chain(of_classes).collect();
        assert_eq!(found.len(), expected.clone().count());
        for (k, (found, expected)) in found.into_iter().zip(expected).enumerate() {
            assert!((found - expected).abs() <= 1e-12, "set {}, number {k}: {found}, expected {expected}", set["seed"]);
            largest = largest.max((found - expected).abs());
        }
        count += 1;
    }
    println!("{count} sets, largest difference {largest:e}");
    assert!(count >= 30);
}

/// One object with this id, and a detection just there.
fn perfect(id: i64) -> (String, String) {
    let annotation = json!({ "id": id, "image_id": 4, "category_id": 9, "bbox": [10, 20, 30, 40], "area": 1200, "iscrowd": 0 });
    let dataset = json!({ "images": [{ "id": 4 }], "categories": [{ "id": 9, "name": "cat" }], "annotations": [annotation] });
    let detection = json!([{ "image_id": 4, "category_id": 9, "bbox": [10, 20, 30, 40], "score": 0.5 }]);
    (dataset.to_string(), detection.to_string())
}

#[test]
fn id_0_is_an_id_unless_pycocotools_is_followed() {
    // The last digit is lost to the ε beside TP + FP.
    const WHOLE: f64 = 0.999_999_999_999_999_8;
    for (id, compat, expected) in [(1, false, WHOLE), (1, true, WHOLE), (0, false, WHOLE), (0, true, 0.0)] {
        let (annotations, detections) = perfect(id);
        assert_eq!(evaluated(&annotations, &detections, compat).stats[0], expected, "{id} {compat}");
        assert_eq!(dataset(&annotations).unwrap().findings.count(Finding::ZeroId), u64::from(id == 0));
    }
}

#[test]
fn nothing_to_find_is_minus_one() {
    let empty = json!({ "images": [], "annotations": [] }).to_string();
    assert_eq!(evaluated(&empty, "[]", false).stats, [-1.0; 12]);
    let (annotations, _) = perfect(1);
    let found = evaluated(&annotations, "[]", false).stats;
    assert_eq!((found[0], found[3], found[8]), (0.0, -1.0, 0.0));
}

#[test]
fn the_order_of_entries_and_lists_changes_nothing_without_ties() {
    let recorded: Value = serde_json::from_str(&fs::read_to_string(path("detect/sets.json")).unwrap()).unwrap();
    let set = &recorded["sets"][0];
    let (mut annotations, detections) = files(set);
    let before = evaluated(&annotations.to_string(), &detections.to_string(), false);
    for list in ["images", "categories"] {
        annotations[list].as_array_mut().unwrap().reverse();
    }
    assert_eq!(evaluated(&annotations.to_string(), &detections.to_string(), false), before);
}

/// Annotations with one oddity after the other.
const ODD: &str = r#"{"info": {"deep": [[[{"a": "\"}{"}]]]}, "annotations": [
    {"id": 1, "image_id": 1, "category_id": 3, "bbox": [0, 0, 10, 10], "segmentation": [[1, 2.5, 3e0]]},
    {"id": 1, "image_id": 1, "category_id": 3.0, "bbox": [0, 0, 0, 10], "area": NaN, "iscrowd": true, "ignore": 1},
    {"id": 0, "image_id": 8, "category_id": 3, "bbox": [0, 0, 10, 10], "area": 7, "iscrowd": 0},
    {"id": 3, "image_id": 1, "category_id": 4, "bbox": [0, 0, 10, 10], "area": 7, "iscrowd": 0},
    {"id": 4, "image_id": 1, "category_id": 3, "bbox": [0, -Infinity, 10, 10], "area": 7, "iscrowd": 0},
    {"id": 5, "image_id": 1, "category_id": 3, "bbox": null, "area": 7, "iscrowd": 0},
    {"id": 6, "image_id": 1, "category_id": 3, "bbox": [95, 0, 10, 10], "area": null, "iscrowd": null}],
    "images": [{"id": 1, "width": 1, "height": 1}, {"id": 1, "width": 100, "height": 100, "file_name": "a.jpg"}],
    "categories": [{"id": 3, "name": "old"}, {"id": 3, "name": "new", "supercategory": "x"}]}"#;

fn names(findings: &Findings) -> Vec<(&'static str, u64, Option<u64>)> {
    findings.iter().map(|(finding, found)| (finding.name(), found.count, found.first)).collect()
}

#[test]
fn oddities_of_annotations_are_counted() {
    let found = dataset(ODD).unwrap();
    assert_eq!(
        names(&found.findings),
        [
            ("annotations_of_unknown_images", 1, Some(2)),
            ("annotations_of_unknown_categories", 1, Some(3)),
            ("annotations_without_box", 2, Some(4)),
            ("annotations_without_area", 3, Some(0)),
            ("annotations_without_iscrowd", 1, Some(0)),
            ("annotations_with_ignore", 1, Some(1)),
            ("annotations_without_extent", 1, Some(1)),
            ("annotations_outside", 1, Some(6)),
            ("annotations_with_the_same_id", 1, None),
            ("annotations_with_id_0", 1, Some(2)),
            ("images_with_the_same_id", 1, None),
            ("categories_with_the_same_id", 1, None),
        ]
    );
    let areas: Vec<(f64, bool)> = found.annotations.iter().map(|object| (object.area, object.crowd)).collect();
    assert_eq!(areas, [(100.0, false), (0.0, true), (100.0, false)]);
    assert_eq!((found.categories.len(), found.categories[0].name.as_str()), (1, "new"));
    assert_eq!(found.images[0].size, Some((100.0, 100.0)));
    let lines = found.findings.lines();
    assert!(lines.iter().any(|line| line.starts_with("1 annotations have id 0: they count as all others do")), "{lines:?}");
}

#[test]
fn oddities_of_detections_are_counted() {
    let found = dataset(ODD).unwrap();
    let detections = r#"[{"image_id": 1, "category_id": 3, "bbox": [0, 0, 10, 10], "score": 1, "extra": {}},
        {"image_id": 1, "category_id": 3, "bbox": [0, 0, 10, -1], "score": 0.5},
        {"image_id": 2, "category_id": 3, "bbox": [0, 0, 10, 10], "score": 0.5},
        {"image_id": 1, "category_id": 2, "bbox": [0, 0, 10, 10], "score": 0.5},
        {"image_id": 1, "category_id": 3, "bbox": [0, 0, 10, NaN], "score": 0.5},
        {"image_id": 1, "category_id": 3, "bbox": [0, 0, 10, 10], "score": NaN}]"#;
    let (detections, findings) = found.read_detections(detections.as_bytes(), Path::new("found.json")).unwrap();
    assert_eq!(detections.len(), 2);
    let expected: Vec<_> = ["in_unknown_images", "of_unknown_categories", "without_box", "without_score", "without_extent"]
        .into_iter()
        .zip([2, 3, 4, 5, 1])
        .map(|(name, first)| (format!("detections_{name}"), 1, Some(first)))
        .collect();
    let names: Vec<_> = names(&findings).into_iter().map(|(name, count, first)| (name.to_owned(), count, first)).collect();
    assert_eq!(names, expected);
}

#[test]
fn without_categories_those_of_the_annotations_are_used() {
    let text = ODD.split_once(",\n    \"categories\"").unwrap().0.to_owned() + "}";
    let found = dataset(&text).unwrap();
    let categories: Vec<(i64, &str)> = found.categories.iter().map(|category| (category.id, category.name.as_str())).collect();
    assert_eq!(categories, [(3, "3"), (4, "4")]);
    assert_eq!(found.findings.count(Finding::NoCategories), 1);
}

#[test]
fn errors_name_file_entry_key_and_what_helps() {
    let whole = r#"{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}"#;
    let with = |from: &str, to: &str| format!("{{\"images\": [], \"annotations\": [{whole},\n{}]}}", whole.replace(from, to));
    let at = "val.json:2:";
    for (text, parts) in [
        (
            with("[1, 2, 3, 4]", "[1, 2, 3]"),
            [at, "annotations[1].bbox: expected a list [x, y, width, height], found 3 numbers; every"],
        ),
        (
            with("[1, 2, 3, 4]", "[1, 2, 3, 4, 5]"),
            [at, "annotations[1].bbox: expected a list [x, y, width, height], found more than 4"],
        ),
        (with("[1, 2, 3, 4]", "[1, 2, 3, \"4\"]"), [at, "annotations[1].bbox: expected a number, found string \"4\"; every"]),
        (with("[1, 2, 3, 4]", "{}"), [at, "annotations[1].bbox: expected a list [x, y, width, height], found an object"]),
        (
            with("\"bbox\"", "\"box\""),
            [at, "annotations[1]: expected key \"bbox\", found an object without it; every annotation needs"],
        ),
        (with("\"id\": 1", "\"id\": 1.5"), [at, "annotations[1].id: expected an integer, found 1.5"]),
        (with("\"id\": 1", "\"id\": true"), [at, "annotations[1].id: expected an integer, found true"]),
        (
            with("\"image_id\": 1", "\"image_id\": \"a\""),
            [at, "annotations[1].image_id: expected an integer, found string \"a\""],
        ),
        (with("{\"id\": 1", "{\"area\": \"12\", \"id\": 1"), [at, "annotations[1].area: expected a number, found string \"12\""]),
        (with(whole, "7"), [at, "annotations[1]: expected an object with id, image_id, category_id, bbox, found integer `7`"]),
        (with("\"bbox\"", "bbox"), [at, "annotations[1]: expected JSON, found \"key must be a string\"; is the file damaged?"]),
        (with("}", "} extra"), [at, "annotations[2]: expected JSON, found \"expected `,` or `]`\"; is the file damaged?"]),
        (with("4]}", "4"), [at, "annotations[2]: expected JSON, found its end too soon"]),
        (
            "[]".to_owned(),
            ["val.json:1:", "expected an object with images, annotations and categories, found a list; annotations are"],
        ),
        ("{}".to_owned(), ["val.json:1:", "expected key \"images\", found an object without it; annotations are an object"]),
        (
            "{\"images\": 3}".to_owned(),
            ["val.json:1:", "images: expected a list of objects with id, found integer `3`; every image"],
        ),
        (String::new(), ["val.json:1:0: ", "expected JSON, found its end too soon"]),
        (
            "{\"images\": [] ,\"a\": ".to_owned() + &"[".repeat(2000),
            ["val.json: expected a file of boxes, found lists", "nested more than 1024 deep; is this the right"],
        ),
    ] {
        let error = dataset(&text).unwrap_err().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{text}\n got {error}\nwant {parts:?}");
    }
    let (annotations, _) = perfect(1);
    let error = dataset(&annotations).unwrap().read_detections(annotations.as_bytes(), Path::new("found.json")).unwrap_err();
    let expected =
        "detections: expected a list of objects with image_id, category_id, bbox, score, found an object; predictions are a list";
    assert!(error.to_string().contains(expected), "{error}");
}

/// A value as it may stand in a file, right or wrong.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => (-3..4_i64).prop_map(|n| n.to_string()),
        2 => (-50.0..200.0_f64).prop_map(|x| x.to_string()),
        1 => prop::sample::select(&["null", "NaN", "-Infinity", "true", "1e999", "\"x\"", "[]", "{}", "-", "1e308", "-0.0"][..])
            .prop_map(str::to_owned),
        4 => prop::collection::vec(-3.0..40.0_f64, 3..6).prop_map(|list| format!("{list:?}")),
    ]
}

/// An object with some of the keys.
fn object() -> impl Strategy<Value = String> {
    let keys = &["id", "image_id", "category_id", "bbox", "area", "iscrowd", "score", "ignore", "name", "width", "height"][..];
    let pairs = prop::collection::vec((prop::sample::select(keys), value()), 0..9);
    let fields = |pairs: Vec<(&str, String)>| pairs.iter().map(|(key, value)| format!("\"{key}\": {value}")).collect::<Vec<_>>();
    pairs.prop_map(move |pairs| format!("{{{}}}", fields(pairs).join(", ")))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read(
        rows in prop::collection::vec((any::<i64>(), -9..9_i64, 0..4_i64, prop::array::uniform4(-1e6..1e6_f64), any::<bool>()), 0..20)
    ) {
        let entries: Vec<Value> = rows
            .iter()
            .map(|(id, image, category, bbox, crowd)| {
                json!({ "iscrowd": crowd, "bbox": bbox, "category_id": category, "area": bbox[2], "image_id": image, "id": id })
            })
            .collect();
        let images: Vec<Value> = (-9..9).rev().map(|id| json!({ "id": id })).collect();
        let found = dataset(&json!({ "images": images, "annotations": entries }).to_string()).unwrap();
        prop_assert_eq!(found.annotations.len(), rows.len());
        for (object, (id, image, category, bbox, crowd)) in found.annotations.iter().zip(&rows) {
            prop_assert_eq!(object.id, *id);
            prop_assert_eq!(found.images[object.image as usize].id, *image);
            prop_assert_eq!(found.categories[object.category as usize].id, *category);
            let b = object.bbox;
            prop_assert_eq!([b.x, b.y, b.width, b.height, object.area], [bbox[0], bbox[1], bbox[2], bbox[3], bbox[2]]);
            prop_assert_eq!(object.crowd, *crowd);
        }
    }

    #[test]
    fn any_text_is_read_or_refused(
        lists in prop::array::uniform3(prop::collection::vec(object(), 0..6)),
        cut in prop::option::weighted(0.2, 0..400_usize),
        detections in prop::collection::vec(object(), 0..9),
        compat in any::<bool>(),
    ) {
        let [images, categories, annotations] = lists.map(|list| list.join(","));
        let text = format!("{{\"images\": [{images}], \"annotations\": [{annotations}], \"categories\": [{categories}]}}");
        let text = cut.and_then(|cut| text.get(..cut)).unwrap_or(&text);
        for text in [text, "{\"images\": [{\"id\": 0}, {\"id\": 1}], \"annotations\": []}", &perfect(0).0] {
            let Ok(mut dataset) = dataset(text) else { continue };
            let list = format!("[{}]", detections.join(","));
            let (mut detections, _) = dataset.read_detections(list.as_bytes(), Path::new("found.json")).unwrap_or_default();
            if compat {
                dataset.merge_same_ids();
            }
            let found = evaluate(&mut dataset.annotations, &mut detections, dataset.categories.len(), compat).unwrap();
            prop_assert!(found.stats.iter().all(|x| *x == -1.0 || (0.0..=1.0).contains(x)), "{:?}", found.stats);
        }
    }
}
