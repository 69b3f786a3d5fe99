//! An image classifier on a recorded batch: logits, hidden states, the loss and its gradient.

use std::path::Path;
use std::sync::Arc;

use samara_core::exec::{Gradients, WriteError};
use samara_core::graph::{Graph, Recompute, Tensor, Wrt};
use samara_core::model::image::{self, ImageDims, ImageModel, PixelOrder};
use samara_core::nn::Dropout;

use super::computed::{Computed, Output};
use super::error::ParityError;
use super::loaded::Loaded;
use super::recording::Recording;
use crate::model_folder::ExtraTensors;
use crate::session::{BuildError, Engine, On, OwnedProgram};
use crate::vision::families::ImageConfig;
use crate::vision::{folder, pixels, register};

/// Inputs that an image classifier takes, with the names of `transformers`.
const INPUTS: [&str; 2] = ["pixel_values", "labels"];

/// Opens a recording of an image classifier.
///
/// # Errors
/// Files that cannot be read, other inputs.
pub(super) fn open(io: &Path) -> Result<Recording, ParityError> {
    Recording::open(io, "an image classifier", &INPUTS)
}

/// Opens a model folder and runs it on a recorded batch, forward and, if it has labels, backward.
///
/// # Errors
/// The folder; a model or program that cannot be built; inputs of other shapes; classes beyond the model's.
pub(super) fn run(
    engine: Arc<Engine>,
    model_folder: &Path,
    config: &ImageConfig,
    extra: ExtraTensors,
    recording: &Recording,
) -> Result<(Loaded, Computed), ParityError> {
    let architecture = config.architecture()?;
    let (registry, model) = register(&*architecture)?;
    let maps = folder::name_maps(model_folder, &*architecture)?;
    let mut loaded = Loaded::open(engine, model_folder, &registry, &maps, extra)?;
    let computed = Batch::of(recording, model.dims())?.run(&mut loaded, &*model, recording)?;
    Ok((loaded, computed))
}

/// One batch of B images.
struct Batch {
    /// B.
    batch: usize,
    /// The sizes of the model for these images.
    dims: ImageDims,
    /// The pixels in the order of the model.
    pixels: Vec<f32>,
    /// The class of every image (B), negative for none.
    classes: Option<Vec<i32>>,
}

/// Where the program of a batch has its values.
struct Io {
    pixels: Tensor,
    /// Classes (B), upstream gradient of their losses, and losses (B).
    loss: Option<[Tensor; 3]>,
    /// The inputs of every block and the last hidden states.
    hidden: Vec<Tensor>,
    /// (B, classes)
    logits: Tensor,
}

impl Batch {
    fn of(recording: &Recording, mut dims: ImageDims) -> Result<Self, ParityError> {
        let name = "in.pixel_values";
        let shape = recording.shape(name).unwrap_or_default();
        // Convolutions take images of any size.
        if let (PixelOrder::Pixels, &[_, _, height, width]) = (dims.order, shape.as_slice()) {
            dims.image = [height, width];
        }
        let [height, width] = dims.image;
        let Some(&batch) = shape.first().filter(|_| shape.get(1..) == Some(&[dims.channels, height, width])) else {
            let expected = format!("shape (batch, {}, {height}, {width})", dims.channels);
            return Err(recording.found(name, expected, format!("shape {shape:?}")));
        };
        let planes = recording.values(name, &shape)?;
        let mut ordered = vec![0.0; planes.len()];
        for (image, to) in planes.chunks(dims.image_len()).zip(ordered.chunks_mut(dims.image_len())) {
            pixels::from_planes(&dims, image, to);
        }
        let classes = recording.integers("in.labels", Some(&[batch]))?.map(|found| found.values);
        Ok(Self { batch, dims, pixels: ordered, classes })
    }

    fn run(&self, loaded: &mut Loaded, model: &dyn ImageModel, recording: &Recording) -> Result<Computed, ParityError> {
        let (program, io) = self.program(loaded, model)?;
        let count = self.classes.iter().flatten().filter(|&&class| class >= 0).count();
        let of = |name: &'static str| move |error: WriteError| recording.found(name, "values that the model has", error);
        let on = On::set(loaded.set);
        let session = &mut loaded.session;
        session.write(&program, io.pixels, &self.pixels).map_err(of("in.pixel_values"))?;
        if let (Some([classes, upstream, _]), Some(values)) = (io.loss, &self.classes) {
            session.write_ints(&program, classes, values).map_err(of("in.labels"))?;
            session.write(&program, upstream, &[1.0 / count.max(1) as f32]).map_err(of("in.labels"))?;
        }
        session.clear_untouched(&program, on);
        session.run_all(&program, on, Gradients::Overwrite);
        let shape =
            |t: Tensor| program.view().tensor(t).map_or_else(Vec::new, |t| t.shape.dims().iter().map(|&n| n as usize).collect());
        let output = |t: Tensor| in_planes(shape(t), session.read(&program, t));
        let sum = |losses: Tensor| session.read(&program, losses).iter().map(|&x| f64::from(x)).sum::<f64>();
        let hidden = io.hidden.iter().enumerate().map(|(n, &t)| (format!("hidden_states.{n}"), output(t)));
        Ok(Computed {
            outputs: hidden.chain([("logits".to_owned(), output(io.logits))]).collect(),
            loss: io.loss.map(|[_, _, losses]| sum(losses) / count.max(1) as f64),
            is_loss_comparable: true,
        })
    }

    fn program(&self, loaded: &mut Loaded, model: &dyn ImageModel) -> Result<(OwnedProgram, Io), BuildError> {
        loaded.session.prepare(On::set(loaded.set), |g: &Graph<'_>| {
            let pixels = self.dims.pixels(g, self.batch);
            let features = model.features(g, pixels, Dropout::NONE); // (B, C)
            let logits = g.output(image::logits(g, model, features)); // (B, classes)
            let hidden = std::iter::successors(g.next_checkpoint(None), |&t| g.next_checkpoint(Some(t)));
            let hidden = hidden.collect::<Vec<_>>().into_iter().map(|t| g.output(t)).collect();
            let loss = self.classes.as_ref().map(|_| {
                let classes = g.ints(&[self.batch], i32::MIN, self.dims.classes as i32 - 1); // (B)
                let upstream = g.input(&[1]);
                let losses = g.output(image::losses(g, model, features, classes, 0.0)); // (B)
                g.backward(&[(losses, upstream)], Wrt::Trainable, Recompute::None);
                [classes, upstream, losses]
            });
            Io { pixels, loss, hidden, logits }
        })
    }
}

/// An output as recordings have it: (N, H, W, C) becomes (N, C, H, W).
fn in_planes(shape: Vec<usize>, values: &[f32]) -> Output {
    let &[batch, height, width, channels] = shape.as_slice() else {
        return Output { shape, values: values.to_vec(), live: None };
    };
    let image = height * width * channels;
    let planes = |image: &[f32]| -> Vec<f32> {
        (0..channels).flat_map(|c| image.iter().skip(c).step_by(channels.max(1)).copied()).collect()
    };
    let values = values.chunks(image.max(1)).flat_map(planes).collect();
    Output { shape: vec![batch, channels, height, width], values, live: None }
}
