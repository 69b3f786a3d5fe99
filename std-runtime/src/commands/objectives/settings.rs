//! `--set KEY=VALUE` of an evaluation.

use std::collections::BTreeMap;

use super::Refused;
use super::entry::{Entry, Key};
use crate::commands::Error;
use crate::config::hint;

/// Keys that were set, and the defaults of the others.
pub(super) struct Settings {
    given: BTreeMap<String, String>,
    keys: &'static [Key],
}

impl Settings {
    /// Parses the settings of an objective.
    ///
    /// # Errors
    /// An argument that is not KEY=VALUE, and a key that the objective does not have.
    pub(super) fn read(entry: &Entry, set: &[String]) -> Result<Self, Error> {
        let mut given = BTreeMap::new();
        for argument in set {
            let Some((key, value)) = argument.split_once('=') else {
                return Err(Error::usage(format!("--set {argument}: expected KEY=VALUE, as in beta=0.1")));
            };
            let (key, value) = (key.trim(), value.trim());
            if !entry.keys.iter().any(|known| known.name == key) {
                let names = entry.keys.iter().map(|known| known.name);
                let known = if entry.keys.is_empty() { "; it has no keys".to_owned() } else { hint(key, names) };
                return Err(Error::usage(format!("--set {argument}: {} has no key `{key}`{known}", entry.name)));
            }
            given.insert(key.to_owned(), value.to_owned());
        }
        Ok(Self { given, keys: entry.keys })
    }

    /// Whether the objective has a key.
    pub(super) fn knows(&self, name: &str) -> bool {
        self.keys.iter().any(|key| key.name == name)
    }

    /// Whether a key was set.
    pub(super) fn has(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }

    /// The text of a key.
    pub(super) fn text(&self, name: &str) -> &str {
        let default = self.keys.iter().find(|key| key.name == name).map_or("", |key| key.default);
        self.given.get(name).map_or(default, String::as_str)
    }

    /// A finite number.
    ///
    /// # Errors
    /// Any other value.
    pub(super) fn number(&self, name: &str) -> Result<f64, Refused> {
        let text = self.text(name);
        let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
        number.ok_or_else(|| Refused::Setting(format!("{name}={text}: expected a finite number")))
    }

    /// A number that is off by default.
    ///
    /// # Errors
    /// A value that is not a finite number.
    pub(super) fn option(&self, name: &str) -> Result<Option<f64>, Refused> {
        if self.has(name) { self.number(name).map(Some) } else { Ok(None) }
    }

    /// An integer of at least 0.
    ///
    /// # Errors
    /// Any other value.
    pub(super) fn count(&self, name: &str) -> Result<usize, Refused> {
        let text = self.text(name);
        text.parse().map_err(|_| Refused::Setting(format!("{name}={text}: expected a whole number from 0")))
    }

    /// One of several words.
    ///
    /// # Errors
    /// Any other word; the message names the nearest.
    pub(super) fn word<T: Copy>(&self, name: &str, words: &[(&'static str, T)]) -> Result<T, Refused> {
        let text = self.text(name);
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        found.ok_or_else(|| {
            let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let nearest = hint(text, all.iter().copied());
            Refused::Setting(format!("{name}={text}: expected one of {}{nearest}", all.join(", ")))
        })
    }
}
