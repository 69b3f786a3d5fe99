//! `samara eval retrieval`: how often captions find their images, and images their captions.

use std::collections::HashSet;
use std::path::PathBuf;

use super::super::args::{EngineArgs, ExtraArgs};
use super::super::{Console, Error, output};
use super::gallery::Gallery;
use super::held_out::val_fraction;
use super::labelled::share;
use super::ranking::Ranking;
use crate::image_text::albef_folder::AlbefFolder;
use crate::image_text::config::PairDataConfig;
use crate::image_text::data::list::{Captioned, PairList};
use crate::image_text::encoder::DualEncoder;
use crate::image_text::fusion_encoder::FusionEncoder;
use crate::image_text::scorer::PairScorer;
use crate::image_text::vilt_folder::ViltFolder;
use crate::say;
use crate::stop::Stop;
use crate::vision::image::read::read;

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
    /// The folder of a CLIP, SigLIP, ALBEF or ViLT; a ViLT compares every caption with every image by a pass of its own.
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
    /// With an ALBEF: how many images of each caption, and captions of each image, its fusion ranks again; the others come after them. 0: vectors alone [default:
    /// 128].
    #[arg(long, value_name = "K")]
    rerank: Option<usize>,
    /// The key or column with the file of an image [default: image].
    #[arg(long, value_name = "NAME", requires = "data")]
    image_field: Option<String>,
    /// The key or column with the caption, or a list of captions [default: caption].
    #[arg(long, value_name = "NAME", requires = "data")]
    caption_field: Option<String>,
    /// Leave out images that cannot be read, with their captions, and list them.
    #[arg(long, requires = "data")]
    skip_bad: bool,
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

/// What the fusion ranks again, as the authors do for 1,000 images.
const RERANKED: usize = 128;

impl Args {
    pub(super) fn run(&self, console: &Console) -> Result<(), Error> {
        let stop = Stop::install(console.quiet).map_err(|error| Error::failed(error.to_string()))?;
        let gallery = self.gallery(console.quiet)?;
        note_equal(&gallery, console.quiet);
        let (engine, extra) = (self.engine.engine()?, self.extra.tensors());
        let ranking = Ranking { gallery: &gallery, stop: &stop, quiet: console.quiet };
        let is_albef = AlbefFolder::read(&self.model)?.is_some();
        if self.rerank.is_some() && !is_albef {
            return Err(Error::usage(
                "--rerank is for an ALBEF, whose fusion ranks again what its vectors have found: leave it out",
            ));
        }
        let outcome = if is_albef {
            ranking.by_both(&mut FusionEncoder::open(engine, &self.model, extra)?, self.rerank.unwrap_or(RERANKED))?
        } else if ViltFolder::read(&self.model)?.is_some() {
            ranking.by_pairs(&mut PairScorer::open(engine, &self.model, extra)?)?
        } else {
            ranking.by_vectors(&mut DualEncoder::open(engine, &self.model, extra)?)?
        };
        output::show(self.json, &outcome, || outcome.text())
    }

    fn gallery(&self, quiet: bool) -> Result<Gallery, Error> {
        let Some(data) = &self.data else { return Gallery::of_run(&self.model) };
        let val_fraction = if self.split == SplitArg::All { 0.0 } else { val_fraction(self.val_fraction, &self.model) };
        let usual = PairDataConfig::default();
        let config = PairDataConfig {
            val_fraction,
            image_root: self.image_root.clone(),
            image_field: self.image_field.clone().unwrap_or(usual.image_field),
            caption_field: self.caption_field.clone().unwrap_or(usual.caption_field),
            ..usual
        };
        let PairList { train, val, notes } = PairList::open(data, &config)?;
        notes.iter().filter(|_| !quiet).for_each(|note| say::line(&format!("note: {note}")));
        let pairs = match self.split {
            SplitArg::All => train.and(val).merged(),
            SplitArg::Train => train.merged(),
            SplitArg::Val => val.merged(),
        };
        let pairs = if self.skip_bad { readable(pairs) } else { pairs };
        if pairs.pairs.is_empty() {
            return Err(Error::data(format!("{}: expected pairs in this split, found none", data.display())));
        }
        Ok(Gallery::Files(pairs))
    }
}
/// The pairs whose images can be read; the others are listed.
fn readable(pairs: Captioned) -> Captioned {
    let kept = |path: &PathBuf| match read(path) {
        Ok(_) => true,
        Err(error) => {
            say::line(&format!("warning: left out: {error}"));
            false
        }
    };
    let kept: Vec<bool> = pairs.images.iter().map(kept).collect();
    pairs.only(&kept)
}

fn note_equal(gallery: &Gallery, quiet: bool) {
    let captions = gallery.pairs();
    let (all, equal) = (captions.len(), captions.len() - captions.iter().map(|pair| &pair.caption).collect::<HashSet<_>>().len());
    if equal > 0 && !quiet {
        say::line(&format!(
            "note: {equal} of {all} captions repeat another: each finds its own image alone, so that no model reaches 100 %"
        ));
    }
}
