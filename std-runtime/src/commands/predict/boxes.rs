//! The objects in images.

use serde::Serialize;

use super::super::{Error, output};
use super::args::Args;
use super::drawing::Drawings;
use crate::vision::detect::{Detector, Predicted};
use crate::vision::image::Image;
use crate::vision::image::draw::{colour_of, label, rectangle};

/// Images of a batch.
const BATCH: usize = 4;

/// An object in an image.
#[derive(Debug, Serialize)]
struct Object {
    label: String,
    score: f64,
    /// Left, upper, right and lower edge in pixels of the image.
    #[serde(rename = "box")]
    corners: [f64; 4],
    #[serde(skip)]
    class: usize,
}

/// The objects in an image, the surest first.
#[derive(Debug, Serialize)]
struct Objects {
    schema: u32,
    image: String,
    width: usize,
    height: usize,
    boxes: Vec<Object>,
}

/// Prints the objects in images, and draws them.
pub(super) fn run(args: &Args) -> Result<(), Error> {
    if !args.labels.is_empty() || !args.template.is_empty() {
        return Err(Error::usage(
            "--labels and --template are for models of images with texts; a detector has its own classes: leave them out",
        ));
    }
    if args.top_k.is_some() {
        return Err(Error::usage("--top-k is for classifiers: leave it out, or choose --threshold"));
    }
    let engine = args.engine.engine()?;
    let mut model = Detector::open(engine, &args.model, BATCH.min(args.images.len()), false)?;
    let drawings = args.draw.as_deref().map(|folder| Drawings::new(folder, &args.images)).transpose()?;
    let threshold = args.threshold.unwrap_or(0.5);
    args.each_batch(model.batch(), |paths, images| {
        for ((path, found), mut image) in paths.iter().zip(model.find(&images)?).zip(images) {
            let [height, width] = image.size();
            let boxes = objects(&found, [height, width], threshold, &model.labels);
            let objects = Objects { schema: 1, image: path.display().to_string(), width, height, boxes };
            output::show(args.json, &objects, || objects.text())?;
            if let Some(drawings) = &drawings {
                objects.draw(&mut image);
                drawings.write(path, &image)?;
            }
        }
        Ok(())
    })
}

/// The objects whose probability is at least a threshold, cut at the edges of the image.
fn objects(found: &Predicted, size: [usize; 2], threshold: f64, labels: &[String]) -> Vec<Object> {
    let [height, width] = size.map(|side| side as f64);
    let mut objects: Vec<Object> = found
        .last(size)
        .into_iter()
        .filter(|found| found.score >= threshold)
        .map(|found| {
            let bbox = found.bbox;
            let corners = [bbox.x, bbox.y, bbox.x + bbox.width, bbox.y + bbox.height];
            let cut = |x: f64, most: f64| (x.clamp(0.0, most) * 100.0).round() / 100.0;
            let corners = [cut(corners[0], width), cut(corners[1], height), cut(corners[2], width), cut(corners[3], height)];
            let class = found.class as usize;
            Object { label: labels.get(class).cloned().unwrap_or_default(), score: found.score, corners, class }
        })
        .collect();
    objects.sort_by(|a, b| b.score.total_cmp(&a.score));
    objects
}

impl Objects {
    fn text(&self) -> String {
        let line = |object: &Object| {
            let [left, top, right, bottom] = object.corners;
            format!("  {} {:.1} % at {left:.0}, {top:.0} to {right:.0}, {bottom:.0}\n", object.label, 100.0 * object.score)
        };
        let lines: String = self.boxes.iter().map(line).collect();
        format!("{}: {} objects in {} x {} pixels\n{lines}", self.image, self.boxes.len(), self.width, self.height)
    }

    /// Draws the boxes, the surest last.
    fn draw(&self, image: &mut Image) {
        let shorter = self.width.min(self.height);
        let (thick, scale) = ((shorter / 200).max(1), (shorter / 160).max(1));
        for object in self.boxes.iter().rev() {
            let colour = colour_of(object.class);
            rectangle(image, object.corners, colour, thick);
            let [left, top, ..] = object.corners;
            let text = format!("{} {:.0}%", object.label, 100.0 * object.score);
            label(image, [left, top - 7.0 * scale as f64], &text, colour, scale);
        }
    }
}
