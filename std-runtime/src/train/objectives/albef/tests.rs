//! A step as the authors' own code computes it, recorded by `tests/golden/image_text/make_albef.py`.

use std::path::{Path, PathBuf};

use samara_core::graph::{Momentum as OfSgd, Recompute, Rule};
use samara_core::params::Params;

use super::step::{Draws, Hidden};
use super::*;
use crate::encoder::masking::{MaskingConfig, NO_TARGET, Separators};
use crate::image_text::albef_folder::AlbefFolder;
use crate::image_text::data::rows::{ENDS, SAME, TOKENS};
use crate::image_text::negatives;
use crate::kernels::gemm::Gemm;
use crate::model_folder::safetensors::Weights;
use crate::model_folder::{load_weights, maps};
use crate::session::update::Update;
use crate::session::{CpuDevice, Engine};
use crate::tokenizer::Tokenizer;
use crate::train::shape::update_numbers;
use crate::vision::data::rows::PIXELS;

/// The recording.
struct Golden {
    folder: PathBuf,
    io: Weights,
    meta: Value,
}

impl Golden {
    fn open() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/image_text/albef");
        let meta = std::fs::read_to_string(folder.join("meta.json")).unwrap();
        let io = Weights::open(&folder.join("io.safetensors")).unwrap();
        Self { folder, io, meta: serde_json::from_str(&meta).unwrap() }
    }

    fn number(&self, name: &str) -> f64 {
        self.meta[name].as_f64().unwrap()
    }

    fn reals(&self, name: &str) -> Vec<f32> {
        let shape = self.io.shape(name).unwrap().to_vec();
        let mut values = vec![0.0; shape.iter().product()];
        self.io.read(name, &shape, &mut values).unwrap();
        values
    }

    fn ints(&self, name: &str) -> Vec<i32> {
        self.io.integers(name).unwrap().1.into_iter().map(|x| x as i32).collect()
    }

    /// The tensors of a file in the places of the parameters.
    fn params(&self, file: &str, model: &Model) -> Vec<f32> {
        let params = model.registry.view();
        let mut values = vec![0.0; params.trainable_len()];
        load_weights(&self.folder.join(file), &params, &maps::albef::name_map(model.albef.config()), &mut values, &mut [])
            .unwrap();
        values
    }

    fn model(&self) -> Model {
        let core = AlbefFolder::open(&self.folder).unwrap().model.to_core().unwrap();
        let (registry, albef) = OwnedParams::of(|s| Albef::register(&core, s)).unwrap();
        let tokenizer = Tokenizer::characters(["a"], &["[PAD]", "[MASK]"]).unwrap();
        let masking = Masking::new(&MaskingConfig::default(), &tokenizer, core.text.vocab_size, Separators::Maskable).unwrap();
        Model { albef, registry, text_len: [self.sizes().len; 2], masking, masked: 0.15, folder: Box::new(NoFolder) }
    }

    fn sizes(&self) -> Sizes {
        let shape = self.io.shape("in.input_ids").unwrap();
        Sizes { rows: shape[0], len: shape[1], masked: 8 }
    }

    fn terms(&self) -> Terms {
        let queue = self.io.shape("in.image_queue").unwrap()[0];
        let (momentum, alpha) = (self.number("momentum"), (self.number("alpha"), 0));
        Terms { weights: [1.0; 3], hard_negatives: true, queue, momentum, alpha, multi_positive: false }
    }

    fn pairs(&self) -> HostBatch {
        let (Sizes { rows, len, .. }, pixels) = (self.sizes(), self.reals("in.pixels"));
        let mut pairs = HostBatch::new(rows).with_ints(TOKENS, len).with_ints(ENDS, 1).with_ints(SAME, 2);
        pairs = pairs.with_reals(PIXELS, pixels.len() / rows);
        let ([tokens, ends, same], [to]) = pairs.all_mut([TOKENS, ENDS, SAME], [PIXELS]);
        tokens.copy_from_slice(&self.ints("in.input_ids"));
        to.copy_from_slice(&pixels);
        for (end, mask) in ends.iter_mut().zip(self.ints("in.attention_mask").chunks_exact(len)) {
            *end = mask.iter().sum::<i32>() - 1;
        }
        same.iter_mut().zip(0..).for_each(|(pair, n)| *pair = n);
        pairs
    }

    fn hidden(&self) -> Hidden {
        let labels = self.ints("in.labels");
        let (places, mut targets): (Vec<i32>, Vec<i32>) = (0..).zip(labels).filter(|(_, label)| *label >= 0).unzip();
        let (count, room) = (targets.len(), self.sizes().masked);
        targets.resize(room, NO_TARGET);
        let places = places.into_iter().chain(std::iter::repeat(0)).take(room).collect();
        Hidden { tokens: self.ints("in.masked_ids"), places, targets, count }
    }
}

