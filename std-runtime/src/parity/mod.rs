//! Comparison of a model with values recorded from another implementation: largest differences of outputs, loss and gradients.

mod computed;
mod detections;
mod dual;
mod encoder;
mod error;
mod fusion;
mod images;
mod loaded;
mod recording;
mod text;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use computed::Computed;
pub use error::ParityError;
use loaded::Loaded;
use recording::Recording;

use crate::encoder::folder::EncoderFolder;
use crate::image_text::folder::DualFolder;
use crate::image_text::vilt_folder::ViltFolder;
use crate::model::folder::FolderConfig;
use crate::model_folder::ExtraTensors;
use crate::model_folder::safetensors::Weights;
use crate::session::Engine;
use crate::vision::detector::DetectorFolder;
use crate::vision::folder::ImageFolder;

/// A largest difference.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// max |ours − theirs|.
    pub max_abs: f64,
}

/// A difference of two gradients.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct GradientDifference {
    /// max |ours − theirs|.
    pub max_abs: f64,
    /// ‖ours − theirs‖ / max(‖theirs‖, 10⁻⁶ ‖all of theirs‖).
    pub relative: f64,
    /// Whether both are below 10⁻⁶ ‖all of theirs‖: 0 but for rounding, whose difference says nothing.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub negligible: bool,
}

/// The result of a comparison.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// This implementation's loss: the mean over targets, in nats; `None` without labels.
    pub loss: Option<f64>,
    /// The recorded one.
    pub recorded_loss: Option<f64>,
    /// By the name of the output.
    pub outputs: BTreeMap<String, Difference>,
    /// By the name that the file of gradients has.
    pub gradients: BTreeMap<String, GradientDifference>,
    /// Recorded values without a counterpart.
    pub not_compared: Vec<String>,
    /// Tensors of the folder that were left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ignored: Vec<String>,
}

impl Report {
    /// Everything that differs by more than `tolerance`: outputs and the loss by absolute difference, gradients by relative difference unless they are
    /// negligible.
    pub fn beyond(&self, tolerance: f64) -> Vec<&str> {
        let is_beyond = |x: f64| x.is_nan() || x > tolerance;
        let loss = self.loss.zip(self.recorded_loss).filter(|(a, b)| is_beyond((a - b).abs())).map(|_| "loss");
        let outputs = self.outputs.iter().filter(|(_, d)| is_beyond(d.max_abs)).map(|(name, _)| name.as_str());
        let gradients =
            self.gradients.iter().filter(|(_, d)| is_beyond(d.relative) && !d.negligible).map(|(name, _)| name.as_str());
        loss.into_iter().chain(outputs).chain(gradients).collect()
    }
}

/// Runs the model of a folder on a recorded batch and compares the results. Padding rows are left out.
///
/// # Errors
/// Files that cannot be read, a batch that the model does not accept, and recordings of other shapes than the model's.
pub fn run(
    engine: Arc<Engine>,
    folder: &Path,
    extra: ExtraTensors,
    io: &Path,
    gradients: Option<&Path>,
) -> Result<Report, ParityError> {
    let (recording, (model, computed)) = if let Some(config) = ImageFolder::read(folder)? {
        let recording = images::open(io)?;
        let both = images::run(engine, folder, &config.model, extra, &recording)?;
        (recording, both)
    } else if let Some(config) = DetectorFolder::read(folder)? {
        let recording = detections::open(io)?;
        let both = detections::run(engine, folder, &config.model, extra, &recording)?;
        (recording, both)
    } else if let Some(config) = EncoderFolder::read(folder)? {
        let recording = encoder::open(io)?;
        let both = encoder::run(engine, folder, &config.model, extra, &recording)?;
        (recording, both)
    } else if let Some(config) = DualFolder::read(folder)? {
        let recording = dual::open(io)?;
        let both = dual::run(engine, folder, &config.model, extra, &recording)?;
        (recording, both)
    } else if let Some(config) = ViltFolder::read(folder)? {
        let recording = fusion::open(io)?;
        let both = fusion::run(engine, folder, &config, extra, &recording)?;
        (recording, both)
    } else {
        let recording = text::open(io)?;
        let both = text::run(engine, folder, &FolderConfig::read(folder)?.model, extra, &recording)?;
        (recording, both)
    };
    let mut report = Report {
        loss: computed.loss,
        recorded_loss: recording.loss,
        not_compared: recording.strangers().map(str::to_owned).collect(),
        ignored: model.ignored.clone(),
        ..Report::default()
    };
    compare_outputs(&recording, &computed, &mut report)?;
    let meaningful = computed.loss.is_some() && computed.is_loss_comparable;
    if !meaningful && report.recorded_loss.take().is_some() {
        report.not_compared.push("loss".to_owned());
    }
    if let Some(path) = gradients {
        let recorded = Weights::open(path)?;
        if computed.loss.is_none() {
            return Err(recording.found("in.labels", "labels, by whose loss the gradients are", "none"));
        }
        if meaningful {
            compare_gradients(&model, &recorded, &mut report)?;
        } else {
            report.not_compared.extend(recorded.names().map(str::to_owned));
        }
    }
    Ok(report)
}

