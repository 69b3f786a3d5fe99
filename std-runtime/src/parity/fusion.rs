//! A ViLT on a recorded batch of texts and images of any sizes: hidden states, logits of tokens or scores of pairs, their loss and its gradient.

use std::path::Path;
use std::sync::Arc;

use samara_core::detect::nearest_mask;
use samara_core::exec::{Gradients, WriteError};
use samara_core::graph::{Graph, Recompute, Tensor, Wrt};
use samara_core::model::image::{ImageDims, PixelOrder};
use samara_core::model::vilt::{Vilt, ViltConfig, ViltExtents, ViltInputs};
use samara_core::nn::Dropout;

use super::computed::{Computed, Output};
use super::error::ParityError;
use super::loaded::Loaded;
use super::recording::{Integers, Recording};
use crate::image_text::places::{Places, write_places};
use crate::image_text::vilt_folder::ViltFolder;
use crate::model_folder::{ExtraTensors, maps};
use crate::session::{BuildError, Engine, On, OwnedParams, OwnedProgram};
use crate::vision::folder::own_first;
use crate::vision::pixels;

/// Inputs that the model takes, with the names of `transformers`. The label of a model that scores pairs is the pair, among all of the batch, that belongs
/// together.
const INPUTS: [&str; 6] = ["pixel_values", "pixel_mask", "input_ids", "attention_mask", "token_type_ids", "labels"];

/// Opens a recording of a ViLT.
///
/// # Errors
/// Files that cannot be read, other inputs.
pub(super) fn open(io: &Path) -> Result<Recording, ParityError> {
    Recording::open(io, "a ViLT", &INPUTS)
}

/// Opens a model folder and runs it on a recorded batch, forward and, if it has labels, backward.
///
/// # Errors
/// The folder; a model or program that cannot be built; inputs of other shapes; tokens beyond the model's.
pub(super) fn run(
    engine: Arc<Engine>,
    path: &Path,
    folder: &ViltFolder,
    extra: ExtraTensors,
    recording: &Recording,
) -> Result<(Loaded, Computed), ParityError> {
    let config = folder.model.to_core()?;
    let (registry, vilt) = OwnedParams::of(|s| Vilt::register(&config, folder.heads, s))?;
    let maps = own_first(path, maps::vilt::name_maps(&config, folder.heads))?;
    let mut loaded = Loaded::open(engine, path, &registry, &maps, extra)?;
    let computed = Batch::of(recording, &vilt)?.run(&mut loaded, &vilt, recording)?;
    Ok((loaded, computed))
}

/// One batch of B pairs.
struct Batch {
    of: ViltExtents,
    /// (B, N, channels·P·P)
    patches: Vec<f32>,
    /// Of every image.
    places: Vec<Places>,
    /// Token ids (B, T).
    tokens: Vec<i32>,
    /// First or second text (B, T).
    types: Vec<i32>,
    /// Whether a token is no padding (B, T).
    texts: Vec<bool>,
    labels: Option<Labels>,
}

/// What the loss is of.
enum Labels {
    /// The restored token of every position (B, T), negative for none.
    Tokens(Vec<i32>),
    /// 1 for the pair that belongs together, else 0 (B).
    Pair(Vec<f32>),
}

/// Where the program of a batch has its values.
struct Io {
    inputs: ViltInputs,
    /// Targets (B, T), or a distribution over pairs (1, B); upstream gradient of the losses; losses.
    loss: Option<[Tensor; 3]>,
    /// Hidden states by name, each (B, T+1+N, C).
    hidden: Vec<(String, Tensor)>,
    /// (B, C)
    pooled: Tensor,
    /// (B, T, V), or (B, 1)
    logits: Option<Tensor>,
}

impl Batch {
    fn of(recording: &Recording, vilt: &Vilt) -> Result<Self, ParityError> {
        let absent = || recording.found("in.input_ids", "token ids (batch, tokens)", "none");
        let Integers { shape, values: tokens } = recording.integers("in.input_ids", None)?.ok_or_else(absent)?;
        let &[batch, len] = shape.as_slice() else {
            return Err(recording.found("in.input_ids", "shape (batch, tokens)", format!("shape {shape:?}")));
        };
        let integers = |name: &str| -> Result<Option<Vec<i32>>, ParityError> {
            Ok(recording.integers(name, Some(&shape))?.map(|found| found.values))
        };
        let types = integers("in.token_type_ids")?.unwrap_or_else(|| vec![0; tokens.len()]);
        let mask = integers("in.attention_mask")?.unwrap_or_else(|| vec![1; tokens.len()]);
        let (config, images) = (vilt.config(), Images::of(recording, vilt.config(), batch)?);
        let most = images.places.iter().map(|places| places.seen.len()).max().unwrap_or(0);
        let square = [config.grid(); 2];
        let of = ViltExtents {
            batch,
            tokens: len,
            patches: most,
            resized: images.places.iter().any(|places| places.grid != square),
            padded: mask.contains(&0) || images.places.iter().any(|places| places.seen.len() < most),
        };
        let labels = if vilt.heads().masked_lm {
            integers("in.labels")?.map(Labels::Tokens)
        } else {
            let label = recording.integers("in.labels", Some(&[1]))?.and_then(|found| found.values.first().copied());
            label.map(|label| Labels::Pair((0..batch as i32).map(|pair| f32::from(u8::from(pair == label))).collect()))
        };
        let texts = mask.iter().map(|&live| live != 0).collect();
        Ok(Self { of, patches: images.patches(config, most), places: images.places, tokens, types, texts, labels })
    }

