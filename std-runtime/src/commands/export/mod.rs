//! `samara export`: a model in one file for a device, and the resources that it needs there.

mod images;

use std::fs;
use std::path::{Path, PathBuf};

use clap::builder::PossibleValuesParser;
use samara_core::file::layout::{MAGIC, VERSION};
use samara_core::graph::DType;
use samara_core::model::lm::LmDims;
use samara_core::quant::BLOCK;
use samara_core::tune::Tune;
use serde::Serialize;

use super::args::ExtraArgs;
use super::out_file::refuse_foreign;
use super::{Command, Console, Error, output};
use crate::data::config::DataConfig;
use crate::data::shards::Tokens;
use crate::eval::{Selection, tokenizer_of, tokens};
use crate::export::build::program_file;
use crate::export::convert::convert;
use crate::export::loss::{FormatLoss, compare};
use crate::export::report::{DeviceRam, Footprint, Made, footprint};
use crate::export::spec::{FileSpec, Optimizer, TrainShape};
use crate::export::target::{TARGETS, Target, find};
use crate::files::IoError;
use crate::kernels::gemm::Gemm;
use crate::lm::formats::{KvCache, Quantize};
use crate::lm::open::RowsError;
use crate::model::tune::peft::Source;
use crate::run::durable;
use crate::say;
use crate::session::{BuildError, Engine};
use crate::tokenizer::Tokenizer;
use crate::vision::folder::ImageFolder;

const EXAMPLES: &str = "\
The file is read where it lies: include it in a firmware with
samara_core::include_program!, or open it with the C interface.

Examples:
  samara export --model runs/tales-001 --out tales.samara --quantize q8
  samara export --model tiny --out tiny.samara --quantize q8 --kv q8 \\
      --target stm32f746 --data held-out.txt
  samara export --model tiny --out tiny.samara --train last-block
  samara export --model tiny --out tiny.samara --train last-block --weighted
  samara export --model flowers --out flowers.samara --train vpt-deep
  samara export --convert old.samara --out new.samara";

/// Write a model to one file for a microcontroller, and report the resources that it needs.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The model folder.
    #[arg(long, value_name = "DIR", required_unless_present = "convert")]
    model: Option<PathBuf>,
    /// Rewrite a file of an older format version instead; its content stays the same.
    #[arg(long, value_name = "FILE.samara", conflicts_with_all = OF_A_MODEL)]
    convert: Option<PathBuf>,
    /// The file.
    #[arg(long, value_name = "FILE.samara")]
    out: PathBuf,
    /// Quantise matrices to 8 or 4 bits.
    #[arg(long, value_enum, value_name = "TYPE")]
    quantize: Option<Quantize>,
    /// Element type of keys and values of a language model [default: f32].
    #[arg(long, value_enum, value_name = "TYPE")]
    kv: Option<KvCache>,
    /// The parameters that the device trains.
    #[arg(long, value_enum, value_name = "PART", default_value_t)]
    train: TrainPart,
    /// How it trains [default: sgd].
    #[arg(long, value_enum, value_name = "RULE")]
    optimizer: Option<Optimizer>,
    /// Sequences or images of a step of training [default: 1].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    batch: Option<u32>,
    /// Tokens of a sequence in training [default: 0, the context].
    #[arg(long, value_name = "N")]
    block: Option<u32>,
    /// Let the device weight the loss of each token: rewards, advantages.
    #[arg(long)]
    weighted: bool,
    /// Context of the device in tokens [default: 0, the model's].
    #[arg(long, value_name = "N")]
    context: Option<u32>,
    /// Learnt tokens of an image classifier, for --train vpt-shallow and vpt-deep [default: 4].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    prompts: Option<u32>,
    /// What a training step of an image classifier computes again instead of keeping it [default: none].
    #[arg(long, value_enum, value_name = "WHAT")]
    recompute: Option<Recomputed>,
    /// The seed of the initial values of --prompts [default: 0].
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Refuse a model that does not fit this microcontroller.
    #[arg(long, value_name = "NAME", value_parser = target_names())]
    target: Option<String>,
    /// Report the loss in every format on the held-out part of this text.
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// Leave out the parameter names.
    #[arg(long)]
    strip_names: bool,
    #[command(flatten)]
    extra: ExtraArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Flags that apply to exporting a model only.
