//! The whole terminal for a view: raw mode, key input, and restoration in any case.

use std::io::{self, BufWriter, IsTerminal, Read, Stderr};
use std::panic;
use std::thread;

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};

use crate::say;
use crate::stop;

/// A terminal to draw on.
pub(super) type Screen = Terminal<CrosstermBackend<BufWriter<Stderr>>>;

/// The name of the drawing thread. It holds the lock of the held lines when it panics, and must not wait for it.
pub(super) const DRAWING: &str = "drawing";

/// Ctrl-C where the terminal hands keys on.
const CTRL_C: u8 = 3;

/// Takes over the terminal until [`say::release`], which a panic calls too.
///
/// # Errors
/// The terminal cannot be written or set.
pub(super) fn take() -> io::Result<Screen> {
    let keys = io::stdin().is_terminal();
    if keys {
        enable_raw_mode()?;
    }
    say::hold(restore);
    release_on_panic();
    let opened = open(keys);
    if opened.is_err() {
        say::release();
    }
    opened
}

fn open(keys: bool) -> io::Result<Screen> {
    execute!(io::stderr(), EnterAlternateScreen)?;
    let screen = Terminal::new(CrosstermBackend::new(BufWriter::new(io::stderr())))?;
    if keys {
        thread::Builder::new().name("keys".to_owned()).spawn(read_keys)?;
    }
    Ok(screen)
}

/// Restores the terminal before a panic is reported.
fn release_on_panic() {
    let former = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if thread::current().name() == Some(DRAWING) {
            restore()
        } else {
            say::release()
        }
        former(info);
    }));
}

/// Stops the run on `q` or Ctrl-C, as long as the view exists.
fn read_keys() {
    let keys = io::stdin().lock().bytes().map_while(Result::ok).take_while(|_| say::while_held(|_| ()).is_some());
    keys.filter(|key| matches!(*key, b'q' | CTRL_C)).for_each(|_| stop::interrupt());
}

/// Restores the terminal. A failure cannot be reported.
fn restore() {
    let _ = execute!(io::stderr(), LeaveAlternateScreen, Show);
    let _ = disable_raw_mode();
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn a_panic_gives_the_terminal_back_and_says_what_was_held() {
        static RESTORED: AtomicBool = AtomicBool::new(false);
        say::hold(|| RESTORED.store(true, Ordering::Relaxed));
        release_on_panic();
        say::line("said before the panic");
        assert_eq!(say::while_held(|said| said.contains(&"said before the panic".to_owned())), Some(true));
        assert!(thread::spawn(|| panic!("as it should")).join().is_err());
        assert!(RESTORED.load(Ordering::Relaxed) && say::while_held(|_| ()).is_none());
    }
}