    fn run(&self, loaded: &mut Loaded, vilt: &Vilt, recording: &Recording) -> Result<Computed, ParityError> {
        let (program, io) = self.program(loaded, vilt)?;
        let count = match &self.labels {
            Some(Labels::Tokens(targets)) => targets.iter().filter(|&&target| target >= 0).count().max(1),
            _ => 1,
        };
        self.write(loaded, &program, (&io, vilt), count)
            .map_err(|(name, error)| recording.found(name, "values that the model has", error))?;
        let (on, session) = (On::set(loaded.set), &mut loaded.session);
        session.clear_untouched(&program, on);
        session.run_all(&program, on, Gradients::Overwrite);
        let ViltExtents { batch, tokens, patches, .. } = self.of;
        let live = crate::image_text::places::segments(&self.of, &self.places, &self.texts);
        let live: Vec<bool> = live.iter().map(|&segment| segment >= 0).collect();
        let values = |t: Tensor, shape: Vec<usize>, live| Output { shape, values: session.read(&program, t).to_vec(), live };
        let width = vilt.config().hidden_size;
        let hidden = io.hidden.iter();
        let hidden =
            hidden.map(|(name, t)| (name.clone(), values(*t, vec![batch, tokens + 1 + patches, width], Some(live.clone()))));
        let pooled = [("pooler_output".to_owned(), values(io.pooled, vec![batch, width], None))];
        let logits = io.logits.map(|t| match vilt.heads().masked_lm {
            true => values(t, vec![batch, tokens, vilt.config().vocab_size], Some(self.texts.clone())),
            false => values(t, vec![batch, 1], None),
        });
        let logits = logits.map(|logits| ("logits".to_owned(), logits));
        let sum = |losses: Tensor| session.read(&program, losses).iter().map(|&x| f64::from(x)).sum::<f64>();
        Ok(Computed {
            outputs: hidden.chain(pooled).chain(logits).collect(),
            loss: io.loss.map(|[_, _, losses]| sum(losses) / count as f64),
            is_loss_comparable: true,
        })
    }

    fn program(&self, loaded: &mut Loaded, vilt: &Vilt) -> Result<(OwnedProgram, Io), BuildError> {
        loaded.session.prepare(On::set(loaded.set), |g: &Graph<'_>| {
            let inputs = vilt.inputs(g, &self.of);
            let states = vilt.forward(g, &inputs, Dropout::NONE);
            let checkpoints = std::iter::successors(g.next_checkpoint(None), |&t| g.next_checkpoint(Some(t)));
            let checkpoints = checkpoints.collect::<Vec<_>>().into_iter().enumerate();
            let named = checkpoints.map(|(n, t)| (format!("hidden_states.{n}"), t));
            let all = named.chain([("last_hidden_state".to_owned(), states.all)]);
            let hidden = all.map(|(name, t)| (name, g.output(t))).collect();
            let logits = match vilt.masked_lm() {
                Some(head) => Some(head.logits(g, states.text)), // (B, T, V)
                None => vilt.rank(g, states.pooled),             // (B, 1)
            };
            let logits = logits.map(|t| g.output(t));
            let loss = self.labels.as_ref().zip(logits).map(|(labels, logits)| {
                let (targets, losses) = self.losses(g, vilt, labels, (states.text, logits));
                let (losses, upstream) = (g.output(losses), g.input(&[1]));
                g.backward(&[(losses, upstream)], Wrt::Trainable, Recompute::None);
                [targets, upstream, losses]
            });
            Io { inputs, loss, hidden, pooled: g.output(states.pooled), logits }
        })
    }

    /// Targets and losses: of every token (B, T), or of the scores of all pairs (1).
    fn losses(&self, g: &Graph<'_>, vilt: &Vilt, labels: &Labels, (text, logits): (Tensor, Tensor)) -> (Tensor, Tensor) {
        let ViltExtents { batch, tokens, .. } = self.of;
        match (labels, vilt.masked_lm()) {
            (Labels::Tokens(_), Some(head)) => {
                let targets = g.ints(&[batch, tokens], i32::MIN, vilt.config().vocab_size as i32 - 1); // (B, T)
                (targets, head.losses(g, text, targets))
            }
            _ => {
                let targets = g.input(&[1, batch]); // (1, B)
                (targets, g.soft_loss(g.reshape(logits, &[1, batch]), targets, None))
            }
        }
    }

    /// Writes the inputs of a batch with `count` targets; the error has the name of the input.
    fn write(
        &self,
        loaded: &mut Loaded,
        program: &OwnedProgram,
        (io, vilt): (&Io, &Vilt),
        count: usize,
    ) -> Result<(), (&'static str, WriteError)> {
        let session = &mut loaded.session;
        let of = |name: &'static str| move |error: WriteError| (name, error);
        let positions: Vec<i32> = (0..self.of.batch).flat_map(|_| 0..self.of.tokens as i32).collect();
        let texts = &io.inputs.texts;
        session.write(program, io.inputs.patches, &self.patches).map_err(of("in.pixel_values"))?;
        session.write_ints(program, texts.tokens, &self.tokens).map_err(of("in.input_ids"))?;
        session.write_ints(program, texts.positions, &positions).map_err(of("in.input_ids"))?;
        session.write_ints(program, texts.types, &self.types).map_err(of("in.token_type_ids"))?;
        write_places(session, program, (&io.inputs, &self.of, vilt.config().grid()), &self.places, &self.texts)
            .map_err(of("in.pixel_mask"))?;
        let (Some([targets, upstream, _]), Some(labels)) = (io.loss, &self.labels) else { return Ok(()) };
        match labels {
            Labels::Tokens(values) => session.write_ints(program, targets, values),
            Labels::Pair(values) => session.write(program, targets, values),
        }
        .map_err(of("in.labels"))?;
        session.write(program, upstream, &[1.0 / count as f32]).map_err(of("in.labels"))
    }
}

