//! The programs of a ViLT's training, and what they do with a batch of pairs.

use std::borrow::Cow;

use rayon::prelude::*;
use samara_core::exec::{Gradients, WriteError};
use samara_core::graph::{DROPOUT_CONTROL_LEN, Graph, Recompute, Tensor, Upstream, Wrt};
use samara_core::model::vilt::{Vilt, ViltExtents, ViltInputs, ViltStates};
use samara_core::nn::Dropout;
use samara_core::ops::dropout;

use crate::data::dataset::HostBatch;
use crate::encoder::masking::{Masking, NO_TARGET};
use crate::image_text::alignment::{Aligned, distances};
use crate::image_text::config::ViltTerms;
use crate::image_text::data::rows::{ENDS, EXTENTS, SAME, TOKENS};
use crate::image_text::pairing::{Draw, draws, others, seen};
use crate::image_text::places::{Places, write_places};
use crate::lm::RunError;
use crate::session::{BuildError, Device, On, OwnedProgram, Session, SetId};
use crate::stop::Stop;
use crate::vision::data::rows::PIXELS;

/// The sizes of batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extents {
    /// Tokens of a row for training, and for validation.
    pub text_len: [usize; 2],
    /// Patches of a stored image, rows and columns.
    pub frame: [usize; 2],
    /// The most patches of an image.
    pub patches: usize,
}

impl Extents {
    /// Whether positions are resized: images may have other grids than the table, or not all patches are seen.
    fn is_resized(&self, vilt: &Vilt, seen: usize) -> bool {
        let side = vilt.config().grid();
        self.frame != [side; 2] || seen < self.patches
    }
}

/// Sums of the terms over the rows that they are of, and how many those are.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Terms {
    /// Nats of restored tokens.
    mlm: [f64; 2],
    /// Nats of pairs.
    itm: [f64; 2],
    /// Right answers.
    hits: f64,
    /// Distances of pairs that belong together, less those of others.
    wpa: [f64; 2],
    /// Nats of images.
    rank: [f64; 2],
}

impl Terms {
    /// The sum and the weight of a scalar: the loss, and the terms in the order of their names.
    pub fn scalar(&self, scalar: usize, weights: &ViltTerms) -> [f64; 2] {
        let mean = |[sum, count]: [f64; 2]| if count > 0.0 { sum / count } else { 0.0 };
        let ViltTerms { mlm_weight, itm_weight, wpa_weight, rank_weight, .. } = *weights;
        match scalar {
            0 => {
                let terms = [(mlm_weight, self.mlm), (itm_weight, self.itm), (wpa_weight, self.wpa), (rank_weight, self.rank)];
                [terms.into_iter().map(|(weight, term)| weight * mean(term)).sum(), 1.0]
            }
            1 => self.mlm,
            2 => self.itm,
            3 => [self.hits, self.itm[1]],
            4 => self.wpa,
            _ => self.rank,
        }
    }
}

/// A step's pairs.
pub struct Step<'b> {
    batches: &'b [HostBatch],
    rows: usize,
    /// Pairs without padding.
    pairs: usize,
    /// The number of the first row among those of the run.
    first: u64,
    number: u64,
    same: Vec<[i32; 2]>,
}

impl<'b> Step<'b> {
    /// The pairs of micro-batches; `first` is the number of the first row in the run, `number` that of the step.
    pub fn new(batches: &'b [HostBatch], first: u64, number: u64) -> Self {
        let pairs = batches.iter().map(|batch| batch.tokens as usize).sum();
        // Padding comes last.
        let same = batches.iter().flat_map(|batch| batch.ints(SAME).as_chunks().0.iter().copied()).take(pairs).collect();
        Self { batches, rows: batches.first().map_or(1, HostBatch::rows).max(1), pairs, first, number, same }
    }

    /// The values of a pair under a name, `of` reads them.
    fn part<T>(&self, pair: usize, of: impl Fn(&'b HostBatch) -> &'b [T]) -> &'b [T] {
        let values = self.batches.get(pair / self.rows).map_or(&[][..], of);
        let len = values.len() / self.rows;
        values.get(pair % self.rows * len..).and_then(|rest| rest.get(..len)).unwrap_or_default()
    }

