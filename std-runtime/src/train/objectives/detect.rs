//! Training of a detector: set prediction with a match of queries and objects on the host, between forward and backward pass.

use std::path::Path;
use std::sync::Arc;

use samara_core::exec::{Gradients, WriteError};
use samara_core::graph::{DROPOUT_CONTROL_LEN, Graph, Recompute, Tensor};
use samara_core::model::detr::{Detections, Detr, DetrInputs};
use samara_core::nn::Dropout;
use samara_core::ops::dropout;
use samara_core::params::GroupId;

use crate::data::dataset::HostBatch;
use crate::detect::average_precision::evaluate;
use crate::detect::boxes::{Annotation, Detection};
use crate::detect::found::{self, Found, in_pixels};
use crate::detect::set_loss::{BatchLosses, SetBatch, SetCriterion};
use crate::device::Planner;
use crate::lm::RunError;
use crate::model_folder::{ParamValues, save_weights};
use crate::run::durable;
use crate::session::{BuildError, Device, On, OwnedParams, OwnedProgram, Session, SetId, Ticket};
use crate::train::config::TrainConfig;
use crate::train::error::TrainingError;
use crate::train::objective::{Direction, Objective, SetSpec, Source, StepBatch};
use crate::train::scalars::{Combine, ScalarId, Scalars};
use crate::vision::boxes::rows::EXTENTS;
use crate::vision::detector::DetectorFolder;
use crate::vision::detector_weights::DetectorWeights;
use crate::vision::detr::{Frame, frame_mask, write_places};
use crate::vision::processor::Processor;

/// The scalars by name, in the order of [`values`], and how steps combine them; the last is of evaluations alone.
const SCALARS: [(&str, Combine); 10] = [
    ("loss", Combine::Mean),
    ("loss_ce", Combine::Mean),
    ("loss_bbox", Combine::Mean),
    ("loss_giou", Combine::Mean),
    ("cardinality_error", Combine::Mean),
    ("class_error", Combine::Mean),
    ("matched_cost", Combine::Mean),
    ("no_object_rate", Combine::Mean),
    ("unused_queries", Combine::Last),
    (AP50, Combine::Last),
];

/// Average precision at an IoU of .5.
const AP50: &str = "ap50";

/// Steps over which matches of a query count as its use.
const USE_STEPS: u64 = 100;

/// The weights that a model begins with, the groups of its backbone, and their factor of the learning rate.
#[derive(Clone, Copy, Debug)]
pub struct Backbone {
    /// Matrices and vectors.
    pub groups: [GroupId; 2],
    /// The factor.
    pub lr_scale: f64,
}

/// What the run folder of a DETR has beside its weights, and how its batches are.
#[derive(Clone, Debug)]
pub struct DetectorRun {
    /// Its `config.json`.
    pub folder: DetectorFolder,
    /// Its `preprocessor_config.json`.
    pub processor: Processor,
    /// Whether images have padding: batches have their extents.
    pub padded: bool,
    /// The weights that the training begins with.
    pub weights: Option<DetectorWeights>,
}

/// The training of a DETR.
pub struct DetectObjects {
    run: DetectorRun,
    detr: Detr,
    registry: Arc<OwnedParams>,
    backbone: Backbone,
    train: TrainConfig,
    image: [usize; 2],
    source: Option<Source>,
    criterion: SetCriterion,
    built: Option<Built>,
    /// Losses of the step's micro-batches, and its last step's number of unused queries.
    losses: Vec<(BatchLosses, f64)>,
    /// The last step in which each query was matched.
    used: Vec<Option<u64>>,
    step: u64,
    evaluated: Evaluated,
}

/// What an evaluation has found so far.
#[derive(Default)]
struct Evaluated {
    images: u32,
    annotations: Vec<Annotation>,
    detections: Vec<Detection>,
}

struct Built {
    set: SetId,
    average: Option<SetId>,
    training: Pass,
    evaluation: Option<Pass>,
    ids: Vec<ScalarId>,
}

/// Where a graph has its values.
struct Io {
    inputs: DetrInputs,
    found: Detections,
    upstream: Option<[Tensor; 2]>,
    dropout: Option<Tensor>,
}

/// A program over one batch.
struct Pass {
    program: OwnedProgram,
    inputs: DetrInputs,
    found: Detections,
    /// Upstream gradients of logits and boxes.
    upstream: Option<[Tensor; 2]>,
    /// The input of dropout masks.
    dropout: Option<Tensor>,
    rows: usize,
}

