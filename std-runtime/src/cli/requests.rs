//! What the commands ask of the engine, and what it answers.

use std::path::PathBuf;

use samara_core::graph::DType;
use samara_core::tune::Tune;
use serde::Serialize;

use crate::bench::profile::Profile;
use crate::config::{DataConfig, GenerateConfig, RunConfig};
use crate::export::target::Target;
use crate::kernels::gemm::Gemm;

/// Train a model.
#[derive(Clone, Debug)]
pub struct TrainRequest {
    /// The effective configuration.
    pub config: RunConfig,
    /// The run folder; none: a new one, `runs/NAME-NNN`.
    pub out: Option<PathBuf>,
    /// The name of the preset, for the name of a new run folder.
    pub name: String,
    /// A model folder with the initial weights.
    pub init: Option<PathBuf>,
    /// Go on from the newest valid checkpoint of `out`, if there is one.
    pub resume: bool,
    /// Print results only.
    pub quiet: bool,
}

/// A finished training.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TrainOutcome {
    /// Steps done, those before a resumption included.
    pub steps: u64,
    /// Loss of the last batch.
    pub train_loss: Option<f64>,
    /// The last validation loss.
    pub val_loss: Option<f64>,
    /// The smallest validation loss.
    pub best_val_loss: Option<f64>,
    /// The run folder, which is also a model folder.
    pub out: PathBuf,
}

/// Where and with what a model runs.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// Threads; 0: one for each core.
    pub threads: usize,
    /// Who multiplies matrices.
    pub gemm: Gemm,
}

/// The element types that weights can be kept in instead of numbers of 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Quantize {
    /// Blocks of 32 signed bytes with a scale: 8.5 bits a weight.
    Q8,
    /// Blocks of 32 half bytes with a scale: 4.5 bits a weight.
    Q4,
}

impl Quantize {
    /// The element type.
    pub fn dtype(self) -> DType {
        match self {
            Self::Q8 => DType::Q8,
            Self::Q4 => DType::Q4,
        }
    }

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Q8 => "q8",
            Self::Q4 => "q4",
        }
    }
}

/// How the weights of a model are kept.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct Kept {
    /// Keep the weights in blocks of 8 or 4 bits, and say what loss that costs.
    #[arg(long, value_enum, value_name = "TYPE")]
    pub quantize: Option<Quantize>,
    /// Do not say it: the weights are then never in memory as f32.
    #[arg(long, requires = "quantize")]
    pub skip_f32: bool,
}

impl Kept {
    /// Whether the loss with weights as numbers of 32 bits is asked for as well.
    pub fn compares(&self) -> bool {
        self.quantize.is_some() && !self.skip_f32
    }
}

/// The element types that keys and values can be kept in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum KvCache {
    /// Numbers of 32 bits.
    #[default]
    F32,
    /// Half precision.
    F16,
    /// Blocks of 32 signed bytes with a scale.
    Q8,
}

impl KvCache {
    /// The element type.
    pub fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::Real,
            Self::F16 => DType::F16,
            Self::Q8 => DType::Q8,
        }
    }
}

/// What a device trains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum TrainPart {
    /// Nothing.
    #[default]
    None,
    /// A head of its own, which begins as the token embedding.
    Head,
    /// Every bias and every weight of a layer norm.
    Bias,
    /// The last block and the final norm.
    LastBlock,
    /// Everything.
    All,
}

impl TrainPart {
    /// The same in the engine's terms.
    pub fn tune(self) -> Tune {
        match self {
            Self::None => Tune::None,
            Self::Head => Tune::Head,
            Self::Bias => Tune::Bias,
            Self::LastBlock => Tune::LastBlock,
            Self::All => Tune::All,
        }
    }
}

/// How a device trains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Optimizer {
    /// Stochastic gradient descent without momentum: no memory beside the parameters.
    #[default]
    Sgd,
    /// AdamW: two moments for each parameter.
    Adamw,
}

/// Put a model into one file for a device.
#[derive(Clone, Debug)]
pub struct ExportRequest {
    /// The model folder.
    pub model: PathBuf,
    /// The file.
    pub out: PathBuf,
    /// Matrices in blocks.
    pub quantize: Option<Quantize>,
    /// How keys and values are kept.
    pub kv: KvCache,
    /// What the device trains.
    pub train: TrainPart,
    /// How it trains.
    pub optimizer: Option<Optimizer>,
    /// Sequences of a step of training; 1 unless asked for.
    pub batch: Option<usize>,
    /// Tokens of a sequence in training; 0, or unless asked for: the context.
    pub block: Option<usize>,
    /// Tokens that a sequence can have; 0: as many as the model has positions.
    pub context: usize,
    /// The microcontroller that it must fit.
    pub target: Option<&'static Target>,
    /// Held-out text, to say what formats cost.
    pub data: Option<PathBuf>,
    /// Leave out the names of parameters.
    pub strip_names: bool,
}

