//! What a person sees while a run goes on: a bar on a terminal, a line every few seconds elsewhere.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::say;

/// Seconds between lines when there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Steps whose time does not count for the ETA: caches and pages are cold.
const COLD_STEPS: u64 = 3;

/// The live view of a run.
pub struct Progress {
    bar: Option<ProgressBar>,
    quiet: bool,
    steps: u64,
    /// Time and step from which the speed is measured.
    warm: Option<(Instant, u64)>,
    first: u64,
    last_line: Instant,
    /// Moving average of the scalar and the weight that it has gathered.
    average: (f64, f64),
}

/// A duration as people write it.
pub fn human(d: Duration) -> String {
    let s = d.as_secs();
    match (s / 3600, s / 60 % 60, s % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m{s:02}s"),
        (h, m, _) => format!("{h}h{m:02}m"),
    }
}

impl Progress {
    /// A view of `steps` steps of which `done` are behind us.
    pub fn new(quiet: bool, steps: u64, done: u64) -> Self {
        let terminal = io::stderr().is_terminal() && !quiet;
        let bar = terminal.then(|| {
            let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{bar:24} {pos}/{len} {percent}% {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_position(done);
            bar
        });
        Self { bar, quiet, steps, warm: None, first: done, last_line: Instant::now(), average: (0.0, 0.0) }
    }

    /// Prints text above the bar.
    pub fn say(&self, text: &str) {
        match (&self.bar, self.quiet) {
            (_, true) => {}
            (Some(bar), _) => bar.suspend(|| say::line(text)),
            (None, _) => say::line(text),
        }
    }

    /// Says on the bar that something else than training goes on.
    pub fn note(&self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(text.to_owned());
        }
    }

    /// A step is done; `name` and `value` are of the scalar that is shown.
    pub fn step(&mut self, step: u64, name: &str, value: Option<f64>, lr: f64, tokens_per_s: f64) {
        if let Some(value) = value {
            let (sum, weight) = self.average;
            self.average = (0.95 * sum + 0.05 * value, 0.95 * weight + 0.05);
        }
        if step == self.first + COLD_STEPS {
            self.warm = Some((Instant::now(), step));
        }
        let text =
            format!("{name} {:.4} | lr {lr:.1e} | {tokens_per_s:.0} tok/s{}", self.average.0 / self.average.1, self.eta(step));
        if let Some(bar) = &self.bar {
            bar.set_position(step);
            bar.set_message(text);
        } else if !self.quiet && (self.last_line.elapsed() >= LINE_INTERVAL || step == self.steps) {
            self.last_line = Instant::now();
            say::line(&format!("step {step}/{} ({:.1}%) | {text}", self.steps, 100.0 * step as f64 / self.steps.max(1) as f64));
        }
    }

    fn eta(&self, step: u64) -> String {
        let Some((since, first)) = self.warm.filter(|(_, first)| step > *first) else { return String::new() };
        let left = since.elapsed().as_secs_f64() / (step - first) as f64 * self.steps.saturating_sub(step) as f64;
        format!(" | ETA {}", human(Duration::from_secs_f64(left)))
    }

    /// Removes the bar.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (s, text) in [(0, "0s"), (59, "59s"), (61, "1m01s"), (3661, "1h01m")] {
            assert_eq!(human(Duration::from_secs(s)), text);
        }
    }
}
