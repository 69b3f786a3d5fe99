//! A step of ALBEF: the momentum encoders run first, then the encoders up to the vectors by which the host draws mismatches, then the rest.

use samara_core::exec::{Gradients, WriteError};
use samara_core::math::rng::{Purpose, Rng};

use super::programs::{Batch, Evaluation, Itc, ItcTargets, Itm, Masked, Training};
use super::{AlignFuse, Built, SCALARS};
use crate::data::dataset::HostBatch;
use crate::encoder::masking::{Masking, NO_TARGET};
use crate::image_text::data::rows::{ENDS, SAME, TOKENS};
use crate::image_text::negatives;
use crate::image_text::pairing::are_same;
use crate::lm::RunError;
use crate::session::{Device, On, OwnedProgram, Session, Ticket};
use crate::vision::data::rows::PIXELS;

/// The stream of the draws of mismatches, beside those of rows.
const MISMATCHES: u64 = 1 << 41;

/// Masked tokens of a batch.
pub(super) struct Hidden {
    /// (B, T)
    pub(super) tokens: Vec<i32>,
    /// Rows of (B·T) (K).
    pub(super) places: Vec<i32>,
    /// (K)
    pub(super) targets: Vec<i32>,
    /// How many there are.
    pub(super) count: usize,
}

/// What a step draws.
pub(super) struct Draws<'d> {
    /// Masked tokens.
    pub(super) hidden: Option<Hidden>,
    /// Draws a row (B) that does not match for each query, from similarities (B, B): images of texts, then texts of images.
    pub(super) mismatches: &'d mut dyn FnMut(&[f32]) -> Vec<usize>,
}

/// The image and the text of every row of a matching, and which of them match.
struct Pairing {
    /// (3B)
    rows: [Vec<i32>; 2],
    /// (3B)
    targets: Vec<i32>,
}

impl AlignFuse {
    /// Computes the gradients of a step; returns the values of [`SCALARS`].
    pub(super) fn train_on<D: Device>(
        &mut self,
        session: &mut Session<D>,
        pairs: &HostBatch,
        step: u64,
    ) -> Result<[f64; SCALARS.len()], RunError> {
        let hidden = self.terms.masks().then(|| self.hide(pairs, step));
        let alpha = if self.terms.distils() { self.terms.alpha_at(step) } else { 0.0 };
        let mut rng = Rng::new(self.train.seed, Purpose::Sampling, MISMATCHES + step);
        let (multi_positive, rows, same) = (self.terms.multi_positive, pairs.rows(), pairs.ints(SAME));
        let belong = |a: usize, b: usize| multi_positive && are_same(&same[2 * a..2 * a + 2], &same[2 * b..2 * b + 2]);
        let mismatches = &mut |similarities: &[f32]| negatives::hard(&mut rng, similarities, rows, belong);
        self.train_with(session, pairs, alpha, Draws { hidden, mismatches })
    }

    /// The same with a share α of the momentum encoders' targets, and with what is drawn.
    pub(super) fn train_with<D: Device>(
        &mut self,
        session: &mut Session<D>,
        pairs: &HostBatch,
        alpha: f64,
        Draws { hidden, mismatches }: Draws<'_>,
    ) -> Result<[f64; SCALARS.len()], RunError> {
        let temperature = self.temperature(session)?;
        let momentum = self.run_momentum(session, pairs, hidden.as_ref())?;
        let Built { on, training, .. } = self.built();
        let program = &training.program;
        session.clear_untouched(program, *on);
        training.batch.write(session, program, pairs)?;
        self.write_losses(session, pairs, hidden.as_ref(), alpha)?;
        session.run(program, *on, 0..training.split, Gradients::Overwrite);
        if let Some(itm) = &training.itm {
            let similarities = self.similarities(session, pairs.rows(), momentum.as_ref(), temperature)?;
            let [images, texts] = similarities.map(|of| mismatches(&of));
            itm.write(session, program, pairs, &Pairing::new(pairs.rows(), &images, Some(&texts)))?;
        }
        session.run(program, *on, training.split..program.view().nodes().len(), Gradients::Overwrite);
        let [itc, itm, mlm, matched] = losses(session, training, hidden.as_ref())?;
        let loss = self.terms.weights.iter().zip([itc, itm, mlm]).map(|(weight, loss)| weight * loss).sum();
        self.pending = momentum.map(|vectors| (vectors, pairs.ints(SAME).to_vec()));
        Ok([loss, itc, itm, mlm, matched, f64::from(temperature), alpha])
    }

