//! `samara eval retrieval`: how often captions find their images, and images their captions.

use std::path::PathBuf;

use serde::Serialize;

use super::super::args::{EngineArgs, ExtraArgs};
use super::super::counter::Counter;
use super::super::{Console, Error, output};
use super::gallery::Gallery;
use super::held_out::val_fraction;
use super::labelled::share;
use crate::image_text::config::PairDataConfig;
use crate::image_text::data::list::PairList;
use crate::image_text::data::tokens::Captions;
use crate::image_text::encoder::DualEncoder;
use crate::image_text::hard_pairs::{HardAccuracy, HardPairs};
use crate::image_text::retrieval::{RANKS, recalls, recalls_by};
use crate::image_text::scorer::PairScorer;
use crate::image_text::vilt_folder::ViltFolder;
use crate::say;
use crate::stop::Stop;

const EXAMPLES: &str = "\
Data as samara train reads it: rows with an image and its caption or captions,
COCO's captions, or a folder of images with a .txt beside each. An image is found
if any of its captions finds it; equal cosines of others count as before it.
Without --data: the held-out images of the generated world that the model was
trained on, and hard pairs: how often a caption has a higher score than captions
with colours or sides exchanged, or with one other attribute. Chance is 50 %.

Examples:
  samara eval retrieval --model runs/clip-001 --data pairs.jsonl --split val
  samara eval retrieval --model clip --data captions_val2017.json --json";

/// Evaluate a model of images with texts: recall at 1, 5 and 10 of both directions.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The folder of a CLIP, SigLIP or ViLT; a ViLT compares every caption with every image by a pass of its own.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Images with captions; without it the generated world of the model's run.
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// The folder of the images that rows name; by default that of the file.
    #[arg(long, value_name = "DIR", requires = "data")]
    image_root: Option<PathBuf>,
    /// Which pairs: all, or a split as in a training.
    #[arg(long, value_enum, value_name = "SPLIT", default_value = "all", requires = "data")]
    split: SplitArg,
    /// The share that a training on this data held out (data.val_fraction) [default: that of the model's run, or 0.1].
    #[arg(long, value_name = "SHARE", value_parser = share, requires = "data")]
    val_fraction: Option<f64>,
    /// Print {"images", "captions", "text_to_image", "image_to_text"}, recalls by their ranks, and of a generated world "hard_pairs".
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    extra: ExtraArgs,
    #[command(flatten)]
    engine: EngineArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum SplitArg {
    All,
    Train,
    Val,
}

#[derive(Serialize)]
struct Outcome {
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

impl Args {
    pub(super) fn run(&self, console: &Console) -> Result<(), Error> {
        let stop = Stop::install(console.quiet).map_err(|error| Error::failed(error.to_string()))?;
        let gallery = self.gallery(console.quiet)?;
        if let Some(folder) = ViltFolder::read(&self.model)? {
            let size = [folder.model.image_size; 2];
            let outcome = self.by_pairs(&gallery, size, &stop, console.quiet)?;
            return output::show(self.json, &outcome, || outcome.text());
        }
        let mut model = DualEncoder::open(self.engine.engine()?, &self.model, self.extra.tensors())?;
        let (mut images, mut progress) = (Vec::new(), Counter::new("images", gallery.len(), console.quiet));
        for first in (0..gallery.len()).step_by(model.batch()) {
            stop.check()?;
            let last = gallery.len().min(first + model.batch());
            let read: Vec<_> = (first..last).map(|number| gallery.image(number, model.size())).collect::<Result<_, _>>()?;
            images.extend(model.image_vectors(&read)?);
            progress.show(images.len() / model.width().max(1));
        }
        drop(progress);
        let pairs = gallery.pairs();
        let captions: Vec<&str> = pairs.iter().map(|pair| pair.caption.as_str()).collect();
        let (texts, cut) = model.text_vectors(&captions)?;
        note_cut(cut, captions.len(), console.quiet);
        let (width, image_of) = (model.width(), |caption: usize| pairs.get(caption).map(|pair| pair.image));
        let outcome = Outcome {
            schema: 1,
            images: gallery.len(),
            captions: captions.len(),
            text_to_image: recalls(&texts, &images, width, |caption, image| image_of(caption) == Some(image)).into(),
            image_to_text: recalls(&images, &texts, width, |image, caption| image_of(caption) == Some(image)).into(),
            hard_pairs: gallery.hard_pairs().map(|hard| hard_accuracy(&mut model, &images, &hard)).transpose()?,
        };
        output::show(self.json, &outcome, || outcome.text())
    }

