//! The arguments of `samara predict`, and its images.

use std::path::PathBuf;

use super::super::Error;
use super::super::args::EngineArgs;
use crate::say;
use crate::vision::image::Image;
use crate::vision::image::read::read;

const EXAMPLES: &str = "\
A detector prints boxes as [x1, y1, x2, y2] in pixels of the image. Pictures of
--draw show its boxes, or for a Vision Transformer how much each place takes part
in the answer: attention rollout (Abnar and Zuidema 2020), from blue to red; for a
ViLT where each word of the best sentence is, by optimal transport.

Examples:
  samara predict --model runs/photos cat.jpg dog.png
  samara predict --model runs/photos --json --top-k 3 *.jpg
  samara predict --model runs/boxes --threshold 0.7 --draw drawn street.jpg
  samara predict --model clip --labels cat,dog --template 'a photo of a {}.' a.jpg";

/// Predict the classes of images, or the objects in them.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The folder of an image classifier, a detector, a CLIP, or a ViLT.
    #[arg(long, value_name = "DIR")]
    pub(super) model: PathBuf,
    /// Image files: PNG, JPEG, GIF, BMP or WebP.
    #[arg(value_name = "IMAGE", required = true)]
    pub(super) images: Vec<PathBuf>,
    /// Classes to print, the most probable first [default: 1].
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) top_k: Option<u16>,
    /// The least probability of an object that a detector prints [default: 0.5].
    #[arg(long, value_name = "P", value_parser = probability)]
    pub(super) threshold: Option<f64>,
    /// The classes between commas, for a CLIP, SigLIP or ViLT.
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = label)]
    pub(super) labels: Vec<String>,
    /// A sentence about a class, which {} stands for; several are an ensemble [default: "a photo of a {}."].
    #[arg(long, value_name = "TEXT", value_parser = template)]
    pub(super) template: Vec<String>,
    /// Write a PNG of every image into this folder, with boxes and labels, with a classifier's attention, or with the places of words.
    #[arg(long, value_name = "FOLDER")]
    pub(super) draw: Option<PathBuf>,
    /// Print a line of JSON for every image: {"image", "label", "probability", "top"}, or {"image", "width", "height", "boxes": [{"label", "score", "box"}]}.
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) engine: EngineArgs,
}

fn probability(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|p| (0.0..=1.0).contains(p)).ok_or_else(|| "a number from 0 to 1".to_owned())
}

/// A name between commas.
fn label(text: &str) -> Result<String, String> {
    let name = text.trim();
    if name.is_empty() { Err("the name of a class".to_owned()) } else { Ok(name.to_owned()) }
}

pub(in crate::commands) fn template(text: &str) -> Result<String, String> {
    if text.contains("{}") { Ok(text.to_owned()) } else { Err("a sentence with {} in the place of the class".to_owned()) }
}

impl Args {
    /// Reads the images in batches and passes those that can be read to `take`.
    pub(super) fn each_batch(
        &self,
        batch: usize,
        mut take: impl FnMut(Vec<&PathBuf>, Vec<Image>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut failed = 0;
        for chunk in self.images.chunks(batch.max(1)) {
            let mut read_ones = Vec::new();
            for path in chunk {
                match read(path) {
                    Ok(image) => read_ones.push((path, image)),
                    Err(error) => {
                        failed += 1;
                        say::line(&format!("error: {error}"));
                    }
                }
            }
            let (paths, images): (Vec<_>, Vec<_>) = read_ones.into_iter().unzip();
            take(paths, images)?;
        }
        if failed > 0 {
            return Err(Error::data(format!("{failed} of {} images could not be read", self.images.len())));
        }
        Ok(())
    }
}
