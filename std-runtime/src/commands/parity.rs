//! `samara parity`: comparison of a model with values recorded from another implementation.

use std::path::PathBuf;

use serde::Serialize;

use super::args::{EngineArgs, ExtraArgs};
use super::{Command, Console, Error, output};
use crate::parity::{self, GradientDifference, Report};

const EXAMPLES: &str = "\
FILE holds one batch: inputs named as transformers names them (in.input_ids,
in.attention_mask, in.position_ids, in.labels) and what was computed from them
(out.logits, out.hidden_states.N; N = 0 the embeddings, the last after the final
norm). A meta.json beside it may have the loss. Rows of padding are left out.
An image classifier has in.pixel_values and in.labels. Gradients that are 0 but
for rounding, on both sides below 1e-6 of all together, count as equal.

Examples:
  samara parity --model DIR --io io.safetensors
  samara parity --model DIR --io io.safetensors --grads grads.safetensors --json";

/// Compare outputs, loss and gradients with recorded ones; exit 1 beyond the tolerance.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The model folder, of any family.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Recorded inputs and outputs.
    #[arg(long, value_name = "FILE")]
    io: PathBuf,
    /// Recorded gradients of the loss, by the tensor names of the folder or of this program.
    #[arg(long, value_name = "FILE")]
    grads: Option<PathBuf>,
    /// Largest absolute difference of outputs and loss, and largest relative difference of gradients.
    #[arg(long, value_name = "F", default_value_t = 1e-4, allow_hyphen_values = true)]
    tolerance: f64,
    /// Print {"loss","outputs","gradients","not_compared"}.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    extra: ExtraArgs,
    #[command(flatten)]
    engine: EngineArgs,
}

/// A comparison.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Outcome {
    schema: u32,
    #[serde(flatten)]
    report: Report,
}

impl Command for Args {
    fn run(&self, _: &Console) -> Result<(), Error> {
        if self.tolerance.is_nan() || self.tolerance < 0.0 {
            return Err(Error::usage(format!("--tolerance {}: expected a number from 0 on", self.tolerance)));
        }
        let report = parity::run(self.engine.engine()?, &self.model, self.extra.tensors(), &self.io, self.grads.as_deref())?;
        let outcome = Outcome { schema: 1, report };
        output::show(self.json, &outcome, || outcome.text())?;
        let report = &outcome.report;
        if report.outputs.is_empty() && report.gradients.is_empty() && report.recorded_loss.is_none() {
            let io = self.io.display();
            return Err(Error::data(format!("{io}: expected out.NAME, gradients or a loss to compare with, found none")));
        }
        match report.beyond(self.tolerance).as_slice() {
            [] => Ok(()),
            [first, others @ ..] => Err(Error::failed(format!(
                "{first} differs by more than {:e} ({} others); check the model, or allow more with --tolerance",
                self.tolerance,
                others.len()
            ))),
        }
    }
}

impl Outcome {
    fn text(&self) -> String {
        let report = &self.report;
        let mut rows = vec![["", "max abs", "relative"].map(str::to_owned).to_vec()];
        if let Some((ours, theirs)) = report.loss.zip(report.recorded_loss) {
            rows.push(vec!["loss".to_owned(), format!("{:.3e}", (ours - theirs).abs()), String::new()]);
        }
        rows.extend(report.outputs.iter().map(|(name, d)| vec![name.clone(), format!("{:.3e}", d.max_abs), String::new()]));
        let gradients = report.gradients.iter();
        let relative =
            |d: &GradientDifference| if d.negligible { "negligible".to_owned() } else { format!("{:.3e}", d.relative) };
        rows.extend(gradients.map(|(name, d)| vec![name.clone(), format!("{:.3e}", d.max_abs), relative(d)]));
        let loss = report.loss.map_or_else(String::new, |loss| format!("loss {loss:.6}\n"));
        let left = report.not_compared.iter().map(|name| format!("not compared: {name}\n"));
        let left = left.chain(report.ignored.iter().map(|name| format!("ignored: {name}\n")));
        format!("{}{loss}{}", output::table(&rows), left.collect::<String>())
    }
}
