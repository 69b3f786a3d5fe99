//! Everything that makes a program file of a model.

use samara_core::graph::{DType, Epsilon, Momentum, Recompute, Rule};
use samara_core::tune::Tune;

use crate::vision::tune::{Added, ImageTuneConfig};

/// How a device trains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Optimizer {
    /// Stochastic gradient descent without momentum: it needs no memory beyond the parameters.
    #[default]
    Sgd,
    /// AdamW: two moments for each parameter.
    Adamw,
}

impl Optimizer {
    /// The rule of its updates.
    pub(super) fn rule(self) -> Rule {
        match self {
            Self::Adamw => Rule::AdamW(Epsilon::AfterCorrection),
            Self::Sgd => Rule::Sgd(Momentum::None),
        }
    }
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

/// Everything that makes a program file of a language model.
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

/// Everything that makes a program file of an image classifier.
#[derive(Clone, Copy, Debug)]
pub struct ImageSpec<'t> {
    /// How frozen matrices are stored.
    pub weights: DType,
    /// What the device trains; `None`: inference only.
    pub tune: Option<&'t ImageTuneConfig>,
    /// What the model has beside the parameters of its family: of a tuning before, or by `tune`.
    pub added: Added,
    /// The seed of the initial values of what is added.
    pub seed: u64,
    /// By which optimizer it trains.
    pub optimizer: Optimizer,
    /// Images of a step of training.
    pub batch: usize,
    /// What the backward pass computes again.
    pub recompute: Recompute,
    /// Whether to store parameter names.
    pub names: bool,
}