    fn tokens(&self, pair: usize) -> &'b [i32] {
        self.part(pair, |batch| batch.ints(TOKENS))
    }

    fn end(&self, pair: usize) -> usize {
        self.part(pair, |batch| batch.ints(ENDS)).first().map_or(0, |&end| end.max(0) as usize)
    }

    /// Height and width of an image in patches.
    fn grid(&self, pair: usize, patch: usize) -> [usize; 2] {
        let extents = self.part(pair, |batch| batch.ints(EXTENTS));
        [0, 1].map(|side| extents.get(side).map_or(0, |&pixels| pixels.max(0) as usize / patch.max(1)))
    }
}

/// A text with an image, as a row of a program.
struct Pair<'b> {
    tokens: Cow<'b, [i32]>,
    end: usize,
    /// The pair whose image it is.
    image: usize,
    places: Places,
}

/// A program over one batch of rows.
struct Pass {
    program: OwnedProgram,
    inputs: ViltInputs,
    of: ViltExtents,
    dropout: Option<Tensor>,
    loss: Option<Loss>,
}

/// Where a program has the sum of its losses.
#[derive(Clone, Copy)]
struct Loss {
    targets: Tensor,
    /// The upstream gradient of every loss (1), in training.
    upstream: Option<Tensor>,
    /// (1)
    sum: Tensor,
}

/// What a program of whole texts has beside the loss of its pairs.
#[derive(Clone, Copy)]
struct Matched {
    /// (B, 2)
    logits: Option<Tensor>,
    /// Normalised hidden states (B, T+1+N, C).
    states: Option<Tensor>,
    /// The gradient by them, in training.
    by_states: Option<Tensor>,
}

/// The programs of the terms that are asked for.
pub struct Built {
    masked: Option<Pass>,
    matched: Option<(Pass, Matched)>,
    ranked: Option<Pass>,
}

impl Built {
    /// All programs.
    pub fn programs(&self) -> impl Iterator<Item = &OwnedProgram> {
        let passes = [self.masked.as_ref(), self.matched.as_ref().map(|(pass, _)| pass), self.ranked.as_ref()];
        passes.into_iter().flatten().map(|pass| &pass.program)
    }
}

/// How programs are built: with gradients by a recomputation policy, or without; the share of activations that is dropped.
pub type Mode = (Option<Recompute>, f64);

/// What a head appends: targets and losses, further upstream gradients, and what else is asked for.
type Head<T> = (Option<[Tensor; 2]>, Option<[Tensor; 2]>, T);

/// The model and its terms.
pub struct Passes<'m> {
    /// The layers.
    pub vilt: &'m Vilt,
    /// Hides tokens.
    pub masking: Option<&'m Masking>,
    /// The terms.
    pub terms: &'m ViltTerms,
    /// The sizes of batches.
    pub extents: &'m Extents,
    /// Patches of an image that are seen.
    pub patches: usize,
    /// Of all draws.
    pub seed: u64,
    /// The share of activations that is dropped.
    pub dropout: f64,
}