    /// Hides tokens of a batch. Beyond the room, the last are left as they were.
    fn hide(&self, pairs: &HostBatch, step: u64) -> Hidden {
        let (mut tokens, rows) = (pairs.ints(TOKENS).to_vec(), pairs.rows());
        let len = tokens.len() / rows.max(1);
        let room = self.room(tokens.len());
        let mut hidden = Hidden { tokens: Vec::new(), places: vec![0; room], targets: vec![NO_TARGET; room], count: 0 };
        for (row, end) in pairs.ints(ENDS).iter().enumerate() {
            let live = row * len..row * len + (*end as usize + 1).min(len);
            let Some(ids) = tokens.get_mut(live.clone()) else { continue };
            let (before, mut targets) = (ids.to_vec(), vec![NO_TARGET; ids.len()]);
            let mut rng = Masking::draws(self.train.seed, step * rows as u64 + row as u64);
            self.model.masking.mask(&mut rng, ids, &mut targets);
            for (i, &target) in targets.iter().enumerate().filter(|(_, target)| **target >= 0) {
                match (hidden.places.get_mut(hidden.count), hidden.targets.get_mut(hidden.count)) {
                    (Some(place), Some(to)) => (*place, *to) = ((live.start + i) as i32, target),
                    _ => {
                        ids[i] = before[i];
                        continue;
                    }
                }
                hidden.count += 1;
            }
        }
        hidden.tokens = tokens;
        hidden
    }

    /// Runs the momentum encoders, carries what they find into the program of the losses, and returns their vectors (B, E) of images and texts.
    fn run_momentum<D: Device>(
        &self,
        session: &mut Session<D>,
        pairs: &HostBatch,
        hidden: Option<&Hidden>,
    ) -> Result<Option<[Vec<f32>; 2]>, RunError> {
        let Built { momentum: Some((set, momentum)), training, .. } = self.built() else { return Ok(None) };
        let program = &momentum.program;
        momentum.batch.write(session, program, pairs)?;
        if let (Some((masked, _)), Some(hidden)) = (&momentum.masked, hidden) {
            masked.write(session, program, hidden)?;
        }
        session.run_all(program, On::set(*set), Gradients::Overwrite);
        let tickets = momentum.vectors.map(|t| session.fetch(program, t));
        let of_vectors = training.itc.iter().flat_map(|itc| momentum.vectors.into_iter().zip(itc.momentum));
        let of_tokens = momentum.masked.iter().zip(training.mlm.and_then(|mlm| mlm.expected)).map(|((_, from), to)| (*from, to));
        let carried: Vec<_> = of_vectors.chain(of_tokens).collect();
        session.carry(program, &training.program, &carried);
        session.sync()?;
        Ok(Some(tickets.map(|ticket| session.fetched(&ticket).to_vec())))
    }

    /// Writes targets and upstream gradients but those of matching.
    fn write_losses<D: Device>(
        &self,
        session: &mut Session<D>,
        pairs: &HostBatch,
        hidden: Option<&Hidden>,
        alpha: f64,
    ) -> Result<(), RunError> {
        let (Built { training, queues, .. }, rows) = (self.built(), pairs.rows());
        let (program, [of_itc, of_itm, of_mlm]) = (&training.program, self.terms.weights);
        if let Some(mix) = training.mix {
            session.write(program, mix, &[alpha as f32]).map_err(named("mix"))?;
        }
        if let Some(itc) = &training.itc {
            let of_queue = queues.as_ref().map_or(&[][..], |queues| queues.same());
            itc.write_targets(session, program, (pairs.ints(SAME), of_queue), 1.0 - alpha)?;
            let upstream = of_itc / (2 * rows).max(1) as f64;
            session.write(program, itc.upstream, &[upstream as f32]).map_err(named("upstream gradient"))?;
        }
        if let Some(itm) = &training.itm {
            let upstream = of_itm / (3 * rows).max(1) as f64;
            session.write(program, itm.upstream, &[upstream as f32]).map_err(named("upstream gradient"))?;
        }
        if let (Some(mlm), Some(hidden)) = (&training.mlm, hidden) {
            mlm.masked.write(session, program, hidden)?;
            session.write_ints(program, mlm.targets, &hidden.targets).map_err(named("targets"))?;
            let share = (of_mlm / hidden.count.max(1) as f64) as f32;
            let upstream: Vec<f32> = hidden.targets.iter().map(|&target| if target >= 0 { share } else { 0.0 }).collect();
            session.write(program, mlm.upstream, &upstream).map_err(named("upstream gradient"))?;
        }
        Ok(())
    }

