//! Progress of a command that counts: a bar on a terminal, a line every few seconds elsewhere.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::say;
use crate::train::progress::human;

/// Time between lines without a terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// How much of the work is done.
pub(super) struct Counter {
    what: &'static str,
    total: usize,
    begun: Instant,
    /// When the last line was printed.
    last: Instant,
    bar: Option<ProgressBar>,
    quiet: bool,
}

impl Counter {
    /// Nothing of `total` is done.
    pub(super) fn new(what: &'static str, total: usize, quiet: bool) -> Self {
        let bar = (!quiet && io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::with_draw_target(Some(total as u64), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{bar:24} {pos}/{len} {msg} | ETA {eta}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.with_message(what)
        });
        Self { what, total, begun: Instant::now(), last: Instant::now(), bar, quiet }
    }

    /// So many are done.
    pub(super) fn show(&mut self, done: usize) {
        if let Some(bar) = &self.bar {
            bar.set_position(done as u64);
        } else if !self.quiet && self.last.elapsed() >= LINE_INTERVAL {
            self.last = Instant::now();
            let left = self.begun.elapsed().mul_f64(self.total.saturating_sub(done) as f64 / done.max(1) as f64);
            say::line(&format!("{done}/{} {} | ETA {}", self.total, self.what, human(left)));
        }
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
