//! A language model with a block of its own, trained by a loss of its own, on the trainer of `samara train`.
//!
//! The block is parallel, as in PaLM (Chowdhery et al. 2022): attention and MLP read one norm, and both are added to the stream at once. Norms are
//! RMS norms, positions are rotations, the MLP squares its ReLU (So et al. 2021). The loss is Poly-1 (Leng et al. 2022): −ln p + ε (1 − p).
//!
//!     cargo run --release --example own_model -- --out runs/own      # again, after Ctrl-C: goes on from the newest checkpoint

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use samara::data::batches::{Order, Sampler};
use samara::data::{config::DataConfig, prepare::prepare, shards::Tokens, source::DataRequest};
use samara::session::OwnedParams;
use samara::train::objective::{Direction, Source};
use samara::train::objectives::supervised::{Inputs, Supervised, Task, Terms};
use samara::train::{config::TrainConfig, error::TrainingError, launch::launch};
use samara_core::graph::{Activation, Graph, Tensor, UnaryKind};
use samara_core::nn::{Affine, At, Attention, AttentionConfig, Dropout, Embedding, RmsNorm, Stack};
use samara_core::params::{Init, Part, Scope};

const LAYERS: usize = 4;
const HEADS: usize = 4;
const WIDTH: usize = 128; // C
const EPSILON: f64 = 1.0; // ε of Poly-1

/// x + attention(norm(x)) + down(relu(up(norm(x)))²).
#[derive(Clone, Copy)]
struct Block {
    norm: RmsNorm,
    attention: Attention,
    up: Affine,
    down: Affine,
}

samara_core::repeat!(Block { norm, attention, up, down });

impl Block {
    fn register(s: &mut Scope<'_>) -> Self {
        Self {
            norm: RmsNorm::register(WIDTH, 1e-5, &mut s.at("norm")),
            attention: Attention::register(&AttentionConfig::causal(WIDTH, HEADS).rotated(), &mut s.at("attention")),
            up: Affine::register(WIDTH, 4 * WIDTH, false, Init::normal(0.02), &mut s.at("up")),
            down: Affine::register(4 * WIDTH, WIDTH, false, Init::normal(0.02), &mut s.at("down")),
        }
    }

    fn forward(&self, g: &Graph<'_>, x: Tensor, at: &At<'_>) -> Tensor {
        let normed = self.norm.forward(g, x); // (B, T, C)
        let h = self.up.activated(g, normed, Activation::Relu); // (B, T, 4*C)
        let h = g.unary(UnaryKind::Square, 0.0, 0.0, h); // (B, T, 4*C)
        self.down.onto(g, h, self.attention.forward(g, normed, x, at), Dropout::NONE) // (B, T, C)
    }
}

/// The model and its loss, on windows of `len` tokens out of `vocab`.
struct OwnModel {
    vocab: usize,
    len: usize,
    embedding: Embedding,
    blocks: Stack<Block>,
    norm: RmsNorm,
}

impl OwnModel {
    fn register(vocab: usize, len: usize, s: &mut Scope<'_>) -> Self {
        let embedding = Embedding::register(vocab, WIDTH, Init::normal(0.02), &mut s.at("embedding").part(Part::Tokens));
        let blocks = Stack::register(LAYERS, "blocks", s, Block::register);
        Self { vocab, len, embedding, blocks, norm: RmsNorm::register(WIDTH, 1e-5, &mut s.at("norm").part(Part::Final)) }
    }
}

impl Task for OwnModel {
    fn terms(&self, g: &Graph<'_>, inputs: &mut Inputs) -> Terms {
        let last = self.vocab as i32 - 1;
        let ids = inputs.ints(g, "input_ids", &[self.len], 0..=last); // (B, T)
        let labels = inputs.ints(g, "labels", &[self.len], i32::MIN..=last); // (B, T), negative where nothing is predicted
        let at = At { positions: inputs.positions(g, self.len), segments: None, dropout: Dropout::NONE, window: 0, cache: None };
        let mut x = self.embedding.forward(g, ids, None); // (B, T, C)
        for block in self.blocks.iter() {
            x = block.forward(g, g.checkpoint(x), &at); // (B, T, C)
        }
        let head = g.param(self.embedding.table()); // (V, C)
        let nats = g.head_loss(self.norm.forward(g, x), head, None, labels, 0.0); // (B, T): −ln p
        let p = g.unary(UnaryKind::Exp, 0.0, 0.0, g.scale(nats, -1.0)); // (B, T)
        let missed = g.scale(g.unary(UnaryKind::Offset, -1.0, 0.0, p), -EPSILON); // (B, T): ε (1 − p)
        Terms::minimise("poly1", g.add(nats, missed)).judge("loss", nats, Direction::Smaller).unit("nats per token")
    }
}

#[derive(Parser)]
struct Args {
    /// The folder of the run.
    #[arg(long)]
    out: PathBuf,
    /// A text; without one the built-in tales.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Steps of training.
    #[arg(long, default_value_t = 1000)]
    steps: u64,
}

fn run(args: Args) -> Result<(), TrainingError> {
    let train = TrainConfig { steps: args.steps, block_size: 64, lr: 3e-3, eval_batches: 40, ..TrainConfig::default() };
    let request = DataRequest::new(&DataConfig { path: args.data, ..DataConfig::default() });
    let data = prepare(&request, None, &args.out.join("data"), false)?;
    let order = Sampler::new(Order::Random, train.seed, train.block_size, data.train.len(), &data.train.name())?;
    let (baseline, vocab) = (data.train.unigram_nats()?, data.vocab_size.unwrap_or(1 << 16));
    let (registry, model) = OwnedParams::of(|s| OwnModel::register(vocab, train.block_size, s))?;
    let source = Source::windows(data.train, order, data.val, &train);
    let finished = launch(&args.out, Supervised::new(model, registry, source, &train)?, &train)?;
    println!("validation {:.4} nats per token, frequencies alone {baseline:.4}", finished.validation.unwrap_or(f64::NAN));
    Ok(())
}

fn main() -> ExitCode {
    samara::cli::exit(run(Args::parse()))
}
