//! `samara search`: the images of a folder that fit a text.

use std::path::PathBuf;

use minijinja::{AutoEscape, Environment, context};
use serde::Serialize;

use super::args::{EngineArgs, ExtraArgs};
use super::counter::Counter;
use super::out_file::refuse_foreign;
use super::{Command, Console, Error, output};
use crate::files::IoError;
use crate::image_text::encoder::DualEncoder;
use crate::image_text::index::Index;
use crate::run::durable;
use crate::say;
use crate::stop::Stop;
use crate::vision::image::read::read;
use crate::vision::image::resize::{Filter, resize};
use crate::vision::image::write::data_uri;

const EXAMPLES: &str = "\
With --index the vectors of the images are kept, and only new or changed files are
encoded the next time. The images themselves are never written to.

Examples:
  samara search --model clip --images photos 'a dog in the snow'
  samara search --model clip --images photos --index photos.index --html found.html 'a red car' 'a blue car'";

/// Find the images of a folder that fit a text, with a CLIP or SigLIP.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The folder of a CLIP or SigLIP.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// The folder with images, and folders in it.
    #[arg(long, value_name = "FOLDER")]
    images: PathBuf,
    /// Texts, each searched for by itself.
    #[arg(value_name = "TEXT", required = true)]
    texts: Vec<String>,
    /// Images to print for each text.
    #[arg(long, value_name = "K", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    top_k: u16,
    /// Keep the vectors of the images in this folder.
    #[arg(long, value_name = "DIR")]
    index: Option<PathBuf>,
    /// Write the found images as one page.
    #[arg(long, value_name = "FILE.html")]
    html: Option<PathBuf>,
    /// Print a line of JSON for every text: {"text", "found": [{"image", "cosine"}]}.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    extra: ExtraArgs,
    #[command(flatten)]
    engine: EngineArgs,
}

/// What was found for a text.
#[derive(Serialize)]
struct Outcome {
    schema: u32,
    text: String,
    found: Vec<Found>,
}

#[derive(Serialize)]
struct Found {
    image: String,
    cosine: f64,
}

/// How every page begins.
const PAGE_START: &str = "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"generator\" content=\"samara search\">\n";

const PAGE: &str = r#"<title>samara search</title>
<style>body { font: 16px sans-serif; margin: 1em } figure { display: inline-block; margin: .3em; width: 10em; vertical-align: top }
img { max-width: 100% } figcaption { font-size: .75em; overflow-wrap: anywhere }</style>
</head>
<body>
{% for one in found %}<h2>{{ one.text }}</h2>
{% for image in one.images %}<figure><img src="{{ image.picture|safe }}" alt="{{ image.image }}"><figcaption>{{ image.cosine }} {{ image.image }}</figcaption></figure>
{% endfor %}{% endfor %}</body>
</html>
"#;

/// The longer side of a picture on a page in pixels.
const SIDE: usize = 160;

impl Command for Args {
    fn run(&self, console: &Console) -> Result<(), Error> {
        let stop = Stop::install(console.quiet).map_err(|error| Error::failed(error.to_string()))?;
        self.html.as_deref().map_or(Ok(()), |html| refuse_foreign(html, "a page of samara search", PAGE_START.as_bytes()))?;
        let mut model = DualEncoder::open(self.engine.engine()?, &self.model, self.extra.tensors())?;
        let mut counter = None;
        let index = Index::of((&mut model, &self.model), &self.images, self.index.as_deref(), &mut |done, all| {
            counter.get_or_insert_with(|| Counter::new("images", all, console.quiet)).show(done);
            stop.check()
        })?;
        drop(counter);
        index.skipped.iter().for_each(|error| say::line(&format!("warning: left out: {error}")));
        let texts: Vec<&str> = self.texts.iter().map(String::as_str).collect();
        let (vectors, cut) = model.text_vectors(&texts)?;
        if cut > 0 && !console.quiet {
            say::line(&format!("note: {cut} texts are longer than the model reads and are cut"));
        }
        let outcomes: Vec<Outcome> = self
            .texts
            .iter()
            .zip(vectors.chunks_exact(model.width().max(1)))
            .map(|(text, vector)| Outcome {
                schema: 1,
                text: text.clone(),
                found: index.nearest(vector, usize::from(self.top_k)).into_iter().map(|found| name(&index, found)).collect(),
            })
            .collect();
        self.page(&outcomes)?;
        outcomes.iter().try_for_each(|outcome| output::show(self.json, outcome, || outcome.text()))
    }
}

fn name(index: &Index, (number, cosine): (usize, f64)) -> Found {
    Found { image: index.files.get(number).map_or_else(String::new, |file| file.display().to_string()), cosine }
}

impl Args {
    /// Writes the page, if one is wanted.
    fn page(&self, outcomes: &[Outcome]) -> Result<(), Error> {
        let Some(path) = &self.html else { return Ok(()) };
        let picture = |found: &Found| -> Result<_, Error> {
            let image = read(found.image.as_ref())?;
            let longest = image.size().into_iter().max().unwrap_or(1).max(1);
            let size = image.size().map(|side| (side * SIDE.min(longest) / longest).max(1));
            let picture = data_uri(&resize(&image, size, Filter::Bilinear));
            Ok(context! { picture, image => found.image.as_str(), cosine => format!("{:.3}", found.cosine) })
        };
        let mut found = Vec::new();
        for outcome in outcomes {
            let images = outcome.found.iter().map(picture).collect::<Result<Vec<_>, _>>()?;
            found.push(context! { text => outcome.text.as_str(), images });
        }
        let mut environment = Environment::new();
        environment.set_auto_escape_callback(|_| AutoEscape::Html);
        let body = environment.render_str(PAGE, context! { found }).map_err(|error| Error::failed(error.to_string()))?;
        durable::write(path, format!("{PAGE_START}{body}").as_bytes()).map_err(IoError::at(path, "write"))?;
        Ok(())
    }
}

impl Outcome {
    fn text(&self) -> String {
        let rows = self.found.iter().map(|found| format!("{:7.4}  {}\n", found.cosine, found.image));
        format!("{}\n{}", self.text, rows.collect::<String>())
    }
}