impl Passes<'_> {
    /// Builds the programs of batches of `rows` texts of `len` tokens, with gradients by a recomputation policy, or without.
    ///
    /// # Errors
    /// A program cannot be built.
    pub fn build<D: Device>(
        &self,
        session: &mut Session<D>,
        set: SetId,
        [rows, len]: [usize; 2],
        gradients: Option<Recompute>,
    ) -> Result<Built, BuildError> {
        let ViltTerms { mlm_weight, itm_weight, wpa_weight, rank_weight, negatives, .. } = *self.terms;
        let trains = gradients.is_some();
        let mut build = |asked: bool, rows: usize, head: &dyn Fn(&Graph<'_>, &ViltStates) -> Head<Matched>| {
            asked.then(|| self.pass(session, set, [rows, len], gradients, head)).transpose()
        };
        let none = Matched { logits: None, states: None, by_states: None };
        let masked = build(mlm_weight > 0.0, rows, &|g, states| {
            let targets = g.ints(&[rows, len], i32::MIN, self.vilt.config().vocab_size as i32 - 1); // (B, T)
            let losses = self.vilt.masked_lm().map(|head| [targets, head.losses(g, states.text, targets)]); // (B, T)
            (losses, None, none)
        })?;
        let matched = build(itm_weight > 0.0 || wpa_weight > 0.0, rows, &|g, states| {
            let logits = self.vilt.matching(g, states.pooled).map(|t| g.output(t)); // (B, 2)
            let losses = logits.map(|logits| {
                let targets = g.input(&[rows, 2]);
                [targets, g.soft_loss(logits, targets, None)] // (B)
            });
            let aligned = (wpa_weight > 0.0).then(|| g.output(states.all)); // (B, T+1+N, C)
            let by_states = aligned.filter(|_| trains).map(|t| {
                let shape = g.shape(t);
                g.input(&[shape.dim(0), shape.dim(1), shape.cols()])
            });
            (losses, aligned.zip(by_states).map(|(t, by)| [t, by]), Matched { logits, states: aligned, by_states })
        })?;
        let candidates = 1 + negatives;
        let ranked = build(rank_weight > 0.0, candidates, &|g, states| {
            let losses = self.vilt.rank(g, states.pooled).map(|scores| {
                let targets = g.input(&[1, candidates]);
                [targets, g.soft_loss(g.reshape(scores, &[1, candidates]), targets, None)] // (1)
            });
            (losses, None, none)
        })?;
        Ok(Built { masked: masked.map(|(pass, _)| pass), matched, ranked: ranked.map(|(pass, _)| pass) })
    }

    fn pass<D: Device, T>(
        &self,
        session: &mut Session<D>,
        set: SetId,
        [batch, tokens]: [usize; 2],
        gradients: Option<Recompute>,
        head: &dyn Fn(&Graph<'_>, &ViltStates) -> Head<T>,
    ) -> Result<(Pass, T), BuildError> {
        let resized = self.extents.is_resized(self.vilt, self.patches);
        let of = ViltExtents { batch, tokens, patches: self.patches, resized, padded: true };
        let drops = gradients.is_some() && self.dropout > 0.0;
        let (program, (inputs, dropout, loss, more)) = session.prepare(On::set(set), |g: &Graph<'_>| {
            let dropout = drops.then(|| g.ints(&[DROPOUT_CONTROL_LEN], i32::MIN, i32::MAX));
            let inputs = self.vilt.inputs(g, &of);
            let states = self.vilt.forward(g, &inputs, Dropout { activations: dropout, ..Dropout::NONE });
            let (losses, given, more) = head(g, &states);
            let loss = losses.map(|[targets, losses]| {
                (Loss { targets, upstream: gradients.map(|_| g.input(&[1])), sum: g.output(g.sum(losses)) }, losses)
            });
            if let Some(recompute) = gradients {
                let own = loss.and_then(|(loss, losses)| Some((losses, Upstream::Before(loss.upstream?))));
                let given = given.map(|[t, upstream]| (t, Upstream::After(upstream)));
                let pairs: Vec<_> = own.into_iter().chain(given).collect();
                g.backward(&pairs, Wrt::Trainable, recompute);
            }
            (inputs, dropout, loss.map(|(loss, _)| loss), more)
        })?;
        Ok((Pass { program, inputs, of, dropout, loss }, more))
    }

    /// Runs a step, or an evaluation without gradients; returns its terms.
    ///
    /// # Errors
    /// A run fails, or a signal arrived between two micro-batches.
    pub fn run<D: Device>(
        &self,
        session: &mut Session<D>,
        set: SetId,
        built: &Built,
        step: &Step<'_>,
        stop: Option<&Stop>,
    ) -> Result<Terms, RunError> {
        let mut run =
            Run { passes: self, session, set, step, stop, kind: Gradients::Overwrite, runs: 0, terms: Terms::default() };
        if let (Some(first), Some(_)) = (built.programs().next(), stop) {
            run.session.clear_untouched(first, On::set(set));
        }
        if let Some(pass) = &built.masked {
            run.masked(pass)?;
        }
        if let Some((pass, matched)) = &built.matched {
            run.matched(pass, matched)?;
        }
        if let Some(pass) = &built.ranked {
            run.ranked(pass)?;
        }
        Ok(run.terms)
    }

    /// The patches of an image that are seen.
    fn places(&self, step: &Step<'_>, image: usize, row: usize, of: Draw) -> Places {
        let grid = step.grid(image, self.vilt.config().patch_size);
        seen(&mut draws(self.seed, step.first + row as u64, of), grid, self.patches)
    }
}

