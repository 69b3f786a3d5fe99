//! `[train]`, and the whole configuration of a training.

use std::path::PathBuf;

use samara_core::graph::{Epsilon, Momentum, Recompute, Rule};
use samara_core::schedule::{Decay, Schedule};

use crate::config::{Choice, Invalid, Table, Unread, table, tables};
use crate::data::config::DataConfig;
use crate::dialogue::config::DialogueConfig;
use crate::kernels::gemm::Gemm;
use crate::lm::generation::GenerateConfig;
use crate::model::ModelConfig;
use crate::model::family::TENSOR_LIMIT;
use crate::model::tune::config::TuneConfig;
use crate::vision::config::{AugmentConfig, ImageDataConfig};
use crate::vision::families::ImageConfig;
use crate::vision::shapes::config::ShapesConfig;
use crate::vision::tune::{ImageTuneConfig, Method as ImageMethod};

table! {
    /// How a model is trained.
    pub TrainConfig {
        /// Optimizer steps, unless train.tokens or train.flops is set.
        steps: u64 = 1000, 1..=1000000000;
        /// Training tokens, rounded up to whole steps; 0: train.steps ends the run. The schedule follows.
        tokens: u64 = 0, 0..=1000000000000000000_u64;
        /// Floating-point operations of the training, as `samara plan` counts them, rounded up to whole steps; 0: train.steps ends the run. The
        /// schedule follows.
        flops: f64 = 0.0, 0..=1e30;
        /// Rows of a batch (of a micro-batch, with grad_accumulation).
        batch_size: usize = 12, 1..=1048576;
        /// Tokens of a row, at most the positions of the model.
        block_size: usize = 128, 1..=1048576;
        /// Micro-batches whose gradients make one step, weighted by their tokens.
        grad_accumulation: usize = 1, 1..=1048576;
        /// The largest learning rate.
        lr: f64 = 1e-3, 0..=1000;
        /// The learning rate at the end; absent: a tenth of lr.
        min_lr: Option<f64> = None, 0..=1000;
        /// Steps over which the learning rate rises.
        warmup_steps: u64 = 50, 0..=1000000000;
        /// The decay of the learning rate after the warm-up: "cosine", "linear", "constant", or "step", at once to min_lr at train.drop_at.
        schedule: Decay = Decay::Cosine;
        /// The share of the steps after which the rate of schedule "step" falls to min_lr. The authors of DETR drop it by 10 after 2/3 or 0.8.
        drop_at: f64 = 0.8, 0..=1;
        /// The optimizer: "adamw", or "sgd", stochastic gradient descent with train.momentum as PyTorch's SGD.
        optimizer: Optimizer = Optimizer::AdamW;
        /// Momentum of SGD (Polyak 1964); 0: none, without memory for it.
        momentum: f64 = 0.0, 0..=0.9999999;
        /// Nesterov's variant of SGD's momentum (Nesterov 1983; Sutskever et al. 2013).
        nesterov: bool = false;
        /// Weight decay of matrices and embeddings: decoupled with AdamW, added to the gradient with SGD.
        weight_decay: f64 = 0.1, 0..=10;
        /// Decay of AdamW's first moment.
        beta1: f64 = 0.9, 0..=0.9999999;
        /// Decay of AdamW's second moment.
        beta2: f64 = 0.99, 0..=0.9999999;
        /// Added to the root of AdamW's second moment.
        eps: f64 = 1e-8, 0..=1;
        /// Where AdamW's eps stands: "torch", behind the correction of the second moment's bias, or "tensorflow", before it, which makes early steps
        /// smaller.
        eps_mode: Epsilon = Epsilon::AfterCorrection;
        /// The largest norm of all gradients together; 0: any.
        grad_clip: f64 = 1.0, 0..=1e30;
        /// Share of activations dropped while training.
        dropout: f64 = 0.0, 0..=0.999;
        /// Decay of an exponential moving average of the weights, which is then evaluated, and saved in best/; 0: none.
        ema_decay: f64 = 0.0, 0..=0.9999999;
        /// Steps between evaluations on the validation split; 0: only at the end.
        eval_every: u64 = 200, 0..=1000000000;
        /// Most batches of an evaluation, spread evenly over the split and the same every time; 0: the whole split.
        eval_batches: u64 = 200, 0..=1000000000;
        /// Training stops after this many evaluations without a better validation loss; 0: never.
        patience: u64 = 0, 0..=1000000000;
        /// Steps between checkpoints; 0: only at the end.
        checkpoint_every: u64 = 200, 0..=1000000000;
        /// Checkpoints to keep.
        keep_checkpoints: usize = 2, 2..=1000000;
        /// Steps between samples of text; 0: only before and after.
        sample_every: u64 = 0, 0..=1000000000;
        /// Seed of all random numbers: initial weights, data order, dropout, samples.
        seed: u64 = 0, 0..=9007199254740992_u64;
        /// Threads; 0: one for each core. The result does not depend on it.
        threads: usize = 0, 0..=4096;
        /// GEMM backend: "samara", "portable" (plain Rust) or "matrixmultiply".
        gemm: Gemm = Gemm::Samara;
        /// What the backward pass recomputes instead of keeping: "none", "cheap" (norms, activations), "blocks" (all but the inputs of transformer
        /// blocks), or "auto", the first of them that fits train.memory_budget_mib. The results are the same.
        recompute: RecomputeChoice = RecomputeChoice::Auto;
        /// Limit of the training's memory in MiB, as `samara plan` counts it; 0: none.
        memory_budget_mib: u64 = 0, 0..=1000000000;
        /// A model folder with the initial weights; absent: random ones.
        init: Option<PathBuf> = None;
        /// Ignore tensors of that folder which the model does not have. They are listed, and not saved.
        ignore_extra: bool = false;
        /// The run folder; absent: runs/NAME-NNN.
        out: Option<PathBuf> = None;
    }
    may change: steps tokens flops threads eval_every eval_batches patience checkpoint_every keep_checkpoints sample_every recompute memory_budget_mib init ignore_extra out;
    unread: TrainConfig::unread;
}

