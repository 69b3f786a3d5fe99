//! The configuration of a run: tables `[model]`, `[data]`, `[train]`, `[generate]` in TOML.
//!
//! Every key is defined once, here, with its meaning, default and range. Values come from a preset, then a file, then `--set key=value`, then
//! flags ([`Layers`]); an error says where the value came from.

mod choices;
mod error;
mod limits;
mod merge;
mod presets;
mod table;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use samara_core::schedule::Decay;

use crate::kernels::gemm::Gemm;

pub use choices::{ActivationFunction, BadRows, DataOrder, ModelType, RecomputeChoice, TokenizerChoice};
pub use error::{ConfigError, Place};
pub use limits::Invalid;
pub use merge::Layers;
pub use presets::{DEFAULT_PRESET, PRESETS, Preset};
pub use table::Key;

use table::{Table, table};

table! {
    /// The model, with the names of Hugging Face's `config.json`.
    ModelConfig {
        /// The family: "gpt2" (norms before each branch) or "openai-gpt" (GPT-1, norms after the residual sums).
        model_type: ModelType = ModelType::Gpt2;
        /// Token ids; absent: as many as the tokenizer has.
        vocab_size: Option<usize> = None, 1..=16777216;
        /// The longest sequence in tokens.
        n_positions: usize = 128, 1..=1048576;
        /// Width of the residual stream, a multiple of n_head.
        n_embd: usize = 128, 1..=65536;
        /// Blocks.
        n_layer: usize = 4, 1..=4096;
        /// Attention heads.
        n_head: usize = 4, 1..=4096;
        /// Width of the hidden layer; absent: 4 n_embd.
        n_inner: Option<usize> = None, 1..=1048576;
        /// "gelu_new" (tanh form, GPT-2's), "gelu" (exact, nanoGPT's) or "relu".
        activation_function: ActivationFunction = ActivationFunction::GeluNew;
        /// Added to the variance in layer norms.
        layer_norm_epsilon: f64 = 1e-5, 0..=1;
        /// Standard deviation of initial weights; residual projections have it divided by the root of 2 n_layer.
        initializer_range: f64 = 0.02, 0..=10;
        /// Whether linear layers and layer norms have biases.
        bias: bool = true;
        /// Whether attention scores are divided by the root of the head's width.
        scale_attn_weights: bool = true;
        /// In every second block attention sees only this many last tokens (GPT-3); 0: all tokens everywhere.
        window_size: usize = 0, 0..=1048576;
    }
}

table! {
    /// What a model is trained on.
    DataConfig {
        /// A text file, a JSONL file, a folder of them, a token shard (.bin), or a folder with train.bin and val.bin;
        /// absent: the built-in corpus of tales.
        path: Option<PathBuf> = None;
        /// The key of the text in a row of JSONL.
        text_field: String = "text".to_owned();
        /// A JSONL row that is not as it should be: "error" stops, "skip" leaves it out and counts it.
        on_bad_row: BadRows = BadRows::Error;
        /// The last part of the text, held out for validation.
        val_fraction: f64 = 0.1, 0..=0.9;
        /// "byte", "char" (the characters of the data), "bpe" (trained on the data), or a path to a tokenizer.json or its folder.
        tokenizer: TokenizerChoice = TokenizerChoice::Byte;
        /// Ids of a tokenizer that is trained: bytes, merges and the end-of-text token.
        tokenizer_vocab_size: usize = 1024, 257..=1000000;
        /// Size of the built-in corpus in bytes.
        corpus_bytes: usize = 2000000, 1000..=10000000000_u64;
        /// "random": every row starts anywhere; "shuffled": every block of text once per epoch.
        order: DataOrder = DataOrder::Random;
        /// A .npy file of integers (steps, batch_size): where each row of each batch starts in the training tokens.
        batches: Option<PathBuf> = None;
    }
}

