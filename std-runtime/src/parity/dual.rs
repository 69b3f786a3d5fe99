//! A CLIP or SigLIP on a recorded batch of pairs: vectors of images and texts, their logits, the contrastive loss and its gradient.

use std::path::Path;
use std::sync::Arc;

use samara_core::exec::{Gradients, WriteError};
use samara_core::graph::{Graph, Recompute, Tensor, Wrt};
use samara_core::model::clip::{Clip, ClipKind, ClipTexts, normalised};
use samara_core::nn::Dropout;

use super::computed::{Computed, Output};
use super::error::ParityError;
use super::loaded::Loaded;
use super::recording::{Integers, Recording};
use crate::image_text::clip::ClipModel;
use crate::model_folder::{ExtraTensors, maps};
use crate::session::{BuildError, Engine, On, OwnedParams, OwnedProgram};
use crate::vision::folder::own_first;
use crate::vision::pixels;

/// Inputs that the model takes, with the names of `transformers`. The mask is of padding after the ends of texts, which nothing reads.
const INPUTS: [&str; 3] = ["pixel_values", "input_ids", "attention_mask"];

/// Opens a recording of a model of images with texts.
///
/// # Errors
/// Files that cannot be read, other inputs.
pub(super) fn open(io: &Path) -> Result<Recording, ParityError> {
    Recording::open(io, "a model of images with texts", &INPUTS)
}

/// Opens a model folder and runs it on a recorded batch of pairs, forward and backward.
///
/// # Errors
/// The folder; a model or program that cannot be built; inputs of other shapes; tokens beyond the model's.
pub(super) fn run(
    engine: Arc<Engine>,
    folder: &Path,
    model: &ClipModel,
    extra: ExtraTensors,
    recording: &Recording,
) -> Result<(Loaded, Computed), ParityError> {
    let config = model.to_core()?;
    let (registry, clip) = OwnedParams::of(|s| Clip::register(&config, s))?;
    let maps = own_first(folder, maps::clip::name_maps(&config))?;
    let mut loaded = Loaded::open(engine, folder, &registry, &maps, extra)?;
    let computed = Batch::of(recording, model)?.run(&mut loaded, &clip, recording)?;
    Ok((loaded, computed))
}

/// One batch of B pairs.
struct Batch {
    /// B.
    batch: usize,
    /// Tokens of a text, T.
    len: usize,
    /// Patches (B, N, channels·P·P).
    pixels: Vec<f32>,
    /// Token ids (B, T).
    tokens: Vec<i32>,
    /// Where the vector of every text is taken (B), as a row of (B·T).
    ends: Vec<i32>,
}

/// Where the program of a batch has its values.
struct Io {
    pixels: Tensor,
    texts: ClipTexts,
    /// Rows of the pairs (B), or signs (B, B).
    targets: Tensor,
    upstream: Tensor,
    /// (B)
    losses: Tensor,
    /// Of length 1 (B, E).
    vectors: [Tensor; 2],
}

impl Batch {
    fn of(recording: &Recording, model: &ClipModel) -> Result<Self, ParityError> {
        let (name, side) = ("in.pixel_values", model.image_size);
        let shape = recording.shape(name).unwrap_or_default();
        let Some(&batch) = shape.first().filter(|_| shape.get(1..) == Some(&[model.num_channels, side, side])) else {
            let expected = format!("shape (batch, {}, {side}, {side})", model.num_channels);
            return Err(recording.found(name, expected, format!("shape {shape:?}")));
        };
        let dims = model.image_dims();
        let planes = recording.values(name, &shape)?;
        let mut ordered = vec![0.0; planes.len()];
        for (image, to) in planes.chunks(dims.image_len()).zip(ordered.chunks_mut(dims.image_len())) {
            pixels::from_planes(&dims, image, to);
        }
        let absent = || recording.found("in.input_ids", "token ids (batch, tokens)", "none");
        let Integers { shape, values: tokens } = recording.integers("in.input_ids", None)?.ok_or_else(absent)?;
        let &[rows, len] = shape.as_slice() else {
            return Err(recording.found("in.input_ids", "shape (batch, tokens)", format!("shape {shape:?}")));
        };
        if rows != batch {
            return Err(recording.found("in.input_ids", format!("{batch} texts, one for each image"), rows));
        }
        let ends = tokens.chunks(len.max(1)).zip(0_i32..).map(|(row, i)| i * len as i32 + model.end_of(row) as i32).collect();
        Ok(Self { batch, len, pixels: ordered, tokens, ends })
    }

