//! The ranks of images and captions of a gallery by a model, and its hard pairs.

use serde::Serialize;

use super::super::counter::Counter;
use super::super::{Error, output};
use super::gallery::Gallery;
use crate::image_text::data::tokens::Captions;
use crate::image_text::hard_pairs::{HardAccuracy, HardPairs};
use crate::image_text::retrieval::{RANKS, recalls, recalls_by, similar};
use crate::image_text::scoring::{Fits, Vectors};
use crate::say;
use crate::stop::Stop;

/// The score of what was not ranked again: behind everything that was.
const BEHIND: f32 = -100.0;

/// What is ranked.
pub(super) struct Ranking<'g> {
    /// Images with captions.
    pub(super) gallery: &'g Gallery,
    /// The stop request.
    pub(super) stop: &'g Stop,
    /// Whether only results are printed.
    pub(super) quiet: bool,
}

/// Recalls of both directions.
#[derive(Serialize)]
pub(super) struct Outcome {
    schema: u32,
    images: usize,
    captions: usize,
    text_to_image: Recalls,
    image_to_text: Recalls,
    #[serde(skip_serializing_if = "Option::is_none")]
    hard_pairs: Option<HardAccuracy>,
}

#[derive(Serialize)]
struct Recalls {
    r1: f64,
    r5: f64,
    r10: f64,
}

impl From<[f64; 3]> for Recalls {
    fn from([r1, r5, r10]: [f64; 3]) -> Self {
        Self { r1, r5, r10 }
    }
}

impl Ranking<'_> {
    /// By the cosines of vectors.
    pub(super) fn by_vectors(&self, model: &mut impl Vectors) -> Result<Outcome, Error> {
        let [images, texts] = self.vectors(model)?;
        let (width, hard) = (model.width(), self.gallery.hard_pairs());
        let text_to_image = recalls(&texts, &images, width, |caption, image| self.belong(image, caption));
        let image_to_text = recalls(&images, &texts, width, |image, caption| self.belong(image, caption));
        let hard_pairs = hard.map(|hard| hard_cosines(model, &images, &hard)).transpose()?;
        Ok(self.outcome([text_to_image, image_to_text], hard_pairs))
    }

    /// By a pass of the model for every image and caption.
    pub(super) fn by_pairs(&self, model: &mut impl Fits) -> Result<Outcome, Error> {
        let texts = self.encoded(model)?;
        let all: Vec<usize> = (0..texts.ends.len()).collect();
        let scores = self.scores(model, &texts, &vec![all; self.gallery.len()])?; // (images, captions)
        let of_caption = |caption: usize| scores.iter().map(|row| row[caption]).collect();
        let text_to_image = recalls_by(texts.ends.len(), of_caption, |caption, image| self.belong(image, caption));
        let image_to_text = recalls_by(scores.len(), |image| scores[image].clone(), |image, caption| self.belong(image, caption));
        let hard_pairs = self.gallery.hard_pairs().map(|hard| self.hard_scores(model, &hard)).transpose()?;
        Ok(self.outcome([text_to_image, image_to_text], hard_pairs))
    }

    /// By the cosines of vectors, then the first `count` by a pass each (Li et al. 2021, 4.3); 0: by vectors alone.
    pub(super) fn by_both(&self, model: &mut (impl Vectors + Fits), count: usize) -> Result<Outcome, Error> {
        if count == 0 {
            return self.by_vectors(model);
        }
        let [images, texts] = self.vectors(model)?;
        let (width, captions) = (model.width(), self.gallery.pairs().len());
        let first = |queries: &[f32], answers: &[f32]| -> Vec<Vec<usize>> {
            let nearest = |query: &[f32]| similar(query, answers, width).into_iter().take(count).collect();
            queries.chunks_exact(width.max(1)).map(nearest).collect()
        };
        let (of_captions, of_images) = (first(&texts, &images), first(&images, &texts));
        let mut wanted = of_images.clone();
        for (caption, images) in of_captions.iter().enumerate() {
            images.iter().for_each(|&image| wanted[image].push(caption));
        }
        for captions in &mut wanted {
            captions.sort_unstable();
            captions.dedup();
        }
        let encoded = self.encoded(model)?;
        let scores = self.scores(model, &encoded, &wanted)?;
        let score = |image: usize, caption: usize| wanted[image].binary_search(&caption).map_or(BEHIND, |at| scores[image][at]);
        // A pair that is among the first of one direction alone is behind in the other.
        let ranked = |first: &[usize], all: usize, score: &dyn Fn(usize) -> f32| {
            let mut row = vec![BEHIND; all];
            first.iter().for_each(|&other| row[other] = score(other));
            row
        };
        let of_caption = |caption: usize| ranked(&of_captions[caption], wanted.len(), &|image| score(image, caption));
        let of_image = |image: usize| ranked(&of_images[image], captions, &|caption| score(image, caption));
        let text_to_image = recalls_by(captions, of_caption, |caption, image| self.belong(image, caption));
        let image_to_text = recalls_by(wanted.len(), of_image, |image, caption| self.belong(image, caption));
        let hard_pairs = self.gallery.hard_pairs().map(|hard| self.hard_scores(model, &hard)).transpose()?;
        Ok(self.outcome([text_to_image, image_to_text], hard_pairs))
    }

    fn belong(&self, image: usize, caption: usize) -> bool {
        self.gallery.pairs().get(caption).is_some_and(|pair| pair.image == image)
    }

    fn captions(&self) -> Vec<&str> {
        self.gallery.pairs().iter().map(|pair| pair.caption.as_str()).collect()
    }

    /// The vectors of all images and captions (…, E).
    fn vectors(&self, model: &mut impl Vectors) -> Result<[Vec<f32>; 2], Error> {
        let (mut images, mut progress) = (Vec::new(), Counter::new("images", self.gallery.len(), self.quiet));
        for first in (0..self.gallery.len()).step_by(model.batch()) {
            self.stop.check()?;
            let last = self.gallery.len().min(first + model.batch());
            let read: Vec<_> = (first..last).map(|number| self.gallery.image(number, model.size())).collect::<Result<_, _>>()?;
            images.extend(model.image_vectors(&read)?);
            progress.show(images.len() / model.width().max(1));
        }
        drop(progress);
        let (texts, cut) = model.text_vectors(&self.captions())?;
        self.note_cut(cut);
        Ok([images, texts])
    }

    fn encoded(&self, model: &impl Fits) -> Result<Captions, Error> {
        let texts = model.encode(&self.captions())?;
        self.note_cut(texts.cut);
        Ok(texts)
    }

    /// The scores of each image with some of the captions.
    fn scores(&self, model: &mut impl Fits, texts: &Captions, of_images: &[Vec<usize>]) -> Result<Vec<Vec<f32>>, Error> {
        let mut progress = Counter::new("images", of_images.len(), self.quiet);
        let mut scores = Vec::with_capacity(of_images.len());
        for (number, captions) in of_images.iter().enumerate() {
            self.stop.check()?;
            scores.push(model.scores(&self.gallery.image(number, model.size())?, &texts.rows(captions.iter().copied()))?);
            progress.show(scores.len());
        }
        Ok(scores)
    }

    /// The accuracy of scores of true and false captions.
    fn hard_scores(&self, model: &mut impl Fits, hard: &HardPairs) -> Result<HardAccuracy, Error> {
        let questions: Vec<(usize, &str)> = hard.questions().collect();
        let texts = model.encode(&questions.iter().map(|(_, caption)| *caption).collect::<Vec<_>>())?;
        let (mut scores, mut first) = (Vec::with_capacity(questions.len()), 0);
        for group in questions.chunk_by(|a, b| a.0 == b.0) {
            self.stop.check()?;
            let last = first + group.len();
            let image = self.gallery.image(group.first().map_or(0, |(image, _)| *image), model.size())?;
            scores.extend(model.scores(&image, &texts.rows(first..last))?.into_iter().map(f64::from));
            first = last;
        }
        Ok(hard.accuracy(&scores))
    }

    fn note_cut(&self, cut: usize) {
        if cut > 0 && !self.quiet {
            let captions = self.gallery.pairs().len();
            say::line(&format!("note: {cut} of {captions} captions are longer than the model reads and are cut"));
        }
    }

    fn outcome(&self, [text_to_image, image_to_text]: [[f64; 3]; 2], hard_pairs: Option<HardAccuracy>) -> Outcome {
        Outcome {
            schema: 1,
            images: self.gallery.len(),
            captions: self.gallery.pairs().len(),
            text_to_image: text_to_image.into(),
            image_to_text: image_to_text.into(),
            hard_pairs,
        }
    }
}

