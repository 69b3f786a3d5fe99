//! An entry of the list: an objective and its inputs.

use serde_json::{Value, json};

/// An array that an objective takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Input {
    /// Its name.
    pub(super) name: &'static str,
    /// Whether it is required.
    pub(super) required: bool,
}

/// A key of `--set`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    /// Its name.
    pub(super) name: &'static str,
    /// Its default; a description where that is not a fixed value.
    pub(super) default: &'static str,
}

/// A required array.
pub(super) const fn takes(name: &'static str) -> Input {
    Input { name, required: true }
}

/// An optional array.
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
    /// A one-line description.
    pub(super) about: &'static str,
    /// The command that trains with it.
    pub(super) command: &'static str,
    /// Its arrays.
    pub(super) inputs: &'static [Input],
    /// Its settings.
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

    /// Its inputs as a sentence.
    pub(super) fn takes(&self) -> String {
        let (must, may) = (self.names(true).join(", "), self.names(false).join(", "));
        if may.is_empty() { format!("it takes {must}") } else { format!("it takes {must}, and may take {may}") }
    }

    /// The names of the required or of the optional arrays.
    fn names(&self, required: bool) -> Vec<&'static str> {
        self.inputs.iter().filter(|input| input.required == required).map(|input| input.name).collect()
    }
}