    fn run(&self, loaded: &mut Loaded, clip: &Clip, recording: &Recording) -> Result<Computed, ParityError> {
        let (program, io) = self.program(loaded, clip)?;
        self.write(loaded, &program, &io, clip)
            .map_err(|(name, error)| recording.found(name, "values that the model has", error))?;
        let (on, session) = (On::set(loaded.set), &mut loaded.session);
        session.clear_untouched(&program, on);
        session.run_all(&program, on, Gradients::Overwrite);
        let [images, texts] = io.vectors.map(|t| session.read(&program, t).to_vec());
        let mean = session.read(&program, io.losses).iter().map(|&x| f64::from(x)).sum::<f64>() / self.batch.max(1) as f64;
        let width = clip.config().projection_dim;
        let outputs = [("image_embeds", images), ("text_embeds", texts)]
            .map(|(name, values)| (name.to_owned(), Output { shape: vec![self.batch, width], values, live: None }));
        Ok(Computed { outputs: outputs.into_iter().collect(), loss: Some(mean), is_loss_comparable: true })
    }

    fn program(&self, loaded: &mut Loaded, clip: &Clip) -> Result<(OwnedProgram, Io), BuildError> {
        loaded.session.prepare(On::set(loaded.set), |g: &Graph<'_>| {
            let (pixels, texts) = (clip.pixels(g, self.batch), clip.texts(g, self.batch, self.len));
            let of_images = normalised(g, clip.image_vectors(g, pixels, Dropout::NONE)); // (B, E)
            let of_texts = normalised(g, clip.text_vectors(g, &texts, Dropout::NONE)); // (B, E)
            let vectors = [of_images, of_texts].map(|t| g.output(t));
            let targets = clip.targets(g, self.batch);
            let (losses, upstream) = (g.output(clip.losses(g, vectors, targets)), g.input(&[1])); // (B), (1)
            g.backward(&[(losses, upstream)], Wrt::Trainable, Recompute::None);
            Io { pixels, texts, targets, upstream, losses, vectors }
        })
    }

    /// Writes the inputs of a batch; the error has the name of the input.
    fn write(&self, loaded: &mut Loaded, program: &OwnedProgram, io: &Io, clip: &Clip) -> Result<(), (&'static str, WriteError)> {
        let session = &mut loaded.session;
        let of = |name: &'static str| move |error: WriteError| (name, error);
        let rows = 0..self.batch as i32;
        let positions: Vec<i32> = rows.clone().flat_map(|_| 0..self.len as i32).collect();
        session.write(program, io.pixels, &self.pixels).map_err(of("in.pixel_values"))?;
        session.write_ints(program, io.texts.tokens, &self.tokens).map_err(of("in.input_ids"))?;
        session.write_ints(program, io.texts.positions, &positions).map_err(of("in.input_ids"))?;
        session.write_ints(program, io.texts.ends, &self.ends).map_err(of("in.input_ids"))?;
        match clip.config().kind {
            ClipKind::Clip => session.write_ints(program, io.targets, &rows.collect::<Vec<_>>()),
            ClipKind::SigLip => session.write(program, io.targets, &clip.signs(self.batch).collect::<Vec<_>>()),
        }
        .map_err(of("in.pixel_values"))?;
        session.write(program, io.upstream, &[1.0 / self.batch.max(1) as f32]).map_err(of("in.pixel_values"))
    }
}