/// A step that runs.
struct Run<'r, 'm, D: Device> {
    passes: &'r Passes<'m>,
    session: &'r mut Session<D>,
    set: SetId,
    step: &'r Step<'r>,
    /// In training.
    stop: Option<&'r Stop>,
    /// Whether the next gradients are the step's first.
    kind: Gradients,
    /// Programs that have run.
    runs: usize,
    terms: Terms,
}

impl<D: Device> Run<'_, '_, D> {
    /// Masked texts beside their images.
    fn masked(&mut self, pass: &Pass) -> Result<(), RunError> {
        let (step, passes) = (self.step, self.passes);
        let Some(masking) = passes.masking else { return Ok(()) };
        let mut targets = vec![NO_TARGET; step.rows * step.batches.len() * pass.of.tokens];
        let mut pairs = Vec::new();
        for (pair, targets) in (0..step.pairs).zip(targets.chunks_mut(pass.of.tokens.max(1))) {
            let (mut tokens, end) = (step.tokens(pair).to_vec(), step.end(pair));
            // Padding cannot be chosen.
            let text = tokens.get_mut(..=end).unwrap_or_default();
            masking.mask(
                &mut Masking::draws(passes.seed, step.first + pair as u64),
                text,
                targets.get_mut(..=end).unwrap_or_default(),
            );
            let places = passes.places(step, pair, pair, Draw::MaskedPatches);
            pairs.push(Pair { tokens: tokens.into(), end, image: pair, places });
        }
        let count = targets.iter().filter(|&&target| target >= 0).count();
        let weight = passes.terms.mlm_weight / count.max(1) as f64;
        let of_batch = step.rows * pass.of.tokens;
        for (pairs, targets) in pairs.chunks(step.rows).zip(targets.chunks(of_batch.max(1))) {
            self.write(pass, pairs)?;
            if let Some(loss) = pass.loss {
                self.session.write_ints(&pass.program, loss.targets, targets).map_err(named("targets"))?;
            }
            self.forward(pass, weight)?;
            self.terms.mlm[0] += self.sum(pass)?;
            self.backward(pass);
        }
        self.terms.mlm[1] = count as f64;
        Ok(())
    }

