//! An MLP that tells two spirals apart: data that a program makes itself, on the trainer of `samara train`.
//!
//!     cargo run --release --example mlp_classifier -- runs/spirals

use std::path::PathBuf;
use std::process::ExitCode;

use samara::data::batches::{Order, Sampler};
use samara::data::dataset::MadeRows;
use samara::session::OwnedParams;
use samara::train::config::TrainConfig;
use samara::train::error::TrainingError;
use samara::train::launch::launch;
use samara::train::objective::{Direction, Source};
use samara::train::objectives::supervised::{Inputs, Supervised, Task, Terms};
use samara_core::graph::{Activation, Graph, UnaryKind};
use samara_core::nn::Affine;
use samara_core::params::Init;

/// A point of two spirals that turn around each other, and on which of them it is, +1 or −1.
fn spiral(row: u64, [point, side]: [&mut [f32]; 2]) {
    let (sign, radius) = (if row.is_multiple_of(2) { 1.0 } else { -1.0 }, ((row / 2) as f32 * 0.618_034).fract());
    point.copy_from_slice(&[sign * radius * (9.0 * radius).cos(), sign * radius * (9.0 * radius).sin()]);
    side.fill(sign);
}

struct Classifier([Affine; 3]);

impl Task for Classifier {
    fn terms(&self, g: &Graph<'_>, inputs: &mut Inputs) -> Terms {
        let (point, side) = (inputs.reals(g, "point", &[2]), inputs.reals(g, "side", &[1])); // (B, 2), (B, 1)
        let [first, second, last] = self.0;
        let h = second.activated(g, first.activated(g, point, Activation::GeluTanh), Activation::GeluTanh); // (B, 32)
        let margin = g.mul(last.forward(g, h), side); // (B, 1), positive where the answer is right
        let weight = g.unary(UnaryKind::Square, 0.0, 0.0, side); // (B, 1), 0 where a batch is padded
        let nats = g.scale(g.mul(g.unary(UnaryKind::LogSigmoid, 0.0, 0.0, margin), weight), -1.0); // (B, 1)
        let right = g.unary(UnaryKind::Clamp, 0.0, 1.0, g.scale(margin, 1e30)); // (B, 1)
        Terms::minimise("loss", nats).judge("accuracy", right, Direction::Larger)
    }
}

fn run(out: PathBuf) -> Result<(), TrainingError> {
    let train = TrainConfig { steps: 600, batch_size: 64, lr: 1e-2, eval_every: 100, ..TrainConfig::default() };
    let points = |first, len| MadeRows::new(len, [("point", 2), ("side", 1)], move |row, fields| spiral(first + row, fields));
    let order = Sampler::over_rows(Order::Shuffled, train.seed, 1000, "spirals")?;
    let (registry, model) = OwnedParams::of(|s| {
        let widths = [(0, 2, 32), (1, 32, 32), (2, 32, 1)];
        Classifier(widths.map(|(i, inputs, outputs)| {
            Affine::register(inputs, outputs, true, Init::normal(1.0 / (inputs as f64).sqrt()), &mut s.item("layer", i))
        }))
    })?;
    let source = Source::rows(points(0, 1000), order, Some(points(1000, 200)), &train);
    let finished = launch(&out, Supervised::new(model, registry, source, &train)?, &train)?;
    println!("accuracy {:.3}, by chance 0.5", finished.validation.unwrap_or(f64::NAN));
    Ok(())
}

fn main() -> ExitCode {
    samara::cli::exit(run(std::env::args().nth(1).unwrap_or_else(|| "runs/spirals".to_owned()).into()))
}