    /// A ViLT scores every caption with every image.
    fn by_pairs(&self, gallery: &Gallery, size: [usize; 2], stop: &Stop, quiet: bool) -> Result<Outcome, Error> {
        let mut model = PairScorer::open(self.engine.engine()?, &self.model, self.extra.tensors())?;
        let pairs = gallery.pairs();
        let captions: Vec<&str> = pairs.iter().map(|pair| pair.caption.as_str()).collect();
        let texts = model.encode(&captions)?;
        note_cut(texts.cut, captions.len(), quiet);
        let mut progress = Counter::new("images", gallery.len(), quiet);
        let mut scores: Vec<Vec<f32>> = Vec::new(); // (images, captions)
        for number in 0..gallery.len() {
            stop.check()?;
            scores.push(model.scores(&gallery.image(number, size)?, &texts)?);
            progress.show(scores.len());
        }
        drop(progress);
        let image_of = |caption: usize| pairs.get(caption).map(|pair| pair.image);
        let of_caption = |caption: usize| scores.iter().map(|row| row[caption]).collect();
        let by_caption = recalls_by(captions.len(), of_caption, |caption, image| image_of(caption) == Some(image));
        let of_image = |image: usize| scores[image].clone();
        let by_image = recalls_by(scores.len(), of_image, |image, caption| image_of(caption) == Some(image));
        let hard_pairs = gallery.hard_pairs().map(|hard| scored(&mut model, gallery, size, &hard)).transpose()?;
        Ok(Outcome {
            schema: 1,
            images: scores.len(),
            captions: captions.len(),
            text_to_image: by_caption.into(),
            image_to_text: by_image.into(),
            hard_pairs,
        })
    }

    fn gallery(&self, quiet: bool) -> Result<Gallery, Error> {
        let Some(data) = &self.data else { return Gallery::of_run(&self.model) };
        let val_fraction = if self.split == SplitArg::All { 0.0 } else { val_fraction(self.val_fraction, &self.model) };
        let config = PairDataConfig { val_fraction, image_root: self.image_root.clone(), ..PairDataConfig::default() };
        let PairList { train, val, notes } = PairList::open(data, &config)?;
        notes.iter().filter(|_| !quiet).for_each(|note| say::line(&format!("note: {note}")));
        let pairs = match self.split {
            SplitArg::All => train.and(val).merged(),
            SplitArg::Train => train.merged(),
            SplitArg::Val => val.merged(),
        };
        if pairs.pairs.is_empty() {
            return Err(Error::data(format!("{}: expected pairs in this split, found none", data.display())));
        }
        Ok(Gallery::Files(pairs))
    }
}

/// The accuracy of a ViLT's scores of true and false captions.
fn scored(model: &mut PairScorer, gallery: &Gallery, size: [usize; 2], hard: &HardPairs) -> Result<HardAccuracy, Error> {
    let questions: Vec<(usize, &str)> = hard.questions().collect();
    let Captions { len, tokens, ends, .. } = model.encode(&questions.iter().map(|(_, caption)| *caption).collect::<Vec<_>>())?;
    let (mut scores, mut first) = (Vec::with_capacity(questions.len()), 0);
    for group in questions.chunk_by(|a, b| a.0 == b.0) {
        let last = first + group.len();
        let rows = Captions { len, tokens: tokens[first * len..last * len].to_vec(), ends: ends[first..last].to_vec(), cut: 0 };
        let image = gallery.image(group.first().map_or(0, |(image, _)| *image), size)?;
        scores.extend(model.scores(&image, &rows)?.into_iter().map(f64::from));
        first = last;
    }
    Ok(hard.accuracy(&scores))
}

fn note_cut(cut: usize, captions: usize, quiet: bool) {
    if cut > 0 && !quiet {
        say::line(&format!("note: {cut} of {captions} captions are longer than the model reads and are cut"));
    }
}

/// The accuracy of cosines: images (N, E) against true and false captions.
fn hard_accuracy(model: &mut DualEncoder, images: &[f32], hard: &HardPairs) -> Result<HardAccuracy, Error> {
    let (questions, width) = (hard.questions().collect::<Vec<_>>(), model.width());
    let (texts, _) = model.text_vectors(&questions.iter().map(|(_, caption)| *caption).collect::<Vec<_>>())?;
    let of = |image: usize| images.get(image * width..(image + 1) * width).unwrap_or_default();
    let scores = questions.iter().zip(texts.chunks_exact(width.max(1)));
    let scores = scores.map(|((image, _), text)| of(*image).iter().zip(text).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum());
    Ok(hard.accuracy(&scores.collect::<Vec<_>>()))
}

impl Outcome {
    fn text(&self) -> String {
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