    /// Whole texts beside their images or others.
    fn matched(&mut self, pass: &Pass, matched: &Matched) -> Result<(), RunError> {
        let (step, passes) = (self.step, self.passes);
        let mut fits = Vec::new();
        let mut pairs = Vec::new();
        for pair in 0..step.pairs {
            let mut rng = draws(passes.seed, step.first + pair as u64, Draw::Image);
            let is_replaced = rng.uniform_f64() < passes.terms.replaced;
            let other = is_replaced.then(|| others(&mut rng, pair, &step.same, 1).first().copied()).flatten();
            let image = other.unwrap_or(pair);
            fits.push(other.is_none());
            let places = passes.places(step, image, pair, Draw::Patches);
            pairs.push(Pair { tokens: step.tokens(pair).into(), end: step.end(pair), image, places });
        }
        let count = step.pairs.max(1) as f64;
        for (pairs, fits) in pairs.chunks(step.rows).zip(fits.chunks(step.rows)) {
            self.write(pass, pairs)?;
            if let Some(loss) = pass.loss {
                let mut targets = vec![0.0; 2 * step.rows];
                fits.iter()
                    .zip(targets.as_chunks_mut().0)
                    .for_each(|(&fits, to)| *to = if fits { [0.0, 1.0] } else { [1.0, 0.0] });
                self.session.write(&pass.program, loss.targets, &targets).map_err(named("targets"))?;
            }
            self.forward(pass, passes.terms.itm_weight / count)?;
            let [logits, states] = [matched.logits, matched.states].map(|t| t.map(|t| self.session.fetch(&pass.program, t)));
            if pass.loss.is_some() {
                self.terms.itm[0] += self.sum(pass)?;
            } else {
                self.session.sync()?;
            }
            if let Some(logits) = logits {
                let answers = self.session.fetched(&logits).as_chunks().0.iter().zip(fits);
                self.terms.hits += answers.filter(|&(&[no, yes], &fits)| (yes > no) == fits).count() as f64;
                self.terms.itm[1] += pairs.len() as f64;
            }
            if let Some(states) = states {
                let states = self.session.fetched(&states).to_vec();
                self.align(pass, matched, &states, pairs, fits)?;
            }
            self.backward(pass);
        }
        Ok(())
    }

