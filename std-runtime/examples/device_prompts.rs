//! Prompts that are tuned on a microcontroller: a Vision Transformer learns four shapes here, and the device learns to see them through fog, by four learnt
//! tokens before every block and the head.
//!
//!     cargo run --release --example device_prompts -- runs/shapes
//!
//! writes `prompts.samara`, the program file, and `shapes.bin`, the device's images: what `tests/firmware` includes. It then tunes as the device does.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use samara::data::DataError;
use samara::data::batches::{Order, Sampler};
use samara::data::dataset::{Dataset, HostBatch};
use samara::export::images::image_program_file;
use samara::export::spec::{ImageSpec, Optimizer};
use samara::model_folder::load_weights;
use samara::model_folder::map::NameMap;
use samara::session::{CpuDevice, Engine, ParamSet};
use samara::train::config::TrainConfig;
use samara::train::launch::launch;
use samara::train::objective::Source;
use samara::train::objectives::supervised::{Inputs, Supervised, Task, Terms};
use samara::vision::register;
use samara::vision::tune::{ImageTuneConfig, Method};
use samara_core::file::ProgramFile;
use samara_core::graph::{DType, Graph, Recompute};
use samara_core::math::rng::{Purpose, Rng};
use samara_core::model::image::{self, ImageModel};
use samara_core::model::vit::VitConfig;
use samara_core::nn::Dropout;
use samara_core::ops::{self, elementwise::GeluErf};
use samara_core::session::{Hyper, ImageSession};

const SIDE: usize = 32;
const PATCH: usize = 8;
/// Bytes of an image: patches row by row, each (channel, y, x).
const IMAGE: usize = 3 * SIDE * SIDE;
const PATCH_LEN: usize = 3 * PATCH * PATCH;
/// A disc, a square, a cross, a triangle.
const CLASSES: usize = 4;
/// Images that the device tunes with, and those that it is judged by.
const DEVICE: [u64; 2] = [32, 24];

const MODEL: VitConfig = VitConfig {
    image_size: [SIDE; 2],
    patch_size: PATCH,
    hidden_size: 48,
    num_hidden_layers: 4,
    num_attention_heads: 4,
    intermediate_size: 192,
    num_labels: CLASSES,
    ..VitConfig::TINY
};

/// Image `row`: a shape of a colour and size at a place, on a dark ground with noise; in fog a third of the contrast is left.
fn draw(row: u64, fog: bool, image: &mut [u8]) -> i32 {
    let mut rng = Rng::new(0, Purpose::User, row);
    let class = rng.below(CLASSES as u64);
    let (radius, colour) = (6.0 + 5.0 * rng.uniform_f32(), [(); 3].map(|()| 120.0 + 135.0 * rng.uniform_f32()));
    let [x, y] = [(); 2].map(|()| radius + (SIDE as f32 - 2.0 * radius) * rng.uniform_f32());
    for (i, value) in image.iter_mut().enumerate() {
        let (patch, within) = (i / PATCH_LEN, i % PATCH_LEN);
        let (c, row, column) = (within / (PATCH * PATCH), within / PATCH % PATCH, within % PATCH);
        let (dy, dx) = ((patch / (SIDE / PATCH) * PATCH + row) as f32 - y, (patch % (SIDE / PATCH) * PATCH + column) as f32 - x);
        let inside = match class {
            0 => dx * dx + dy * dy < radius * radius,
            1 => dx.abs().max(dy.abs()) < 0.85 * radius,
            2 => dx.abs().min(dy.abs()) < 0.3 * radius && dx.abs().max(dy.abs()) < radius,
            _ => dy.abs() < 0.8 * radius && dx.abs() < 0.5 * (dy + 0.8 * radius),
        };
        let light = 40.0 * rng.uniform_f32() + if inside { colour[c] - 40.0 } else { 0.0 };
        *value = if fog { 90 + light as u8 / 3 } else { light as u8 };
    }
    class as i32
}

/// The pixels as the model reads them.
fn scaled(byte: u8) -> f32 {
    f32::from(byte) / 127.5 - 1.0
}

/// Images from row `first` on.
struct Shapes {
    first: u64,
    len: u64,
}

impl Dataset for Shapes {
    fn len(&self) -> u64 {
        self.len
    }

    fn batch(&self, rows: usize) -> HostBatch {
        HostBatch::new(rows).with_ints("labels", 1).with_reals("pixel_values", IMAGE)
    }

