//! The graphs of contrastive training: vectors of a chunk, and the loss of all vectors of a step.

use std::sync::Arc;

use samara_core::graph::{Graph, Recompute, Tensor, Upstream, Wrt};
use samara_core::model::clip::{Clip, ClipTexts, normalised};
use samara_core::nn::Dropout;

use crate::device::Planner;
use crate::image_text::config::ContrastConfig;
use crate::session::{BuildError, OwnedParams, OwnedProgram};
use crate::train::config::TrainConfig;

/// The programs of a training on texts of `len` tokens, planned and not allocated: of a chunk with gradients, of its evaluation, and of the loss between chunks, if a
/// step has several.
///
/// # Errors
/// A program cannot be planned.
pub fn programs(
    planner: &impl Planner,
    (registry, clip): (&Arc<OwnedParams>, &Clip),
    config: &ContrastConfig,
    train: &TrainConfig,
    len: usize,
) -> Result<Vec<OwnedProgram>, BuildError> {
    let graphs = Graphs { clip, soft: config.multi_positive, recompute: train.recompute.without_budget() };
    let (rows, chunks) = (train.batch_size, train.grad_accumulation.max(1));
    let (training, ()) = OwnedProgram::new(planner, registry, |g| match chunks {
        1 => _ = graphs.whole(g, rows, len),
        _ => _ = graphs.chunk(g, rows, len),
    })?;
    let (evaluation, ()) = OwnedProgram::new(planner, registry, |g| _ = graphs.vectors(g, rows, len))?;
    let mut all = vec![training, evaluation];
    if chunks > 1 {
        all.push(OwnedProgram::new(planner, registry, |g| _ = graphs.between(g, rows * chunks))?.0);
    }
    Ok(all)
}

/// Where a program has the loss of a step.
pub(super) struct Loss {
    /// Rows of the pairs (B), or a target of every pair (B, B).
    pub(super) targets: Tensor,
    pub(super) upstream: Tensor,
    /// Mean over the batch (1), and the factor of cosines (1).
    pub(super) found: [Tensor; 2],
    pub(super) pairs: usize,
}

/// Where a graph has its vectors.
pub(super) struct Vectors {
    pub(super) pixels: Tensor,
    pub(super) texts: ClipTexts,
    pub(super) vectors: [Tensor; 2],
}

/// What the graphs of a training depend on beside their sizes.
#[derive(Clone, Copy)]
pub(super) struct Graphs<'m> {
    pub(super) clip: &'m Clip,
    /// Whether pairs may belong to several.
    pub(super) soft: bool,
    pub(super) recompute: Recompute,
}

impl Graphs<'_> {
    /// The vectors of a chunk, of length 1 (rows, E).
    pub(super) fn vectors(&self, g: &Graph<'_>, rows: usize, len: usize) -> Vectors {
        let clip = self.clip;
        let (pixels, texts) = (clip.pixels(g, rows), clip.texts(g, rows, len));
        let of_images = normalised(g, clip.image_vectors(g, pixels, Dropout::NONE)); // (rows, E)
        let of_texts = normalised(g, clip.text_vectors(g, &texts, Dropout::NONE)); // (rows, E)
        Vectors { pixels, texts, vectors: [of_images, of_texts].map(|t| g.output(t)) }
    }

    /// A step of one chunk: vectors, loss and gradients.
    pub(super) fn whole(&self, g: &Graph<'_>, rows: usize, len: usize) -> (Vectors, Loss) {
        let io = self.vectors(g, rows, len);
        let (loss, losses) = self.loss(g, io.vectors, rows);
        g.backward(&[(losses, loss.upstream)], Wrt::Trainable, self.recompute);
        (io, loss)
    }

    /// A chunk of a step: its vectors, and their upstream gradients (rows, E), which come from the host.
    pub(super) fn chunk(&self, g: &Graph<'_>, rows: usize, len: usize) -> (Vectors, [Tensor; 2]) {
        let (io, width) = (self.vectors(g, rows, len), self.clip.config().projection_dim);
        let upstream = io.vectors.map(|_| g.input(&[rows, width])); // (rows, E)
        let pairs = [0, 1].map(|n| (io.vectors[n], Upstream::After(upstream[n])));
        g.backward(&pairs, Wrt::Trainable, self.recompute);
        (io, upstream)
    }

    /// The loss over the vectors of a whole step (B, E), and its gradients by them.
    pub(super) fn between(&self, g: &Graph<'_>, pairs: usize) -> ([Tensor; 2], Loss, [Tensor; 2]) {
        let width = self.clip.config().projection_dim;
        let vectors = [0, 1].map(|_| g.input(&[pairs, width])); // (B, E)
        let (loss, losses) = self.loss(g, vectors, pairs);
        let scalars = self.clip.scalars().map(|id| id.map(|id| g.param(id)));
        let wrt: Vec<Tensor> = vectors.into_iter().chain(scalars.into_iter().flatten()).collect();
        g.backward(&[(losses, loss.upstream)], Wrt::Tensors(&wrt), Recompute::None);
        let gradients = vectors.map(|t| g.gradient(t).map_or(Tensor::NONE, |t| g.output(t))); // (B, E)
        (vectors, loss, gradients)
    }

    /// Appends the losses (B) of vectors (B, E) of length 1.
    fn loss(&self, g: &Graph<'_>, vectors: [Tensor; 2], pairs: usize) -> (Loss, Tensor) {
        let (clip, soft) = (self.clip, self.soft);
        let targets = if soft { g.input(&[pairs, pairs]) } else { clip.targets(g, pairs) };
        let losses = if soft { clip.soft_losses(g, vectors, targets) } else { clip.losses(g, vectors, targets) }; // (B)
        let found = [g.output(g.scale(g.sum(losses), 1.0 / pairs.max(1) as f64)), g.output(clip.factor(g))]; // (1)
        (Loss { targets, upstream: g.input(&[1]), found, pairs }, losses)
    }
}
