//! DETR on a recorded batch: logits, boxes, hidden states, the matched loss and its gradient.

use std::path::Path;
use std::sync::Arc;

use samara_core::exec::{Gradients, WriteError};
use samara_core::graph::{Graph, Recompute, Tensor};
use samara_core::model::detr::{Detections, Detr, DetrConfig, DetrInputs};
use samara_core::nn::Dropout;

use super::computed::{Computed, Output};
use super::error::ParityError;
use super::loaded::Loaded;
use super::recording::Recording;
use crate::detect::set_loss::SetBatch;
use crate::model_folder::ExtraTensors;
use crate::session::{BuildError, Engine, On, OwnedParams, OwnedProgram};
use crate::vision::detr::{Frame, write_places};
use crate::vision::families::detr::DetrModel;
use crate::vision::folder::own_first;

/// Inputs that DETR takes: those of `transformers`, and of the labels the number of objects of every image, and the classes and boxes of all of them.
const INPUTS: [&str; 5] = ["pixel_values", "pixel_mask", "objects", "class_labels", "boxes"];

/// Opens a recording of a detector.
///
/// # Errors
/// Files that cannot be read, other inputs.
pub(super) fn open(io: &Path) -> Result<Recording, ParityError> {
    Recording::open(io, "a detector", &INPUTS)
}

/// Opens a model folder and runs it on a recorded batch, forward and, if it has objects, backward.
///
/// # Errors
/// The folder; a model or program that cannot be built; inputs of other shapes; classes beyond the model's.
pub(super) fn run(
    engine: Arc<Engine>,
    model_folder: &Path,
    model: &DetrModel,
    extra: ExtraTensors,
    recording: &Recording,
) -> Result<(Loaded, Computed), ParityError> {
    let config = model.to_core()?;
    let (registry, detr) = OwnedParams::of(|s| Detr::register(&config, None, s))?;
    let maps = own_first(model_folder, model.name_maps(&config))?;
    let mut loaded = Loaded::open(engine, model_folder, &registry, &maps, extra)?;
    let computed = Batch::of(recording, &config)?.run(&mut loaded, (model, &detr), recording)?;
    Ok((loaded, computed))
}

/// One batch of B images with padding.
struct Batch {
    batch: usize,
    image: [usize; 2],
    /// (B, H, W, channels)
    pixels: Vec<f32>,
    /// (B, H, W)
    mask: Option<Vec<bool>>,
    objects: Option<Objects>,
}

/// The objects in the images, at most M each.
struct Objects {
    /// (B, M), −1 after the last one.
    classes: Vec<i32>,
    /// (B, M, 4)
    boxes: Vec<f32>,
}

/// Where the program of a batch has its values.
struct Io {
    inputs: DetrInputs,
    found: Detections,
    /// Upstream gradients of logits and boxes.
    upstream: Option<[Tensor; 2]>,
}

impl Batch {
    fn of(recording: &Recording, config: &DetrConfig) -> Result<Self, ParityError> {
        let (name, channels) = ("in.pixel_values", config.backbone.num_channels);
        let shape = recording.shape(name).unwrap_or_default();
        let &[batch, _, height, width] = shape.as_slice() else {
            return Err(recording.found(name, "shape (batch, channels, height, width)", format!("shape {shape:?}")));
        };
        if shape.get(1) != Some(&channels) || config.map([height, width]).is_none() {
            return Err(recording.found(
                name,
                format!("{channels} channels of images that the backbone can halve"),
                format!("{shape:?}"),
            ));
        }
        let planes = recording.values(name, &shape)?;
        let pixels = planes.chunks((channels * height * width).max(1)).flat_map(|image| in_pixels(image, channels)).collect();
        let mask = recording.integers("in.pixel_mask", Some(&[batch, height, width]))?;
        let mask = mask.map(|found| found.values.iter().map(|&x| x != 0).collect());
        Ok(Self { batch, image: [height, width], pixels, mask, objects: Objects::of(recording, batch, config.num_labels)? })
    }