    fn fill(&self, rows: &[u64], into: &mut HostBatch) -> Result<(), DataError> {
        into.tokens = rows.len() as u64;
        let mut labels = vec![-1; into.rows()];
        let mut image = [0; IMAGE];
        let [pixels] = into.reals_mut(["pixel_values"]);
        for ((row, label), pixels) in rows.iter().zip(&mut labels).zip(pixels.chunks_exact_mut(IMAGE)) {
            *label = draw(self.first + row, false, &mut image);
            pixels.iter_mut().zip(image).for_each(|(pixel, byte)| *pixel = scaled(byte));
        }
        into.ints_mut(["labels"])[0].copy_from_slice(&labels);
        Ok(())
    }
}

struct Classifier(Arc<dyn ImageModel>);

impl Task for Classifier {
    fn terms(&self, g: &Graph<'_>, inputs: &mut Inputs) -> Terms {
        let pixels = inputs.reals(g, "pixel_values", &[IMAGE / PATCH_LEN, PATCH_LEN]); // (B, N, 3·P·P)
        let labels = inputs.ints(g, "labels", &[], -1..=CLASSES as i32 - 1); // (B)
        let features = self.0.features(g, pixels, Dropout::NONE); // (B, C)
        Terms::minimise("loss", image::losses(g, &*self.0, features, labels, 0.0)).unit("nats")
    }
}

/// Trains the model, and returns its weights.
fn trained(out: &Path) -> Result<ParamSet, Box<dyn Error>> {
    let train = TrainConfig { steps: 1500, batch_size: 32, lr: 2e-3, eval_every: 500, ..TrainConfig::default() };
    let (registry, model) = register(&MODEL)?;
    let order = Sampler::over_rows(Order::Shuffled, train.seed, 1 << 20, "shapes")?;
    let source = Source::rows(Shapes { first: 0, len: 1 << 20 }, order, Some(Shapes { first: 1 << 20, len: 512 }), &train);
    launch(out, Supervised::new(Classifier(model), Arc::clone(&registry), source, &train)?, &train)?;
    let mut set = ParamSet::new(&CpuDevice::new(Arc::new(Engine::reference()?)), "model", &registry)?;
    load_weights(out, &registry.view(), &NameMap::default(), set.weights.get_mut(), &mut [])?;
    Ok(set)
}

/// The share of images that a session classifies rightly.
fn accuracy(session: &mut ImageSession<'_, '_>, images: &[(Vec<f32>, i32)]) -> Result<f64, Box<dyn Error>> {
    let mut right = 0;
    for (pixels, label) in images {
        let logits = session.classify(pixels)?;
        let best = (0..CLASSES).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
        right += usize::from(best == usize::try_from(*label).ok());
    }
    Ok(right as f64 / images.len() as f64)
}

fn main() -> Result<(), Box<dyn Error>> {
    let out: PathBuf = std::env::args().nth(1).unwrap_or_else(|| "runs/shapes".to_owned()).into();
    let weights = trained(&out)?;
    let tune = ImageTuneConfig { method: Method::VptDeep, prompts: 4, ..ImageTuneConfig::default() };
    let spec = ImageSpec {
        weights: DType::Real,
        tune: Some(&tune),
        added: tune.added(MODEL.hidden_size, MODEL.num_hidden_layers)?,
        seed: 0,
        optimizer: Optimizer::Adamw,
        batch: 1,
        recompute: Recompute::Blocks,
        names: false,
    };
    let bytes = image_program_file(&Arc::new(Engine::reference()?), &MODEL, &weights, &spec)?.ok_or("no place for prompts")?;
    std::fs::write(out.join("prompts.samara"), &bytes)?;
    let (mut file, mut images) = (Vec::new(), Vec::new());
    for row in 0..DEVICE[0] + DEVICE[1] {
        let mut image = vec![0; IMAGE];
        let label = draw((1 << 30) + row, true, &mut image);
        images.push((image.iter().map(|&byte| scaled(byte)).collect::<Vec<_>>(), label));
        file.extend(image);
        file.push(label as u8);
    }
    std::fs::write(out.join("shapes.bin"), &file)?;
    let mut words = vec![0_u64; bytes.len().div_ceil(8)];
    bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(&bytes);
    let kernels = ops::vit_training::<f32, GeluErf>();
    let opened = ProgramFile::open_images(&bytemuck::cast_slice(&words)[..bytes.len()], &kernels)?;
    let mut ram = vec![0.0; ImageSession::ram_len(&opened)];
    println!("{} bytes of file, {} numbers of session", bytes.len(), ram.len());
    let mut session = ImageSession::new(opened, &mut ram)?;
    let (tuned, judged) = images.split_at(DEVICE[0] as usize);
    println!("before: {:.3}", accuracy(&mut session, judged)?);
    for (pixels, label) in tuned {
        session.train(pixels, &[*label], &Hyper::adamw(0.01))?;
    }
    println!("after {} steps: {:.3}", tuned.len(), accuracy(&mut session, judged)?);
    Ok(())
}
