//! A detector of a folder on this machine: images in, boxes out.

use std::path::Path;
use std::sync::Arc;

use samara_core::exec::{Gradients, WriteError};
use samara_core::graph::Graph;
use samara_core::model::detr::{Detections, Detr, DetrInputs};
use samara_core::nn::Dropout;

use super::detector::DetectorFolder;
use super::detr::{Frame, write_places};
use super::families::detr::DetrModel;
use super::folder::own_first;
use super::image::{CHANNELS, Image};
use super::processor::file::PROCESSOR_FILE;
use super::processor::{Kind, Processor, Values};
use super::weights::ImageModelError;
use crate::detect::found::{Found, found};
use crate::model_folder::{CONFIG_FILE, ExtraTensors, FolderError, load_weights_with};
use crate::session::{CpuDevice, Engine, On, OwnedParams, OwnedProgram, Session, SetId};

/// A detector with its weights, for batches of at most B images.
pub struct Detector {
    session: Session,
    set: SetId,
    detr: Detr,
    batch: usize,
    every_layer: bool,
    program: Option<Program>,
    values: Values,
    /// Its description: sizes, weights of its losses.
    pub model: DetrModel,
    /// How its images are prepared.
    pub processor: Processor,
    /// The names of its classes.
    pub labels: Vec<String>,
}

/// A program for images in a frame of one height and width.
struct Program {
    frame: [usize; 2],
    padded: bool,
    program: OwnedProgram,
    inputs: DetrInputs,
    outputs: Detections,
}

/// The pixels of a batch of images in frames of one height and width.
#[derive(Clone, Copy, Debug)]
pub struct Framed<'f> {
    /// (B, H, W, 3), 0 in padding.
    pub pixels: &'f [f32],
    /// H, W.
    pub frame: [usize; 2],
    /// Whether each pixel is in its image (B, H, W); `None`: all are.
    pub mask: Option<&'f [bool]>,
}

/// What a detector predicts for one image: decoder layers L, or the last one alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Predicted {
    logits: Vec<f32>, // (L·Q, C + 1)
    boxes: Vec<f32>,  // (L·Q, 4)
    layers: usize,
}

impl Predicted {
    /// L.
    pub fn layers(&self) -> usize {
        self.layers
    }

    /// What the queries of a layer, from 0, have found in the image of this height and width.
    pub fn layer(&self, layer: usize, [height, width]: [usize; 2]) -> Vec<Found> {
        let part = |values: &[f32]| {
            let len = values.len() / self.layers.max(1);
            layer * len..(layer + 1) * len
        };
        let (logits, boxes) = (self.logits.get(part(&self.logits)), self.boxes.get(part(&self.boxes)));
        found(logits.unwrap_or_default(), boxes.unwrap_or_default(), [height as f64, width as f64])
    }

    /// The same of the last layer.
    pub fn last(&self, size: [usize; 2]) -> Vec<Found> {
        self.layer(self.layers.saturating_sub(1), size)
    }
}

impl Detector {
    /// Opens a model folder for batches of up to this size. `every_layer`: all layers of the decoder are predicted. A folder without
    /// `preprocessor_config.json` has the default of `DetrImageProcessor`.
    ///
    /// # Errors
    /// The folder is not that of a detector; a model that cannot be built; a processor whose images do not fit.
    pub fn open(engine: Arc<Engine>, folder: &Path, batch: usize, every_layer: bool) -> Result<Self, ImageModelError> {
        let key = |key: &str, expected: &str, found: String| {
            let (path, key, expected) = (folder.join(CONFIG_FILE), key.to_owned(), expected.to_owned());
            FolderError::Key { path, key, expected, found }
        };
        let wrong = || key("model_type", "that of a detector: detr", "another, or no such file".to_owned());
        let DetectorFolder { model, labels, .. } = DetectorFolder::read(folder)?.ok_or_else(wrong)?;
        if model.num_channels != CHANNELS {
            return Err(key("num_channels", "3", model.num_channels.to_string()).into());
        }
        let processor = processor_of(folder)?;
        let config = model.to_core()?;
        let (registry, detr) = OwnedParams::of(|s| Detr::register(&config, None, s))?;
        let mut session = Session::new(CpuDevice::new(engine));
        let set = session.add_set("model", &registry)?;
        let map = own_first(folder, model.name_maps(&config))?.into_iter().next().unwrap_or_default();
        let (own, _) = session.set_mut(set);
        let (weights, frozen) = (own.weights.get_mut(), own.frozen.get_mut());
        load_weights_with(folder, &registry.view(), &map, ExtraTensors::Refuse, weights, frozen)?;
        let values = processor.values();
        Ok(Self { session, set, detr, batch: batch.max(1), every_layer, program: None, values, model, processor, labels })
    }

    /// B.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// The layers of the decoder whose predictions are returned.
    pub fn layers(&self) -> usize {
        if self.every_layer { self.model.decoder_layers } else { 1 }
    }

    /// What is found in images of any size and number. Only images with the same frame are computed together, so the result does not depend on the batch.
    ///
    /// # Errors
    /// An image that is too small or too large for the model; the device failed.
    pub fn find(&mut self, images: &[Image]) -> Result<Vec<Predicted>, ImageModelError> {
        let mut all = Vec::with_capacity(images.len());
        let mut rest = images;
        while let Some(first) = rest.first() {
            let frame = self.frame(first.size());
            let count = rest.iter().take(self.batch).take_while(|image| self.frame(image.size()) == frame).count();
            let (now, later) = rest.split_at(count);
            let [pixels, mask] = [now.len() * frame[0] * frame[1] * CHANNELS, now.len() * frame[0] * frame[1]];
            let (mut pixels, mut mask) = (vec![0.0; pixels], vec![false; mask]);
            let places =
                pixels.chunks_mut((frame[0] * frame[1] * CHANNELS).max(1)).zip(mask.chunks_mut((frame[0] * frame[1]).max(1)));
            for (image, (pixels, mask)) in now.iter().zip(places) {
                place(&self.processor.shape(image), &self.values, frame[1], pixels, mask);
            }
            let is_padded = self.processor.pad.is_some();
            all.extend(self.find_in(&Framed { pixels: &pixels, frame, mask: is_padded.then_some(&mask) })?);
            rest = later;
        }
        Ok(all)
    }

