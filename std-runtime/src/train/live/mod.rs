//! `samara train --live`: curves of a run on the whole terminal.
//!
//! A separate thread draws the records of the run, so that a step never waits for the terminal.

mod frame;
mod series;
mod terminal;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use self::frame::Picture;
use self::terminal::{DRAWING, Screen};
use crate::say;

/// Time between two frames.
const FRAME_INTERVAL: Duration = Duration::from_millis(250);

/// A view on the whole terminal. Messages are shown in it, and printed to the terminal when this is dropped.
pub(crate) struct Live {
    picture: Arc<Mutex<Picture>>,
}

impl Live {
    /// Takes over the terminal for a run whose best value is that of the scalar `name`.
    ///
    /// # Errors
    /// The terminal cannot be written or set.
    pub(crate) fn open(name: &'static str) -> io::Result<Self> {
        let picture = Arc::new(Mutex::new(Picture::new(name)));
        let live = Self { picture: Arc::clone(&picture) };
        let mut screen = terminal::take()?;
        draw(&mut screen, &picture);
        let drawing = move || {
            while draw(&mut screen, &picture) {
                thread::sleep(FRAME_INTERVAL);
            }
        };
        thread::Builder::new().name(DRAWING.to_owned()).spawn(drawing)?;
        Ok(live)
    }

    /// Changes the line of progress.
    pub(crate) fn headline(&self, text: String) {
        lock(&self.picture).headline = text;
    }

    /// Appends the record of a step; `get` returns the value of a key of `metrics.jsonl`.
    pub(crate) fn record(&self, step: u64, get: impl Fn(&str) -> Option<f64>) {
        lock(&self.picture).record(step, get);
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        say::release();
    }
}

fn lock(picture: &Mutex<Picture>) -> MutexGuard<'_, Picture> {
    picture.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Draws a frame. Returns false when the terminal was restored or is gone.
fn draw(screen: &mut Screen, picture: &Mutex<Picture>) -> bool {
    let frame = |said: &[String]| screen.draw(|frame| lock(picture).draw(frame, said)).is_ok();
    say::while_held(frame).unwrap_or(false)
}
