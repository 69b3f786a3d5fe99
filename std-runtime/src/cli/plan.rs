//! `samara plan`.

use super::args::ConfigArgs;
use super::output;
use super::requests::{Peak, PlanOutcome, PlanRequest};
use crate::error::Error;
use crate::plan_report;

const EXAMPLES: &str = "\
Examples:
  samara plan --preset gpt2-124m
  samara plan --preset gpt2-124m --set train.memory_budget_mib=8000 --peak
  samara plan --preset gpt2-124m --set train.recompute=blocks --time";

/// Say what a training would take: memory, work, time. Nothing is written.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// Take the time of three steps.
    #[arg(long)]
    time: bool,
    /// List what stands in the arena when it is fullest.
    #[arg(long)]
    peak: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(&self) -> Result<(), Error> {
        report(&PlanRequest { config: self.config.merge(None, None)?, time: self.time, peak: self.peak }, self.json)
    }
}

/// Plans and prints.
pub(super) fn report(request: &PlanRequest, json: bool) -> Result<(), Error> {
    let outcome = plan_report::run(request)?;
    if json { output::json(&outcome) } else { output::write(text(request, &outcome).as_bytes()) }
}

fn text(request: &PlanRequest, plan: &PlanOutcome) -> String {
    let mut rows = vec![
        vec!["parameters".to_owned(), plan.parameters.to_string(), output::count(plan.parameters as f64)],
        vec!["trainable".to_owned(), plan.trainable_parameters.to_string(), output::count(plan.trainable_parameters as f64)],
    ];
    for class in &plan.memory {
        rows.push(vec![class.class.to_owned(), class.bytes.to_string(), output::bytes(class.bytes)]);
    }
    rows.push(vec!["memory in all".to_owned(), plan.resident_bytes.to_string(), output::bytes(plan.resident_bytes)]);
    for policy in &plan.policies {
        let chosen = if policy.chosen { "chosen" } else { "" };
        let name = format!("  train.recompute={}", policy.recompute);
        rows.push(vec![name, policy.bytes.to_string(), output::bytes(policy.bytes), chosen.to_owned()]);
    }
    rows.push(vec!["checkpoint".to_owned(), plan.checkpoint_bytes.to_string(), output::bytes(plan.checkpoint_bytes)]);
    rows.push(vec!["FLOP per token".to_owned(), format!("{:.0}", plan.flops_per_token), output::count(plan.flops_per_token)]);
    rows.push(vec!["tokens per step".to_owned(), plan.tokens_per_step.to_string(), output::count(plan.tokens_per_step as f64)]);
    if let Some(tokens) = plan.train_tokens {
        rows.push(vec!["training tokens".to_owned(), tokens.to_string(), output::count(tokens as f64)]);
    }
    if let Some(seconds) = plan.seconds_per_step {
        let all = seconds * request.config.train.steps as f64;
        rows.push(vec!["time per step".to_owned(), format!("{seconds:.3} s"), String::new()]);
        rows.push(vec![
            format!("time of {} steps", request.config.train.steps),
            format!("{all:.0} s"),
            crate::train::progress::human(std::time::Duration::from_secs_f64(all.clamp(0.0, 1e15))),
        ]);
    }
    match &plan.peak {
        Some(peak) => output::table(&rows) + &peak_text(peak),
        None => output::table(&rows),
    }
}

/// Rows of the fullest moment that are shown one by one.
const PEAK_ROWS: usize = 12;

/// What stands in the arena when it is fullest.
fn peak_text(peak: &Peak) -> String {
    let row =
        |what: &str, count: usize, bytes: u64| vec![what.to_owned(), count.to_string(), bytes.to_string(), output::bytes(bytes)];
    let (shown, rest) = peak.rows.split_at(peak.rows.len().min(PEAK_ROWS));
    let mut rows: Vec<Vec<String>> = shown.iter().map(|r| row(&r.what, r.count, r.bytes)).collect();
    if !rest.is_empty() {
        rows.push(row("others", rest.iter().map(|r| r.count).sum(), rest.iter().map(|r| r.bytes).sum()));
    }
    format!("\nThe arena is fullest at {}:\n{}", peak.node, output::table(&rows))
}
