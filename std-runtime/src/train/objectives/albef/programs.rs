//! The programs of ALBEF's training: the losses of a batch, what the momentum encoders make of it, and the evaluation.

use samara_core::graph::{BinaryKind, Graph, Over, Recompute, Tensor, Wrt};
use samara_core::model::albef::Albef;
use samara_core::model::bert::BertInputs;
use samara_core::nn::Dropout;

use super::terms::Terms;
use crate::session::{BuildError, Device, On, OwnedProgram, Session};

/// The sizes of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    /// Pairs, B.
    pub(super) rows: usize,
    /// Tokens of a row, T.
    pub(super) len: usize,
    /// Room for masked tokens, K.
    pub(super) masked: usize,
}

/// The inputs of a program over a batch of pairs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Batch {
    /// (B, N, channels·P·P)
    pub(super) pixels: Tensor,
    /// Each (B, T).
    pub(super) texts: BertInputs,
}

/// Where a program has its masked tokens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Masked {
    /// Token ids, some of them hidden (B, T).
    pub(super) tokens: Tensor,
    /// Rows of (B·T) with hidden tokens (K).
    pub(super) places: Tensor,
}

/// The program of the losses and their gradients.
pub(super) struct Training {
    /// The program.
    pub(super) program: OwnedProgram,
    /// Its inputs.
    pub(super) batch: Batch,
    /// Contrast.
    pub(super) itc: Option<Itc>,
    /// Matching.
    pub(super) itm: Option<Itm>,
    /// Masked tokens.
    pub(super) mlm: Option<Mlm>,
    /// The share α of the momentum encoders' targets (1).
    pub(super) mix: Option<Tensor>,
    /// The first node that reads the drawn mismatches.
    pub(super) split: usize,
}

/// Where contrast is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Itc {
    /// Of length 1 (B, E): images, texts.
    pub(super) vectors: [Tensor; 2],
    /// Vectors of the momentum encoders (B, E): images, texts.
    pub(super) momentum: [Tensor; 2],
    /// Vectors of earlier batches (Q, E): images, texts.
    pub(super) queues: Option<[Tensor; 2]>,
    /// The column of every pair (B), or with several pairs of a row its hard targets times 1 − α (B, B+Q), of images and of texts.
    pub(super) targets: ItcTargets,
    /// Upstream gradient of every loss (1).
    pub(super) upstream: Tensor,
    /// Mean over the batch (1).
    pub(super) loss: Tensor,
}

/// The targets of contrast.
#[derive(Clone, Copy, Debug)]
pub(super) enum ItcTargets {
    /// The column of every pair (B).
    Columns(Tensor),
    /// Hard targets times 1 − α (B, B+Q): of images among texts, of texts among images.
    Shares([Tensor; 2]),
}

/// Where matching is: the pairs, then their texts with other images, then their images with other texts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Itm {
    /// The image and the text of every row (3B).
    pub(super) rows: [Tensor; 2],
    /// Segments of the texts (3B, T).
    pub(super) segments: Tensor,
    /// 1 for a match, else 0 (3B).
    pub(super) targets: Tensor,
    /// Upstream gradient of every loss (1).
    pub(super) upstream: Tensor,
    /// (3B)
    pub(super) losses: Tensor,
}

/// Where masked tokens are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mlm {
    /// What is hidden.
    pub(super) masked: Masked,
    /// Their ids, −1 for none (K).
    pub(super) targets: Tensor,
    /// What the momentum encoders expect (K, V).
    pub(super) expected: Option<Tensor>,
    /// Upstream gradient of every loss (K).
    pub(super) upstream: Tensor,
    /// (K)
    pub(super) losses: Tensor,
}

/// The program of the momentum encoders.
pub(super) struct Momentum {
    /// The program.
    pub(super) program: OwnedProgram,
    /// Its inputs.
    pub(super) batch: Batch,
    /// Of length 1 (B, E): images, texts.
    pub(super) vectors: [Tensor; 2],
    /// Masked tokens, and their distribution (K, V).
    pub(super) masked: Option<(Masked, Tensor)>,
}

