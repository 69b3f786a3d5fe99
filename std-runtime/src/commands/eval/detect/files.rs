//! COCO's files of an evaluation: results, and annotations.

use std::path::Path;

use serde_json::{Value, json};

use super::super::super::Error;
use super::model::Evaluation;
use crate::detect::boxes::{BoundingBox, Detection};
use crate::files::IoError;
use crate::run::durable;

/// Writes detections as COCO's results.
pub(super) fn write_results(path: &Path, evaluation: &Evaluation, detections: &[Detection]) -> Result<(), Error> {
    let of = |detection: &Detection| {
        json!({
            "image_id": evaluation.images.get(detection.image as usize).map(|image| image.id),
            "category_id": evaluation.categories.get(detection.category as usize).map(|category| category.id),
            "bbox": xywh(&detection.bbox),
            "score": detection.score,
        })
    };
    write(path, &detections.iter().map(of).collect())
}

/// Writes the images and objects as COCO's annotations.
pub(super) fn write_annotations(path: &Path, evaluation: &Evaluation) -> Result<(), Error> {
    let images = evaluation.images.iter().map(|image| {
        let [height, width] = image.size;
        json!({ "id": image.id, "file_name": image.file, "height": height, "width": width })
    });
    let categories = evaluation.categories.iter().map(|category| json!({ "id": category.id, "name": category.name }));
    let annotations = evaluation.annotations.iter().map(|object| {
        json!({
            "id": object.id,
            "image_id": evaluation.images.get(object.image as usize).map(|image| image.id),
            "category_id": evaluation.categories.get(object.category as usize).map(|category| category.id),
            "bbox": xywh(&object.bbox),
            "area": object.area,
            "iscrowd": u8::from(object.crowd),
        })
    });
    let (images, categories): (Vec<_>, Vec<_>) = (images.collect(), categories.collect());
    write(path, &json!({ "images": images, "categories": categories, "annotations": annotations.collect::<Vec<_>>() }))
}

fn xywh(bbox: &BoundingBox) -> [f64; 4] {
    [bbox.x, bbox.y, bbox.width, bbox.height]
}

fn write(path: &Path, value: &Value) -> Result<(), Error> {
    let text = serde_json::to_vec(value).unwrap_or_default();
    Ok(durable::write(path, &text).map_err(IoError::at(path, "write"))?)
}
