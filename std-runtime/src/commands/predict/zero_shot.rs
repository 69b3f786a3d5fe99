//! The classes of images by sentences about them.

use super::super::{Error, output};
use super::args::Args;
use super::classes::prediction;
use crate::image_text::zero_shot::{TEMPLATE, ZeroShot};

/// Predicts with a model of images with texts.
pub(super) fn run(args: &Args) -> Result<(), Error> {
    if args.threshold.is_some() || args.draw.is_some() {
        let flag = if args.threshold.is_some() { "--threshold" } else { "--draw" };
        return Err(Error::usage(format!(
            "{flag}: a model of images with texts finds no boxes, and its attention is not drawn; leave it out"
        )));
    }
    if args.labels.is_empty() {
        let model = args.model.display();
        return Err(Error::usage(format!("{model} compares images with texts: give the classes, as in --labels cat,dog")));
    }
    let templates = if args.template.is_empty() { vec![TEMPLATE.to_owned()] } else { args.template.clone() };
    let mut model = ZeroShot::open(args.engine.engine()?, &args.model, args.labels.clone(), &templates)?;
    args.each_batch(model.batch(), |paths, images| {
        for (path, logits) in paths.iter().zip(model.logits(&images)?) {
            let prediction = prediction(path.display().to_string(), &logits, &model.labels, args.top_k.unwrap_or(1));
            output::show(args.json, &prediction, || prediction.text())?;
        }
        Ok(())
    })
}