/// A part of a file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FlashPart {
    /// What it is.
    pub what: &'static str,
    /// Its bytes.
    pub bytes: u64,
}

/// RAM that a device needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ExportRam {
    /// Activations, inputs, scratch.
    pub arena_bytes: u64,
    /// The most scratch of a node, part of the arena.
    pub scratch_bytes: u64,
    /// Keys and values.
    pub state_bytes: u64,
    /// Tokens and positions.
    pub ints_bytes: u64,
    /// Trained parameters.
    pub trainable_bytes: u64,
    /// Their moments.
    pub moments_bytes: u64,
    /// All of the above: what a session is lent.
    pub session_bytes: u64,
    /// A bound of the stack.
    pub stack_bytes: u64,
    /// Everything.
    pub total_bytes: u64,
}

/// The loss of a format on held-out text.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FormatLoss {
    /// How matrices are stored.
    pub weights: &'static str,
    /// How keys and values are kept.
    pub kv: &'static str,
    /// Nats per token.
    pub loss: f64,
    /// Tokens predicted.
    pub tokens: usize,
}

/// An exported file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExportOutcome {
    /// Its programs.
    pub programs: Vec<&'static str>,
    /// How matrices are stored.
    pub weights: &'static str,
    /// How keys and values are kept.
    pub kv: &'static str,
    /// Tokens that a sequence can have.
    pub context: usize,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// What they are.
    pub flash: Vec<FlashPart>,
    /// A bound of the engine's code.
    pub engine_bytes: u64,
    /// File and engine.
    pub flash_bytes: u64,
    /// RAM.
    pub ram: ExportRam,
    /// Multiplications of a token in the middle of a sequence.
    pub multiplications: u64,
    /// Instructions of such a token on a Cortex-M7, where they are known: with weights in blocks.
    pub m7_instructions: Option<u64>,
    /// What formats cost, where there was text to tell.
    pub losses: Vec<FormatLoss>,
    /// The microcontroller that was asked for.
    #[serde(skip)]
    pub target: Option<&'static Target>,
    /// What the microcontroller lacks.
    #[serde(skip)]
    pub problem: Option<String>,
}

/// Continue a text; what is generated goes to a writer as it comes.
#[derive(Clone, Debug)]
pub struct GenerateRequest {
    /// The model folder.
    pub model: PathBuf,
    /// Prompt, length, sampling, seed.
    pub generate: GenerateConfig,
    /// How the weights are kept.
    pub kept: Kept,
    /// How keys and values are kept.
    pub kv_cache: KvCache,
    /// Threads and kernels.
    pub machine: Machine,
}

/// A finished text.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct GenerateOutcome {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens generated.
    pub new_tokens: usize,
    /// Tokens generated in a second.
    pub tokens_per_s: f64,
    /// Bytes of the weights.
    pub weight_bytes: u64,
    /// Bytes of the weights as numbers of 32 bits.
    pub f32_bytes: u64,
    /// What weights in blocks cost on the prompt.
    pub prompt_cost: Option<BlocksCost>,
    /// The same on what was generated. The text was drawn with weights in blocks, which favours them.
    pub new_cost: Option<BlocksCost>,
}

/// Losses on the same tokens, in nats per token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct BlocksCost {
    /// With weights in blocks.
    pub loss: f64,
    /// With weights as numbers of 32 bits.
    pub f32_loss: f64,
    /// Tokens predicted.
    pub tokens: usize,
}

/// What is scored.
#[derive(Clone, Debug, PartialEq)]
pub enum ScoreInput {
    /// Text, encoded with the folder's tokenizer.
    Text(String),
    /// Token ids.
    Tokens(Vec<u32>),
}

/// Give every token its log-probability.
#[derive(Clone, Debug)]
pub struct ScoreRequest {
    /// The model folder.
    pub model: PathBuf,
    /// What is scored.
    pub input: ScoreInput,
    /// Where the logits (T, V) go as `.npy`.
    pub logits: Option<PathBuf>,
    /// How the weights are kept.
    pub kept: Kept,
    /// Threads and kernels.
    pub machine: Machine,
}

/// Scored tokens.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ScoreOutcome {
    /// The ids.
    pub tokens: Vec<u32>,
    /// log p of each token after the first, given those before it.
    pub logprobs: Vec<f32>,
    /// Their mean, negated.
    pub loss: f64,
    /// The same with weights as numbers of 32 bits, when they were kept in blocks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub f32_loss: Option<f64>,
    /// What each token is as text, without a tokenizer nothing; not part of the JSON.
    #[serde(skip)]
    pub texts: Vec<String>,
}

/// A part of the data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Split {
    /// The first part.
    Train,
    /// The held-out last part.
    Val,
    /// Everything.
    #[default]
    All,
}