/// The program of an evaluation.
pub(super) struct Evaluation {
    /// The program.
    pub(super) program: OwnedProgram,
    /// Its inputs.
    pub(super) batch: Batch,
    /// Of length 1 (B, E): images, texts.
    pub(super) vectors: [Tensor; 2],
    /// Matching, of the pairs and of their texts with other images.
    pub(super) itm: Option<Itm>,
}

/// Builds the program of the losses.
///
/// # Errors
/// It cannot be built.
pub(super) fn training<D: Device>(
    session: &mut Session<D>,
    on: On,
    (albef, terms): (&Albef, &Terms),
    sizes: Sizes,
    recompute: Recompute,
) -> Result<Training, BuildError> {
    let (program, (batch, itc, itm, mlm, mix)) = session.prepare(on, |g| {
        let batch = Batch::new(g, albef, sizes);
        let images = albef.image_tokens(g, batch.pixels, Dropout::NONE); // (B, 1+N, Cv)
        let texts = albef.text_tokens(g, &batch.texts, Dropout::NONE); // (B, T, C)
        let mix = terms.distils().then(|| g.input(&[1]));
        let mut losses: Vec<(Tensor, Tensor)> = Vec::new();
        let itc = terms.contrasts().then(|| itc(g, (albef, terms), [images, texts], mix, &mut losses));
        let itm = terms.matches().then(|| itm(g, albef, (&batch, [images, texts]), 3, &mut losses));
        let mlm = terms.masks().then(|| mlm(g, albef, (&batch, images), (sizes.masked, mix), &mut losses));
        g.backward(&losses, Wrt::Trainable, recompute);
        (batch, itc, itm, mlm, mix)
    })?;
    let drawn = itm.map(|itm| itm.rows);
    let reads = |inputs: &[Tensor]| drawn.is_some_and(|drawn| drawn.iter().any(|t| inputs.contains(t)));
    let view = program.view();
    let split = view.nodes().iter().position(|node| reads(&node.inputs)).unwrap_or(view.forward().end);
    Ok(Training { program, batch, itc, itm, mlm, mix, split })
}

/// Builds the program of the momentum encoders.
///
/// # Errors
/// It cannot be built.
pub(super) fn momentum<D: Device>(
    session: &mut Session<D>,
    on: On,
    (albef, terms): (&Albef, &Terms),
    sizes: Sizes,
) -> Result<Momentum, BuildError> {
    let (program, (batch, vectors, masked)) = session.prepare(on, |g| {
        let (batch, vectors, [images, _]) = vectors(g, albef, sizes);
        let masked = (terms.distils() && terms.masks()).then(|| {
            let (masked, hidden) = hidden(g, albef, (&batch, images), sizes.masked); // (K, C)
            (masked, g.output(g.softmax(albef.mlm().logits(g, hidden)))) // (K, V)
        });
        (batch, vectors, masked)
    })?;
    Ok(Momentum { program, batch, vectors, masked })
}

/// Builds the program of an evaluation.
///
/// # Errors
/// It cannot be built.
pub(super) fn evaluation<D: Device>(
    session: &mut Session<D>,
    on: On,
    (albef, terms): (&Albef, &Terms),
    sizes: Sizes,
) -> Result<Evaluation, BuildError> {
    let (program, (batch, vectors, itm)) = session.prepare(on, |g| {
        let (batch, vectors, tokens) = vectors(g, albef, sizes);
        let itm = terms.matches().then(|| itm(g, albef, (&batch, tokens), 2, &mut Vec::new()));
        (batch, vectors, itm)
    })?;
    Ok(Evaluation { program, batch, vectors, itm })
}

