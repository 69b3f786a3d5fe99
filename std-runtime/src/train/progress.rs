//! Progress display during a run: a bar or curves on a terminal, a line every few seconds elsewhere.

use std::env;
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::live::Live;
use crate::say;

/// Seconds between lines without a terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Steps excluded from the ETA: caches and pages are cold.
const COLD_STEPS: u64 = 3;

/// How a person follows a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// Not at all.
    Quiet,
    /// A bar on a terminal, a line every few seconds elsewhere.
    Line,
    /// Curves on the whole terminal.
    Curves,
}

impl View {
    /// Curves where standard error is a terminal that can show them.
    pub fn curves() -> Option<Self> {
        let draws = io::stderr().is_terminal() && env::var_os("TERM").is_none_or(|term| term != "dumb");
        draws.then_some(Self::Curves)
    }
}

/// Where progress is shown.
enum Shown {
    Nothing,
    /// A line now and then; when the last one was.
    Lines(Instant),
    Bar(ProgressBar),
    Curves(Live),
}

/// The progress view of a run.
pub struct Progress {
    shown: Shown,
    /// The scalar that is shown.
    name: &'static str,
    /// What the speed counts.
    counted: &'static str,
    steps: u64,
    /// Time and step from which the speed is measured.
    warm: Option<(Instant, u64)>,
    first: u64,
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
    /// A view of `steps` steps of which `done` are completed, and of the scalar `name`.
    pub fn new(view: View, name: &'static str, steps: u64, done: u64) -> Self {
        let shown = match view {
            View::Quiet => Shown::Nothing,
            View::Curves => Live::open(name).map_or_else(|_| Shown::Bar(bar(steps, done)), Shown::Curves),
            View::Line if io::stderr().is_terminal() => Shown::Bar(bar(steps, done)),
            View::Line => Shown::Lines(Instant::now()),
        };
        Self { shown, name, counted: "tok", steps, warm: None, first: done, average: (0.0, 0.0) }
    }

    /// The same with another word for what the speed counts.
    pub fn counting(self, counted: &'static str) -> Self {
        Self { counted, ..self }
    }

    /// Prints text above the bar.
    pub fn say(&self, text: &str) {
        match &self.shown {
            Shown::Nothing => {}
            Shown::Bar(bar) => bar.suspend(|| say::line(text)),
            Shown::Lines(_) | Shown::Curves(_) => say::line(text),
        }
    }

    /// Shows on the bar that another activity than training is in progress.
    pub fn note(&self, text: &str) {
        match &self.shown {
            Shown::Bar(bar) => bar.set_message(text.to_owned()),
            Shown::Curves(live) => live.headline(text.to_owned()),
            Shown::Nothing | Shown::Lines(_) => {}
        }
    }

    /// A step is done; `value` is that of the scalar that is shown.
    pub fn step(&mut self, step: u64, value: Option<f64>, lr: f64, tokens_per_s: f64) {
        if let Some(value) = value {
            let (sum, weight) = self.average;
            self.average = (0.95 * sum + 0.05 * value, 0.95 * weight + 0.05);
        }
        if step == self.first + COLD_STEPS {
            self.warm = Some((Instant::now(), step));
        }
        let (name, average) = (self.name, self.average.0 / self.average.1);
        let text = format!("{name} {average:.4} | lr {lr:.1e} | {tokens_per_s:.0} {}/s{}", self.counted, self.eta(step));
        let line = || format!("step {step}/{} ({:.1}%) | {text}", self.steps, 100.0 * step as f64 / self.steps.max(1) as f64);
        match &mut self.shown {
            Shown::Bar(bar) => {
                bar.set_position(step);
                bar.set_message(text);
            }
            Shown::Curves(live) => live.headline(line()),
            Shown::Lines(last) if last.elapsed() >= LINE_INTERVAL || step == self.steps => {
                *last = Instant::now();
                say::line(&line());
            }
            Shown::Nothing | Shown::Lines(_) => {}
        }
    }

    /// Shows the record of a step; `get` returns the value of a key of `metrics.jsonl`.
    pub fn record(&self, step: u64, get: impl Fn(&str) -> Option<f64>) {
        if let Shown::Curves(live) = &self.shown {
            live.record(step, get);
        }
    }

    fn eta(&self, step: u64) -> String {
        let Some((since, first)) = self.warm.filter(|(_, first)| step > *first) else { return String::new() };
        let left = since.elapsed().as_secs_f64() / (step - first) as f64 * self.steps.saturating_sub(step) as f64;
        format!(" | ETA {}", human(Duration::from_secs_f64(left)))
    }

    /// Removes the bar or the curves.
    pub fn finish(&mut self) {
        if let Shown::Bar(bar) = &self.shown {
            bar.finish_and_clear();
        }
        self.shown = Shown::Nothing;
    }
}

fn bar(steps: u64, done: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{bar:24} {pos}/{len} {percent}% {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_position(done);
    bar
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