/// Evaluate a model on data.
#[derive(Clone, Debug)]
pub struct EvalRequest {
    /// The model folder.
    pub model: PathBuf,
    /// The data; its tokenizer is that of the folder.
    pub data: DataConfig,
    /// The part.
    pub split: Split,
    /// Tokens of a block; 0: as many as the model takes.
    pub block_size: usize,
    /// Blocks at a time.
    pub batch_size: usize,
    /// How the weights are kept.
    pub kept: Kept,
    /// Threads and kernels.
    pub machine: Machine,
}

/// An evaluation over a whole split.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct EvalOutcome {
    /// Mean of −log p over all tokens but the first, in nats.
    pub loss: f64,
    /// The same with weights as numbers of 32 bits, when they were kept in blocks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub f32_loss: Option<f64>,
    /// e^loss.
    pub perplexity: f64,
    /// Bits for each byte of the text; none when the bytes are not known.
    pub bits_per_byte: Option<f64>,
    /// Tokens predicted.
    pub tokens: u64,
}

/// Foretell what a training takes.
#[derive(Clone, Debug)]
pub struct PlanRequest {
    /// The effective configuration.
    pub config: RunConfig,
    /// Take the time of three steps.
    pub time: bool,
    /// List what stands in the arena when it is fullest.
    pub peak: bool,
}

/// Bytes of one kind.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bytes {
    /// The kind: weights, gradients, optimizer, activations, scratch, mapped.
    pub class: &'static str,
    /// How many.
    pub bytes: u64,
}

/// Memory with a way of recomputation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PolicyBytes {
    /// The value of `train.recompute`.
    pub recompute: &'static str,
    /// Memory in all.
    pub bytes: u64,
    /// Whether it is the one that is used.
    pub chosen: bool,
}

/// Tensors of one kind that stand in the arena when it is fullest.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PeakRow {
    /// The operation that writes them, with `*` for the number of the block.
    pub what: String,
    /// How many.
    pub count: usize,
    /// Their bytes together.
    pub bytes: u64,
}

/// What stands in the arena when it is fullest.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Peak {
    /// The operation that runs then.
    pub node: String,
    /// What stands there, the largest first.
    pub rows: Vec<PeakRow>,
}

/// What a training takes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PlanOutcome {
    /// Parameters.
    pub parameters: u64,
    /// Parameters that are trained.
    pub trainable_parameters: u64,
    /// Memory by class.
    pub memory: Vec<Bytes>,
    /// Their sum without what is mapped.
    pub resident_bytes: u64,
    /// The same with every way of recomputation.
    pub policies: Vec<PolicyBytes>,
    /// The fullest moment of the arena, when asked for.
    pub peak: Option<Peak>,
    /// Floating-point operations of a training step for each token.
    pub flops_per_token: f64,
    /// Tokens of a step.
    pub tokens_per_step: u64,
    /// Tokens of the training split, when the data is there.
    pub train_tokens: Option<u64>,
    /// A checkpoint on disk.
    pub checkpoint_bytes: u64,
    /// Seconds of a step, when asked for.
    pub seconds_per_step: Option<f64>,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum BenchKind {
    /// Matrix products of a model's shapes.
    Gemm,
    /// Training steps.
    Step,
    /// Generating token by token.
    Decode,
    /// Linear assignment on families of cost matrices.
    Assign,
}

/// Tokens that a measurement of decoding generates.
pub const NEW_TOKENS: usize = 64;

/// Measure this machine.
#[derive(Clone, Debug)]
pub struct BenchRequest {
    /// What.
    pub kind: BenchKind,
    /// The model and the batch; threads and kernels are in `[train]`.
    pub config: RunConfig,
    /// Decode with weights in blocks.
    pub quantize: Option<Quantize>,
    /// Measurements, of which the median is reported.
    pub repeats: usize,
    /// Also say where the time of a step or of a token goes.
    pub profile: bool,
    /// Tokens of the prompt before generating.
    pub prompt_tokens: usize,
    /// Tokens generated after the first; none: [`NEW_TOKENS`], or as many as the model has positions for.
    pub new_tokens: Option<usize>,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BenchOutcome {
    /// Each measurement.
    pub rows: Vec<BenchRow>,
    /// Where the time goes, if asked for.
    pub profile: Option<Profile>,
}

/// A measurement beside what the machine could do.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BenchRow {
    /// What was measured.
    pub name: String,
    /// Median time in milliseconds.
    pub milliseconds: f64,
    /// The figure, in `unit`.
    pub figure: f64,
    /// The unit, such as GFLOP/s.
    pub unit: &'static str,
    /// Floating-point operations or bytes that the work takes at least.
    pub floor: f64,
    /// What the floor counts: FLOP or bytes.
    pub floor_unit: &'static str,
    /// The least time in which this machine, as measured, could do that much.
    pub floor_milliseconds: f64,
}
