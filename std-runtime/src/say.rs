//! What is said to the person at the terminal, on standard error. A run does not end because nobody listens there any more.

use std::borrow::Cow;
use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Lines that wait while a view has the whole terminal, and how the terminal is given back.
struct Held {
    lines: Vec<String>,
    restore: fn(),
}

static HELD: Mutex<Option<Held>> = Mutex::new(None);

fn held() -> MutexGuard<'static, Option<Held>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes a line, or keeps it as long as lines are held.
pub(crate) fn line(text: &str) {
    match held().as_mut() {
        Some(held) => held.lines.push(text.to_owned()),
        None => write(&format!("{text}\n")),
    }
}

/// Keeps lines from now on, because a view has the whole terminal; `restore` gives it back.
pub(crate) fn hold(restore: fn()) {
    *held() = Some(Held { lines: Vec::new(), restore });
}

/// Does something with the lines that are held, if they are: nothing gives the terminal back meanwhile.
pub(crate) fn while_held<T>(f: impl FnOnce(&[String]) -> T) -> Option<T> {
    held().as_ref().map(|held| f(&held.lines))
}

/// Gives the terminal back and writes what was held.
pub(crate) fn release() {
    let mut held = held();
    if let Some(Held { lines, restore }) = held.take() {
        restore();
        lines.iter().for_each(|line| write(&format!("{line}\n")));
    }
}

/// Writes text as it is.
pub(crate) fn write(text: &str) {
    // `eprint!` panics when standard error is a pipe whose reader has gone.
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Text without characters that a terminal obeys: a model that has learnt little writes them. Tabs and line breaks stay.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    let is_shown = |c: char| !c.is_control() || matches!(c, '\n' | '\t');
    if text.chars().all(is_shown) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().map(|c| if is_shown(c) { c.to_string() } else { format!("\\x{:02x}", u32::from(c)) }).collect())
}

/// Says that a model does not see all of a prompt, if so.
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