    fn run(
        &self,
        loaded: &mut Loaded,
        (model, detr): (&DetrModel, &Detr),
        recording: &Recording,
    ) -> Result<Computed, ParityError> {
        let (program, io) = self.program(loaded, model, detr)?;
        let of = |name: &'static str| move |error: WriteError| recording.found(name, "values that the model has", error);
        let (on, session) = (On::set(loaded.set), &mut loaded.session);
        session.write(&program, io.inputs.pixels, &self.pixels).map_err(of("in.pixel_values"))?;
        let frame = Frame { batch: self.batch, image: self.image, mask: self.mask.as_deref() };
        write_places(session, &program, (detr, &io.inputs), &frame).map_err(of("in.pixel_mask"))?;
        session.clear_untouched(&program, on);
        session.run(&program, on, program.view().forward(), Gradients::Overwrite);
        let mut loss = None;
        if let (Some(objects), Some([to_logits, to_boxes])) = (&self.objects, io.upstream) {
            let (logits, boxes) = (session.read(&program, io.found.logits), session.read(&program, io.found.boxes));
            let (mut by_logits, mut by_boxes) = (vec![0.0; logits.len()], vec![0.0; boxes.len()]);
            let layers = boxes.len() / (4 * model.num_queries * self.batch).max(1);
            let batch =
                SetBatch { logits, boxes, classes: &objects.classes, objects: &objects.boxes, extents: [self.batch, layers] };
            let losses = model.criterion().losses(&batch, &mut by_logits, &mut by_boxes);
            loss = Some(losses.map_err(|error| recording.found("in.boxes", "objects that can be matched", error))?.total);
            session.write(&program, to_logits, &by_logits).map_err(of("in.boxes"))?;
            session.write(&program, to_boxes, &by_boxes).map_err(of("in.boxes"))?;
            session.run(&program, on, program.view().backward(), Gradients::Overwrite);
        }
        let last = |t: Tensor, rows: usize| {
            let shape = program.view().shape(t);
            let (all, columns) = (session.read(&program, t), shape.cols());
            let images = all.chunks((shape.dim(1) * columns).max(1));
            let values =
                images.flat_map(|image| image.iter().copied().skip(image.len().saturating_sub(rows * columns))).collect();
            Output { shape: vec![self.batch, rows, columns], values, live: None }
        };
        let outputs = [
            ("logits", last(io.found.logits, model.num_queries)),
            ("pred_boxes", last(io.found.boxes, model.num_queries)),
            ("last_hidden_state", last(io.found.hidden, model.num_queries)),
            ("encoder_last_hidden_state", last(io.found.memory, program.view().shape(io.found.memory).dim(1))),
        ];
        let outputs = outputs.into_iter().map(|(name, output)| (name.to_owned(), output)).collect();
        Ok(Computed { outputs, loss, is_loss_comparable: true })
    }

    fn program(&self, loaded: &mut Loaded, model: &DetrModel, detr: &Detr) -> Result<(OwnedProgram, Io), BuildError> {
        loaded.session.prepare(On::set(loaded.set), |g: &Graph<'_>| {
            let inputs = detr.inputs(g, self.batch, self.image, self.mask.is_some());
            let found = detr.forward(g, &inputs, Dropout::NONE, model.auxiliary_loss);
            for t in [found.memory, found.hidden, found.logits, found.boxes] {
                g.output(t);
            }
            let upstream = self.objects.as_ref().map(|_| found.backward(g, Recompute::None));
            Io { inputs, found, upstream }
        })
    }
}

impl Objects {
    /// The objects of a recording, which lie one after the other in it; `None` if it has none.
    fn of(recording: &Recording, batch: usize, classes: usize) -> Result<Option<Self>, ParityError> {
        let Some(counts) = recording.integers("in.objects", Some(&[batch]))? else { return Ok(None) };
        let counts: Vec<usize> = counts.values.iter().map(|&n| usize::try_from(n).unwrap_or(0)).collect();
        let (all, most) = (counts.iter().sum(), counts.iter().copied().max().unwrap_or(0));
        let of_classes = recording.integers("in.class_labels", Some(&[all]))?.map(|found| found.values).unwrap_or_default();
        if let Some(class) =
            of_classes.iter().find(|&&class| usize::try_from(class).is_ok_and(|class| class >= classes) || class < 0)
        {
            return Err(recording.found("in.class_labels", format!("classes from 0 to {}", classes.saturating_sub(1)), class));
        }
        let of_boxes = recording.values("in.boxes", &[all, 4])?;
        let mut objects = Self { classes: vec![-1; batch * most], boxes: vec![0.0; 4 * batch * most] };
        let mut rest = of_classes.iter().zip(of_boxes.chunks(4));
        for (image, count) in counts.into_iter().enumerate() {
            let first = image * most;
            let places = objects.classes.iter_mut().zip(objects.boxes.chunks_mut(4)).skip(first).take(count);
            for ((to, to_box), (&class, from)) in places.zip(&mut rest) {
                *to = class;
                to_box.copy_from_slice(from);
            }
        }
        Ok(Some(objects))
    }
}

/// An image of planes (channels, H, W) as (H, W, channels).
fn in_pixels(planes: &[f32], channels: usize) -> Vec<f32> {
    let len = planes.len() / channels.max(1);
    (0..len).flat_map(|at| planes.iter().copied().skip(at).step_by(len)).collect()
}
