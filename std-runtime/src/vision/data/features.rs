//! Features of images as rows of batches: what a frozen backbone makes of stored images, computed once.

use std::sync::Arc;

use samara_core::exec::Gradients;
use samara_core::graph::Graph;
use samara_core::model::image::ImageModel;
use samara_core::nn::Dropout;

use super::rows::{ImageRows, LABELS, PIXELS};
use crate::data::DataError;
use crate::data::dataset::{Dataset, HostBatch, IGNORE};
use crate::lm::RunError;
use crate::session::{Device, On, Session, SetId};
use crate::stop::Stop;

/// The input of a head: features (B, C).
pub const FEATURES: &str = "features";

/// Rows of features with their classes.
pub struct FeatureRows {
    width: usize,
    features: Vec<f32>, // (rows, C)
    labels: Vec<i32>,   // (rows)
}

impl FeatureRows {
    /// The features that a model's backbone, with the weights of a set, has for rows of images that are not augmented.
    ///
    /// # Errors
    /// Images that cannot be read; the device; a signal.
    pub fn of<D: Device>(
        rows: &ImageRows,
        model: &Arc<dyn ImageModel>,
        session: &mut Session<D>,
        set: SetId,
        (batch, stop): (usize, &Stop),
    ) -> Result<Self, RunError> {
        let (dims, mut host) = (model.dims(), rows.batch(batch));
        let (program, (pixels, features)) = session.prepare(On::set(set), |g: &Graph<'_>| {
            let pixels = dims.pixels(g, batch);
            (pixels, g.output(model.backbone(g, pixels, Dropout::NONE))) // (B, C)
        })?;
        let mut all = Self { width: dims.width, features: Vec::new(), labels: Vec::new() };
        for first in (0..rows.len()).step_by(batch.max(1)) {
            stop.check()?;
            let numbers: Vec<u64> = (first..rows.len().min(first + batch as u64)).collect();
            rows.fill(&numbers, &mut host)?;
            let written = session.write(&program, pixels, host.reals(PIXELS));
            written.map_err(|error| RunError::Input { what: PIXELS, error })?;
            session.run_all(&program, On::set(set), Gradients::Overwrite);
            let ticket = session.fetch(&program, features);
            session.sync()?;
            all.features.extend(session.fetched(&ticket).iter().take(numbers.len() * dims.width));
            all.labels.extend(host.ints(LABELS).iter().take(numbers.len()));
        }
        Ok(all)
    }
}

impl Dataset for FeatureRows {
    fn len(&self) -> u64 {
        self.labels.len() as u64
    }

    fn batch(&self, rows: usize) -> HostBatch {
        HostBatch::new(rows).with_reals(FEATURES, self.width).with_ints(LABELS, 1)
    }

    fn fill(&self, rows: &[u64], into: &mut HostBatch) -> Result<(), DataError> {
        into.tokens = rows.len() as u64;
        let ([labels], [features]) = into.all_mut([LABELS], [FEATURES]);
        labels.fill(IGNORE);
        features.fill(0.0);
        let (count, width) = (self.labels.len().max(1) as u64, self.width.max(1));
        for ((&row, to), label) in rows.iter().zip(features.chunks_exact_mut(width)).zip(labels) {
            let image = (row % count) as usize;
            *label = self.labels.get(image).copied().unwrap_or(IGNORE);
            to.copy_from_slice(self.features.get(image * width..(image + 1) * width).unwrap_or_default());
        }
        Ok(())
    }
}
