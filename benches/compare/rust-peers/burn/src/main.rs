//! Time of a training step of a small GPT in burn on its pure-Rust backend `flex`, the successor of ndarray, as a line of JSON: `peer-burn mid|nano STEPS`.

use std::time::Instant;

use burn::module::{Initializer, Module, Param};
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::activation::{gelu, softmax};
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};

struct Shape {
    layers: usize,
    heads: usize,
    width: usize,
    block: usize,
    batch: usize,
}

const VOCAB: usize = 65;

#[derive(Module, Debug)]
struct Block {
    ln_1: LayerNorm,
    qkv: Linear,
    out: Linear,
    ln_2: LayerNorm,
    up: Linear,
    down: Linear,
}

#[derive(Module, Debug)]
struct Gpt {
    wte: Param<Tensor<2>>, // (V, C)
    wpe: Param<Tensor<2>>, // (T, C)
    blocks: Vec<Block>,
    ln_f: LayerNorm,
    heads: usize,
}

impl Gpt {
    fn new(shape: &Shape, device: &Device) -> Self {
        let (c, init) = (shape.width, Initializer::Normal { mean: 0.0, std: 0.02 });
        let linear = |from, to| LinearConfig::new(from, to).with_bias(false).with_initializer(init.clone()).init(device);
        let norm = || LayerNormConfig::new(c).with_bias(false).init(device);
        let block = |_| Block {
            ln_1: norm(),
            qkv: linear(c, 3 * c),
            out: linear(c, c),
            ln_2: norm(),
            up: linear(c, 4 * c),
            down: linear(4 * c, c),
        };
        Self {
            wte: init.init([VOCAB, c], device),
            wpe: init.init([shape.block, c], device),
            blocks: (0..shape.layers).map(block).collect(),
            ln_f: norm(),
            heads: shape.heads,
        }
    }

    fn attention(&self, block: &Block, x: Tensor<3>, mask: &Tensor<4, Bool>) -> Tensor<3> {
        let [b, t, c] = x.dims();
        let d = c / self.heads;
        let qkv = block.qkv.forward(x);
        let part = |i: usize| qkv.clone().slice([0..b, 0..t, i * c..(i + 1) * c]).reshape([b, t, self.heads, d]).swap_dims(1, 2);
        let (q, k, v) = (part(0), part(1), part(2)); // (B, H, T, D)
        let scores = q.matmul(k.swap_dims(2, 3)).mul_scalar((d as f64).powf(-0.5));
        let scores = scores.mask_fill(mask.clone(), f32::NEG_INFINITY);
        let y = softmax(scores, 3).matmul(v);
        block.out.forward(y.swap_dims(1, 2).reshape([b, t, c]))
    }

    /// Mean cross-entropy; ids and targets (B·T).
    fn loss(&self, ids: Tensor<1, Int>, targets: Tensor<1, Int>, mask: &Tensor<4, Bool>, batch: usize) -> Tensor<1> {
        let [t, c] = self.wpe.val().dims();
        let mut x: Tensor<3> = self.wte.val().select(0, ids).reshape([batch, t, c]) + self.wpe.val().unsqueeze();
        for block in &self.blocks {
            x = x.clone() + self.attention(block, block.ln_1.forward(x), mask);
            x = x.clone() + block.down.forward(gelu(block.up.forward(block.ln_2.forward(x))));
        }
        let logits = self.ln_f.forward(x).reshape([batch * t, c]).matmul(self.wte.val().transpose());
        CrossEntropyLossConfig::new().init(&logits.device()).forward(logits, targets)
    }
}

fn main() {
    let mut args = std::env::args().skip(1);
    let shape = match args.next().as_deref() {
        Some("mid") => Shape { layers: 6, heads: 6, width: 384, block: 256, batch: 8 },
        Some("nano") => Shape { layers: 4, heads: 4, width: 128, block: 64, batch: 12 },
        other => panic!("expected mid or nano, found {other:?}"),
    };
    let steps: usize = args.next().and_then(|n| n.parse().ok()).expect("a number of steps");
    let device = Device::flex().autodiff();
    let mut gpt = Gpt::new(&shape, &device);
    let mut optimizer = AdamWConfig::new().with_beta_2(0.95).with_weight_decay(0.1).init();
    let ids: Vec<i64> = (0..=shape.batch * shape.block).map(|i| (i * 31 % VOCAB) as i64).collect();
    let rows = |ids: &[i64]| Tensor::<1, Int>::from_data(TensorData::new(ids.to_vec(), [ids.len()]), &device);
    let (tokens, targets) = (rows(&ids[..ids.len() - 1]), rows(&ids[1..]));
    let mask = Tensor::<2, Bool>::tril_mask([shape.block, shape.block], 0, &device).unsqueeze::<4>();
    let mut times = Vec::new();
    let mut last = 0.0;
    for step in 0..steps + 2 {
        let begun = Instant::now();
        let loss = gpt.loss(tokens.clone(), targets.clone(), &mask, shape.batch);
        let gradients = GradientsParams::from_grads(loss.backward(), &gpt);
        gpt = optimizer.step(1e-4, gpt, gradients);
        last = loss.into_scalar::<f32>();
        if step >= 2 {
            times.push(begun.elapsed().as_secs_f64() * 1e3);
        }
    }
    times.sort_by(f64::total_cmp);
    println!("{{\"ms\": {}, \"loss\": {last}}}", times[times.len() / 2]);
}