/// A model that is in memory only.
struct NoFolder;

impl TaskFolder for NoFolder {
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

/// The training of the recording with all its weights and queues before the step, its momentum encoders, and its update.
fn before(golden: &Golden, session: &mut Session) -> (AlignFuse, SetId, Update) {
    let (model, terms, sizes) = (golden.model(), golden.terms(), golden.sizes());
    let [set, average] = ["training", "momentum"].map(|name| session.add_set(name, &model.registry).unwrap());
    let update = Update::new(session, set, Rule::Sgd(OfSgd::None), &[], &[average]).unwrap();
    let state = session.add_lasting_state("queues");
    let on = On::set(set).with_state(state);
    let training = programs::training(session, on, (&model.albef, &terms), sizes, Recompute::None).unwrap();
    let momentum = programs::momentum(session, On::set(average), (&model.albef, &terms), sizes).unwrap();
    let mut queues = Queues::new(&training.program, training.itc.unwrap().queues.unwrap(), state);
    for (set, file) in [(set, "model.safetensors"), (average, "momentum.safetensors")] {
        let (set, device) = session.set_mut(set);
        device.lend_mut(&mut set.weights, &mut |to| to.copy_from_slice(&golden.params(file, &model))).unwrap();
    }
    // The first half again, so that the next row is where the authors' pointer is.
    let rows = [golden.reals("in.image_queue"), golden.reals("in.text_queue")];
    let half = rows[0].len() / 2;
    for part in [0..half, half..2 * half, 0..half] {
        let part = rows.each_ref().map(|rows| rows[part.clone()].to_vec());
        queues.push(session, &part, &[-1; 6]).unwrap();
    }
    let momentum = Some((average, momentum));
    let built = Built { set, on, training, momentum, queues: Some(queues), evaluation: None, eval_batches: 0, ids: Vec::new() };
    let (train, evaluated) = (TrainConfig::default(), HeldOut::default());
    let objective = AlignFuse { model, terms, train, source: None, built: Some(built), step: None, pending: None, evaluated };
    (objective, average, update)
}

fn weights_of(session: &mut Session, set: SetId) -> Vec<f32> {
    let (set, device) = session.set_mut(set);
    let mut found = Vec::new();
    device.lend(&set.weights, &mut |values: &[f32]| found = values.to_vec()).unwrap();
    found
}

/// The distance of two vectors by the length of the second, which counts as at least so long.
fn apart(found: &[f32], expected: &[f32], least: f64) -> f64 {
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    let distance = norm(&mut found.iter().zip(expected).map(|(a, b)| f64::from(*a) - f64::from(*b)));
    distance / norm(&mut expected.iter().map(|x| f64::from(*x))).max(least)
}

/// The name of every parameter with its distance from the expected values.
fn distances(model: &Model, found: &[f32], expected: &[f32]) -> Vec<(String, f64)> {
    let least = 1e-6 * expected.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    let params = model.registry.view();
    let of = |range: std::ops::Range<usize>| apart(&found[range.clone()], &expected[range], least);
    params.infos().iter().map(|info| (info.name.to_string(), of(info.range()))).collect()
}

#[test]
fn a_step_is_that_of_the_authors_code() {
    let golden = Golden::open();
    let mut session = Session::new(CpuDevice::new(Engine::new(1, Gemm::Samara).unwrap()));
    let (mut objective, average, update) = before(&golden, &mut session);
    // The authors average before the momentum encoders run, samara after the weights have changed: the same but for the first step.
    let of_train = UpdateNumbers { count: 1, ..update_numbers(&objective.train, 0.0) };
    let numbers = Objective::<CpuDevice>::numbers(&objective, 0, of_train);
    update.apply(&mut session, &numbers, 1.0);
    let averaged = golden.params("averaged.safetensors", &objective.model);
    for (name, distance) in distances(&objective.model, &weights_of(&mut session, average), &averaged) {
        assert!(distance <= 1e-6, "momentum encoder {name}: {distance}");
    }

    let pairs = golden.pairs();
    let mut given = [("weights_of_images", "images"), ("weights_of_texts", "texts")].into_iter();
    let mismatches = &mut |similarities: &[f32]| {
        let (weights, drawn) = given.next().unwrap();
        weights_are(similarities, &golden.reals(&format!("out.{weights}")));
        golden.ints(&format!("in.{drawn}")).into_iter().map(|row| row as usize).collect()
    };
    let draws = Draws { hidden: Some(golden.hidden()), mismatches };
    let [_, itc, itm, mlm, ..] = objective.train_with(&mut session, &pairs, golden.number("alpha"), draws).unwrap();
    for (name, found) in [("loss_ita", itc), ("loss_itm", itm), ("loss_mlm", mlm)] {
        let expected = golden.number(name);
        assert!((found - expected).abs() <= 1e-5 * expected, "{name}: {found}, expected {expected}");
    }
    let gradients = session.set(objective.built().set).grads[0].get().to_vec();
    for (name, distance) in distances(&objective.model, &gradients, &golden.params("grads.safetensors", &objective.model)) {
        assert!(distance <= 1e-3, "gradient of {name}: {distance}");
    }

    assert!(objective.after_update(&mut session, 0).unwrap().is_continue());
    queues_are(&golden, &mut session, &objective);
}

/// The weights (B, B) of draws by similarities are those of the authors, whose sums are not 1 without the pairs themselves.
fn weights_are(similarities: &[f32], expected: &[f32]) {
    let rows = expected.len().isqrt();
    for (query, (similarities, expected)) in similarities.chunks_exact(rows).zip(expected.chunks_exact(rows)).enumerate() {
        let weights = negatives::weights(similarities, |other| *other != query);
        let sums = [weights.iter().sum::<f64>(), expected.iter().map(|x| f64::from(*x)).sum()];
        for (found, expected) in weights.iter().zip(expected) {
            let [found, expected] = [found / sums[0], f64::from(*expected) / sums[1]];
            assert!((found - expected).abs() <= 1e-5, "draws of {query}: {found}, expected {expected}");
        }
    }
}

/// The rows of the queues, and the next of them.
fn queues_are(golden: &Golden, session: &mut Session, objective: &AlignFuse) {
    let Built { training, queues, on, .. } = objective.built();
    let ring = serde_json::to_value(queues.as_ref().unwrap().ring()).unwrap();
    assert_eq!(ring["pointer"], golden.meta["pointer"][1]);
    for (queue, name) in training.itc.unwrap().queues.unwrap().into_iter().zip(["out.image_queue", "out.text_queue"]) {
        let (expected, start) = (golden.reals(name), training.program.view().tensor(queue).unwrap().start());
        let (state, device) = session.state_mut(on.state.unwrap());
        let mut found = Vec::new();
        device.lend(&state.mem, &mut |values: &[f32]| found = values[start..start + expected.len()].to_vec()).unwrap();
        let most = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(most <= 2e-6, "{name}: {most}");
    }
}