/// Recorded images, and where their patches are.
struct Images {
    /// (B, channels, H, W)
    planes: Vec<f32>,
    /// H, W.
    size: [usize; 2],
    places: Vec<Places>,
}

impl Images {
    fn of(recording: &Recording, config: &ViltConfig, batch: usize) -> Result<Self, ParityError> {
        let (name, side) = ("in.pixel_values", config.patch_size);
        let shape = recording.shape(name).unwrap_or_default();
        let size = match shape.as_slice() {
            &[images, channels, h, w]
                if images == batch && channels == config.num_channels && h.is_multiple_of(side) && w.is_multiple_of(side) =>
            {
                [h, w]
            }
            _ => {
                let expected = format!("shape ({batch}, {}, height, width), multiples of {side}", config.num_channels);
                return Err(recording.found(name, expected, format!("shape {shape:?}")));
            }
        };
        let planes = recording.values(name, &shape)?;
        let mask = recording.integers("in.pixel_mask", Some(&[batch, size[0], size[1]]))?;
        let grid = size.map(|pixels| pixels / side);
        let places = match mask {
            None => vec![Places::all(grid); batch],
            Some(mask) => mask.values.chunks((size[0] * size[1]).max(1)).map(|mask| masked(mask, size, grid)).collect(),
        };
        Ok(Self { planes, size, places })
    }

    /// The patches that are seen, and zeros after them (B, N, channels·P·P).
    fn patches(&self, config: &ViltConfig, most: usize) -> Vec<f32> {
        let ([height, width], len) = (self.size, config.patch_len());
        let dims = ImageDims {
            image: self.size,
            channels: config.num_channels,
            order: PixelOrder::Patches(config.patch_size),
            width: config.hidden_size,
            classes: 0,
            blocks: config.num_hidden_layers,
        };
        let across = width / config.patch_size.max(1);
        let (mut all, mut patches) = (vec![0.0; height * width * config.num_channels], vec![0.0; self.places.len() * most * len]);
        let images = self.planes.chunks(all.len().max(1)).zip(&self.places);
        for ((planes, places), to) in images.zip(patches.chunks_mut((most * len).max(1))) {
            pixels::from_planes(&dims, planes, &mut all);
            for (&patch, to) in places.seen.iter().zip(to.chunks_mut(len.max(1))) {
                let columns = places.grid[1].max(1);
                let at = (patch / columns * across + patch % columns) * len;
                to.copy_from_slice(&all[at..at + len]);
            }
        }
        patches
    }
}

/// The rows and columns of patches that are in an image: its first column's and its first row's.
fn masked(pixels: &[i32], size: [usize; 2], grid: [usize; 2]) -> Places {
    let pixels: Vec<bool> = pixels.iter().map(|&x| x != 0).collect();
    let mut mask = vec![false; grid[0] * grid[1]];
    nearest_mask(&pixels, size, grid, &mut mask);
    let columns = grid[1].max(1);
    let rows = mask.iter().step_by(columns).filter(|inside| **inside).count();
    Places::all([rows, mask.iter().take(columns).filter(|inside| **inside).count()])
}
