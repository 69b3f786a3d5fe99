//! Matrix products of a model's shapes.

use std::convert::Infallible;
use std::hint::black_box;

use samara_core::gemm::{Major, MatRef, Store};
use samara_core::model::gpt::GptConfig;

use super::measure::{Measurement, median, times};
use super::rates::peak_flops_per_s;
use crate::kernels::gemm::{GemmChoice, gemm, gemm_scratch_len};
use crate::threads::Pool;
use crate::train::config::TrainConfig;

/// A product of matrices with its memory: C (m, n) = A (m, k) · Bᵀ, B (n, k), as in a linear layer.
struct Product {
    choice: GemmChoice,
    shape: [usize; 3],
    a: Vec<f32>,
    b: Vec<f32>,
    c: Vec<f32>,
    scratch: Vec<f32>,
}

impl Product {
    fn new(choice: GemmChoice, m: usize, n: usize, k: usize) -> Self {
        let scratch = vec![0.0; gemm_scratch_len(&choice, Major::Rows, m, n, k)];
        Self { choice, shape: [m, n, k], a: vec![0.5; m * k], b: vec![0.25; n * k], c: vec![0.0; m * n], scratch }
    }

    fn run(&mut self, pool: &Pool) {
        let [m, n, k] = self.shape;
        let (a, b) = (MatRef::new(&self.a, m, k), MatRef::new(&self.b, n, k).t());
        let (c, scratch, choice) = (&mut self.c, &mut self.scratch, &self.choice);
        pool.install(|| gemm(choice, pool, a, b, c, n, Store::Overwrite, None, scratch));
        black_box(&self.c);
    }

    fn flop(&self) -> f64 {
        2.0 * self.shape.iter().map(|&x| x as f64).product::<f64>()
    }
}

/// Times the products of a block's linear layers and of the head, for a batch of `train`.
pub fn products(train: &TrainConfig, model: &GptConfig, repeats: usize, pool: &Pool) -> Vec<Measurement> {
    let (rows, c, inner) = (train.batch_size * train.block_size, model.n_embd, model.n_inner);
    let choice = GemmChoice::new(train.gemm);
    let peak = peak_flops_per_s(pool);
    let shapes = [
        ("c_attn", 3 * c, c),
        ("attn.c_proj", c, c),
        ("c_fc", inner, c),
        ("mlp.c_proj", c, inner),
        ("head", model.vocab_size, c),
    ];
    let measure = |(name, n, k): (&str, usize, usize)| {
        let mut product = Product::new(choice, rows, n, k);
        let flop = product.flop();
        let call = || -> Result<(), Infallible> {
            product.run(pool);
            Ok(())
        };
        let Ok(seconds) = times(repeats, call).map(median);
        Measurement {
            name: format!("{name} {rows}x{k}x{n}"),
            milliseconds: 1e3 * seconds,
            figure: flop / seconds / 1e9,
            unit: "GFLOP/s",
            floor: flop,
            floor_unit: "FLOP",
            floor_milliseconds: 1e3 * flop / peak,
        }
    };
    shapes.into_iter().map(measure).collect()
}