/// What the masks of dropout are functions of, beside site and element.
#[derive(Clone, Copy)]
struct Masks {
    seed: u64,
    step: u64,
    micro: usize,
    probability: f64,
}

impl DetectObjects {
    /// Trains the model of a folder's description on images in squares of its size.
    pub fn new(
        run: DetectorRun,
        (registry, detr): (Arc<OwnedParams>, Detr),
        backbone: Backbone,
        source: Source,
        train: &TrainConfig,
    ) -> Self {
        let model = &run.folder.model;
        let (criterion, side, queries) = (model.criterion(), model.image_size, model.num_queries);
        Self {
            run,
            detr,
            registry,
            backbone,
            train: train.clone(),
            image: [side; 2],
            source: Some(source),
            criterion,
            built: None,
            losses: Vec::new(),
            used: vec![None; queries],
            step: 0,
            evaluated: Evaluated::default(),
        }
    }

    /// How many parameters are trained, and how many there are; statistics of norms are none.
    pub fn parameters(&self) -> [usize; 2] {
        let view = self.registry.view();
        [view.trainable_count(), view.infos().iter().filter(|info| !info.buffer).map(|info| info.shape.len()).sum()]
    }

    fn built(&self) -> &Built {
        self.built.as_ref().expect("the trainer builds an objective before it uses it")
    }

    fn set(&self, averaged: bool) -> SetId {
        let Built { set, average, .. } = self.built();
        average.filter(|_| averaged).unwrap_or(*set)
    }

    fn pass<D: Device>(
        &self,
        session: &mut Session<D>,
        set: SetId,
        rows: usize,
        gradients: Option<Recompute>,
    ) -> Result<Pass, BuildError> {
        let build = |g: &Graph<'_>| self.append(g, rows, gradients);
        let (program, Io { inputs, found, upstream, dropout }) = session.prepare(On::set(set), build)?;
        Ok(Pass { program, inputs, found, upstream, dropout, rows })
    }

    /// Appends the model over a batch of rows to a graph, with gradients if a recomputation policy is given.
    fn append(&self, g: &Graph<'_>, rows: usize, gradients: Option<Recompute>) -> Io {
        let every_layer = gradients.is_some() && self.run.folder.model.auxiliary_loss;
        let drops = gradients.is_some() && self.train.dropout > 0.0;
        let dropout = drops.then(|| g.ints(&[DROPOUT_CONTROL_LEN], i32::MIN, i32::MAX));
        let inputs = self.detr.inputs(g, rows, self.image, self.run.padded);
        let found = self.detr.forward(g, &inputs, Dropout { activations: dropout, ..Dropout::NONE }, every_layer);
        g.output(found.logits);
        g.output(found.boxes);
        Io { inputs, found, upstream: gradients.map(|recompute| found.backward(g, recompute)), dropout }
    }

    /// The programs of training and evaluation on a batch of rows, planned and not allocated.
    ///
    /// # Errors
    /// A program cannot be planned.
    pub fn programs(&self, planner: &impl Planner, recompute: Recompute) -> Result<[OwnedProgram; 2], BuildError> {
        let rows = self.train.batch_size;
        let of = |gradients| {
            OwnedProgram::new(planner, &self.registry, |g| self.append(g, rows, gradients)).map(|(program, _)| program)
        };
        Ok([of(Some(recompute))?, of(None)?])
    }

    /// Its parameters.
    pub fn registry(&self) -> &Arc<OwnedParams> {
        &self.registry
    }

    /// Notes which queries a batch has matched; returns how many have had no object for [`USE_STEPS`] steps.
    fn note_use(&mut self, losses: &BatchLosses) -> f64 {
        for row in losses.matched.chunks(self.used.len().max(1)) {
            for (used, _) in self.used.iter_mut().zip(row).filter(|(_, object)| **object >= 0) {
                *used = Some(self.step);
            }
        }
        let is_unused = |used: &&Option<u64>| used.is_none_or(|step| step + USE_STEPS <= self.step);
        self.used.iter().filter(is_unused).count() as f64
    }
}

