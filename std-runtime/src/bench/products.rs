//! Matrix products of a model's shapes.

use std::convert::Infallible;
use std::hint::black_box;
use std::sync::Arc;

use samara_core::gemm::{Major, MatRef, Store};
use samara_core::params::{ParamInfo, Part};

use super::error::BenchError;
use super::measure::{Measurement, median, times};
use super::rates::peak_flops_per_s;
use crate::kernels::gemm::{GemmChoice, gemm, gemm_scratch_len};
use crate::lm::register;
use crate::memory::{OutOfMemory, ensure};
use crate::model::architecture::Architecture;
use crate::threads::Pool;
use crate::train::config::TrainConfig;

/// A matrix product with its memory: C (m, n) = A (m, k) · Bᵀ, B (n, k), as in a linear layer.
struct Product {
    choice: GemmChoice,
    shape: [usize; 3],
    a: Vec<f32>,
    b: Vec<f32>,
    c: Vec<f32>,
    scratch: Vec<f32>,
}

impl Product {
    fn new(choice: GemmChoice, m: usize, n: usize, k: usize) -> Result<Self, OutOfMemory> {
        ensure((size_of::<f32>() * (m * k + n * k + m * n)) as u64)?;
        let scratch = vec![0.0; gemm_scratch_len(&choice, Major::Rows, m, n, k)];
        Ok(Self { choice, shape: [m, n, k], a: vec![0.5; m * k], b: vec![0.25; n * k], c: vec![0.0; m * n], scratch })
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

/// Times the products of the first block's linear layers and of the head, for a batch of `train`.
///
/// # Errors
/// The model cannot be registered.
pub fn products(
    train: &TrainConfig,
    model: Arc<dyn Architecture>,
    repeats: usize,
    pool: &Pool,
) -> Result<Vec<Measurement>, BenchError> {
    let (registry, layers) = register(&*model, 0, |_, _| ())?;
    let (rows, head) = (train.batch_size * train.block_size, layers.head().index());
    let choice = GemmChoice::new(train.gemm);
    let peak = peak_flops_per_s(pool);
    let infos = registry.view().infos().iter().enumerate();
    let is_measured = |(i, info): &(usize, &ParamInfo)| (info.part == Part::Block(0) && info.shape.rank() == 2) || *i == head;
    let mut shapes: Vec<_> = infos.filter(is_measured).map(|(i, info)| (i == head, info)).collect();
    shapes.sort_by_key(|(is_head, _)| *is_head);
    let measure = |(is_head, info): (bool, &ParamInfo)| -> Result<Measurement, BenchError> {
        let (n, k) = (info.shape.rows(), info.shape.cols());
        let name = if is_head { "head".to_owned() } else { info.name.to_string().trim_end_matches(".weight").to_owned() };
        let mut product = Product::new(choice, rows, n, k)?;
        let flop = product.flop();
        let call = || -> Result<(), Infallible> {
            product.run(pool);
            Ok(())
        };
        let Ok(seconds) = times(repeats, call).map(median);
        Ok(Measurement {
            name: format!("{name} {rows}x{k}x{n}"),
            milliseconds: 1e3 * seconds,
            figure: flop / seconds / 1e9,
            unit: "GFLOP/s",
            floor: flop,
            floor_unit: "FLOP",
            floor_milliseconds: 1e3 * flop / peak,
        })
    };
    shapes.into_iter().map(measure).collect()
}
