//! `samara eval retrieval`: how often captions find their images, and images their captions.

use std::path::PathBuf;

use serde::Serialize;

use super::super::args::{EngineArgs, ExtraArgs};
use super::super::counter::Counter;
use super::super::{Console, Error, output};
use super::held_out::val_fraction;
use super::labelled::share;
use crate::image_text::config::PairDataConfig;
use crate::image_text::data::list::{Captioned, PairList};
use crate::image_text::encoder::DualEncoder;
use crate::image_text::retrieval::{RANKS, recalls, recalls_by};
use crate::image_text::scorer::PairScorer;
use crate::image_text::vilt_folder::ViltFolder;
use crate::say;
use crate::stop::Stop;
use crate::vision::image::read::read;

const EXAMPLES: &str = "\
Data as samara train reads it: rows with an image and its caption or captions,
COCO's captions, or a folder of images with a .txt beside each. An image is found
if any of its captions finds it; equal cosines of others count as before it.

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
    /// Images with captions.
    #[arg(long, value_name = "PATH")]
    data: PathBuf,
    /// The folder of the images that rows name; by default that of the file.
    #[arg(long, value_name = "DIR")]
    image_root: Option<PathBuf>,
    /// Which pairs: all, or a split as in a training.
    #[arg(long, value_enum, value_name = "SPLIT", default_value = "all")]
    split: SplitArg,
    /// The share that a training on this data held out (data.val_fraction) [default: that of the model's run, or 0.1].
    #[arg(long, value_name = "SHARE", value_parser = share)]
    val_fraction: Option<f64>,
    /// Print {"images", "captions", "text_to_image", "image_to_text"}, recalls by their ranks.
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
        let pairs = self.pairs(console.quiet)?;
        if ViltFolder::read(&self.model)?.is_some() {
            let outcome = self.by_pairs(&pairs, &stop, console.quiet)?;
            return output::show(self.json, &outcome, || outcome.text());
        }
        let mut model = DualEncoder::open(self.engine.engine()?, &self.model, self.extra.tensors())?;
        let (mut images, mut progress) = (Vec::new(), Counter::new("images", pairs.images.len(), console.quiet));
        for paths in pairs.images.chunks(model.batch()) {
            stop.check()?;
            let read: Vec<_> = paths.iter().map(|path| read(path)).collect::<Result<_, _>>()?;
            images.extend(model.image_vectors(&read)?);
            progress.show(images.len() / model.width().max(1));
        }
        drop(progress);
        let captions: Vec<&str> = pairs.pairs.iter().map(|pair| pair.caption.as_str()).collect();
        let (texts, cut) = model.text_vectors(&captions)?;
        note_cut(cut, captions.len(), console.quiet);
        let (width, image_of) = (model.width(), |caption: usize| pairs.pairs.get(caption).map(|pair| pair.image));
        let outcome = Outcome {
            schema: 1,
            images: pairs.images.len(),
            captions: captions.len(),
            text_to_image: recalls(&texts, &images, width, |caption, image| image_of(caption) == Some(image)).into(),
            image_to_text: recalls(&images, &texts, width, |image, caption| image_of(caption) == Some(image)).into(),
        };
        output::show(self.json, &outcome, || outcome.text())
    }

    /// A ViLT scores every caption with every image.
    fn by_pairs(&self, pairs: &Captioned, stop: &Stop, quiet: bool) -> Result<Outcome, Error> {
        let mut model = PairScorer::open(self.engine.engine()?, &self.model, self.extra.tensors())?;
        let captions: Vec<&str> = pairs.pairs.iter().map(|pair| pair.caption.as_str()).collect();
        let texts = model.encode(&captions)?;
        note_cut(texts.cut, captions.len(), quiet);
        let mut progress = Counter::new("images", pairs.images.len(), quiet);
        let mut scores: Vec<Vec<f32>> = Vec::new(); // (images, captions)
        for path in &pairs.images {
            stop.check()?;
            scores.push(model.scores(&read(path)?, &texts)?);
            progress.show(scores.len());
        }
        drop(progress);
        let image_of = |caption: usize| pairs.pairs.get(caption).map(|pair| pair.image);
        let of_caption = |caption: usize| scores.iter().map(|row| row[caption]).collect();
        let by_caption = recalls_by(captions.len(), of_caption, |caption, image| image_of(caption) == Some(image));
        let of_image = |image: usize| scores[image].clone();
        let by_image = recalls_by(scores.len(), of_image, |image, caption| image_of(caption) == Some(image));
        let (images, captions) = (scores.len(), captions.len());
        Ok(Outcome { schema: 1, images, captions, text_to_image: by_caption.into(), image_to_text: by_image.into() })
    }

    fn pairs(&self, quiet: bool) -> Result<Captioned, Error> {
        let val_fraction = if self.split == SplitArg::All { 0.0 } else { val_fraction(self.val_fraction, &self.model) };
        let config = PairDataConfig { val_fraction, image_root: self.image_root.clone(), ..PairDataConfig::default() };
        let PairList { train, val, notes } = PairList::open(&self.data, &config)?;
        notes.iter().filter(|_| !quiet).for_each(|note| say::line(&format!("note: {note}")));
        let pairs = match self.split {
            SplitArg::All => train.and(val).merged(),
            SplitArg::Train => train.merged(),
            SplitArg::Val => val.merged(),
        };
        if pairs.pairs.is_empty() {
            return Err(Error::data(format!("{}: expected pairs in this split, found none", self.data.display())));
        }
        Ok(pairs)
    }
}

fn note_cut(cut: usize, captions: usize, quiet: bool) {
    if cut > 0 && !quiet {
        say::line(&format!("note: {cut} of {captions} captions are longer than the model reads and are cut"));
    }
}

impl Outcome {
    fn text(&self) -> String {
        let row = |name: &str, recalls: &Recalls| {
            let percent = |x: f64| format!("{:.1}", 100.0 * x);
            [name.to_owned(), percent(recalls.r1), percent(recalls.r5), percent(recalls.r10)].to_vec()
        };
        let header = [String::new()].into_iter().chain(RANKS.map(|rank| format!("R@{rank}"))).collect();
        let rows = [header, row("text to image", &self.text_to_image), row("image to text", &self.image_to_text)];
        format!("{} captions, {} images, recall in %\n{}", self.captions, self.images, output::table(&rows))
    }
}