    /// The height and width of an image with its padding.
    fn frame(&self, image: [usize; 2]) -> [usize; 2] {
        self.processor.pad.unwrap_or_else(|| self.processor.unpadded(image))
    }

    /// What is found in prepared images, at most B.
    ///
    /// # Errors
    /// A frame that is too small or too large for the model; the device failed.
    pub fn find_in(&mut self, images: &Framed<'_>) -> Result<Vec<Predicted>, ImageModelError> {
        let Framed { frame, mask, .. } = *images;
        self.prepare(frame, mask.is_some())?;
        let Some(Program { program, inputs, outputs, .. }) = &self.program else { return Ok(Vec::new()) };
        let row = (frame[0] * frame[1] * CHANNELS).max(1);
        let count = images.pixels.len() / row;
        // Rows after the last image repeat nothing: they are black, and not read.
        let mut pixels = images.pixels.to_vec();
        pixels.resize(self.batch * row, 0.0);
        let mask = mask.map(|mask| {
            let mut all = mask.to_vec();
            all.resize(self.batch * row / CHANNELS, true);
            all
        });
        // The shapes are the program's own.
        let written = self.session.write(program, inputs.pixels, &pixels);
        let place = Frame { batch: self.batch, image: frame, mask: mask.as_deref() };
        let written = written.and_then(|()| write_places(&mut self.session, program, (&self.detr, inputs), &place));
        written.map_err(|error: WriteError| FolderError::Key {
            path: PROCESSOR_FILE.into(),
            key: "size".to_owned(),
            expected: "images for whose places the model has positions".to_owned(),
            found: format!("{} x {} pixels ({error})", frame[0], frame[1]),
        })?;
        self.session.run_all(program, On::set(self.set), Gradients::Overwrite);
        self.session.sync()?;
        let [logits, boxes] = [outputs.logits, outputs.boxes].map(|t| self.session.read(program, t));
        let (of_logits, of_boxes) = (logits.len() / self.batch, boxes.len() / self.batch);
        let rows = logits.chunks(of_logits.max(1)).zip(boxes.chunks(of_boxes.max(1))).take(count);
        let layers = self.layers();
        Ok(rows.map(|(logits, boxes)| Predicted { logits: logits.to_vec(), boxes: boxes.to_vec(), layers }).collect())
    }

    /// Builds the program for a frame, unless it is there already.
    fn prepare(&mut self, frame: [usize; 2], padded: bool) -> Result<(), ImageModelError> {
        if self.program.as_ref().is_some_and(|program| program.frame == frame && program.padded == padded) {
            return Ok(());
        }
        if self.detr.config().map(frame).is_none() {
            let expected = "images that the backbone can halve".to_owned();
            let found = format!("{} x {} pixels", frame[0], frame[1]);
            return Err(FolderError::Key { path: PROCESSOR_FILE.into(), key: "size".to_owned(), expected, found }.into());
        }
        self.program = None;
        let (program, (inputs, outputs)) = self.session.prepare(On::set(self.set), |g: &Graph<'_>| {
            let inputs = self.detr.inputs(g, self.batch, frame, padded);
            let outputs = self.detr.forward(g, &inputs, Dropout::NONE, self.every_layer);
            g.output(outputs.logits);
            g.output(outputs.boxes);
            (inputs, outputs)
        })?;
        self.program = Some(Program { frame, padded, program, inputs, outputs });
        Ok(())
    }
}

/// The processor of a folder, whose images fit into its frame.
fn processor_of(folder: &Path) -> Result<Processor, FolderError> {
    let processor = Processor::read(folder)?.unwrap_or_else(|| Processor::of_kind(Kind::Detr));
    let wrong = |key: &str, expected: &str, found: String| {
        let (path, key, expected) = (folder.join(PROCESSOR_FILE), key.to_owned(), expected.to_owned());
        FolderError::Key { path, key, expected, found }
    };
    if processor.kind != Kind::Detr {
        return Err(wrong("image_processor_type", "DetrImageProcessor", format!("{:?}", processor.kind)));
    }
    if let Some(pad @ [height, width]) = processor.pad {
        // The largest results of all images.
        let extremes = [[1, 100_000], [100_000, 1], [1000, 1000]].map(|image| processor.unpadded(image));
        if extremes.iter().any(|[h, w]| *h > height || *w > width) {
            return Err(wrong("pad_size", "at least the largest size of an image", format!("{pad:?}")));
        }
    }
    Ok(processor)
}

/// Puts an image into the left upper corner of a frame `width` pixels wide.
fn place(image: &Image, values: &Values, width: usize, pixels: &mut [f32], mask: &mut [bool]) {
    let [_, own] = image.size();
    let from = image.pixels().chunks_exact((own * CHANNELS).max(1));
    let to = pixels.chunks_mut((width * CHANNELS).max(1)).zip(mask.chunks_mut(width.max(1)));
    for (from, (pixels, mask)) in from.zip(to) {
        mask.iter_mut().take(own).for_each(|inside| *inside = true);
        for (at, (to, &byte)) in pixels.iter_mut().zip(from).enumerate() {
            *to = values.of(at % CHANNELS, byte);
        }
    }
}
