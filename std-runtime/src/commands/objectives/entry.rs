//! A row of the list: what an objective is and what it takes.

use serde_json::{Value, json};

/// An array that an objective takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Input {
    /// Its name.
    pub(super) name: &'static str,
    /// Whether it must be there.
    pub(super) required: bool,
}

/// A key of `--set`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    /// Its name.
    pub(super) name: &'static str,
    /// Its default, in words where it is not a value.
    pub(super) default: &'static str,
}

/// An array that must be there.
pub(super) const fn takes(name: &'static str) -> Input {
    Input { name, required: true }
}

/// An array that may be there.
pub(super) const fn may_take(name: &'static str) -> Input {
    Input { name, required: false }
}

/// A key and its default.
pub(super) const fn key(name: &'static str, default: &'static str) -> Key {
    Key { name, default }
}

/// An objective.
pub(super) struct Entry {
    /// Its name.
    pub(super) name: &'static str,
    /// What it is, in a sentence.
    pub(super) about: &'static str,
    /// The command that trains with it.
    pub(super) command: &'static str,
    /// What it takes.
    pub(super) inputs: &'static [Input],
    /// What can be set.
    pub(super) keys: &'static [Key],
}

impl Entry {
    /// The row as JSON.
    pub(super) fn json(&self) -> Value {
        let keys: serde_json::Map<String, Value> =
            self.keys.iter().map(|key| (key.name.to_owned(), Value::from(key.default))).collect();
        json!({
            "name": self.name, "about": self.about, "command": self.command,
            "arrays": self.names(true), "optional_arrays": self.names(false), "keys": keys,
        })
    }

    /// What it takes, as a sentence.
    pub(super) fn takes(&self) -> String {
        let (must, may) = (self.names(true).join(", "), self.names(false).join(", "));
        if may.is_empty() { format!("it takes {must}") } else { format!("it takes {must}, and may take {may}") }
    }

    /// Arrays that must, or that may be there.
    fn names(&self, required: bool) -> Vec<&'static str> {
        self.inputs.iter().filter(|input| input.required == required).map(|input| input.name).collect()
    }
}
