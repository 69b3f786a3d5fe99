//! `samara bench`: speed of this machine, compared with its measured peak rates.

use clap::ValueEnum;
use serde::Serialize;

use super::args::ConfigArgs;
use super::{Command, Console, Error, output};
use crate::bench::assign;
use crate::bench::decode::{DecodeRequest, decode};
use crate::bench::measure::Measurement;
use crate::bench::products::products;
use crate::bench::profile::Profile;
use crate::bench::steps::steps;
use crate::lm::formats::Quantize;
use crate::threads::Pool;

const EXAMPLES: &str = "\
Beside each figure stands the floor: the least time in which this machine, as
measured first, could do the same operations or read the same bytes.

Examples:
  samara bench gemm
  samara bench step --preset nanogpt-char-cpu --json
  samara bench step --profile --preset gpt2-124m --set train.batch_size=4 \\
    --set train.block_size=64 --set train.grad_accumulation=1
  samara bench decode --preset gpt2-124m --prompt-tokens 16 --new-tokens 64
  samara bench decode --preset gpt2-124m --rows 16
  samara bench assign --json";

/// Measure matrix products, training steps, decoding or linear assignment on this machine.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// What to measure.
    #[arg(value_enum)]
    kind: Subject,
    #[command(flatten)]
    config: ConfigArgs,
    /// Measurements; their median is reported.
    #[arg(long, value_name = "N", default_value_t = 9, allow_hyphen_values = true, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    repeats: u32,
    /// Also show the time of a step or of a token by operation.
    #[arg(long)]
    profile: bool,
    /// Tokens of the prompt, for decode [default: 1].
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = clap::value_parser!(u32).range(1..))]
    prompt_tokens: Option<u32>,
    /// Tokens generated, for decode [default: 64, if the positions suffice].
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = clap::value_parser!(u32).range(1..))]
    new_tokens: Option<u32>,
    /// Rows decoded at once, for decode [default: 1].
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = clap::value_parser!(u32).range(1..=1024))]
    rows: Option<u32>,
    /// Decode with weights quantised to 8 or 4 bits.
    #[arg(long, value_enum, value_name = "TYPE")]
    quantize: Option<Quantize>,
    /// Print JSON: the measurements; with --profile an object of both.
    #[arg(long)]
    json: bool,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Subject {
    /// Matrix products of a model's shapes.
    Gemm,
    /// Training steps.
    Step,
    /// Generating token by token.
    Decode,
    /// Linear assignment on families of cost matrices.
    Assign,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Outcome {
    /// Each measurement.
    rows: Vec<Measurement>,
    /// The profile, if requested.
    profile: Option<Profile>,
}

/// Ids of a model whose tokenizer is not known.
const VOCABULARY: usize = 256;

impl Command for Args {
    fn run(&self, _: &Console) -> Result<(), Error> {
        self.refuse_unused()?;
        let outcome = self.outcome()?;
        match (self.json, &outcome.profile) {
            (true, Some(_)) => output::json(&outcome),
            (true, None) => output::json(&outcome.rows),
            (false, profile) => {
                let profile = profile.as_ref().map_or_else(String::new, profile_text);
                output::write((rows_text(&outcome.rows) + &profile).as_bytes())
            }
        }
    }
}

impl Args {
    fn outcome(&self) -> Result<Outcome, Error> {
        let config = self.config.merge(None, None)?.run();
        let vocab_size = config.model.vocab_size().unwrap_or(VOCABULARY);
        let model = config.model.clone().with_vocab_size(vocab_size).architecture()?;
        let pool = Pool::new(config.train.threads)?;
        let repeats = self.repeats as usize;
        let (rows, profile) = match self.kind {
            Subject::Assign => (assign::run(repeats, &pool)?, None),
            Subject::Gemm => (products(&config.train, model, repeats, &pool)?, None),
            Subject::Step => {
                let (row, profile) = steps(&config, model, repeats, self.profile, &pool)?;
                (vec![row], profile)
            }
            Subject::Decode => decode(&config.train, model, &self.decode_request(), &pool)?,
        };
        Ok(Outcome { rows, profile })
    }

    fn decode_request(&self) -> DecodeRequest {
        DecodeRequest {
            quantize: self.quantize,
            repeats: self.repeats as usize,
            profiled: self.profile,
            prompt_tokens: self.prompt_tokens.unwrap_or(1) as usize,
            new_tokens: self.new_tokens.map(|n| n as usize),
            rows: self.rows.unwrap_or(1) as usize,
        }
    }

    /// Refuses a flag that has no effect on the chosen measurement.
    fn refuse_unused(&self) -> Result<(), Error> {
        use Subject::{Decode, Gemm, Step};
        let config = &self.config;
        let flags: [(&str, bool, &[Subject]); 11] = [
            ("--data", config.data.is_some(), &[]),
            ("--preset", config.preset.is_some(), &[Gemm, Step, Decode]),
            ("--config", config.config.is_some(), &[Gemm, Step, Decode]),
            ("--init", config.init.is_some(), &[Gemm, Step, Decode]),
            ("--set", !config.set.is_empty(), &[Gemm, Step, Decode]),
            ("--seed", config.seed.is_some(), &[Step, Decode]),
            ("--profile", self.profile, &[Step, Decode]),
            ("--prompt-tokens", self.prompt_tokens.is_some(), &[Decode]),
            ("--new-tokens", self.new_tokens.is_some(), &[Decode]),
            ("--rows", self.rows.is_some(), &[Decode]),
            ("--quantize", self.quantize.is_some(), &[Decode]),
        ];
        let unused = flags.iter().find(|(_, given, kinds)| *given && !kinds.contains(&self.kind));
        unused.map_or(Ok(()), |(flag, _, kinds)| {
            let name = |kind: &Subject| kind.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
            let (own, takers) = (name(&self.kind), kinds.iter().map(name).collect::<Vec<_>>().join(", "));
            let takers = if takers.is_empty() { "it generates its own data".to_owned() } else { format!("it is for {takers}") };
            Err(Error::usage(format!("bench {own} does not take {flag} ({takers}); leave it out")))
        })
    }
}

fn rows_text(measured: &[Measurement]) -> String {
    let mut rows = vec![["", "ms", "figure", "unit", "floor", "of", "floor ms", "share"].map(str::to_owned).to_vec()];
    for row in measured {
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
    output::table(&rows)
}

fn profile_text(profile: &Profile) -> String {
    let head = ["node by node", "calls", "ms", "share", "GFLOP/s", "GB/s", "floor ms", "of floor"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for row in profile.rows.iter().chain([&profile.total]) {
        rows.push(vec![
            row.name.clone(),
            row.calls.to_string(),
            format!("{:.3}", row.milliseconds),
            format!("{:.1}%", 100.0 * row.share),
            format!("{:.1}", row.gflop_per_s),
            format!("{:.1}", row.gb_per_s),
            format!("{:.3}", row.floor_milliseconds),
            format!("{:.0}%", 100.0 * row.floor_share),
        ]);
    }
    let machine = &profile.machine;
    format!(
        "\n{}\n{} threads measured: {:.1} GFLOP/s of multiply-adds in registers, {:.1} GB/s of memory.\nThe whole without a profiler: {:.3} ms, of which the floor is {:.0}%.\n",
        output::table(&rows),
        machine.threads,
        1e-9 * machine.flops_per_s,
        1e-9 * machine.bytes_per_s,
        profile.whole_milliseconds,
        100.0 * profile.total.floor_milliseconds / profile.whole_milliseconds.max(1e-9),
    )
}