impl Pass {
    /// Writes a batch and runs the forward pass; returns logits and boxes.
    fn forward<D: Device>(
        &self,
        session: &mut Session<D>,
        set: SetId,
        (detr, image): (&Detr, [usize; 2]),
        batch: &HostBatch,
        masks: Option<Masks>,
    ) -> Result<[Ticket; 2], RunError> {
        let named = |what| move |error: WriteError| RunError::Input { what, error };
        session.write(&self.program, self.inputs.pixels, batch.reals("pixel_values")).map_err(named("pixel_values"))?;
        let mask = self.inputs.segments.map(|_| frame_mask(batch.ints(EXTENTS), image));
        let frame = Frame { batch: self.rows, image, mask: mask.as_deref() };
        if let (Some(control), Some(Masks { seed, step, micro, probability })) = (self.dropout, masks) {
            let values = dropout::control(seed, step as u32, micro as u32, probability);
            session.write_ints(&self.program, control, &values).map_err(named("dropout control"))?;
        }
        write_places(session, &self.program, (detr, &self.inputs), &frame).map_err(named("positions"))?;
        session.run(&self.program, On::set(set), self.program.view().forward(), Gradients::Overwrite);
        let tickets = [self.found.logits, self.found.boxes].map(|t| session.fetch(&self.program, t));
        session.sync()?;
        Ok(tickets)
    }

    /// The losses of a batch whose forward pass has run, and their gradients by logits and boxes.
    fn losses<D: Device>(
        &self,
        session: &Session<D>,
        [logits, boxes]: &[Ticket; 2],
        (criterion, queries): (&SetCriterion, usize),
        batch: &HostBatch,
    ) -> Result<(BatchLosses, [Vec<f32>; 2]), RunError> {
        let [logits, boxes] = [logits, boxes].map(|ticket| session.fetched(ticket));
        let mut gradients = [vec![0.0; logits.len()], vec![0.0; boxes.len()]];
        let layers = boxes.len() / (4 * self.rows * queries).max(1);
        // Rows after the last image are padding.
        let images = usize::try_from(batch.tokens).map_or(self.rows, |images| images.min(self.rows));
        let live = |len: usize| 0..len / self.rows.max(1) * images;
        let [of_logits, of_boxes] = [logits.len(), boxes.len()].map(live);
        let (classes, objects) = (batch.ints("class_labels"), batch.reals("boxes"));
        let predicted = SetBatch {
            logits: &logits[of_logits.clone()],
            boxes: &boxes[of_boxes.clone()],
            classes: &classes[live(classes.len())],
            objects: &objects[live(objects.len())],
            extents: [images, layers],
        };
        let [by_logits, by_boxes] = &mut gradients;
        let (by_logits, by_boxes) = (&mut by_logits[of_logits], &mut by_boxes[of_boxes]);
        let losses = criterion.losses(&predicted, by_logits, by_boxes).map_err(|error| RunError::Guard(error.to_string()))?;
        Ok((losses, gradients))
    }
}

/// The values of the scalars before the last one.
fn values((losses, unused): &(BatchLosses, f64)) -> [f64; 9] {
    let last = losses.layers.last().copied().unwrap_or_default();
    [
        losses.total,
        last.class,
        last.l1,
        last.giou,
        last.cardinality_error,
        last.class_error,
        last.matched_cost,
        last.no_object_rate,
        *unused,
    ]
}

impl<D: Device> Objective<D> for DetectObjects {
    fn sets(&self) -> Vec<SetSpec> {
        SetSpec::of_training(&self.registry, self.train.averages() > 0)
    }

    fn build(&mut self, session: &mut Session<D>, sets: &[SetId]) -> Result<(), BuildError> {
        let (Some(&set), average, Some(source)) = (sets.first(), sets.get(1).copied(), &self.source) else { return Ok(()) };
        let recompute = self.train.recompute.without_budget();
        let training = self.pass(session, set, source.rows, Some(recompute))?;
        let evaluation = source.validation.as_ref().map(|_| self.pass(session, set, source.rows, None)).transpose()?;
        self.built = Some(Built { set, average, training, evaluation, ids: Vec::new() });
        Ok(())
    }

    fn lr_scale(&self, _: usize, group: GroupId) -> f64 {
        if self.backbone.groups.contains(&group) { self.backbone.lr_scale } else { 1.0 }
    }

    fn scalars(&mut self, scalars: &mut Scalars) {
        if let Some(built) = &mut self.built {
            built.ids = SCALARS.iter().map(|&(name, combine)| scalars.register(name, combine)).collect();
        }
    }

    fn sources(&mut self) -> Vec<Source> {
        self.source.take().into_iter().collect()
    }

