//! Errors in a configuration, with their place.

use std::fmt;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::error::{Failure, Kind};

/// Where a value was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A built-in value.
    Default,
    /// A preset.
    Preset(String),
    /// A file of another form, such as a model folder's `config.json`.
    Folder(PathBuf),
    /// A configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
    },
    /// `--set key=value`: the text after `--set`.
    Set(String),
    /// Another flag, such as `--threads`.
    Flag(&'static str),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("defaults"),
            Self::Preset(name) => write!(f, "preset {name}"),
            Self::Folder(path) => write!(f, "{}", path.display()),
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Self::Set(text) => write!(f, "--set {text}"),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

/// An error in a configuration: the place, the key, what was found and what was expected.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: cannot read the configuration: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The file is not TOML.
    #[error("{place}: not TOML: {message}")]
    Syntax {
        /// The place.
        place: Place,
        /// The parser's message.
        message: String,
    },
    /// No such key.
    #[error("{place}: unknown {what} `{key}`{hint}")]
    Unknown {
        /// The place.
        place: Place,
        /// Key, table, or preset.
        what: &'static str,
        /// The unknown name.
        key: String,
        /// The nearest name, or all names.
        hint: String,
    },
    /// A value of another kind or out of range.
    #[error("{place}: {key}: expected {expected}, found {found}")]
    Value {
        /// The place.
        place: Place,
        /// The key with its table, as in `train.steps`.
        key: String,
        /// The expected form and range.
        expected: String,
        /// The value found.
        found: String,
    },
}

impl Failure for ConfigError {
    fn kind(&self) -> Kind {
        Kind::Usage
    }
}

/// A hint with the nearest of `names`; lists all of them when none is near.
pub fn hint<'n>(given: &str, names: impl Iterator<Item = &'n str> + Clone) -> String {
    // A name that was cut short is that name.
    let begun = names.clone().find(|name| given.len() > 1 && name.starts_with(given)).map(|name| (0, name));
    let near = begun.or_else(|| names.clone().map(|name| (distance(given, name), name)).min());
    match near {
        Some((edits, name)) if edits <= 1 + name.len() / 4 => format!("; did you mean `{name}`?"),
        _ => format!("; known are {}", names.collect::<Vec<_>>().join(", ")),
    }
}

/// The edit distance between `a` and `b`: insertions, deletions, replacements and swaps of neighbours (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                let swap = if swapped { rows[i - 2][j - 2] + 1 } else { usize::MAX };
                replaced.min(swap).min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1)
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, edits) in
            [("", "", 0), ("step", "steps", 1), ("lr", "rl", 1), ("eval_evry", "eval_every", 1), ("abc", "xyz", 3), ("", "ab", 2)]
        {
            assert_eq!(distance(a, b), edits, "{a} {b}");
        }
    }

    #[test]
    fn hints() {
        let names = ["steps", "lr", "batch_size"];
        assert_eq!(hint("stesp", names.into_iter()), "; did you mean `steps`?");
        assert_eq!(hint("ema", ["eps", "ema_decay"].into_iter()), "; did you mean `ema_decay`?");
        assert_eq!(hint("abc", ["eps", "lr"].into_iter()), "; known are eps, lr");
        assert_eq!(hint("zzzzzzzz", names.into_iter()), "; known are steps, lr, batch_size");
    }
}