const OF_A_MODEL: [&str; 16] = [
    "model",
    "quantize",
    "kv",
    "train",
    "optimizer",
    "batch",
    "block",
    "weighted",
    "context",
    "prompts",
    "recompute",
    "seed",
    "target",
    "data",
    "strip_names",
    "ignore_extra",
];

fn target_names() -> PossibleValuesParser {
    TARGETS.iter().map(|target| clap::builder::PossibleValue::new(target.name).help(limits(target))).collect::<Vec<_>>().into()
}

fn limits(target: &Target) -> String {
    let (flash, ram) = (output::bytes(target.flash_bytes), output::bytes(target.ram_bytes));
    format!("{}, {flash} flash, {ram} RAM", target.core)
}

/// The parameters that a device trains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum TrainPart {
    /// None: inference only.
    #[default]
    None,
    /// An untied head, initialised from the token embedding.
    Head,
    /// Every bias and every weight of a layer norm.
    Bias,
    /// The last block and the final norm.
    LastBlock,
    /// Learnt tokens before the first block of an image classifier, and its head.
    VptShallow,
    /// Learnt tokens before every block of an image classifier, and its head.
    VptDeep,
    /// All parameters.
    All,
}

/// What a training step computes again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Recomputed {
    /// Nothing.
    #[default]
    None,
    /// Norms and elementwise functions.
    Cheap,
    /// Whole blocks.
    Blocks,
}

impl TrainPart {
    /// The part of a language model; none for what only image classifiers have.
    fn tune(self) -> Tune {
        match self {
            Self::None | Self::VptShallow | Self::VptDeep => Tune::None,
            Self::Head => Tune::Head,
            Self::Bias => Tune::Bias,
            Self::LastBlock => Tune::LastBlock,
            Self::All => Tune::All,
        }
    }
}

/// An exported file.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Outcome {
    /// The resources that it needs on a device.
    #[serde(flatten)]
    file: Footprint,
    /// The loss in every format, if there is text to measure it on.
    losses: Vec<FormatLoss>,
}

impl Command for Args {
    fn run(&self, console: &Console) -> Result<(), Error> {
        match (&self.convert, &self.model) {
            (Some(old), _) => {
                let converted = self.converted(old)?;
                let (out, bytes) = (self.out.display(), converted.file_bytes);
                let text = || format!("{out}: {} in version {VERSION} of the format, {bytes} bytes\n", old.display());
                output::show(self.json, &converted, text)
            }
            (None, Some(model)) => {
                let outcome = match ImageFolder::read(model)? {
                    Some(_) => images::outcome(self, model)?,
                    None => self.outcome(model, console.quiet)?,
                };
                output::show(self.json, &outcome, || self.text(&outcome))
            }
            (None, None) => Err(Error::usage("expected --model DIR, or --convert FILE.samara")),
        }
    }
}

/// A converted file.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Converted {
    /// Its version of the format.
    version: u32,
    /// Its bytes.
    file_bytes: u64,
}

impl Args {
    /// Writes a file of an older version of the format in the current one.
    fn converted(&self, old: &Path) -> Result<Converted, Error> {
        refuse_foreign(&self.out, "a program file", &MAGIC)?;
        let bytes = fs::read(old).map_err(IoError::at(old, "read"))?;
        let bytes = convert(&bytes).map_err(|error| Error::data(format!("{}: {error}", old.display())))?;
        durable::write(&self.out, &bytes).map_err(IoError::at(&self.out, "write"))?;
        Ok(Converted { version: VERSION, file_bytes: bytes.len() as u64 })
    }