    /// Aligns the words and patches of a batch, and gives the gradient by their states.
    fn align(
        &mut self,
        pass: &Pass,
        matched: &Matched,
        states: &[f32],
        pairs: &[Pair<'_>],
        fits: &[bool],
    ) -> Result<(), RunError> {
        let aligned: Vec<Aligned> = pairs.iter().map(|pair| Aligned { end: pair.end, patches: pair.places.seen.len() }).collect();
        let sign = |fits: bool| if fits { 1.0 } else { -1.0 };
        let share = (self.passes.terms.wpa_weight / self.step.pairs.max(1) as f64) as f32;
        let weights: Vec<f32> = fits.iter().map(|&fits| sign(fits) * share).collect();
        let mut by_states = vec![0.0; states.len()];
        let found = distances(states, &pass.of, &aligned, &weights, &mut by_states);
        let found = found.map_err(|error| RunError::Guard(error.to_string()))?;
        self.terms.wpa[0] += found.iter().zip(fits).map(|(&d, &fits)| f64::from(sign(fits) * d)).sum::<f64>();
        self.terms.wpa[1] += pairs.len() as f64;
        match matched.by_states {
            Some(to) => self.session.write(&pass.program, to, &by_states).map_err(named("gradient by states")),
            None => Ok(()),
        }
    }

    /// The texts of an image: its own, and others of the step.
    fn ranked(&mut self, pass: &Pass) -> Result<(), RunError> {
        let (step, passes) = (self.step, self.passes);
        let candidates = 1 + passes.terms.negatives;
        let mut texts = Vec::new();
        for pair in 0..step.pairs {
            let mut rng = draws(passes.seed, step.first + pair as u64, Draw::Texts);
            let others = others(&mut rng, pair, &step.same, passes.terms.negatives);
            if !others.is_empty() {
                // Fewer than are asked for are repeated.
                texts.push((pair, std::iter::once(pair).chain(others.into_iter().cycle()).take(candidates).collect::<Vec<_>>()));
            }
        }
        let weight = passes.terms.rank_weight / texts.len().max(1) as f64;
        for (image, texts) in &texts {
            let places = passes.places(step, *image, *image, Draw::Patches);
            let row = |&text: &usize| Pair {
                tokens: step.tokens(text).into(),
                end: step.end(text),
                image: *image,
                places: places.clone(),
            };
            self.write(pass, &texts.iter().map(row).collect::<Vec<_>>())?;
            if let Some(loss) = pass.loss {
                let targets: Vec<f32> = (0..candidates).map(|text| if text == 0 { 1.0 } else { 0.0 }).collect();
                self.session.write(&pass.program, loss.targets, &targets).map_err(named("targets"))?;
            }
            self.forward(pass, weight)?;
            self.terms.rank[0] += self.sum(pass)?;
            self.backward(pass);
        }
        self.terms.rank[1] = texts.len() as f64;
        Ok(())
    }

    /// Writes pairs into a program; rows without one are padding.
    fn write(&mut self, pass: &Pass, pairs: &[Pair<'_>]) -> Result<(), RunError> {
        let (of, config, session) = (&pass.of, self.passes.vilt.config(), &mut *self.session);
        let (mut tokens, mut live) = (vec![0; of.batch * of.tokens], vec![false; of.batch * of.tokens]);
        let rows = tokens.chunks_mut(of.tokens.max(1)).zip(live.chunks_mut(of.tokens.max(1)));
        for ((tokens, live), pair) in rows.zip(pairs) {
            tokens.iter_mut().zip(pair.tokens.iter()).for_each(|(to, &id)| *to = id);
            live.iter_mut().take(pair.end + 1).for_each(|live| *live = true);
        }
        let (len, across) = (config.patch_len().max(1), self.passes.extents.frame[1]);
        let mut patches = vec![0.0; of.batch * of.patches * len];
        patches.par_chunks_mut((of.patches * len).max(1)).zip(pairs).for_each(|(to, pair)| {
            let (image, columns) = (self.step.part(pair.image, |batch| batch.reals(PIXELS)), pair.places.grid[1].max(1));
            for (to, &patch) in to.chunks_mut(len).zip(&pair.places.seen) {
                let at = (patch / columns * across + patch % columns) * len;
                to.copy_from_slice(image.get(at..at + len).unwrap_or_default());
            }
        });
        let (program, texts) = (&pass.program, &pass.inputs.texts);
        let positions: Vec<i32> = (0..of.batch).flat_map(|_| 0..of.tokens as i32).collect();
        session.write(program, pass.inputs.patches, &patches).map_err(named(PIXELS))?;
        session.write_ints(program, texts.tokens, &tokens).map_err(named(TOKENS))?;
        session.write_ints(program, texts.positions, &positions).map_err(named("positions"))?;
        session.write_ints(program, texts.types, &vec![0; tokens.len()]).map_err(named("types"))?;
        if let Some(control) = pass.dropout {
            let values = dropout::control(self.passes.seed, self.step.number as u32, self.runs as u32, self.passes.dropout);
            session.write_ints(program, control, &values).map_err(named("dropout control"))?;
        }
        let places: Vec<Places> = pairs.iter().map(|pair| pair.places.clone()).collect();
        write_places(session, program, (&pass.inputs, of, config.grid()), &places, &live).map_err(named("places"))
    }

    /// Runs the forward pass, whose losses have this upstream gradient.
    fn forward(&mut self, pass: &Pass, weight: f64) -> Result<(), RunError> {
        if let Some(stop) = self.stop {
            stop.check()?;
        }
        if let Some(upstream) = pass.loss.and_then(|loss| loss.upstream) {
            self.session.write(&pass.program, upstream, &[weight as f32]).map_err(named("upstream gradient"))?;
        }
        self.session.run(&pass.program, On::set(self.set), pass.program.view().forward(), self.kind);
        Ok(())
    }

    /// The sum of the losses of the last forward pass.
    fn sum(&mut self, pass: &Pass) -> Result<f64, RunError> {
        let ticket = pass.loss.map(|loss| self.session.fetch(&pass.program, loss.sum));
        self.session.sync()?;
        Ok(ticket.and_then(|ticket| self.session.fetched(&ticket).first().copied()).map_or(0.0, f64::from))
    }

    /// Runs the backward pass in training; later gradients are added.
    fn backward(&mut self, pass: &Pass) {
        self.runs += 1;
        if self.stop.is_some() {
            self.session.run(&pass.program, On::set(self.set), pass.program.view().backward(), self.kind);
            self.kind = Gradients::Add;
        }
    }
}

fn named(what: &'static str) -> impl Fn(WriteError) -> RunError {
    move |error| RunError::Input { what, error }
}