fn compare_outputs(recording: &Recording, computed: &Computed, report: &mut Report) -> Result<(), ParityError> {
    for name in recording.outputs() {
        let Some(output) = computed.outputs.get(name) else {
            report.not_compared.push(name.to_owned());
            continue;
        };
        let columns = output.shape.last().copied().unwrap_or(1).max(1);
        let recorded = recording.values(&format!("out.{name}"), &output.shape)?;
        let is_live = |row: usize| output.live.as_ref().is_none_or(|live| live.get(row).copied().unwrap_or(false));
        let rows = output.values.chunks(columns).zip(recorded.chunks(columns)).enumerate();
        let max_abs = rows.filter(|(row, _)| is_live(*row)).map(|(_, (a, b))| max_abs(a, b)).fold(0.0, larger);
        report.outputs.insert(name.to_owned(), Difference { max_abs });
    }
    Ok(())
}

/// Gradients have the names and shapes of tensors on disk, or of parameters in memory.
fn compare_gradients(model: &Loaded, recorded: &Weights, report: &mut Report) -> Result<(), ParityError> {
    let mut pairs = Vec::new();
    for name in recorded.names() {
        let Some((shape, ours)) = own_gradient(model, name.strip_prefix("grad.").unwrap_or(name)) else {
            report.not_compared.push(name.to_owned());
            continue;
        };
        let mut theirs = vec![0.0; ours.len()];
        recorded.read(name, &shape, &mut theirs)?;
        pairs.push((name, ours, theirs));
    }
    if pairs.is_empty() {
        let expected = "gradients under the names of the model's parameters".to_owned();
        let found = recorded.names().take(3).collect::<Vec<_>>().join(", ");
        return Err(ParityError::Found { path: recorded.path().to_path_buf(), name: "the file".to_owned(), expected, found });
    }
    let all = pairs.iter().map(|(_, _, theirs)| squares(theirs)).sum::<f64>().sqrt();
    for (name, ours, theirs) in pairs {
        let difference: f64 = ours.iter().zip(&theirs).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum();
        let (floor, norms) = (1e-6 * all, [&ours, &theirs].map(|g| squares(g).sqrt()));
        let relative = difference.sqrt() / norms[1].max(floor).max(f64::MIN_POSITIVE);
        let negligible = norms.iter().all(|&norm| norm < floor);
        report.gradients.insert(name.to_owned(), GradientDifference { max_abs: max_abs(&ours, &theirs), relative, negligible });
    }
    Ok(())
}

/// Shape and values of our gradient under a name on disk, or in memory.
fn own_gradient(model: &Loaded, name: &str) -> Option<(Vec<usize>, Vec<f32>)> {
    for layout in &model.layouts {
        if let Some(tensor) = layout.tensors().iter().position(|tensor| tensor.name == name && !tensor.is_zero()) {
            let shape = layout.tensors().get(tensor)?.shape.clone();
            let mut values = vec![0.0; shape.iter().product()];
            layout.write_rows(tensor, 0, &mut values, |parameter| model.gradient(parameter));
            return Some((shape, values));
        }
    }
    let parameter = model.layouts.first()?.parameters().iter().position(|parameter| parameter.name == name)?;
    Some((model.shape(parameter), model.gradient(parameter).to_vec()))
}

fn squares(values: &[f32]) -> f64 {
    values.iter().map(|&x| f64::from(x).powi(2)).sum()
}

fn max_abs(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| (f64::from(a) - f64::from(b)).abs()).fold(0.0, larger)
}

/// The larger of two; NaN if one is.
fn larger(a: f64, b: f64) -> f64 {
    if a.is_nan() || a > b { a } else { b }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_that_is_no_number_is_beyond_every_tolerance() {
        assert!(max_abs(&[1.0, f32::NAN, 3.0], &[1.0, 2.0, 3.5]).is_nan());
        assert_eq!(max_abs(&[1.0, 3.0], &[1.25, 2.5]), 0.5);
        let mut report = Report { loss: Some(1.0), recorded_loss: Some(1.5), ..Report::default() };
        report.outputs.insert("logits".to_owned(), Difference { max_abs: f64::NAN });
        report.gradients.insert("w".to_owned(), GradientDifference { max_abs: 100.0, relative: 0.2, negligible: false });
        assert_eq!(report.beyond(0.1), ["loss", "logits", "w"]);
        assert_eq!(report.beyond(0.5), ["logits"]);
        report.gradients.insert("v".to_owned(), GradientDifference { max_abs: 1e-8, relative: 0.9, negligible: true });
        assert_eq!(report.beyond(0.5), ["logits"]);
    }
}
