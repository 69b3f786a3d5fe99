//! Signals. The first one asks a run to stop after the current batch, the second one ends the process.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::error::{Failure, Kind};

/// The stop request of a run and its signal. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    signal: Arc<AtomicUsize>,
    checkpoint: Arc<AtomicBool>,
}

/// A signal came before the work was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stopped by {}", name(*signal))]
pub struct Interrupted {
    /// The signal number.
    pub signal: u8,
}

impl Failure for Interrupted {
    fn kind(&self) -> Kind {
        Kind::Interrupted(self.signal)
    }
}

const HANGUP: u8 = 1;
const TERMINATE: u8 = 15;

/// Sends this process a SIGINT, where a terminal in raw mode passes Ctrl-C on as a key.
pub(crate) fn interrupt() {
    // A signal of this process to itself is not refused.
    let _ = signal_hook::low_level::raise(signal_hook::consts::SIGINT);
}

/// Lets a write beyond the limit of a file's size (`ulimit -f`) fail with an error, instead of ending the process.
pub(crate) fn outlive_file_limits() {
    install::outlive_file_limits();
}

/// The usual name of a signal that ends a run.
pub(crate) fn name(signal: u8) -> &'static str {
    match signal {
        HANGUP => "SIGHUP",
        TERMINATE => "SIGTERM",
        _ => "Ctrl-C",
    }
}

impl Stop {
    /// Installs no handler: only [`Stop::raise`] stops the run.
    pub fn new() -> Self {
        Self::default()
    }

    /// Requests a stop as if this signal had arrived.
    pub fn raise(&self, signal: i32) {
        self.signal.store(signal as usize, Ordering::Relaxed);
    }

    /// Handles SIGINT, SIGTERM and SIGHUP, which end the run, and SIGUSR1, which requests a checkpoint. A message confirms each at once, unless
    /// `quiet`. A process that ignores SIGHUP, as `nohup` makes it, keeps ignoring it.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn install(quiet: bool) -> io::Result<Self> {
        let stop = Self::default();
        install::install(&stop, quiet)?;
        Ok(stop)
    }

    /// As [`Stop::install`], for a run that draws on the whole terminal: it is restored before a second signal ends the process.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn install_under_view() -> io::Result<Self> {
        let stop = Self::default();
        install::install_under_view(&stop)?;
        Ok(stop)
    }

    /// The signal that came, if one did.
    pub fn signal(&self) -> Option<i32> {
        Some(self.signal.load(Ordering::Relaxed) as i32).filter(|&s| s != 0)
    }

    /// `Ok` unless a stop was requested.
    ///
    /// # Errors
    /// The signal.
    pub fn check(&self) -> Result<(), Interrupted> {
        self.signal().map_or(Ok(()), |signal| Err(Interrupted { signal: signal as u8 }))
    }

    /// Whether a checkpoint was requested since the last call.
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

    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGXFSZ};
    use signal_hook::iterator::Signals;
    use signal_hook::{flag, low_level};

    use super::{Stop, name};
    use crate::say;

    pub(super) fn outlive_file_limits() {
        // A handler that does nothing else is enough: the write then returns EFBIG. Without it the signal ends the process as before.
        let _ = flag::register(SIGXFSZ, Arc::default());
    }

    pub(super) fn install(stop: &Stop, quiet: bool) -> io::Result<()> {
        let again = Arc::new(AtomicBool::new(false));
        for number in ends() {
            // In this order the first signal finds `again` unset.
            flag::register_conditional_shutdown(number, 128 + number, Arc::clone(&again))?;
            flag::register(number, Arc::clone(&again))?;
        }
        register(stop)?;
        if quiet { Ok(()) } else { listen(say_heard) }
    }

    pub(super) fn install_under_view(stop: &Stop) -> io::Result<()> {
        register(stop)?;
        let mut again = false;
        // Restoring a terminal is not async-signal-safe, so a thread ends the process.
        listen(move |signal| {
            if again && signal != SIGUSR1 {
                say::release();
                low_level::exit(128 + signal);
            }
            again |= signal != SIGUSR1;
            say_heard(signal);
        })
    }

    /// The signals that end a run.
    fn ends() -> impl Iterator<Item = i32> {
        [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|&s| s != SIGHUP || !ignores_hangup())
    }

    fn register(stop: &Stop) -> io::Result<()> {
        for number in ends() {
            flag::register_usize(number, Arc::clone(&stop.signal), number as usize)?;
        }
        flag::register(SIGUSR1, Arc::clone(&stop.checkpoint)).map(|_| ())
    }

    /// Calls a function for every signal, on a separate thread.
    fn listen(mut heard: impl FnMut(i32) + Send + 'static) -> io::Result<()> {
        let mut signals = Signals::new(ends().chain([SIGUSR1]))?;
        thread::Builder::new().name("signals".to_owned()).spawn(move || signals.forever().for_each(&mut heard))?;
        Ok(())
    }

    fn say_heard(signal: i32) {
        // A bar of progress has no line of its own.
        let has_bar = io::stderr().is_terminal() && say::while_held(|_| ()).is_none();
        let before = if has_bar { "\n" } else { "" };
        if signal == SIGUSR1 {
            say::line(&format!("{before}SIGUSR1: a checkpoint will be written after the current step"));
        } else {
            let name = name(signal as u8);
            say::line(&format!("{before}{name}: stopping after the current batch; a second signal ends at once, without saving"));
        }
    }

    /// Whether SIGHUP is ignored. Linux reports it in a file; elsewhere SIGHUP is not handled.
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

    pub(super) fn outlive_file_limits() {}

    pub(super) fn install(stop: &Stop, _: bool) -> io::Result<()> {
        let again = Arc::new(AtomicBool::new(false));
        for number in [SIGINT, SIGTERM] {
            flag::register_conditional_shutdown(number, 128 + number, Arc::clone(&again))?;
            flag::register(number, Arc::clone(&again))?;
            flag::register_usize(number, Arc::clone(&stop.signal), number as usize)?;
        }
        Ok(())
    }

    pub(super) fn install_under_view(stop: &Stop) -> io::Result<()> {
        install(stop, true)
    }
}