    /// Exports the model; writes nothing if it does not fit the target.
    fn outcome(&self, folder: &Path, quiet: bool) -> Result<Outcome, Error> {
        // The model is only read here: whatever runs, runs on core's kernels.
        let engine = Engine::new(1, Gemm::default())?;
        let device = Engine::reference()?;
        let model = self.extra.open(&engine, &Source { base: folder.to_owned(), adapter: None }, None, quiet)?;
        let data = self.data.as_ref().map(|data| DataConfig { path: Some(data.clone()), ..DataConfig::default() });
        let tokenizer = match &data {
            Some(data) => tokenizer_of(data, folder, quiet)?,
            None => Tokenizer::of_model_if_usable(folder, quiet),
        };
        refuse_foreign(&self.out, "a program file", &MAGIC)?;
        let spec = self.spec(model.dims)?;
        let on_device = on_device(tokenizer.as_ref(), model.dims.vocab_size, folder, quiet)?;
        let bytes = program_file(&device, &model, on_device.as_ref(), &spec).map_err(|error| self.explained(error))?;
        let file = self.footprint(&bytes, Made::from(&spec))?;
        let losses = match &data {
            Some(data) => {
                // The validation split, as `eval` has it.
                let held_out = tokens(data, Selection::Val, tokenizer.as_ref(), folder, model.dims.vocab_size)?.tokens;
                held_out.check_ids(model.dims.vocab_size as u32)?;
                compare(&device, &model, &spec, held_out.as_ref())?
            }
            None => Vec::new(),
        };
        durable::write(&self.out, &bytes).map_err(IoError::at(&self.out, "write"))?;
        Ok(Outcome { file, losses })
    }

    /// The resources of a file.
    fn footprint(&self, bytes: &[u8], made: Made) -> Result<Footprint, Error> {
        let target = self.target.as_deref().and_then(find);
        let file = footprint(bytes, made, target).map_err(|error| Error::failed(format!("the file just made: {error}")))?;
        match &file.problem {
            Some(problem) => Err(Error::data(format!("{}: not written: {problem}", self.out.display()))),
            None => Ok(file),
        }
    }

    /// Refuses flags that apply to image classifiers.
    fn refuse_of_images(&self) -> Result<(), Error> {
        let vpt = matches!(self.train, TrainPart::VptShallow | TrainPart::VptDeep);
        let given = [
            ("--train vpt-shallow or vpt-deep", vpt),
            ("--prompts", self.prompts.is_some()),
            ("--recompute", self.recompute.is_some()),
            ("--seed", self.seed.is_some()),
        ];
        refuse(&given, "image classifiers")
    }

    /// The export specification of the flags.
    fn spec(&self, dims: LmDims) -> Result<FileSpec, Error> {
        self.refuse_of_images()?;
        let context = match self.context.unwrap_or(0) as usize {
            0 => dims.n_positions,
            context if context <= dims.n_positions => context,
            context => {
                let positions = dims.n_positions;
                return Err(Error::usage(format!(
                    "--context {context}: expected at most {positions}, the model's context, or 0 for all of it"
                )));
            }
        };
        let block = match self.block.unwrap_or(0) as usize {
            0 => context,
            block if block <= context => block,
            block => {
                return Err(Error::usage(format!(
                    "--block {block}: expected at most the context, {context}, or 0 for all of it"
                )));
            }
        };
        if self.kv == Some(KvCache::Q8) && !dims.kv_width.is_multiple_of(BLOCK) {
            let width = dims.kv_width;
            return Err(Error::usage(format!(
                "--kv q8: the keys of a token are {width} values, expected a multiple of {BLOCK}; use f16"
            )));
        }
        let train = self.train.tune();
        let of_training = self.optimizer.is_some() || self.batch.is_some() || self.block.is_some() || self.weighted;
        if train == Tune::None && of_training {
            let what = "--optimizer, --batch, --block and --weighted apply to training: add --train PART, or leave them out";
            return Err(Error::usage(what));
        }
        if train == Tune::All && self.quantize.is_some() {
            let what = "--quantize: with --train all every matrix is trained and stays f32: leave it out, or train a part";
            return Err(Error::usage(what));
        }
        Ok(FileSpec {
            weights: self.quantize.map_or(DType::Real, Quantize::dtype),
            kv: self.kv.unwrap_or_default().dtype(),
            train,
            optimizer: self.optimizer.unwrap_or_default(),
            shape: TrainShape { batch: self.batch.unwrap_or(1) as usize, block, weighted: self.weighted },
            context,
            names: !self.strip_names,
        })
    }

    fn explained(&self, error: BuildError) -> Error {
        match self.quantize {
            Some(quantize) => RowsError::of(quantize, error).map_or_else(Error::from, Error::from),
            None => error.into(),
        }
    }

