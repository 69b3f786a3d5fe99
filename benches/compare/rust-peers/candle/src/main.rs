//! Time of a training step of a small GPT in candle, as a line of JSON: `peer-candle mid|nano STEPS`.

use std::time::Instant;

use candle_core::{D, DType, Device, Result, Tensor};
use candle_nn::{AdamW, LayerNorm, Linear, Module, Optimizer, ParamsAdamW, VarBuilder, VarMap, loss, ops};

struct Shape {
    layers: usize,
    heads: usize,
    width: usize,
    block: usize,
    batch: usize,
}

const VOCAB: usize = 65;

struct Block {
    ln_1: LayerNorm,
    qkv: Linear,
    out: Linear,
    ln_2: LayerNorm,
    up: Linear,
    down: Linear,
}

struct Gpt {
    wte: Tensor, // (V, C)
    wpe: Tensor, // (T, C)
    blocks: Vec<Block>,
    ln_f: LayerNorm,
    mask: Tensor, // (T, T): 0 where a query sees a key, -inf elsewhere
    heads: usize,
}

fn norm(width: usize, vb: VarBuilder) -> Result<LayerNorm> {
    Ok(LayerNorm::new_no_bias(vb.get_with_hints(width, "weight", candle_nn::init::ONE)?, 1e-5))
}

impl Gpt {
    fn new(shape: &Shape, vb: &VarBuilder) -> Result<Self> {
        let Shape { layers, heads, width, block, .. } = *shape;
        let init = candle_nn::Init::Randn { mean: 0.0, stdev: 0.02 };
        let linear = |from, to, name: String| candle_nn::linear_no_bias(from, to, vb.pp(name));
        let make = |i| {
            Ok(Block {
                ln_1: norm(width, vb.pp(format!("{i}.ln_1")))?,
                qkv: linear(width, 3 * width, format!("{i}.qkv"))?,
                out: linear(width, width, format!("{i}.out"))?,
                ln_2: norm(width, vb.pp(format!("{i}.ln_2")))?,
                up: linear(width, 4 * width, format!("{i}.up"))?,
                down: linear(4 * width, width, format!("{i}.down"))?,
            })
        };
        let seen = |i: usize| if i % block <= i / block { 0.0 } else { f32::NEG_INFINITY };
        Ok(Self {
            wte: vb.get_with_hints((VOCAB, width), "wte", init)?,
            wpe: vb.get_with_hints((block, width), "wpe", init)?,
            blocks: (0..layers).map(make).collect::<Result<_>>()?,
            ln_f: norm(width, vb.pp("ln_f"))?,
            mask: Tensor::from_vec((0..block * block).map(seen).collect::<Vec<f32>>(), (block, block), vb.device())?,
            heads,
        })
    }

    fn attention(&self, block: &Block, x: &Tensor) -> Result<Tensor> {
        let (b, t, c) = x.dims3()?;
        let d = c / self.heads;
        let qkv = block.qkv.forward(x)?.reshape((b, t, 3, self.heads, d))?.permute((2, 0, 3, 1, 4))?; // (3, B, H, T, D)
        let part = |i: usize| qkv.get(i)?.contiguous();
        let (q, k, v) = (part(0)?, part(1)?, part(2)?);
        let scores = (q.matmul(&k.transpose(2, 3)?)? * (d as f64).powf(-0.5))?.broadcast_add(&self.mask)?;
        let y = ops::softmax(&scores, D::Minus1)?.matmul(&v)?; // (B, H, T, D)
        block.out.forward(&y.transpose(1, 2)?.reshape((b, t, c))?)
    }

    /// Mean cross-entropy; ids and targets (B·T).
    fn loss(&self, ids: &Tensor, targets: &Tensor, batch: usize) -> Result<Tensor> {
        let (t, c) = self.wpe.dims2()?;
        let mut x = self.wte.index_select(ids, 0)?.reshape((batch, t, c))?.broadcast_add(&self.wpe)?;
        for block in &self.blocks {
            x = (&x + self.attention(block, &block.ln_1.forward(&x)?)?)?;
            let inner = block.up.forward(&block.ln_2.forward(&x)?)?.gelu_erf()?;
            x = (&x + block.down.forward(&inner)?)?;
        }
        let logits = self.ln_f.forward(&x)?.reshape((batch * t, c))?.matmul(&self.wte.t()?)?;
        loss::cross_entropy(&logits, targets)
    }
}

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let shape = match args.next().as_deref() {
        Some("mid") => Shape { layers: 6, heads: 6, width: 384, block: 256, batch: 8 },
        Some("nano") => Shape { layers: 4, heads: 4, width: 128, block: 64, batch: 12 },
        other => panic!("expected mid or nano, found {other:?}"),
    };
    let steps: usize = args.next().and_then(|n| n.parse().ok()).expect("a number of steps");
    let variables = VarMap::new();
    let gpt = Gpt::new(&shape, &VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu))?;
    let hyper = ParamsAdamW { lr: 1e-4, beta2: 0.95, weight_decay: 0.1, ..ParamsAdamW::default() };
    let mut optimizer = AdamW::new(variables.all_vars(), hyper)?;
    let ids: Vec<u32> = (0..=shape.batch * shape.block).map(|i| (i * 31 % VOCAB) as u32).collect();
    let tokens = Tensor::new(&ids[..ids.len() - 1], &Device::Cpu)?;
    let targets = Tensor::new(&ids[1..], &Device::Cpu)?;
    let mut times = Vec::new();
    let mut last = 0.0;
    for step in 0..steps + 2 {
        let begun = Instant::now();
        let loss = gpt.loss(&tokens, &targets, shape.batch)?;
        optimizer.backward_step(&loss)?;
        last = loss.to_scalar::<f32>()?;
        if step >= 2 {
            times.push(begun.elapsed().as_secs_f64() * 1e3);
        }
    }
    times.sort_by(f64::total_cmp);
    println!("{{\"ms\": {}, \"loss\": {last}}}", times[times.len() / 2]);
    Ok(())
}
