//! `eval detect`.

use super::*;

/// Two cats and a dog in images with sparse ids; the dog and a cat are found. One annotation has id 0, one detection no score.
fn write_files(at: &Path) {
    let annotations = r#"{"images": [{"id": 70, "width": 100, "height": 100}, {"id": 5}],
        "categories": [{"id": 17, "name": "cat"}, {"id": 18, "name": "dog"}, {"id": 90, "name": "bird"}, {"id": 91, "name": "cat"}],
        "annotations": [
            {"id": 0, "image_id": 70, "category_id": 17, "bbox": [10, 10, 20, 20], "area": 400, "iscrowd": 0},
            {"id": 1, "image_id": 5, "category_id": 17, "bbox": [50, 50, 20, 20], "area": 400, "iscrowd": 0},
            {"id": 2, "image_id": 5, "category_id": 18, "bbox": [0, 0, 100, 100], "iscrowd": 0}]}"#;
    let predictions = r#"[{"image_id": 70, "category_id": 17, "bbox": [10, 10, 20, 20], "score": 0.9},
        {"image_id": 5, "category_id": 18, "bbox": [0, 0, 100, 100], "score": 0.8},
        {"image_id": 5, "category_id": 18, "bbox": [0, 0, 100, 100], "score": NaN},
        {"image_id": 6, "category_id": 18, "bbox": [0, 0, 100, 100], "score": 0.3}]"#;
    fs::write(at.join("val.json"), annotations).expect("file");
    fs::write(at.join("found.json"), predictions).expect("file");
}

const DETECT: [&str; 6] = ["eval", "detect", "--predictions", "found.json", "--annotations", "val.json"];

#[test]
fn eval_detect_prints_the_numbers_of_pycocotools() {
    let folder = temporary();
    let at = folder.path();
    write_files(at);
    let found: Value = serde_json::from_str(&done(at, &[&DETECT[..], &["--json"]].concat())).expect("JSON");
    // Of the two cats half is found: precision is 1 up to a recall of 50 %, 51 of 101 points.
    let cat = 51.0 / 101.0;
    let ap = found["ap"].as_f64().expect("a number");
    assert!((ap - f64::midpoint(cat, 1.0)).abs() < 1e-12, "{found}");
    assert_eq!((&found["stats"][0], &found["stats"][1], &found["stats"][2]), (&found["ap"], &found["ap50"], &found["ap75"]));
    assert_eq!(found["stats"].as_array().map(Vec::len), Some(12));
    // The last digit is lost to the ε of pycocotools, and another one to its order of adding.
    let dog = serde_json::json!({"id": 18, "ap": 0.999_999_999_999_999_8, "ap50": 0.999_999_999_999_999_9, "annotations": 1});
    assert_eq!(found["classes"]["dog"], dog);
    assert_eq!((&found["classes"]["bird"]["ap"], &found["classes"]["cat (id 91)"]["annotations"]), (&(-1.0).into(), &0.into()));
    assert_eq!((&found["images"], &found["annotations"], &found["detections"]), (&2.into(), &3.into(), &2.into()));
    assert_eq!(found["skipped"], serde_json::json!({"detections_in_unknown_images": 1, "detections_without_score": 1}));
    assert_eq!(found["notes"], serde_json::json!({"annotations_without_area": 1, "annotations_with_id_0": 1}));
    assert_eq!((&found["schema"], &found["compat"]), (&1.into(), &false.into()));
    // Annotation 0 is the cat that is found.
    let found: Value = serde_json::from_str(&done(at, &[&DETECT[..], &["--json", "--compat"]].concat())).expect("JSON");
    assert_eq!((&found["classes"]["cat"]["ap"], &found["compat"]), (&0.0.into(), &true.into()));
}

#[test]
fn eval_detect_says_what_is_odd_and_refuses_what_is_wrong() {
    let folder = temporary();
    let at = folder.path();
    write_files(at);
    let output = samara(at, &[&DETECT[..], &["--per-class"]].concat());
    let (shown, notes) = (text(&output.stdout), text(&output.stderr));
    let first = " Average Precision  (AP) @[ IoU=0.50:0.95 | area=   all | maxDets=100 ] = 0.752\n";
    assert!(shown.starts_with(first) && shown.lines().filter(|line| line.contains("] = ")).count() == 12, "{shown}");
    assert!(shown.contains("class  id  annotations") && shown.contains("\nbird   90            0  -1.000  -1.000\n"), "{shown}");
    for part in [
        "note: val.json: 1 annotations have id 0",
        "note: found.json: 1 detections have a score that is null, NaN or infinite: left out (the first is entry 2)\n",
    ] {
        assert!(notes.contains(part), "{notes}");
    }
    let output = samara(at, &[&DETECT[..], &["--quiet"]].concat());
    assert_eq!((text(&output.stderr), text(&output.stdout).lines().count()), (String::new(), 12));

    let swapped = ["eval", "detect", "--predictions", "val.json", "--annotations", "found.json"];
    refused(at, &swapped, 3, &["found.json:1:", "expected an object with images", "found a list", "are the two files swapped?"]);
    fs::write(at.join("cut.json"), r#"{"images": [{"id": 1}], "annotations": [{"id": 1, "bbox": [1, 2"#).expect("file");
    let cut = ["eval", "detect", "--predictions", "found.json", "--annotations", "cut.json"];
    refused(at, &cut, 3, &["cut.json:1:", "annotations[0].bbox: expected JSON, found its end", "is the file cut?"]);
    let absent = ["eval", "detect", "--predictions", "absent.json", "--annotations", "val.json"];
    refused(at, &absent, 4, &["absent.json: cannot read"]);
    refused(at, &["eval", "detect"], 2, &["--predictions", "--model"]);
    let idle = ["eval", "detect", "--model", "run", "--annotations", "val.json"];
    refused(at, &idle, 2, &["--annotations"]);
    refused(at, &["eval", "--data", "x", "detect"], 2, &["'detect' cannot be used with '--data"]);
    refused(at, &["eval"], 2, &["--model", "--data"]);
    refused(at, &["eval", "dtect"], 2, &["'detect'"]);
}
