//! The worst errors of a detector as small pictures, for `samara report`.

use std::path::Path;

use serde_json::json;

use super::super::super::Error;
use super::model::{Evaluated, Evaluation};
use crate::data::dataset::Dataset as _;
use crate::detect::boxes::{Annotation, BoundingBox, Detection};
use crate::files::IoError;
use crate::report::GALLERY_FILE;
use crate::run::durable;
use crate::vision::image::draw::{Colour, label, rectangle};
use crate::vision::image::read::read;
use crate::vision::image::resize::{Filter, resize};
use crate::vision::image::write::data_uri;
use crate::vision::image::{CHANNELS, Image};
use crate::vision::shapes::{NORMALIZE, ShapesWorld};

/// Pictures of each kind.
const MOST: usize = 8;
/// The least overlap of a detection with the object that it finds.
const OVERLAP: f64 = 0.5;
/// Detections below this probability are no answers.
const SURE: f64 = 0.5;
/// The side of a picture in pixels.
const SIDE: usize = 160;

const RIGHT: Colour = [40, 170, 60];
const WRONG: Colour = [230, 60, 60];

/// An error of a detector.
struct Fault {
    image: u32,
    category: u32,
    bbox: BoundingBox,
    /// The probability of a false positive, or the area of a missed object in pixels².
    weight: f64,
    caption: String,
}

/// Writes the surest detections of no object, and the largest objects that were not found, into the folder of the model.
pub(super) fn write(
    folder: &Path,
    evaluation: &Evaluation,
    detections: &[Detection],
    world: Option<ShapesWorld>,
) -> Result<(), Error> {
    let name = |category: u32| evaluation.categories.get(category as usize).map_or("", |category| category.name.as_str());
    let mut pictures = Vec::new();
    for (kind, faults, colour) in [
        ("false positive", false_positives(evaluation, detections, &name), WRONG),
        ("missed", missed(evaluation, detections, &name), RIGHT),
    ] {
        for fault in faults {
            let Some(image) = evaluation.images.get(fault.image as usize) else { continue };
            let mut picture = pixels(image, world)?;
            let [height, width] = picture.size();
            let factor = SIDE as f64 / height.max(width) as f64;
            let size = [height, width].map(|side| ((side as f64 * factor).round() as usize).max(1));
            picture = resize(&picture, size, Filter::Bilinear);
            let BoundingBox { x, y, width, height } = fault.bbox;
            let corners = [x, y, x + width, y + height].map(|at| at * factor);
            rectangle(&mut picture, corners, colour, 2);
            label(&mut picture, [corners[0], corners[1] - 7.0], name(fault.category), colour, 1);
            pictures.push(json!({ "kind": kind, "caption": fault.caption, "picture": data_uri(&picture) }));
        }
    }
    let path = folder.join(GALLERY_FILE);
    let text = serde_json::to_vec(&pictures).unwrap_or_default();
    Ok(durable::write(&path, &text).map_err(IoError::at(&path, "write"))?)
}

/// The picture of an image: its file, or painted again.
fn pixels(image: &Evaluated, world: Option<ShapesWorld>) -> Result<Image, Error> {
    if let Some(file) = &image.file {
        return Ok(read(file)?);
    }
    let Some(world) = world else { return Ok(Image::black(image.size)) };
    let mut batch = world.batch(1);
    world.fill(&[(image.id - 1) as u64 - world.first], &mut batch)?;
    let [mean, std] = NORMALIZE;
    let byte = |(i, &x): (usize, &f32)| (255.0 * (f64::from(x) * std[i % CHANNELS] + mean[i % CHANNELS])).round() as u8;
    let bytes = batch.reals("pixel_values").iter().enumerate().map(byte).collect();
    Ok(Image::new(image.size, bytes).unwrap_or_else(|| Image::black(image.size)))
}

/// Sure detections that overlap with no object of their category, the surest first, at most one of an image and category.
fn false_positives<'n>(evaluation: &Evaluation, detections: &[Detection], name: &impl Fn(u32) -> &'n str) -> Vec<Fault> {
    let finds = |detection: &Detection| {
        let of_image = evaluation.annotations.iter().filter(|object| object.image == detection.image);
        let overlap = |object: &Annotation| object.category == detection.category && object.overlap(&detection.bbox) >= OVERLAP;
        of_image.into_iter().any(overlap)
    };
    let wrong = detections.iter().filter(|detection| detection.score >= SURE && !finds(detection));
    let fault = |detection: &Detection| Fault {
        image: detection.image,
        category: detection.category,
        bbox: detection.bbox,
        weight: detection.score,
        caption: format!("{} {:.0} %", name(detection.category), 100.0 * detection.score),
    };
    worst(wrong.map(fault).collect())
}

/// Objects that no sure detection of their category overlaps with, the largest first, at most one of an image and category.
fn missed<'n>(evaluation: &Evaluation, detections: &[Detection], name: &impl Fn(u32) -> &'n str) -> Vec<Fault> {
    let is_found = |object: &Annotation| {
        let own = detections.iter().filter(|found| found.image == object.image && found.category == object.category);
        own.into_iter().any(|found| found.score >= SURE && object.overlap(&found.bbox) >= OVERLAP)
    };
    let lost = evaluation.annotations.iter().filter(|object| !object.crowd && !is_found(object));
    let fault = |object: &Annotation| Fault {
        image: object.image,
        category: object.category,
        bbox: object.bbox,
        weight: object.area,
        caption: name(object.category).to_owned(),
    };
    worst(lost.map(fault).collect())
}

fn worst(mut faults: Vec<Fault>) -> Vec<Fault> {
    faults.sort_by(|a, b| b.weight.total_cmp(&a.weight).then(a.image.cmp(&b.image)));
    let mut seen = std::collections::BTreeSet::new();
    faults.retain(|fault| seen.insert((fault.image, fault.category)));
    faults.truncate(MOST);
    faults
}
