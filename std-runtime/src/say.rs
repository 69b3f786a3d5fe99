//! Messages to the user on standard error. Write errors are ignored, so that a run does not end when its terminal is closed.

use std::borrow::Cow;
use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Lines that are held back while a view owns the whole terminal, and the function that restores the terminal.
struct Held {
    lines: Vec<String>,
    restore: fn(),
}

static HELD: Mutex<Option<Held>> = Mutex::new(None);

fn held() -> MutexGuard<'static, Option<Held>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes a line, or stores it while lines are held back.
pub(crate) fn line(text: &str) {
    match held().as_mut() {
        Some(held) => held.lines.push(text.to_owned()),
        None => write(&format!("{text}\n")),
    }
}

/// Holds lines back from now on, because a view owns the whole terminal; `restore` restores it.
pub(crate) fn hold(restore: fn()) {
    *held() = Some(Held { lines: Vec::new(), restore });
}

/// Runs `f` on the held lines, if lines are held; nothing else restores the terminal meanwhile.
pub(crate) fn while_held<T>(f: impl FnOnce(&[String]) -> T) -> Option<T> {
    held().as_ref().map(|held| f(&held.lines))
}

/// Restores the terminal and writes the held lines.
pub(crate) fn release() {
    let mut held = held();
    if let Some(Held { lines, restore }) = held.take() {
        restore();
        lines.iter().for_each(|line| write(&format!("{line}\n")));
    }
}

/// Writes text unchanged.
pub(crate) fn write(text: &str) {
    // `eprint!` panics when standard error is a pipe whose reader has gone.
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Escapes terminal control characters, which an untrained model generates. Tabs and line breaks are kept.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    let is_shown = |c: char| !c.is_control() || matches!(c, '\n' | '\t');
    if text.chars().all(is_shown) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().map(|c| if is_shown(c) { c.to_string() } else { format!("\\x{:02x}", u32::from(c)) }).collect())
}

/// Prints a note if a prompt is longer than the model's context.
pub(crate) fn cut_prompt(tokens: usize, positions: usize) -> Option<String> {
    (tokens > positions).then(|| {
        format!("note: the prompt has {tokens} tokens; the model has {positions} positions and sees the last {positions}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_has_nothing_to_obey() {
        assert_eq!(printable("a\n\tb\u{e9}"), "a\n\tb\u{e9}");
        assert_eq!(printable("\u{1b}[2J\0\r\u{7f}\u{9b}"), "\\x1b[2J\\x00\\x0d\\x7f\\x9b");
        assert_eq!(cut_prompt(8, 8), None);
        assert!(cut_prompt(9, 8).unwrap().contains("sees the last 8"));
    }
}
