//! The sentence that fits an image best, by a ViLT, and where its words are.

use super::super::{Error, output};
use super::args::Args;
use super::classes::prediction;
use super::drawing::Drawings;
use crate::image_text::scorer::{PairScorer, WordPlaces};
use crate::image_text::zero_shot::TEMPLATE;
use crate::model_folder::ExtraTensors;
use crate::vision::image::draw::{self, colour_of};
use crate::vision::image::resize::{Filter, resize};
use crate::vision::image::{CHANNELS, Image};

/// The least height of a picture in pixels.
const HEIGHT: usize = 160;

/// Predicts with a ViLT.
pub(super) fn run(args: &Args) -> Result<(), Error> {
    if args.threshold.is_some() {
        return Err(Error::usage("--threshold: a ViLT finds no boxes; leave it out"));
    }
    let model = args.model.display();
    if args.labels.is_empty() {
        return Err(Error::usage(format!("{model} compares images with texts: give the classes, as in --labels cat,dog")));
    }
    let template = match args.template.as_slice() {
        [] => TEMPLATE,
        [template] => template,
        _ => return Err(Error::usage("--template: a ViLT scores one sentence for a class; leave out all but one")),
    };
    let sentences: Vec<String> = args.labels.iter().map(|label| template.replace("{}", label)).collect();
    let mut model = PairScorer::open(args.engine.engine()?, &args.model, ExtraTensors::Refuse)?;
    let texts = model.encode(&sentences.iter().map(String::as_str).collect::<Vec<_>>())?;
    let drawings = args.draw.as_deref().map(|folder| Drawings::new(folder, &args.images)).transpose()?;
    args.each_batch(1, |paths, images| {
        for (path, image) in paths.iter().zip(&images) {
            let scores = model.scores(image, &texts)?;
            let prediction = prediction(path.display().to_string(), &scores, &args.labels, args.top_k.unwrap_or(1));
            output::show(args.json, &prediction, || prediction.text())?;
            let best = (0..scores.len()).max_by(|&a, &b| scores[a].total_cmp(&scores[b]));
            if let (Some(drawings), Some(sentence)) = (&drawings, best.and_then(|best| sentences.get(best))) {
                drawings.write(path, &picture(image, &model.places_of(image, sentence)?))?;
            }
        }
        Ok(())
    })
}

/// An image, and beside it once more for each word, with heat where the word is.
fn picture(image: &Image, places: &WordPlaces) -> Image {
    let [height, width] = image.size();
    let times = HEIGHT.div_ceil(height.max(1));
    let image = resize(image, [height * times, width * times], Filter::Nearest);
    let heated = places.words.iter().enumerate().map(|(n, (word, shares))| {
        let largest = shares.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
        let mut panel = image.clone();
        draw::heat(&mut panel, &shares.iter().map(|share| share / largest).collect::<Vec<_>>(), places.grid);
        draw::label(&mut panel, [0.0; 2], word, colour_of(n), 2);
        panel
    });
    let panels: Vec<Image> = std::iter::once(image.clone()).chain(heated).collect();
    let [height, width] = image.size();
    let mut all = Image::black([height, width * panels.len()]);
    let row = width * CHANNELS;
    for (y, to) in all.pixels_mut().chunks_exact_mut((row * panels.len()).max(1)).enumerate() {
        for (panel, to) in panels.iter().zip(to.chunks_exact_mut(row.max(1))) {
            to.copy_from_slice(&panel.pixels()[y * row..(y + 1) * row]);
        }
    }
    all
}
