//! What is said to the person at the terminal, on standard error. A run does not end because nobody listens there any more.

use std::io::{self, Write};

/// Writes a line.
pub(crate) fn line(text: &str) {
    write(&format!("{text}\n"));
}

/// Writes text as it is.
pub(crate) fn write(text: &str) {
    // `eprint!` panics when standard error is a pipe whose reader has gone.
    let _ = io::stderr().lock().write_all(text.as_bytes());
}
