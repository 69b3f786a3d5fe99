//! A training step of an image classifier: forward, backward, clipping, AdamW.
//!
//! `cargo bench -p samara-benches --bench images -- MODEL BATCH [THREADS [STEPS]]`; MODEL is vit-ti, vit-b, vit-64 or resnet-18. With `serve` behind these it answers
//! each line of standard input with a line of JSON: milliseconds of so many steps, for turns with others (`compare/images.py`).

use std::io::BufRead;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use samara::data::DataError;
use samara::data::batches::{Order, Sampler};
use samara::data::dataset::{Dataset, HostBatch};
use samara::kernels::gemm::Gemm;
use samara::model_folder::ParamValues;
use samara::session::{CpuDevice, Engine, Session};
use samara::train::config::TrainConfig;
use samara::train::error::TrainingError;
use samara::train::objective::{Objective, Source};
use samara::train::objectives::supervised::{Inputs, Supervised, Task, TaskFolder, Terms};
use samara::train::shape::update_numbers;
use samara::train::step::Stepper;
use samara::vision::{ImageArchitecture, register};
use samara_core::graph::Graph;
use samara_core::model::image::{self, ImageDims, ImageModel, PixelOrder};
use samara_core::model::resnet::{ResNetConfig, stages};
use samara_core::model::vit::VitConfig;
use samara_core::nn::Dropout;
use samara_core::params::Params;

/// The models, as `compare/images.py` names them.
fn model(name: &str) -> Option<Box<dyn ImageArchitecture>> {
    Some(match name {
        "vit-ti" => Box::new(VitConfig::TINY),
        "vit-b" => Box::new(VitConfig { hidden_size: 768, num_attention_heads: 12, intermediate_size: 3072, ..VitConfig::TINY }),
        "vit-64" => Box::new(VitConfig {
            image_size: [48; 2],
            patch_size: 8,
            hidden_size: 64,
            num_hidden_layers: 4,
            num_attention_heads: 4,
            intermediate_size: 256,
            num_labels: 10,
            ..VitConfig::TINY
        }),
        "resnet-18" => Box::new(ResNetConfig {
            stages: stages(&[(2, 64), (2, 128), (2, 256), (2, 512)]),
            bottleneck: false,
            ..ResNetConfig::RESNET_50
        }),
        _ => return None,
    })
}

struct Classifier(Arc<dyn ImageModel>);

impl Task for Classifier {
    fn terms(&self, g: &Graph<'_>, inputs: &mut Inputs) -> Terms {
        let dims = self.0.dims();
        let pixels = inputs.reals(g, "pixel_values", &extents(&dims));
        let labels = inputs.ints(g, "labels", &[], 0..=dims.classes as i32 - 1); // (B)
        let features = self.0.features(g, pixels, Dropout::NONE); // (B, C)
        Terms::minimise("loss", image::losses(g, &*self.0, features, labels, 0.0))
    }
}

/// Extents of an image in the order of its model.
fn extents(dims: &ImageDims) -> Vec<usize> {
    let [height, width] = dims.image;
    match dims.order {
        PixelOrder::Pixels => vec![height, width, dims.channels],
        PixelOrder::Patches(side) => vec![height / side * (width / side), dims.channels * side * side],
    }
}

/// Every parameter keeps its initial value, statistics of norms too.
struct Initial;

impl TaskFolder for Initial {
    fn read(&self, _: &Params<'_>, _: &mut [f32], _: &mut [u8]) -> Result<(), TrainingError> {
        Ok(())
    }

    fn write(&self, _: &Path, _: &Params<'_>, _: ParamValues<'_>) -> Result<(), TrainingError> {
        Ok(())
    }

    fn describe(&self) -> String {
        String::new()
    }
}

/// Images that are filled in once and stay: reading is not measured.
struct Still {
    image_len: usize,
    classes: usize,
}

impl Dataset for Still {
    fn len(&self) -> u64 {
        1 << 20
    }

    fn batch(&self, rows: usize) -> HostBatch {
        let mut batch = HostBatch::new(rows).with_ints("labels", 1).with_reals("pixel_values", self.image_len);
        let [pixels] = batch.reals_mut(["pixel_values"]);
        pixels.iter_mut().enumerate().for_each(|(i, x)| *x = (i * 7919 % 2003) as f32 / 1001.5 - 1.0);
        batch
    }

    fn fill(&self, rows: &[u64], into: &mut HostBatch) -> Result<(), DataError> {
        let [labels] = into.ints_mut(["labels"]);
        labels.iter_mut().zip(rows).for_each(|(label, row)| *label = (*row % self.classes as u64) as i32);
        into.tokens = rows.len() as u64;
        Ok(())
    }
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let word = |i: usize, otherwise: &str| words.get(i).map_or(otherwise.to_owned(), Clone::clone);
    let number = |i: usize, otherwise: &str| word(i, otherwise).parse::<usize>().expect("a number");
    let name = word(0, "vit-64");
    let config = model(&name).unwrap_or_else(|| panic!("{name}: expected vit-ti, vit-b, vit-64 or resnet-18"));
    let (batch_size, threads, steps) = (number(1, "32"), number(2, "2"), number(3, "10"));
    let train = TrainConfig { batch_size, threads, lr: 1e-4, weight_decay: 0.05, ..TrainConfig::default() };
    let (registry, model) = register(&*config).expect("a registry");
    let dims = model.dims();
    let still = Still { image_len: dims.image_len(), classes: dims.classes };
    let order = Sampler::over_rows(Order::Shuffled, 0, still.len(), "images").expect("rows");
    let source = Source::rows(still, order, None::<Still>, &train);
    let mut objective = Supervised::new(Classifier(model), registry, source, &train).expect("an objective").with_folder(Initial);
    let session = Session::new(CpuDevice::new(Engine::new(threads, Gemm::Samara).expect("threads")));
    let mut stepper = Stepper::new(session, &mut objective, train.rule()).expect("programs");
    objective.initialise(&mut stepper.session, false).expect("weights");
    let mut done = 0;
    let mut run = |steps: usize| {
        let begun = Instant::now();
        for _ in 0..steps {
            stepper.step(&mut objective, done, &update_numbers(&train, 1e-4)).expect("a step");
            done += 1;
        }
        begun.elapsed().as_secs_f64() * 1e3 / steps as f64
    };
    run(2);
    if words.last().is_some_and(|word| word == "serve") {
        println!("ready");
        for line in std::io::stdin().lock().lines() {
            let steps = line.expect("a line").trim().parse().expect("steps");
            println!("{{\"ms\": {:.4}}}", run(steps));
        }
        return;
    }
    println!("{name}, {batch_size} images, {threads} threads: {:.2} ms a step", run(steps));
}
