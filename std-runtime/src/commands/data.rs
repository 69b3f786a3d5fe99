//! `samara data check`.

use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::{Command, Console, Error, output};
use crate::data::DataError;
use crate::data::check::check_text;
use crate::data::objects::first_object;
use crate::data::options::{BadRow, TextOptions};
use crate::data::text;
use crate::dialogue::config::TemplateChoice;
use crate::dialogue::doctor::check;
use crate::dialogue::encode::Encoder;
use crate::dialogue::jinja::Day;
use crate::dialogue::read::{ReadOptions, Rows, Wanted, read};
use crate::dialogue::row::{Format, Kind};
use crate::dialogue::template::Template;
use crate::image_text::data::check::check as check_captions;
use crate::image_text::data::list::has_captions;
use crate::model::folder::FolderConfig;
use crate::tokenizer::{FileError, Tokenizer};
use crate::vision::boxes::check::check as check_boxes;
use crate::vision::boxes::open::{Boxes, is_annotations};
use crate::vision::data::check::{ImageReport, check as check_images};
use crate::vision::data::list::has_class_folders;

/// Check data before a training.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Check(Check),
}

const EXAMPLES: &str = "\
Examples:
  samara data check pairs.jsonl
  samara data check train.jsonl --against test.jsonl
  samara data check rows.jsonl --model gpt2 --max-length 512 --json
  samara data check annotations/instances_val2017.json --images val2017
  samara data check photos";

