//! `samara bench`.

use super::args::ConfigArgs;
use super::output;
use super::requests::{BenchKind, BenchRequest, Quantize};
use crate::bench;
use crate::error::Error;

const EXAMPLES: &str = "\
Beside each figure stands the floor: the least time in which this machine, as
measured first, could do the same operations or read the same bytes.

Examples:
  samara bench gemm
  samara bench step --preset nanogpt-char-cpu --json";

/// Measure matrix products, training steps or decoding on this machine.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// What to measure.
    #[arg(value_enum)]
    kind: BenchKind,
    #[command(flatten)]
    config: ConfigArgs,
    /// Measurements; their median is reported.
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    repeats: u32,
    /// Decode with weights in blocks of 8 or 4 bits.
    #[arg(long, value_enum, value_name = "TYPE")]
    quantize: Option<Quantize>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(&self) -> Result<(), Error> {
        let config = self.config.merge(None, None)?;
        let outcome =
            bench::run(&BenchRequest { kind: self.kind, config, quantize: self.quantize, repeats: self.repeats as usize })?;
        if self.json {
            return output::json(&outcome);
        }
        let mut rows = vec![["", "ms", "figure", "unit", "floor", "of", "floor ms", "share"].map(str::to_owned).to_vec()];
        for row in &outcome {
            rows.push(vec![
                row.name.clone(),
                format!("{:.3}", row.milliseconds),
                format!("{:.1}", row.figure),
                row.unit.to_owned(),
                output::count(row.floor),
                row.floor_unit.to_owned(),
                format!("{:.3}", row.floor_milliseconds),
                format!("{:.0}%", 100.0 * row.floor_milliseconds / row.milliseconds.max(1e-9)),
            ]);
        }
        output::write(output::table(&rows).as_bytes())
    }
}