table! {
    /// How a model is trained.
    TrainConfig {
        /// Optimizer steps, unless train.tokens or train.flops says when the run ends.
        steps: u64 = 1000, 1..=1000000000;
        /// Training tokens, rounded up to whole steps; 0: train.steps says when the run ends. The schedule follows.
        tokens: u64 = 0, 0..=1000000000000000000_u64;
        /// Floating-point operations of the training, as `samara plan` counts them, rounded up to whole steps; 0: train.steps says when the run
        /// ends. The schedule follows.
        flops: f64 = 0.0, 0..=1e30;
        /// Rows of a batch (of a micro-batch, with grad_accumulation).
        batch_size: usize = 12, 1..=1048576;
        /// Tokens of a row, at most n_positions.
        block_size: usize = 128, 1..=1048576;
        /// Micro-batches whose gradients make one step, weighted by their tokens.
        grad_accumulation: usize = 1, 1..=1048576;
        /// The largest learning rate.
        lr: f64 = 1e-3, 0..=1000;
        /// The learning rate at the end; absent: a tenth of lr.
        min_lr: Option<f64> = None, 0..=1000;
        /// Steps over which the learning rate rises.
        warmup_steps: u64 = 50, 0..=1000000000;
        /// How the learning rate falls afterwards: "cosine", "linear" or "constant".
        schedule: Decay = Decay::Cosine;
        /// Decoupled weight decay of matrices and embeddings.
        weight_decay: f64 = 0.1, 0..=10;
        /// Decay of AdamW's first moment.
        beta1: f64 = 0.9, 0..=0.9999999;
        /// Decay of AdamW's second moment.
        beta2: f64 = 0.99, 0..=0.9999999;
        /// Added to the root of AdamW's second moment.
        eps: f64 = 1e-8, 0..=1;
        /// The largest norm of all gradients together; 0: any.
        grad_clip: f64 = 1.0, 0..=1e30;
        /// Share of activations dropped while training.
        dropout: f64 = 0.0, 0..=0.999;
        /// Decay of a moving average of the weights, which is then evaluated and saved; 0: none.
        ema_decay: f64 = 0.0, 0..=0.9999999;
        /// Steps between evaluations on the validation split; 0: only at the end.
        eval_every: u64 = 200, 0..=1000000000;
        /// Batches of an evaluation; 0: the whole split.
        eval_batches: u64 = 0, 0..=1000000000;
        /// Evaluations without a better validation loss after which training stops; 0: never.
        patience: u64 = 0, 0..=1000000000;
        /// Steps between checkpoints; 0: only at the end.
        checkpoint_every: u64 = 200, 0..=1000000000;
        /// Checkpoints that are kept.
        keep_checkpoints: usize = 2, 2..=1000000;
        /// Steps between samples of text; 0: only before and after.
        sample_every: u64 = 0, 0..=1000000000;
        /// Seed of everything random: initial weights, data order, dropout, samples.
        seed: u64 = 0, 0..=9007199254740992_u64;
        /// Threads; 0: one for each core. The result does not depend on it.
        threads: usize = 0, 0..=4096;
        /// Who multiplies matrices: "samara", "portable" (plain Rust) or "matrixmultiply".
        gemm: Gemm = Gemm::Samara;
        /// What backward computes again instead of keeping: "none", "cheap" (norms, activations), "blocks" (all but the inputs of blocks), or
        /// "auto", the first of them that fits train.memory_budget_mib. The result does not depend on it.
        recompute: RecomputeChoice = RecomputeChoice::Auto;
        /// Memory in MiB that training may take, as `samara plan` counts it; 0: any.
        memory_budget_mib: u64 = 0, 0..=1000000000;
        /// A model folder with the initial weights; absent: random ones.
        init: Option<PathBuf> = None;
        /// The run folder; absent: runs/NAME-NNN.
        out: Option<PathBuf> = None;
    }
}

table! {
    /// How text is generated.
    GenerateConfig {
        /// What the text begins with; empty: the end-of-text token, or a line break.
        prompt: String = String::new();
        /// Tokens to generate.
        max_new_tokens: usize = 200, 0..=1000000000;
        /// Logits are divided by it; 0: always the most probable token.
        temperature: f64 = 0.8, 0..=1000;
        /// Draw only from this many most probable tokens; 0: from all.
        top_k: usize = 0, 0..=16777216;
        /// Draw only from the most probable tokens whose probabilities reach this sum; 1: from all.
        top_p: f64 = 1.0, 0..=1;
        /// Draw only from tokens at least this share as probable as the best; 0: from all.
        min_p: f64 = 0.0, 0..=1;
        /// Seed of the draws.
        seed: u64 = 0, 0..=9007199254740992_u64;
    }
}

