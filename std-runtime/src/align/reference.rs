//! Log-probs of the model that a policy begins as: computed in every step from weights of their own, or once and kept on disk.

use std::path::Path;

use bytemuck::cast_slice;

use super::rows_loss::{Forward, Part, RowsLoss};
use crate::lm::RunError;
use crate::lm::tokenwise::TokenBatch;
use crate::model_folder::safetensors::{Weights, WeightsError, WeightsWriter};
use crate::say;
use crate::session::Device;
use crate::stop::Stop;
use crate::train::error::TrainingError;

/// The file of a run folder that holds the sums of the reference's log-probs.
pub const REFERENCE_FILE: &str = "reference.safetensors";
/// The tensor in it: a number for each place.
const SUMS: &str = "sums";
/// Metadata: the rows, and the weights.
const ROWS: &str = "rows_crc32c";
const WEIGHTS: &str = "weights_crc32c";

/// Where sums of the reference's log-probs come from.
pub enum Reference {
    /// The loss reads none.
    Absent,
    /// Computed in every step.
    Computed,
    /// Computed once.
    Cached(CachedReference),
}

impl Reference {
    /// The sums of all rows of some batches, one batch after the other. The program and set are those of the reference where it has any.
    ///
    /// # Errors
    /// A device that failed, or a file that has changed.
    pub fn sums<D: Device>(
        &self,
        forward: &mut Forward<'_, D>,
        batches: &[(&TokenBatch, Vec<usize>)],
    ) -> Result<Vec<f32>, RunError> {
        let mut all = Vec::new();
        for (rows, places) in batches {
            match self {
                Self::Absent => {}
                Self::Computed => all.extend(forward.sums(rows)?),
                Self::Cached(cached) => all.extend(cached.at(places)?),
            }
        }
        Ok(all)
    }
}

/// Sums that are computed once, with the weights that the policy begins with.
pub struct CachedReference {
    values: Values,
    stop: Stop,
    quiet: bool,
}

enum Values {
    Memory(Vec<f32>),
    File(Weights, usize),
}

/// What sums are of.
#[derive(PartialEq, Eq)]
struct Content {
    places: usize,
    rows: String,
    weights: String,
}

impl CachedReference {
    /// None yet. `stop` gives computing them up; without `quiet` a person is told when they are computed again.
    pub fn new(stop: Stop, quiet: bool) -> Self {
        Self { values: Values::Memory(Vec::new()), stop, quiet }
    }

    /// Takes the sums of the rows of a loss from the file in a run folder, or computes them, and writes them there. Without a folder they stay in memory.
    ///
    /// # Errors
    /// A device that failed, a file that cannot be read or written, or a signal.
    pub fn fill<D: Device, L: RowsLoss>(
        &mut self,
        loss: &mut L,
        mut model: Forward<'_, D>,
        folder: Option<&Path>,
    ) -> Result<(), TrainingError> {
        let mut rows = 0;
        let mut places = 0;
        each_batch(loss, |batch, at| {
            rows = batch.checksum(rows);
            places += at.len();
            Ok(())
        })?;
        let content = Content { places, rows: format!("{rows:08x}"), weights: weights_checksum(&mut model)? };
        let path = folder.map(|folder| folder.join(REFERENCE_FILE));
        if let Some(path) = path.as_deref().filter(|path| path.is_file()) {
            if let Some(file) = Weights::open(path).ok().filter(|file| content.is_of(file)) {
                self.values = Values::File(file, places);
                return Ok(());
            }
            if !self.quiet {
                say::line(&format!("{}: of other rows or of another reference: computed again", path.display()));
            }
        }
        let mut sums = vec![0.0; places];
        each_batch(loss, |batch, at| {
            self.stop.check().map_err(RunError::from)?;
            for (&place, sum) in at.iter().zip(model.sums(batch)?) {
                sums[place] = sum;
            }
            Ok(())
        })?;
        self.values = match path {
            None => Values::Memory(sums),
            Some(path) => Values::File(content.write(&path, &sums)?, places),
        };
        Ok(())
    }

    fn at(&self, places: &[usize]) -> Result<Vec<f32>, RunError> {
        match &self.values {
            Values::Memory(sums) => Ok(places.iter().filter_map(|&place| sums.get(place).copied()).collect()),
            Values::File(file, count) => {
                let values = file.values(SUMS, &[*count]).map_err(|error| RunError::Guard(error.to_string()))?;
                let one = |&place: &usize| {
                    let mut sum = [0.0];
                    values.read(place, &mut sum);
                    sum[0]
                };
                Ok(places.iter().map(one).collect())
            }
        }
    }
}

/// All compared batches of a loss.
fn each_batch<L: RowsLoss>(
    loss: &mut L,
    mut of: impl FnMut(&TokenBatch, &[usize]) -> Result<(), TrainingError>,
) -> Result<(), TrainingError> {
    let (counts, rows) = (loss.counts(), loss.train().batch_size);
    for part in [Part::Train, Part::HeldOut] {
        let numbers: Vec<usize> = (0..part.of(counts)).collect();
        for numbers in numbers.chunks(rows) {
            loss.fill(part, numbers);
            loss.compared().iter().try_for_each(|(batch, places)| of(batch, places))?;
        }
    }
    Ok(())
}

/// CRC-32C of a set's trained and frozen weights.
fn weights_checksum<D: Device>(model: &mut Forward<'_, D>) -> Result<String, RunError> {
    let (set, device) = model.session.set_mut(model.set);
    let mut checksum = 0;
    device.lend(&set.weights, &mut |values: &[f32]| checksum = crc32c::crc32c_append(checksum, cast_slice(values)))?;
    device.lend(&set.frozen, &mut |values: &[u8]| checksum = crc32c::crc32c_append(checksum, values))?;
    Ok(format!("{checksum:08x}"))
}

impl Content {
    fn is_of(&self, file: &Weights) -> bool {
        let metadata = file.metadata();
        metadata.get(ROWS) == Some(&self.rows)
            && metadata.get(WEIGHTS) == Some(&self.weights)
            && file.shape(SUMS) == Some(&[self.places])
    }

    fn write(&self, path: &Path, sums: &[f32]) -> Result<Weights, WeightsError> {
        let metadata = [(ROWS, self.rows.clone()), (WEIGHTS, self.weights.clone())];
        let mut writer = WeightsWriter::create_with(path, vec![(SUMS.to_owned(), vec![self.places])], &metadata)?;
        writer.values(SUMS, sums)?;
        writer.finish()?;
        Weights::open(path)
    }
}