    /// The similarities (B, B) by which mismatches are drawn: of texts with images, and of images with texts. All are equal where similarity does not count.
    fn similarities<D: Device>(
        &self,
        session: &mut Session<D>,
        rows: usize,
        momentum: Option<&[Vec<f32>; 2]>,
        temperature: f32,
    ) -> Result<[Vec<f32>; 2], RunError> {
        let training = &self.built().training;
        let (true, Some(itc), Some(momentum)) = (self.terms.hard_negatives, &training.itc, momentum) else {
            return Ok([0, 1].map(|_| vec![0.0; rows * rows]));
        };
        let tickets = itc.vectors.map(|t| session.fetch(&training.program, t));
        session.sync()?;
        let [images, texts] = tickets.map(|ticket| session.fetched(&ticket));
        let width = self.model.albef.config().embed_dim;
        Ok([(texts, &momentum[0]), (images, &momentum[1])].map(|(a, b)| negatives::similarities(a, b, width, temperature)))
    }
}

impl Pairing {
    /// The pairs, then their texts with other `images`, then their images with other `texts`.
    fn new(rows: usize, images: &[usize], texts: Option<&[usize]>) -> Self {
        let own = || (0..rows).map(|row| row as i32);
        let other = |drawn: &[usize]| drawn.iter().map(|&row| row as i32).collect::<Vec<i32>>();
        let third = texts.is_some().then(own).into_iter().flatten();
        let of_images = own().chain(other(images)).chain(third).collect::<Vec<i32>>();
        let of_texts = own().chain(own()).chain(texts.map(other).into_iter().flatten()).collect::<Vec<i32>>();
        let targets = (0..of_images.len()).map(|row| i32::from(row < rows)).collect();
        Self { rows: [of_images, of_texts], targets }
    }
}

impl Batch {
    /// Writes pixels and texts.
    fn write<D: Device>(&self, session: &mut Session<D>, program: &OwnedProgram, pairs: &HostBatch) -> Result<(), RunError> {
        let (rows, tokens) = (pairs.rows(), pairs.ints(TOKENS));
        let len = tokens.len() / rows.max(1);
        let positions: Vec<i32> = (0..rows).flat_map(|_| 0..len as i32).collect();
        session.write(program, self.pixels, pairs.reals(PIXELS)).map_err(named(PIXELS))?;
        let segments = segments(pairs, (0..rows).map(|row| row as i32), len);
        let ints = [(self.texts.tokens, tokens), (self.texts.positions, &positions), (self.texts.types, &vec![0; tokens.len()])];
        for (to, values) in ints.into_iter().chain(self.texts.segments.map(|to| (to, segments.as_slice()))) {
            session.write_ints(program, to, values).map_err(named(TOKENS))?;
        }
        Ok(())
    }
}

impl Masked {
    fn write<D: Device>(&self, session: &mut Session<D>, program: &OwnedProgram, hidden: &Hidden) -> Result<(), RunError> {
        session.write_ints(program, self.tokens, &hidden.tokens).map_err(named("masked tokens"))?;
        session.write_ints(program, self.places, &hidden.places).map_err(named("masked places"))
    }
}

impl Itc {
    /// Writes targets: the column of every pair, or equal shares of all pairs that are the same, in the batch (B, 2) and in the queues (Q).
    fn write_targets<D: Device>(
        &self,
        session: &mut Session<D>,
        program: &OwnedProgram,
        (of_batch, of_queue): (&[i32], &[[i32; 2]]),
        weight: f64,
    ) -> Result<(), RunError> {
        let pairs: Vec<&[i32]> = of_batch.chunks_exact(2).collect();
        match self.targets {
            ItcTargets::Columns(to) => {
                let columns: Vec<i32> = (0..pairs.len() as i32).collect();
                session.write_ints(program, to, &columns).map_err(named("targets"))
            }
            ItcTargets::Shares(to) => {
                let all: Vec<&[i32]> = pairs.iter().copied().chain(of_queue.iter().map(|pair| &pair[..])).collect();
                let row = |(i, pair): (usize, &&[i32])| {
                    let belongs = |(j, other): (usize, &&[i32])| i == j || are_same(pair, other);
                    let count = all.iter().enumerate().filter(|(j, other)| belongs((*j, other))).count().max(1);
                    let share = (weight / count as f64) as f32;
                    all.iter().enumerate().map(|other| if belongs(other) { share } else { 0.0 }).collect::<Vec<f32>>()
                };
                let shares: Vec<f32> = pairs.iter().enumerate().flat_map(row).collect();
                to.into_iter().try_for_each(|to| session.write(program, to, &shares)).map_err(named("targets"))
            }
        }
    }
}

