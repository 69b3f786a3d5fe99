//! Signals. The first one that ends a run asks it to stop as soon as the batch in hand is done, the second one ends the process.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::error::{Failure, Kind};

/// Whether and by what the run was asked to stop. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    signal: Arc<AtomicUsize>,
    checkpoint: Arc<AtomicBool>,
}

/// A signal came before the work was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stopped by {}", name(*signal))]
pub struct Interrupted {
    /// Its number.
    pub signal: u8,
}

impl Failure for Interrupted {
    fn kind(&self) -> Kind {
        Kind::Interrupted(self.signal)
    }
}

const HANGUP: u8 = 1;
const TERMINATE: u8 = 15;

/// What people call a signal that ends a run.
pub(crate) fn name(signal: u8) -> &'static str {
    match signal {
        HANGUP => "SIGHUP",
        TERMINATE => "SIGTERM",
        _ => "Ctrl-C",
    }
}

impl Stop {
    /// Listens to nothing: only [`Stop::raise`] asks the run to stop.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks the run to stop as if a signal of this number had come.
    pub fn raise(&self, signal: i32) {
        self.signal.store(signal as usize, Ordering::Relaxed);
    }

    /// Listens to SIGINT, SIGTERM and SIGHUP, which end the run, and to SIGUSR1, which asks for a checkpoint. What was heard is said at once, unless
    /// `quiet`. A process that ignores SIGHUP, as `nohup` makes it, goes on ignoring it.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn install(quiet: bool) -> io::Result<Self> {
        let stop = Self::default();
        install::install(&stop, quiet)?;
        Ok(stop)
    }

    /// The signal that came, if one did.
    pub fn signal(&self) -> Option<i32> {
        Some(self.signal.load(Ordering::Relaxed) as i32).filter(|&s| s != 0)
    }

    /// Passes as long as nobody asked the run to stop.
    ///
    /// # Errors
    /// The signal that came.
    pub fn check(&self) -> Result<(), Interrupted> {
        self.signal().map_or(Ok(()), |signal| Err(Interrupted { signal: signal as u8 }))
    }

    /// Whether somebody asked for a checkpoint since the last call.
    pub fn take_checkpoint(&self) -> bool {
        self.checkpoint.swap(false, Ordering::Relaxed)
    }
}

#[cfg(unix)]
mod install {
    use std::io::{self, IsTerminal};
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    use std::thread;

    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
    use signal_hook::flag;
    use signal_hook::iterator::Signals;

    use super::{Stop, name};
    use crate::say;

    pub(super) fn install(stop: &Stop, quiet: bool) -> io::Result<()> {
        let again = Arc::new(AtomicBool::new(false));
        let ends: Vec<i32> = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|&s| s != SIGHUP || !ignores_hangup()).collect();
        for &number in &ends {
            // In this order the first signal finds `again` unset.
            flag::register_conditional_shutdown(number, 128 + number, Arc::clone(&again))?;
            flag::register(number, Arc::clone(&again))?;
            flag::register_usize(number, Arc::clone(&stop.signal), number as usize)?;
        }
        flag::register(SIGUSR1, Arc::clone(&stop.checkpoint))?;
        if !quiet {
            let mut heard = Signals::new(ends.iter().copied().chain([SIGUSR1]))?;
            thread::Builder::new().name("signals".to_owned()).spawn(move || heard.forever().for_each(say_heard))?;
        }
        Ok(())
    }

    fn say_heard(signal: i32) {
        // A bar of progress has no line of its own.
        let before = if io::stderr().is_terminal() { "\n" } else { "" };
        if signal == SIGUSR1 {
            say::line(&format!("{before}SIGUSR1: a checkpoint is written after the step in hand"));
        } else {
            let name = name(signal as u8);
            say::line(&format!("{before}{name}: stopping after the batch in hand; a second signal ends at once, without saving"));
        }
    }

    /// Whether SIGHUP is ignored. Linux says so in a file; elsewhere SIGHUP is left alone.
    fn ignores_hangup() -> bool {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_none_or(|mask| mask & 1 << (SIGHUP - 1) != 0)
    }
}

#[cfg(not(unix))]
mod install {
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use signal_hook::consts::{SIGINT, SIGTERM};
    use signal_hook::flag;

    use super::Stop;

    pub(super) fn install(stop: &Stop, _: bool) -> io::Result<()> {
        let again = Arc::new(AtomicBool::new(false));
        for number in [SIGINT, SIGTERM] {
            flag::register_conditional_shutdown(number, 128 + number, Arc::clone(&again))?;
            flag::register(number, Arc::clone(&again))?;
            flag::register_usize(number, Arc::clone(&stop.signal), number as usize)?;
        }
        Ok(())
    }
}