tables! {
    /// The whole configuration of a training.
    pub RunConfig checked by RunConfig::check_together {
        /// `[model]`
        model: ModelConfig;
        /// `[data]`
        data: DataConfig;
        /// `[train]`
        train: TrainConfig;
        /// `[tune]`
        tune: TuneConfig;
        /// `[generate]`
        generate: GenerateConfig;
    }
}

tables! {
    /// The whole configuration of a training on dialogues.
    pub SftConfig checked by SftConfig::check_together {
        /// `[model]`
        model: ModelConfig;
        /// `[data]`
        data: DataConfig;
        /// `[dialogue]`
        dialogue: DialogueConfig;
        /// `[train]`
        train: TrainConfig;
        /// `[tune]`
        tune: TuneConfig;
        /// `[generate]`
        generate: GenerateConfig;
    }
}

impl SftConfig {
    /// The part that is the same as in the training of a language model on text.
    pub fn training(&self) -> RunConfig {
        let Self { model, data, train, tune, generate, .. } = self.clone();
        RunConfig { model, data, train, tune, generate }
    }

    fn check_together(&self) -> Result<(), Invalid> {
        self.training().check_together()?;
        self.dialogue.check(self.train.block_size)
    }
}

tables! {
    /// The whole configuration of a training of an image classifier.
    pub ImageRunConfig checked by ImageRunConfig::check_together {
        /// `[model]`
        model: ImageConfig;
        /// `[data]`
        data: ImageDataConfig;
        /// `[shapes]`
        shapes: ShapesConfig;
        /// `[augment]`
        augment: AugmentConfig;
        /// `[train]`
        train: TrainConfig;
        /// `[tune]`
        tune: ImageTuneConfig;
    }
}

impl ImageRunConfig {
    fn check_together(&self) -> Result<(), Invalid> {
        self.model.architecture()?;
        if self.tune.method != ImageMethod::Full && self.train.init.is_none() {
            let expected = "\"full\" for a model with random weights, or an initial model: --init DIR";
            return Err(Invalid::new("tune.method", expected, self.tune.show("method").unwrap_or_default()));
        }
        if let (Some(target), Some(path)) = (self.shapes.show("target"), &self.data.path) {
            let expected = format!("no value beside data.path = {}: images are files, or of the generated world", path.display());
            return Err(Invalid::new("shapes.target", expected, target));
        }
        self.train.check()
    }
}

tables! {
    /// The configuration of an objective that no command trains.
    pub ObjectiveConfig checked by ObjectiveConfig::check_together {
        /// `[train]`
        train: TrainConfig;
    }
}

impl ObjectiveConfig {
    fn check_together(&self) -> Result<(), Invalid> {
        self.train.check()
    }
}

impl RunConfig {
    fn check_together(&self) -> Result<(), Invalid> {
        self.model.check()?;
        self.train.check()?;
        let (block, positions) = (self.train.block_size, self.model.positions());
        if block > positions {
            return Err(Invalid::new(
                "train.block_size",
                format!("at most model.{} = {positions}", self.model.positions_key()),
                block,
            ));
        }
        let rows = self.train.batch_size as u128 * block as u128;
        let widest = self.model.widest() as u128;
        if rows * widest > TENSOR_LIMIT {
            let most = TENSOR_LIMIT / (block as u128 * widest);
            let expected = format!("at most {most} rows of {block} tokens and {widest} activations; use train.grad_accumulation");
            return Err(Invalid::new("train.batch_size", expected, self.train.batch_size));
        }
        Ok(())
    }
}

impl TrainConfig {
    pub(super) fn check(&self) -> Result<(), Invalid> {
        if self.tokens > 0 && self.flops > 0.0 {
            let expected = "0, because train.flops ends the run: set one of them";
            return Err(Invalid::new("train.tokens", expected, self.tokens));
        }
        match self.min_lr {
            Some(min_lr) if min_lr > self.lr => {
                Err(Invalid::new("train.min_lr", format!("at most train.lr = {}", self.lr), min_lr))
            }
            _ => Ok(()),
        }
    }
}

