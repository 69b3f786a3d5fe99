//! The command `export`: a model in one file for a device, and what it takes there.

pub mod file;
mod loss;
pub mod programs;
mod report;
pub mod target;
mod weights;

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use samara_core::file::ProgramKind;
use samara_core::file::layout::MAGIC;
use samara_core::graph::DType;
use samara_core::model::gpt::{GptConfig, GptParams, Tune};
use samara_core::quant::BLOCK;

use crate::cli::requests::{EvalRequest, ExportOutcome, ExportRequest, KvCache, Machine, Optimizer, Quantize, Split};
use crate::data::shards::Tokens;
use crate::error::Error;
use crate::evaluate;
use crate::gpt::Gpt;
use crate::quantise;
use crate::run::durable;
use crate::session::{BuildError, Engine, OwnedParams, ParamSet};
use crate::tokenizer::Tokenizer;
use file::FileWriter;
use programs::DeviceModel;

/// Sequences and tokens of a sequence in programs that train and evaluate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrainShape {
    /// Sequences.
    pub batch: usize,
    /// Tokens of each.
    pub block: usize,
}

/// Everything that makes a program file of a model.
#[derive(Clone, Copy, Debug)]
pub struct FileSpec {
    /// How matrices are stored.
    pub weights: DType,
    /// How keys and values are kept.
    pub kv: DType,
    /// What is trained.
    pub train: Tune,
    /// By which rule.
    pub optimizer: Optimizer,
    /// The shape of training.
    pub shape: TrainShape,
    /// Tokens that a sequence can have.
    pub context: usize,
    /// Whether names of parameters are kept.
    pub names: bool,
}

/// Exports a model; nothing is written when it does not fit the target.
pub fn run(request: &ExportRequest) -> Result<ExportOutcome, Error> {
    // The model is only read here: whatever runs, runs on core's kernels.
    let engine = Engine::new(1, Machine::default().gemm)?;
    let device = Engine::reference()?;
    let gpt = quantise::open_f32(&engine, &request.model)?;
    let tokenizer = Tokenizer::of_model(&request.model)?;
    check_out(&request.out)?;
    let spec = spec(request, &gpt.config)?;
    if let Some(ids) = tokenizer.as_ref().map(Tokenizer::vocab_size).filter(|&ids| ids > gpt.config.vocab_size) {
        let (model, known) = (request.model.display(), gpt.config.vocab_size);
        return Err(Error::Input(format!(
            "{model}: its tokenizer has {ids} tokens, the model knows {known}: they do not belong together"
        )));
    }
    let bytes = program_file(&device, &gpt, tokenizer.as_ref(), &spec).map_err(|error| explain(request, error))?;
    let mut outcome = report::outcome(&bytes, &spec, request.target)?;
    if let Some(problem) = &outcome.problem {
        return Err(Error::Input(format!("{}: not written: {problem}", request.out.display())));
    }
    if let Some(data) = &request.data {
        let held_out = held_out(request, data, tokenizer.as_ref())?;
        held_out.check_ids(gpt.config.vocab_size as u32)?;
        outcome.losses = loss::compare(&device, &gpt, &spec, held_out.as_ref())?;
    }
    durable::write(&request.out, &bytes).map_err(Error::io(&request.out, "write"))?;
    Ok(outcome)
}

fn spec(request: &ExportRequest, config: &GptConfig) -> Result<FileSpec, Error> {
    let context = match request.context {
        0 => config.n_positions,
        context if context <= config.n_positions => context,
        context => {
            let positions = config.n_positions;
            return Err(Error::Usage(format!(
                "--context {context}: the model has {positions} positions: expected at most {positions}, or 0 for all of them"
            )));
        }
    };
    let block = match request.block.unwrap_or(0) {
        0 => context,
        block if block <= context => block,
        block => {
            return Err(Error::Usage(format!("--block {block}: expected at most the context, {context}, or 0 for all of it")));
        }
    };
    if request.kv == KvCache::Q8 && !config.n_embd.is_multiple_of(BLOCK) {
        let width = config.n_embd;
        return Err(Error::Usage(format!(
            "--kv q8: the model is {width} numbers wide, expected a multiple of {BLOCK}; take f16"
        )));
    }
    let train = request.train.tune();
    if train == Tune::None && (request.optimizer.is_some() || request.batch.is_some() || request.block.is_some()) {
        let what = "--optimizer, --batch and --block are for training: add --train PART, or leave them out";
        return Err(Error::Usage(what.to_owned()));
    }
    if train == Tune::All && request.quantize.is_some() {
        let what = "--quantize: with --train all no matrix is frozen, and trained ones are f32: leave it out, or train a part";
        return Err(Error::Usage(what.to_owned()));
    }
    Ok(FileSpec {
        weights: request.quantize.map_or(DType::Real, Quantize::dtype),
        kv: request.kv.dtype(),
        train,
        optimizer: request.optimizer.unwrap_or_default(),
        shape: TrainShape { batch: request.batch.unwrap_or(1), block },
        context,
        names: !request.strip_names,
    })
}