impl Batch {
    fn new(g: &Graph<'_>, albef: &Albef, sizes: Sizes) -> Self {
        let texts = BertInputs::new(g, &albef.config().text, sizes.rows, sizes.len, true);
        Self { pixels: albef.pixels(g, sizes.rows), texts }
    }
}

/// The vectors of a batch (B, E), and the tokens of its images (B, 1+N, Cv) and texts (B, T, C).
fn vectors(g: &Graph<'_>, albef: &Albef, sizes: Sizes) -> (Batch, [Tensor; 2], [Tensor; 2]) {
    let batch = Batch::new(g, albef, sizes);
    let images = albef.image_tokens(g, batch.pixels, Dropout::NONE); // (B, 1+N, Cv)
    let texts = albef.text_tokens(g, &batch.texts, Dropout::NONE); // (B, T, C)
    let vectors = [albef.image_vectors(g, images), albef.text_vectors(g, texts)].map(|t| g.output(t)); // (B, E)
    (batch, vectors, [images, texts])
}

/// Contrast with the momentum encoders' vectors, those of the batch first: ½ (images among texts + texts among images).
fn itc(
    g: &Graph<'_>,
    (albef, terms): (&Albef, &Terms),
    [images, texts]: [Tensor; 2],
    mix: Option<Tensor>,
    losses: &mut Vec<(Tensor, Tensor)>,
) -> Itc {
    let vectors = [albef.image_vectors(g, images), albef.text_vectors(g, texts)].map(|t| g.output(t)); // (B, E)
    let (rows, width, queue) = (g.shape(images).dim(0), albef.config().embed_dim, terms.queue);
    let all = rows + queue;
    let momentum = [0, 1].map(|_| g.input(&[rows, width])); // (B, E)
    let queues = (queue > 0).then(|| [0, 1].map(|_| g.state(&[queue, width]))); // (Q, E)
    let others = [0, 1].map(|n| match queues {
        None => momentum[n],
        Some(queues) => {
            let rank_3 = [(momentum[n], rows), (queues[n], queue)].map(|(t, rows)| g.reshape(t, &[1, rows, width]));
            g.reshape(g.token_concat(rank_3[0], rank_3[1]), &[all, width]) // (B+Q, E)
        }
    });
    let targets = match terms.multi_positive {
        true => ItcTargets::Shares([0, 1].map(|_| g.input(&[rows, all]))),
        false => ItcTargets::Columns(g.ints(&[rows], 0, i32::try_from(all).unwrap_or(i32::MAX).saturating_sub(1))),
    };
    let loss = |n: usize| {
        let logits = albef.similarities(g, vectors[n], others[1 - n]); // (B, B+Q)
        let expected = mix.map(|mix| (g.softmax(albef.similarities(g, momentum[n], others[1 - n])), mix)); // (B, B+Q)
        match (targets, expected) {
            (ItcTargets::Columns(columns), Some((expected, mix))) => g.soft_loss(logits, expected, Some([columns, mix])), // (B)
            (ItcTargets::Columns(columns), None) => {
                let temperature = g.param(albef.temp());
                let scaled = g.binary(BinaryKind::Div, Over::Scalar, vectors[n], temperature); // (B, E)
                g.head_loss(scaled, others[1 - n], None, columns, 0.0) // (B)
            }
            (ItcTargets::Shares(shares), None) => g.soft_loss(logits, shares[n], None), // (B)
            (ItcTargets::Shares(shares), Some((expected, mix))) => {
                let expected = g.binary(BinaryKind::Mul, Over::Scalar, expected, mix); // (B, B+Q)
                g.soft_loss(logits, g.add(expected, shares[n]), None) // (B)
            }
        }
    };
    let both = g.add(loss(0), loss(1)); // (B)
    let upstream = g.input(&[1]);
    losses.push((both, upstream));
    let loss = g.output(g.scale(g.sum(both), 0.5 / rows.max(1) as f64)); // (1)
    Itc { vectors, momentum, queues, targets, upstream, loss }
}