impl TrainConfig {
    /// The keys of the optimizer that is not used, and those for a missing initial folder.
    fn unread(&self) -> Vec<Unread> {
        const ADAMW: &str = "train.optimizer = \"adamw\" uses train.beta1 instead, or set train.optimizer = \"sgd\"";
        const SGD: &str = "train.optimizer = \"sgd\" uses train.momentum instead, or set train.optimizer = \"adamw\"";
        const NESTEROV: &str = "Nesterov's momentum needs a train.momentum above 0";
        let unread: &[(&'static str, &'static str)] = match self.optimizer {
            Optimizer::AdamW => &[("momentum", ADAMW), ("nesterov", ADAMW)],
            Optimizer::Sgd if self.momentum > 0.0 => &[("beta1", SGD), ("beta2", SGD), ("eps", SGD), ("eps_mode", SGD)],
            Optimizer::Sgd => &[("nesterov", NESTEROV), ("beta1", SGD), ("beta2", SGD), ("eps", SGD), ("eps_mode", SGD)],
        };
        let without_init = self.init.is_none().then_some(("ignore_extra", "it applies to the tensors of train.init"));
        let without_drop = (self.schedule != Decay::Step).then_some(("drop_at", "it applies to train.schedule = \"step\""));
        unread.iter().copied().chain(without_init).chain(without_drop).map(|(key, instead)| Unread { key, instead }).collect()
    }

    /// The rule by which weights change.
    pub fn rule(&self) -> Rule {
        match self.optimizer {
            Optimizer::AdamW => Rule::AdamW(self.eps_mode),
            Optimizer::Sgd if self.momentum == 0.0 => Rule::Sgd(Momentum::None),
            Optimizer::Sgd if self.nesterov => Rule::Sgd(Momentum::Nesterov),
            Optimizer::Sgd => Rule::Sgd(Momentum::Classical),
        }
    }

    /// The number of moving averages of the weights.
    pub fn averages(&self) -> usize {
        usize::from(self.ema_decay > 0.0)
    }

    /// The steps of a run: from train.tokens or train.flops, or train.steps.
    pub fn steps_of(&self, tokens_per_step: u64, flops_per_token: u64) -> u64 {
        let tokens_per_step = tokens_per_step.max(1);
        if self.tokens > 0 {
            return self.tokens.div_ceil(tokens_per_step);
        }
        if self.flops > 0.0 {
            let flops_per_step = flops_per_token.max(1) as f64 * tokens_per_step as f64;
            return (self.flops / flops_per_step).ceil() as u64;
        }
        self.steps
    }

    /// The learning-rate schedule.
    pub fn lr_schedule(&self) -> Schedule {
        let min_lr = self.min_lr.unwrap_or(self.lr / 10.0);
        let (warmup_steps, steps, drop_step) = (self.warmup_steps, self.steps, (self.drop_at * self.steps as f64).round() as u64);
        Schedule { lr: self.lr, min_lr, warmup_steps, steps, decay: self.schedule, drop_step }
    }
}

/// The optimizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Optimizer {
    /// Adam with decoupled weight decay (Loshchilov and Hutter 2019).
    AdamW,
    /// Stochastic gradient descent.
    Sgd,
}

/// What the backward pass recomputes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecomputeChoice {
    /// As much as the memory budget requires.
    Auto,
    /// This.
    Fixed(Recompute),
}

impl RecomputeChoice {
    /// The policy of a training that no memory budget decides for: with `Auto` nothing is recomputed.
    pub fn without_budget(self) -> Recompute {
        match self {
            Self::Auto => Recompute::None,
            Self::Fixed(recompute) => recompute,
        }
    }
}

impl From<Recompute> for RecomputeChoice {
    fn from(recompute: Recompute) -> Self {
        Self::Fixed(recompute)
    }
}

impl Choice for Decay {
    const WORDS: &'static [(&'static str, Self)] =
        &[("cosine", Self::Cosine), ("linear", Self::Linear), ("constant", Self::Constant), ("step", Self::Step)];
}

impl Choice for Epsilon {
    const WORDS: &'static [(&'static str, Self)] = &[("torch", Self::AfterCorrection), ("tensorflow", Self::BeforeCorrection)];
}

impl Choice for Optimizer {
    const WORDS: &'static [(&'static str, Self)] = &[("adamw", Self::AdamW), ("sgd", Self::Sgd)];
}

impl Choice for Gemm {
    const WORDS: &'static [(&'static str, Self)] =
        &[("samara", Self::Samara), ("portable", Self::Portable), ("matrixmultiply", Self::MatrixMultiply)];
}

impl Choice for RecomputeChoice {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("auto", Self::Auto),
        (Recompute::None.name(), Self::Fixed(Recompute::None)),
        (Recompute::Cheap.name(), Self::Fixed(Recompute::Cheap)),
        (Recompute::Blocks.name(), Self::Fixed(Recompute::Blocks)),
    ];
}