    fn initialise(&mut self, session: &mut Session<D>, resumed: bool) -> Result<(), TrainingError> {
        let (set, device) = session.set_mut(self.set(false));
        // Frozen weights are in no checkpoint.
        set.initialise(device, self.train.seed).map_err(RunError::from)?;
        let Some(weights) = &self.run.weights else { return Ok(()) };
        let (params, mut given) = (self.registry.view(), Ok(()));
        if !resumed {
            let give = &mut |values: &mut [f32]| given = weights.give(&params, values, &mut []);
            device.lend_mut(&mut set.weights, give).map_err(RunError::from)?;
        }
        given?;
        let mut given = Ok(());
        let give = &mut |bytes: &mut [u8]| given = weights.give(&params, &mut [], bytes);
        device.lend_mut(&mut set.frozen, give).map_err(RunError::from)?;
        Ok(given?)
    }

    fn begin(&mut self, _: &mut Session<D>, batch: &StepBatch) -> Result<u32, RunError> {
        self.step = batch.step;
        self.evaluated = Evaluated::default();
        Ok(1)
    }

    fn gradients(&mut self, session: &mut Session<D>, _: u32, batch: &StepBatch) -> Result<(), RunError> {
        self.losses.clear();
        let batches = batch.micro_batches(0);
        for (i, micro) in batches.iter().enumerate() {
            batch.stop.check()?;
            let Built { set, training, .. } = self.built();
            let on = On::set(*set);
            if i == 0 {
                session.clear_untouched(&training.program, on);
            }
            let probability = self.train.dropout;
            let masks = Masks { seed: self.train.seed, step: batch.step, micro: i, probability };
            let tickets = training.forward(session, *set, (&self.detr, self.image), micro, Some(masks))?;
            let queries = self.detr.config().num_queries;
            let (losses, mut gradients) = training.losses(session, &tickets, (&self.criterion, queries), micro)?;
            let share = 1.0 / batches.len().max(1) as f32;
            gradients.iter_mut().flatten().for_each(|x| *x *= share);
            for (t, values) in training.upstream.into_iter().flatten().zip(&gradients) {
                session
                    .write(&training.program, t, values)
                    .map_err(|error| RunError::Input { what: "upstream gradient", error })?;
            }
            let kind = if i == 0 { Gradients::Overwrite } else { Gradients::Add };
            session.run(&training.program, on, training.program.view().backward(), kind);
            let unused = self.note_use(&losses);
            self.losses.push((losses, unused));
        }
        Ok(())
    }

    fn collect(&mut self, _: &Session<D>, _: u32, out: &mut Scalars) {
        for losses in &self.losses {
            self.built().ids.iter().zip(values(losses)).for_each(|(&id, value)| out.add(id, value));
        }
    }

    fn evaluate(
        &mut self,
        session: &mut Session<D>,
        averaged: bool,
        batch: &HostBatch,
        out: &mut Scalars,
    ) -> Result<(), RunError> {
        let set = self.set(averaged);
        let Some(Built { evaluation: Some(pass), ids, .. }) = &self.built else { return Ok(()) };
        let tickets = pass.forward(session, set, (&self.detr, self.image), batch, None)?;
        let (queries, weight) = (self.detr.config().num_queries, batch.tokens as f64);
        let (losses, _) = pass.losses(session, &tickets, (&self.criterion, queries), batch)?;
        let [logits, boxes] = [0, 1].map(|i| session.fetched(&tickets[i]));
        let size = self.image.map(|n| n as f64);
        self.evaluated.add(batch, (logits, boxes), queries, size);
        let (classes, used) = (self.detr.config().num_labels, values(&(losses, 0.0)));
        // Queries are counted in training.
        for (&id, value) in ids.iter().zip(used).take(used.len() - 1) {
            out.add_sum(id, value * weight, weight);
        }
        if let Some(&id) = ids.last() {
            out.add(id, self.evaluated.ap50(classes).map_err(|error| RunError::Guard(error.to_string()))?);
        }
        Ok(())
    }

    fn best(&self) -> (&'static str, Direction) {
        (AP50, Direction::Larger)
    }