/// Matching of `parts`·B rows of images (B, 1+N, Cv) with texts (B, T, C).
fn itm(
    g: &Graph<'_>,
    albef: &Albef,
    (batch, [images, texts]): (&Batch, [Tensor; 2]),
    parts: usize,
    losses: &mut Vec<(Tensor, Tensor)>,
) -> Itm {
    let [rows, len] = [0, 1].map(|axis| g.shape(batch.texts.tokens).dim(axis));
    let count = parts * rows;
    let last = i32::try_from(rows).unwrap_or(i32::MAX).saturating_sub(1);
    let drawn = [0, 1].map(|_| g.ints(&[count], 0, last)); // (3B)
    let take = |t: Tensor, from: Tensor| {
        let [_, tokens, width] = [0, 1, 2].map(|axis| g.shape(t).dim(axis));
        g.reshape(g.embedding(from, g.reshape(t, &[rows, tokens * width]), None), &[count, tokens, width])
    };
    let segments = g.ints(&[count, len], -1, 0); // (3B, T)
    let (images, texts) = (take(images, drawn[0]), take(texts, drawn[1])); // (3B, 1+N, Cv), (3B, T, C)
    let fused = albef.fuse(g, texts, Some(segments), images, Dropout::NONE); // (3B, T, C)
    let targets = g.ints(&[count], -1, 1); // (3B)
    let of_rows = g.output(albef.match_losses(g, fused, targets)); // (3B)
    let upstream = g.input(&[1]);
    losses.push((of_rows, upstream));
    Itm { rows: drawn, segments, targets, upstream, losses: of_rows }
}

/// The fused hidden states of masked tokens (K, C).
fn hidden(g: &Graph<'_>, albef: &Albef, (batch, images): (&Batch, Tensor), room: usize) -> (Masked, Tensor) {
    let [rows, len] = [0, 1].map(|axis| g.shape(batch.texts.tokens).dim(axis));
    let below = |n: usize| i32::try_from(n).unwrap_or(i32::MAX).saturating_sub(1);
    let config = &albef.config().text;
    let masked = Masked {
        tokens: g.ints(&[rows, len], 0, below(config.vocab_size)), // (B, T)
        places: g.ints(&[room], 0, below(rows * len)),             // (K)
    };
    let texts = BertInputs { tokens: masked.tokens, ..batch.texts };
    let x = albef.text_tokens(g, &texts, Dropout::NONE); // (B, T, C)
    let x = albef.fuse(g, x, texts.segments, images, Dropout::NONE); // (B, T, C)
    (masked, g.embedding(masked.places, g.reshape(x, &[rows * len, config.hidden_size]), None)) // (K, C)
}

/// Masked tokens, restored with the help of images (B, 1+N, Cv).
fn mlm(
    g: &Graph<'_>,
    albef: &Albef,
    of: (&Batch, Tensor),
    (room, mix): (usize, Option<Tensor>),
    losses: &mut Vec<(Tensor, Tensor)>,
) -> Mlm {
    let (masked, hidden) = hidden(g, albef, of, room); // (K, C)
    let vocab = albef.config().text.vocab_size;
    let targets = g.ints(&[room], -1, i32::try_from(vocab).unwrap_or(i32::MAX).saturating_sub(1)); // (K)
    let expected = mix.map(|mix| (g.input(&[room, vocab]), mix)); // (K, V)
    let of_tokens = g.output(match expected {
        Some((expected, mix)) => albef.mlm().soft_losses(g, hidden, expected, [targets, mix]), // (K)
        None => albef.mlm().losses(g, hidden, targets),                                        // (K)
    });
    let upstream = g.input(&[room]); // (K)
    losses.push((of_tokens, upstream));
    Mlm { masked, targets, expected: expected.map(|(expected, _)| expected), upstream, losses: of_tokens }
}
