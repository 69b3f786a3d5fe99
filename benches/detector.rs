//! Training steps of a DETR on given batches, for a comparison of losses with `transformers` (`compare/detector.py`).
//!
//! `cargo bench -p samara-benches --bench detector -- MODEL FILE STEPS LR CLIP`; MODEL is a folder of `DetrForObjectDetection`, FILE has f32 values: number of
//! batches, B, S, M, then for each batch pixels (B, S, S, 3), classes (B, M), −1 after the last object, and boxes (B, M, 4). Batches follow each other and begin
//! again. Prints a list of losses.

use std::path::Path;

use samara::data::DataError;
use samara::data::batches::{Order, Sampler};
use samara::data::dataset::{Dataset, HostBatch};
use samara::kernels::gemm::Gemm;
use samara::model_folder::ExtraTensors;
use samara::session::{CpuDevice, Engine, OwnedParams, Session};
use samara::train::config::TrainConfig;
use samara::train::objective::{Objective, Source};
use samara::train::objectives::detect::{Backbone, DetectObjects, DetectorRun};
use samara::train::shape::update_numbers;
use samara::train::step::Stepper;
use samara::vision::detector_weights::DetectorWeights;
use samara::vision::processor::Processor;
use samara_core::model::detr::Detr;
use samara_core::params::GroupId;

/// Batches in memory. Row r of a step's batch is image r mod B of the next batch, whatever its number.
struct Given {
    values: Vec<f32>,
    count: usize,
    rows: usize,
    side: usize,
    most: usize,
    next: std::sync::atomic::AtomicUsize,
}

impl Dataset for Given {
    fn len(&self) -> u64 {
        1 << 20
    }

    fn batch(&self, rows: usize) -> HostBatch {
        let batch = HostBatch::new(rows).with_reals("pixel_values", self.side * self.side * 3);
        batch.with_reals("boxes", 4 * self.most).with_ints("class_labels", self.most)
    }

    fn fill(&self, rows: &[u64], into: &mut HostBatch) -> Result<(), DataError> {
        into.tokens = rows.len() as u64;
        let (pixels, objects) = (self.rows * self.side * self.side * 3, self.rows * self.most);
        let at = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % self.count;
        let batch = &self.values[at * (pixels + 5 * objects)..][..pixels + 5 * objects];
        let ([classes], [to_pixels, to_boxes]) = into.all_mut(["class_labels"], ["pixel_values", "boxes"]);
        to_pixels.copy_from_slice(&batch[..pixels]);
        classes.iter_mut().zip(&batch[pixels..]).for_each(|(to, class)| *to = *class as i32);
        to_boxes.copy_from_slice(&batch[pixels + objects..]);
        Ok(())
    }
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let [model, file, steps, lr, clip] = words.as_slice() else { panic!("MODEL FILE STEPS LR CLIP") };
    let bytes = std::fs::read(file).expect("a file");
    let values: Vec<f32> = bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
    let [count, rows, side, most]: [usize; 4] = std::array::from_fn(|i| values[i] as usize);
    let given = Given { values: values[4..].to_vec(), count, rows, side, most, next: 0.into() };
    let [lr, grad_clip]: [f64; 2] = [lr, clip].map(|word| word.parse().expect("a number"));
    let train = TrainConfig { batch_size: rows, lr, grad_clip, beta2: 0.999, weight_decay: 0.0, ..TrainConfig::default() };
    let weights = DetectorWeights::read(Path::new(model), ExtraTensors::Refuse).expect("a folder");
    let mut folder = weights.folder.clone();
    folder.model.image_size = side;
    let config = folder.model.to_core().expect("a model");
    let registered = OwnedParams::of(|s| Detr::register(&config, None, s)).expect("a registry");
    let order = Sampler::over_rows(Order::Shuffled, 0, given.len(), "images").expect("rows");
    let source = Source::rows(given, order, None::<Given>, &train);
    let run = DetectorRun { folder, processor: Processor::square(side, None), padded: false, weights: Some(weights) };
    let backbone = Backbone { groups: [GroupId::DECAY, GroupId::NO_DECAY], lr_scale: 1.0 };
    let mut objective = DetectObjects::new(run, registered, backbone, source, &train);
    let session = Session::new(CpuDevice::new(Engine::new(0, Gemm::Samara).expect("threads")));
    let mut stepper = Stepper::new(session, &mut objective, train.rule()).expect("programs");
    objective.initialise(&mut stepper.session, false).expect("weights");
    let steps: u64 = steps.parse().expect("steps");
    let losses: Vec<String> = (0..steps)
        .map(|step| {
            stepper.step(&mut objective, step, &update_numbers(&train, lr)).expect("a step");
            stepper.scalars().get("loss").expect("a loss").to_string()
        })
        .collect();
    println!("[{}]", losses.join(", "));
}