/// The accuracy of cosines: images (N, E) against true and false captions.
fn hard_cosines(model: &mut impl Vectors, images: &[f32], hard: &HardPairs) -> Result<HardAccuracy, Error> {
    let (questions, width) = (hard.questions().collect::<Vec<_>>(), model.width());
    let (texts, _) = model.text_vectors(&questions.iter().map(|(_, caption)| *caption).collect::<Vec<_>>())?;
    let of = |image: usize| images.get(image * width..(image + 1) * width).unwrap_or_default();
    let scores = questions.iter().zip(texts.chunks_exact(width.max(1)));
    let scores = scores.map(|((image, _), text)| of(*image).iter().zip(text).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum());
    Ok(hard.accuracy(&scores.collect::<Vec<_>>()))
}

impl Outcome {
    /// The recalls in words.
    pub(super) fn text(&self) -> String {
        let row = |name: &str, recalls: &Recalls| {
            let percent = |x: f64| format!("{:.1}", 100.0 * x);
            [name.to_owned(), percent(recalls.r1), percent(recalls.r5), percent(recalls.r10)].to_vec()
        };
        let header = [String::new()].into_iter().chain(RANKS.map(|rank| format!("R@{rank}"))).collect();
        let rows = [header, row("text to image", &self.text_to_image), row("image to text", &self.image_to_text)];
        let hard = self.hard_pairs.as_ref().map_or_else(String::new, hard_text);
        format!("{} captions, {} images, recall in %\n{}{hard}", self.captions, self.images, output::table(&rows))
    }
}

/// The accuracy of hard pairs by kind, in words.
fn hard_text(hard: &HardAccuracy) -> String {
    let percent = |share: Option<f64>| share.map_or_else(|| "-".to_owned(), |share| format!("{:.1}", 100.0 * share));
    let HardAccuracy { all, colours, sides, attribute, pairs } = *hard;
    let header = ["", "colours", "sides", "attribute", "all"].map(str::to_owned).to_vec();
    let row = ["hard pairs".to_owned(), percent(colours), percent(sides), percent(attribute), percent(Some(all))].to_vec();
    format!(
        "{pairs} pairs of a true and a false caption, the true one scored higher in % (chance 50)\n{}",
        output::table(&[header, row])
    )
}