/// The whole configuration of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunConfig {
    /// `[model]`
    pub model: ModelConfig,
    /// `[data]`
    pub data: DataConfig,
    /// `[train]`
    pub train: TrainConfig,
    /// `[generate]`
    pub generate: GenerateConfig,
}

/// Names of the tables.
const TABLES: [&str; 4] = ["model", "data", "train", "generate"];

/// A key whose value differs between two configurations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The key with its table, as in `train.lr`.
    pub key: String,
    /// Its value in the first, in TOML; `None` when it has none.
    pub first: Option<String>,
    /// Its value in the second.
    pub second: Option<String>,
}

/// Keys that may differ between a run and its resumption: they do not touch what a step computes, but for `train.steps`, which moves the end
/// of the learning-rate schedule.
const MAY_CHANGE: [&str; 15] = [
    "train.steps",
    "train.tokens",
    "train.flops",
    "train.threads",
    "train.eval_every",
    "train.eval_batches",
    "train.patience",
    "train.checkpoint_every",
    "train.keep_checkpoints",
    "train.sample_every",
    "train.recompute",
    "train.memory_budget_mib",
    "train.init",
    "train.out",
    "generate.*",
];

impl RunConfig {
    /// The configuration as TOML with the meaning of every key.
    pub fn to_toml(&self) -> String {
        let mut text = String::from("# The whole configuration of a run. Read again with --config FILE.\n");
        for name in TABLES {
            text += &format!("\n[{name}]\n");
            for key in self.table(name).keys() {
                for line in key.doc {
                    text += &format!("#{line}\n");
                }
                match self.table(name).show(key.name) {
                    Some(value) => text += &format!("{} = {value}\n", key.name),
                    None => text += &format!("# {} =\n", key.name),
                }
            }
        }
        text
    }

    /// All keys whose values differ.
    pub fn differences(&self, other: &Self) -> Vec<Difference> {
        let mut differences = Vec::new();
        for name in TABLES {
            for key in self.table(name).keys() {
                let (first, second) = (self.table(name).show(key.name), other.table(name).show(key.name));
                if first != second {
                    differences.push(Difference { key: format!("{name}.{}", key.name), first, second });
                }
            }
        }
        differences
    }

    /// The differences for which resuming is refused: the steps so far would have come out otherwise.
    pub fn conflicts(&self, other: &Self) -> Vec<Difference> {
        let harmless =
            |key: &str| MAY_CHANGE.iter().any(|k| *k == key || k.strip_suffix('*').is_some_and(|t| key.starts_with(t)));
        self.differences(other).into_iter().filter(|d| !harmless(&d.key)).collect()
    }

    /// All keys with their tables, as in `train.lr`.
    pub fn keys() -> Vec<String> {
        let config = Self::default();
        let of =
            |name: &&'static str| config.table(name).keys().iter().map(|key| format!("{name}.{}", key.name)).collect::<Vec<_>>();
        TABLES.iter().flat_map(of).collect()
    }

    fn table(&self, name: &str) -> &dyn Table {
        match name {
            "model" => &self.model,
            "data" => &self.data,
            "train" => &self.train,
            _ => &self.generate,
        }
    }

    fn table_mut(&mut self, name: &str) -> &mut dyn Table {
        match name {
            "model" => &mut self.model,
            "data" => &mut self.data,
            "train" => &mut self.train,
            _ => &mut self.generate,
        }
    }
}

impl TrainConfig {
    /// The steps of a run: those that train.tokens or train.flops take, or train.steps.
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
    pub fn lr_schedule(&self) -> samara_core::schedule::Schedule {
        let min_lr = self.min_lr.unwrap_or(self.lr / 10.0);
        samara_core::schedule::Schedule {
            lr: self.lr,
            min_lr,
            warmup_steps: self.warmup_steps,
            steps: self.steps,
            decay: self.schedule,
        }
    }
}

impl GenerateConfig {
    /// How tokens are drawn.
    pub fn sampling(&self) -> samara_core::decode::Sampling {
        samara_core::decode::Sampling {
            temperature: self.temperature as f32,
            top_k: self.top_k,
            top_p: self.top_p as f32,
            min_p: self.min_p as f32,
        }
    }
}