    fn followed(&self) -> &'static str {
        "loss"
    }

    fn is_evaluated(&self, scalar: &str) -> bool {
        scalar != "unused_queries"
    }

    fn unit(&self, scalar: &str) -> &'static str {
        match scalar {
            "loss_ce" => "nats",
            "class_error" => "%",
            "unused_queries" => "queries",
            _ => "",
        }
    }

    fn counted(&self) -> &'static str {
        "images"
    }

    /// How the matching goes: what a match costs, whether queries find nothing, and whether some are never matched.
    fn remarks(&self, training: &Scalars, validation: &Scalars) -> String {
        let shown = |name: &str, text: &dyn Fn(f64) -> String| validation.get(name).map(text);
        let unused = training.get("unused_queries").map(|unused| format!("{unused} of {} queries unused", self.used.len()));
        let parts = [
            shown("matched_cost", &|cost| format!("matched cost {cost:.2}")),
            shown("class_error", &|error| format!("class error {error:.0} %")),
            shown("no_object_rate", &|rate| format!("no object {:.0} %", 100.0 * rate)),
            unused,
        ];
        parts.into_iter().flatten().map(|part| format!(" | {part}")).collect()
    }

    fn first_non_finite(&mut self, session: &mut Session<D>, _: u32, _: &StepBatch) -> Result<Option<String>, RunError> {
        let Built { set, training, .. } = self.built();
        Ok(session.first_non_finite(&training.program, On::set(*set), 0..training.program.view().nodes().len())?)
    }

    fn export(&mut self, session: &mut Session<D>, averaged: bool, folder: &Path) -> Result<(), TrainingError> {
        std::fs::create_dir_all(folder).map_err(TrainingError::io(folder, "create"))?;
        let set = self.set(averaged);
        let mut frozen: Vec<f32> = Vec::new();
        let owner = session.frozen_of(set);
        let (of_frozen, device) = session.set_mut(owner);
        // Aligned for f32 values.
        let copy = &mut |bytes: &[u8]| {
            frozen.resize(bytes.len() / size_of::<f32>(), 0.0);
            bytemuck::cast_slice_mut::<f32, u8>(&mut frozen).copy_from_slice(bytes);
        };
        device.lend(&of_frozen.frozen, copy).map_err(RunError::from)?;
        let (set, device) = session.set_mut(set);
        let map = self.run.folder.model.name_maps(self.detr.config()).into_iter().next().map(|(_, map)| map).unwrap_or_default();
        let (params, mut saved) = (self.registry.view(), Ok(()));
        let frozen = bytemuck::cast_slice(&frozen);
        let save = &mut |trainable: &[f32]| saved = save_weights(folder, &params, &map, ParamValues { trainable, frozen });
        device.lend(&set.weights, save).map_err(RunError::from)?;
        saved?;
        let json = serde_json::to_vec_pretty(&self.run.folder.to_json(self.train.dropout)).unwrap_or_default();
        durable::write(&folder.join("config.json"), &json).map_err(TrainingError::io(folder, "write into"))?;
        Ok(self.run.processor.write(folder)?)
    }

    fn describe(&self, _: &Session<D>) -> String {
        let [trained, all] = self.parameters();
        format!("{trained} of {all} parameters trained; ")
    }
}

impl Evaluated {
    /// Adds the objects of a batch, and what was found: of every query its likeliest object, in boxes of pixels.
    fn add(&mut self, batch: &HostBatch, (logits, boxes): (&[f32], &[f32]), queries: usize, size: [f64; 2]) {
        let rows = batch.tokens as usize;
        let most = batch.ints("class_labels").len() / batch.rows().max(1);
        let objects = batch.ints("class_labels").chunks(most.max(1)).zip(batch.reals("boxes").chunks((4 * most).max(1)));
        let columns = logits.len() / (boxes.len() / 4).max(1);
        let found = logits.chunks((queries * columns).max(1)).zip(boxes.chunks((4 * queries).max(1)));
        for ((classes, objects), (logits, boxes)) in objects.zip(found).take(rows) {
            for (&class, object) in classes.iter().zip(objects.chunks(4)).filter(|(class, _)| **class >= 0) {
                let (id, bbox) = (self.annotations.len() as i64 + 1, in_pixels(object, size));
                let area = bbox.area();
                self.annotations.push(Annotation {
                    id,
                    image: self.images,
                    category: class.unsigned_abs(),
                    bbox,
                    area,
                    crowd: false,
                });
            }
            let of_image = found::found(logits, boxes, size).into_iter();
            let detection = |Found { class, score, bbox }| Detection { image: self.images, category: class, bbox, score };
            self.detections.extend(of_image.map(detection));
            self.images += 1;
        }
    }

    fn ap50(&self, classes: usize) -> Result<f64, crate::memory::OutOfMemory> {
        let (mut annotations, mut detections) = (self.annotations.clone(), self.detections.clone());
        Ok(evaluate(&mut annotations, &mut detections, classes, false)?.stats[1])
    }
}
