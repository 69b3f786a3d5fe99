//! Everything that makes a program file of a model.

use samara_core::graph::DType;
use samara_core::tune::Tune;

/// How a device trains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Optimizer {
    /// Stochastic gradient descent without momentum: it needs no memory beyond the parameters.
    #[default]
    Sgd,
    /// AdamW: two moments for each parameter.
    Adamw,
}

/// Sequences, and tokens per sequence, of programs that train and evaluate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrainShape {
    /// Sequences.
    pub batch: usize,
    /// Tokens of each.
    pub block: usize,
    /// Whether a step takes a weight for the loss of each token: advantages of reinforcement learning, for example.
    pub weighted: bool,
}

/// Everything that makes a program file of a model.
#[derive(Clone, Copy, Debug)]
pub struct FileSpec {
    /// How matrices are stored.
    pub weights: DType,
    /// The element type of keys and values.
    pub kv: DType,
    /// The trainable parameters.
    pub train: Tune,
    /// By which optimizer.
    pub optimizer: Optimizer,
    /// The shape of training.
    pub shape: TrainShape,
    /// Tokens that a sequence can have.
    pub context: usize,
    /// Whether to store parameter names.
    pub names: bool,
}