    fn text(&self, outcome: &Outcome) -> String {
        let file = &outcome.file;
        let mut text = format!("{}: {}; weights {}", self.out.display(), file.programs.join(", "), file.weights);
        if let (Some(kv), Some(context)) = (file.kv, file.context) {
            text += &format!(", keys and values {kv}, context {context}");
        }
        text += "\n\n";
        text += &output::table(&flash(file));
        text.push('\n');
        text += &output::table(&ram(&file.ram));
        let each = if file.context.is_some() { "token in the middle of a sequence" } else { "image" };
        text += &format!("\n{} multiplications per {each}\n", output::count(file.multiplications as f64));
        if let Some(instructions) = file.m7_instructions {
            text += &format!("about {} instructions per token on a Cortex-M7\n", output::count(instructions as f64));
        }
        if let Some(target) = file.target {
            text += &format!("fits {} ({})\n", target.name, limits(target));
        }
        if let Some(first) = outcome.losses.first() {
            let mut rows = vec![["weights", "keys, values", "loss", "cost"].map(str::to_owned).to_vec()];
            rows.extend(outcome.losses.iter().map(|l| {
                vec![l.weights.to_owned(), l.kv.to_owned(), format!("{:.4}", l.loss), format!("{:+.4}", l.loss - first.loss)]
            }));
            text += &format!("\nnats per token over {} tokens of held-out text:\n{}", first.tokens, output::table(&rows));
        } else if file.context.is_some() {
            text += "the loss of each format: add --data TEXT\n";
        }
        text
    }
}

/// Refuses flags that apply to another kind of model.
fn refuse(flags: &[(&str, bool)], of: &str) -> Result<(), Error> {
    match flags.iter().find(|(_, given)| *given) {
        Some((flag, _)) => Err(Error::usage(format!("{flag} applies to {of}: leave it out"))),
        None => Ok(()),
    }
}

/// The tokenizer for the file, without added tokens that the model lacks; `None`, with a note, when devices do not support it.
fn on_device(tokenizer: Option<&Tokenizer>, vocab_size: usize, folder: &Path, quiet: bool) -> Result<Option<Tokenizer>, Error> {
    let Some(tokenizer) = tokenizer else { return Ok(None) };
    let (model, ids) = (folder.display(), tokenizer.text_vocab_size());
    if ids > vocab_size {
        return Err(Error::data(format!(
            "{model}: text has ids up to {ids} in its tokenizer, the model has a vocabulary of {vocab_size}: they do not belong together; put \
             the model's own tokenizer there"
        )));
    }
    if let Some(what) = tokenizer.beyond_devices() {
        if !quiet {
            say::line(&format!(
                "note: {model}: its tokenizer has {what}, which devices do not support: the file has no tokenizer"
            ));
        }
        return Ok(None);
    }
    Ok(Some(tokenizer.clone().within(vocab_size)))
}

fn row(what: &str, bytes: u64) -> Vec<String> {
    vec![what.to_owned(), bytes.to_string(), output::bytes(bytes)]
}

fn flash(file: &Footprint) -> Vec<Vec<String>> {
    let mut rows: Vec<_> = file.flash.iter().map(|part| row(&format!("  {}", part.what), part.bytes)).collect();
    rows.insert(0, row("flash", file.flash_bytes));
    rows.insert(1, row("  file, of which", file.file_bytes));
    rows.push(row("  engine, about", file.engine_bytes));
    rows
}

fn ram(ram: &DeviceRam) -> Vec<Vec<String>> {
    let parts = [
        ("    arena", ram.arena_bytes),
        ("      of which scratch", ram.scratch_bytes),
        ("    keys and values", ram.state_bytes),
        ("    integers", ram.ints_bytes),
        ("    trained parameters", ram.trainable_bytes),
        ("    their moments", ram.moments_bytes),
        ("  stack, at most", ram.stack_bytes),
    ];
    let mut rows = vec![row("RAM", ram.total_bytes)];
    let session = format!("  session, {} numbers of four bytes, of which", ram.session_bytes / 4);
    rows.push(row(&session, ram.session_bytes));
    rows.extend(parts.into_iter().filter(|(_, bytes)| *bytes > 0).map(|(what, bytes)| row(what, bytes)));
    rows
}