impl Itm {
    fn write<D: Device>(
        &self,
        session: &mut Session<D>,
        program: &OwnedProgram,
        pairs: &HostBatch,
        pairing: &Pairing,
    ) -> Result<(), RunError> {
        let len = pairs.ints(TOKENS).len() / pairs.rows().max(1);
        let segments = segments(pairs, pairing.rows[1].iter().copied(), len);
        let rows = self.rows.iter().zip(&pairing.rows).map(|(to, rows)| (*to, rows));
        for (to, values) in rows.chain([(self.segments, &segments), (self.targets, &pairing.targets)]) {
            session.write_ints(program, to, values).map_err(named("pairs to match"))?;
        }
        Ok(())
    }
}

/// Fetches the means of contrast, matching and masked tokens, and the share of matches and mismatches that are told right.
fn losses<D: Device>(session: &mut Session<D>, training: &Training, hidden: Option<&Hidden>) -> Result<[f64; 4], RunError> {
    let mut fetch = |t| session.fetch(&training.program, t);
    let itc = training.itc.map(|itc| fetch(itc.loss));
    let itm = training.itm.map(|itm| fetch(itm.losses));
    let mlm = training.mlm.map(|mlm| fetch(mlm.losses));
    session.sync()?;
    let values = |ticket: Option<Ticket>| ticket.map_or(&[][..], |ticket| session.fetched(&ticket));
    let sum = |values: &[f32]| values.iter().map(|&x| f64::from(x)).sum::<f64>();
    let (of_pairs, of_tokens) = (values(itm), values(mlm));
    let live = hidden.map_or(0, |hidden| hidden.count);
    let (right, all) = told(of_pairs);
    Ok([
        sum(values(itc)),
        sum(of_pairs) / of_pairs.len().max(1) as f64,
        sum(of_tokens.get(..live).unwrap_or_default()) / live.max(1) as f64,
        right / all.max(1.0),
    ])
}

/// How many losses of two classes are below that of a guess, and how many there are.
fn told(losses: &[f32]) -> (f64, f64) {
    let right = losses.iter().filter(|loss| **loss < std::f32::consts::LN_2).count();
    (right as f64, losses.len() as f64)
}

/// The vectors of an evaluated batch, and how many pairs are told right, of how many.
pub(super) type Found = ([Ticket; 2], Option<(f64, f64)>);

/// The vectors of a batch, and how many of its pairs and of their texts with the next image are told right, of how many.
pub(super) fn evaluate<D: Device>(
    session: &mut Session<D>,
    on: On,
    evaluation: &Evaluation,
    pairs: &HostBatch,
) -> Result<Found, RunError> {
    let (program, rows, live) = (&evaluation.program, pairs.rows(), pairs.tokens as usize);
    evaluation.batch.write(session, program, pairs)?;
    if let Some(itm) = &evaluation.itm {
        let next: Vec<usize> = (0..rows).map(|row| if row < live { (row + 1) % live } else { row }).collect();
        itm.write(session, program, pairs, &Pairing::new(rows, &next, None))?;
        session.write(program, itm.upstream, &[0.0]).map_err(named("upstream gradient"))?;
    }
    session.run_all(program, on, Gradients::Overwrite);
    let vectors = evaluation.vectors.map(|t| session.fetch(program, t));
    let losses = evaluation.itm.as_ref().map(|itm| session.fetch(program, itm.losses));
    session.sync()?;
    let matched = losses.filter(|_| live > 1).map(|ticket| {
        let losses = session.fetched(&ticket);
        let [own, other] = [0, rows].map(|first| told(losses.get(first..first + live).unwrap_or_default()));
        (own.0 + other.0, own.1 + other.1)
    });
    Ok((vectors, matched))
}

/// The segments (rows, T) of texts of a batch: 0 up to the last token, −1 after it.
fn segments(pairs: &HostBatch, rows: impl Iterator<Item = i32>, len: usize) -> Vec<i32> {
    let ends = pairs.ints(ENDS);
    let of = |row: i32| ends.get(row as usize).copied().unwrap_or(0);
    rows.flat_map(|row| (0..len as i32).map(move |place| if place <= of(row) { 0 } else { -1 })).collect()
}

fn named(what: &'static str) -> impl Fn(WriteError) -> RunError {
    move |error| RunError::Input { what, error }
}