/// Report what is wrong with rows of dialogues, preferences, labelled completions or prompts, with texts, or with images and their boxes, labels or captions.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
struct Check {
    /// Rows (.jsonl, .json, .csv), text (.txt, rows with "text"), each also .gz or .zst, a folder of text, COCO's annotations of boxes or captions, a YOLO folder,
    /// a folder of images for each class, rows with "image" and "label" or "caption", or a folder of images with a .txt beside each.
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// Count the rows whose prompts (for text: the documents that) are also in this file, such as a test split.
    #[arg(long, value_name = "PATH")]
    against: Option<PathBuf>,
    /// Also count tokens, with this folder's tokenizer and chat template.
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Limit in tokens per row beyond which a row would be truncated [default: the model's context].
    #[arg(long, value_name = "N", requires = "model", value_parser = clap::value_parser!(u64).range(1..))]
    max_length: Option<u64>,
    /// The folder of the images that COCO's annotations name [default: beside them, or where COCO has them].
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

impl Command for Args {
    fn run(&self, _: &Console) -> Result<(), Error> {
        let Action::Check(args) = &self.action;
        match pictures(&args.path)? {
            Some(Pictures::Boxes) => return args.boxes(),
            Some(Pictures::Labelled) => return args.images("labelled images", check_images),
            Some(Pictures::Captioned) => return args.images("images with captions", check_captions),
            None => {}
        }
        if args.images.is_some() {
            return Err(Error::usage("--images is for COCO's annotations of boxes: leave it out"));
        }
        if is_text(&args.path)? {
            return args.text();
        }
        let rows = rows_of(&args.path)?;
        let against = args.against.as_deref().map(rows_of).transpose()?;
        let encoder = args.model.as_deref().map(|model| encoder(model, &rows)).transpose()?;
        let encoder = encoder.as_ref().map(|(encoder, positions)| (encoder, args.max_length(*positions)));
        let report = check(&rows, encoder, against.as_ref())?;
        output::show(args.json, &report, || report.lines().join("\n") + "\n")?;
        args.refuse(report.bad_rows)
    }
}

/// Whether data is text: a folder, a file of plain text, or rows with the text key.
fn is_text(path: &Path) -> Result<bool, Error> {
    let options = TextOptions { skip_setting: None, ..TextOptions::default() };
    Ok(path.is_dir()
        || text::is_plain(path)
        || text::has_strings(path)?
        || first_object(path, &options)?.contains_key(&options.text_key))
}

impl Check {
    fn boxes(&self) -> Result<(), Error> {
        self.refuse_flags("a data set of boxes", false)?;
        let report = check_boxes(&self.path, self.images.as_deref())?;
        output::show(self.json, &report, || report.lines().join("\n") + "\n")?;
        if report.errors > 0 {
            return Err(Error::data(format!("{}: {} errors", self.path.display(), report.errors)));
        }
        Ok(())
    }

    fn images(&self, what: &str, check: impl Fn(&Path) -> Result<ImageReport, DataError>) -> Result<(), Error> {
        self.refuse_flags(what, true)?;
        let report = check(&self.path)?;
        output::show(self.json, &report, || report.lines().join("\n") + "\n")?;
        if report.errors > 0 {
            return Err(Error::data(format!("{}: {} errors", self.path.display(), report.errors)));
        }
        Ok(())
    }

    /// Refuses flags of other data.
    fn refuse_flags(&self, what: &str, images: bool) -> Result<(), Error> {
        let flags = [
            ("--against", self.against.is_some()),
            ("--model", self.model.is_some()),
            ("--images", images && self.images.is_some()),
        ];
        match flags.into_iter().find(|(_, given)| *given) {
            None => Ok(()),
            Some((flag, _)) => Err(Error::usage(format!("{flag} is for other data, and this is {what}: leave it out"))),
        }
    }

    fn text(&self) -> Result<(), Error> {
        const WAY_OUT: &str = "; leave --model out";
        let open = |model: &Path| -> Result<(Tokenizer, usize), Error> {
            let Some(tokenizer) = Tokenizer::of_model(model)? else { return Err(FileError::none_in(model, WAY_OUT).into()) };
            Ok((tokenizer, FolderConfig::read(model)?.model.positions()))
        };
        let model = self.model.as_deref().map(open).transpose()?;
        let tokenizer = model.as_ref().map(|(tokenizer, positions)| (tokenizer, self.max_length(*positions)));
        let report = check_text(&self.path, tokenizer, self.against.as_deref())?;
        output::show(self.json, &report, || report.lines().join("\n") + "\n")?;
        self.refuse(report.bad_rows)
    }

    fn max_length(&self, positions: usize) -> usize {
        self.max_length.map_or(positions, |length| length as usize)
    }

    /// The error of a file with rows that cannot be read, once the report is written.
    fn refuse(&self, bad_rows: u64) -> Result<(), Error> {
        let shown = self.path.display();
        match bad_rows {
            0 => Ok(()),
            count => Err(Error::data(format!(
                "{shown}: {count} rows cannot be read, of which a training refuses the first; mend them, or leave them out with data.on_bad_row=skip"
            ))),
        }
    }
}

/// What a data set of images has beside them.
enum Pictures {
    Boxes,
    Labelled,
    Captioned,
}

/// What kind of images data is: boxes are COCO's annotations, or a folder with such or with YOLO's files; `None` for other data.
fn pictures(path: &Path) -> Result<Option<Pictures>, Error> {
    let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    let is_yaml = name.ends_with(".yaml") || name.ends_with(".yml");
    let is_json = name.contains(".json") && !name.contains(".jsonl");
    let is_boxes = || -> Result<bool, Error> {
        Ok(if path.is_dir() { Boxes::is_there(path) } else { is_yaml || is_json && is_annotations(path)? })
    };
    // Labels of YOLO may stand beside images as captions do.
    let is_folder_of_boxes = path.is_dir() && Boxes::is_there(path);
    Ok(if !is_folder_of_boxes && has_captions(path)? {
        Some(Pictures::Captioned)
    } else if is_boxes()? {
        Some(Pictures::Boxes)
    } else if path.is_dir() {
        has_class_folders(path).then_some(Pictures::Labelled)
    } else if text::is_plain(path) || text::has_strings(path)? {
        None
    } else {
        let first = first_object(path, &TextOptions { skip_setting: None, ..TextOptions::default() })?;
        let kind = |key, kind| (first.contains_key("image") && first.contains_key(key)).then_some(kind);
        kind("caption", Pictures::Captioned).or_else(|| kind("label", Pictures::Labelled))
    })
}

/// The rows of a file, whatever their kind.
fn rows_of(path: &Path) -> Result<Rows, Error> {
    const ALL: &[Kind] = &[Kind::Dialogue, Kind::Preference, Kind::Unpaired, Kind::Prompt];
    let options = ReadOptions::new(Wanted { command: "samara data check", kinds: ALL });
    Ok(read(path, &ReadOptions { bad_row: BadRow::Skip, keep_other_prompts: true, ..options })?)
}

/// The encoder of a model folder, and the model's context length.
fn encoder(folder: &Path, rows: &Rows) -> Result<(Encoder, usize), Error> {
    const WAY_OUT: &str = "; leave --model out";
    let Some(tokenizer) = Tokenizer::of_model(folder)? else { return Err(FileError::none_in(folder, WAY_OUT).into()) };
    let config = FolderConfig::read(folder)?;
    // The day does not change how many tokens a row has.
    let format = rows.format().unwrap_or(Format::Messages);
    let template = Template::choose(&TemplateChoice::Auto, &tokenizer, format, Day::of_seconds(0))?;
    let stops = config.stops(&tokenizer).into_iter().map(|id| id as u32).collect();
    let vocab_size = config.model.vocab_size().unwrap_or_else(|| tokenizer.vocab_size());
    Ok((Encoder::new(tokenizer, template, stops, vocab_size)?, config.model.positions()))
}