/// What is there already must be a program file: a slip of the hand does not cost a model.
fn check_out(out: &Path) -> Result<(), Error> {
    let kind = match fs::symlink_metadata(out) {
        Ok(kind) => kind,
        // What cannot be looked at cannot be written either, and then that is said.
        Err(_) => return Ok(()),
    };
    let mut start = [0; MAGIC.len()];
    let is_ours = kind.is_file() && File::open(out).and_then(|mut file| file.read_exact(&mut start)).is_ok() && start == MAGIC;
    if is_ours {
        return Ok(());
    }
    Err(Error::Usage(format!(
        "--out {}: there is something else than a program file: choose another name, or remove it",
        out.display()
    )))
}

/// The program file of a model, planned for the kernels of `device`.
pub fn program_file(device: &Engine, gpt: &Gpt, tokenizer: Option<&Tokenizer>, spec: &FileSpec) -> Result<Vec<u8>, BuildError> {
    let config = GptConfig { n_positions: spec.context, ..gpt.config };
    let (owned, params) = OwnedParams::new(config.param_count() + spec.train.added_params(), |registry| {
        let mut params = GptParams::register(&config, registry);
        if spec.weights != DType::Real {
            params.store_as(spec.weights, &config, registry);
        }
        params.tune(spec.train, &config, registry);
        params
    })?;
    let model = DeviceModel { engine: device, owned: &owned, config: &config, params: &params };
    let mut programs = vec![model.decode(spec.kv)?];
    if spec.train != Tune::None {
        programs.push(model.train(spec.shape, spec.optimizer)?);
        programs.push(model.evaluate(spec.shape)?);
    }
    let mut set = ParamSet::new(gpt.session.device(), "device", &owned);
    weights::copy(gpt.weights(), &mut set);
    let mut writer = FileWriter::default();
    for program in &programs {
        writer.program(program.kind, &program.program, &program.ports);
    }
    writer.params(&set, spec.names);
    if let Some(tokenizer) = tokenizer {
        writer.tokenizer(tokenizer);
    }
    let end_of_text = tokenizer.and_then(Tokenizer::end_of_text);
    Ok(writer.finish(&owned.view(), config.vocab_size, spec.context, end_of_text))
}

fn explain(request: &ExportRequest, error: BuildError) -> Error {
    match request.quantize {
        Some(quantize) => quantise::refused(quantize, error),
        None => Error::Build(error),
    }
}

/// The validation split of the data, as `eval` has it.
fn held_out(request: &ExportRequest, data: &Path, tokenizer: Option<&Tokenizer>) -> Result<Box<dyn Tokens>, Error> {
    let mut config = crate::config::Layers::new().peek().data.clone();
    config.path = Some(data.to_path_buf());
    let request = EvalRequest {
        model: request.model.clone(),
        data: config,
        split: Split::Val,
        block_size: 0,
        batch_size: 1,
        kept: crate::cli::requests::Kept::default(),
        machine: Machine::default(),
    };
    evaluate::tokens(&request, tokenizer)
}

/// All programs that a file can have, with their names.
pub const PROGRAM_NAMES: [(ProgramKind, &str); 3] =
    [(ProgramKind::Decode, "decode"), (ProgramKind::Train, "train"), (ProgramKind::Evaluate, "evaluate")];

/// Bytes that begin where numbers can be read.
pub(crate) struct Aligned(Vec<u64>, usize);

impl Aligned {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        let mut words = vec![0u64; bytes.len().div_ceil(size_of::<u64>())];
        bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(bytes);
        Self(words, bytes.len())
    }

    pub(crate) fn get(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.0)[..self.1]
    }
}

/// The name of a format on the command line.
pub(crate) fn dtype_name(dtype: DType) -> &'static str {
    match dtype {
        DType::Real => "f32",
        DType::F16 => "f16",
        DType::Q8 => "q8",
        DType::Q4 => "q4",
        DType::I32 => "i32",
    }
}
