//! Layers of a configuration: preset, model folder, file, `--set`, flags. Later layers win, and every value remembers where it came from.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::error::hint;
use super::presets::find;
use super::table::{Given, Table};
use super::{ConfigError, ModelConfig, Place, RunConfig, TABLES, TokenizerChoice};

/// A configuration under construction.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    config: RunConfig,
    places: BTreeMap<String, Place>,
}

impl Layers {
    /// The defaults of every key.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lays a preset over what is there.
    pub fn preset(&mut self, name: &str) -> Result<(), ConfigError> {
        let preset = find(name)?;
        self.document(preset.toml, &|_| Place::Preset(preset.name.to_owned()))
    }

    /// Lays a file over what is there.
    pub fn file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let text = fs::read_to_string(path).map_err(|source| ConfigError::Io { path: path.to_path_buf(), source })?;
        self.text(path, &text)
    }

    /// Lays the text of a file over what is there; errors call the file `path`.
    pub fn text(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        self.document(text, &|at| {
            let before = text.get(..at).unwrap_or(text);
            let line = before.matches('\n').count() + 1;
            let column = before.rsplit('\n').next().map_or(0, |rest| rest.chars().count()) + 1;
            Place::File { path: path.to_path_buf(), line, column }
        })
    }

    /// Takes the model of a folder, and its tokenizer if it has one.
    pub fn folder(&mut self, folder: &Path, model: ModelConfig) {
        let place = Place::Folder(folder.join("config.json"));
        self.places.retain(|key, _| !key.starts_with("model."));
        for key in RunConfig::keys().into_iter().filter(|key| key.starts_with("model.")) {
            self.places.insert(key, place.clone());
        }
        // A block that nobody asked for fits into the model.
        if !matches!(self.places.get("train.block_size"), Some(Place::File { .. } | Place::Set(_) | Place::Flag(_))) {
            self.config.train.block_size = self.config.train.block_size.min(model.n_positions);
        }
        self.config.model = model;
        if ["tokenizer.json", "vocab.json"].iter().any(|name| folder.join(name).is_file()) {
            self.config.data.tokenizer = TokenizerChoice::Path(folder.to_path_buf());
            self.places.insert("data.tokenizer".to_owned(), Place::Folder(folder.to_path_buf()));
        }
    }

    /// Sets one key: the text after `--set`, such as `train.steps=30`. Text needs no quotes.
    pub fn set(&mut self, argument: &str) -> Result<(), ConfigError> {
        let place = Place::Set(argument.to_owned());
        let Some((key, value)) = argument.split_once('=') else {
            let expected = "key=value, such as train.steps=30".to_owned();
            return Err(ConfigError::Value { place, key: "--set".to_owned(), expected, found: format!("{argument:?}") });
        };
        self.assign(key.trim(), value.trim(), place)
    }

    /// Sets the key that a flag stands for.
    pub fn flag(&mut self, flag: &'static str, key: &str, value: &str) -> Result<(), ConfigError> {
        self.assign(key, value, Place::Flag(flag))
    }

    /// What is there so far.
    pub fn peek(&self) -> &RunConfig {
        &self.config
    }

    /// The configuration, if its values go together.
    pub fn finish(self) -> Result<RunConfig, ConfigError> {
        match self.config.check() {
            Ok(()) => Ok(self.config),
            Err(invalid) => {
                let place = self.places.get(invalid.key).cloned().unwrap_or(Place::Default);
                Err(ConfigError::Value { place, key: invalid.key.to_owned(), expected: invalid.expected, found: invalid.found })
            }
        }
    }

    fn assign(&mut self, dotted: &str, text: &str, place: Place) -> Result<(), ConfigError> {
        let (table, key) = dotted.split_once('.').unwrap_or(("", dotted));
        // What is no TOML value is text without quotes.
        let parsed = DeValue::parse(text).map(|value| value.into_inner());
        let value = parsed.unwrap_or_else(|_| DeValue::String(text.into()));
        self.value(table, key, Given { value: &value, text: Some(text) }, place)
    }

    fn document(&mut self, text: &str, place: &dyn Fn(usize) -> Place) -> Result<(), ConfigError> {
        let document = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
            place: place(error.span().map_or(0, |span| span.start)),
            message: error.message().replace('\n', ", "),
        })?;
        for (name, table) in document.get_ref() {
            let at = place(name.span().start);
            let name = name.get_ref().as_ref();
            let Some(table) = table.get_ref().as_table().filter(|_| TABLES.contains(&name)) else {
                return Err(if TABLES.contains(&name) {
                    let found = describe(table.get_ref());
                    ConfigError::Value { place: at, key: name.to_owned(), expected: format!("a table [{name}]"), found }
                } else {
                    self.unknown("", name, at)
                });
            };
            for (key, value) in table {
                let given = Given { value: value.get_ref(), text: None };
                let known = self.config.table(name).keys().iter().any(|known| known.name == key.get_ref());
                let at = if known { value.span().start } else { key.span().start };
                self.value(name, key.get_ref(), given, place(at))?;
            }
        }
        Ok(())
    }

    fn value(&mut self, table: &str, key: &str, given: Given<'_>, place: Place) -> Result<(), ConfigError> {
        let known = TABLES.contains(&table) && self.config.table(table).keys().iter().any(|known| known.name == key);
        if !known {
            return Err(self.unknown(table, key, place));
        }
        let dotted = format!("{table}.{key}");
        match self.config.table_mut(table).set(key, given) {
            Ok(()) => drop(self.places.insert(dotted, place)),
            Err(expected) => return Err(ConfigError::Value { place, key: dotted, expected, found: describe(given.value) }),
        }
        Ok(())
    }

    /// An error with the nearest name: of the table, or of another table that has exactly this key.
    fn unknown(&self, table: &str, key: &str, place: Place) -> ConfigError {
        let dotted = if table.is_empty() { key.to_owned() } else { format!("{table}.{key}") };
        let all = RunConfig::keys();
        let elsewhere = all.iter().find(|known| known.split_once('.').is_some_and(|(_, name)| name == key));
        let hint = match elsewhere {
            Some(known) => format!("; did you mean `{known}`?"),
            None if TABLES.contains(&table) => hint(key, self.config.table(table).keys().iter().map(|key| key.name)),
            None if table.is_empty() => hint(key, TABLES.into_iter()),
            None => hint(table, TABLES.into_iter()),
        };
        ConfigError::Unknown { place, what: if table.is_empty() { "table" } else { "key" }, key: dotted, hint }
    }
}

/// A value as an error shows it.
fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("{:?}", text.chars().take(80).collect::<String>()),
        DeValue::Integer(integer) => integer.to_string(),
        DeValue::Float(float) => float.as_str().to_owned(),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Array(_) => "an array".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
        DeValue::Datetime(_) => "a date".to_owned(),
    }
}

impl ModelConfig {
    /// Sets a key from JSON, with the same ranges as everywhere. `null` stands for no value. An error says what was expected.
    pub(crate) fn set_json(&mut self, key: &str, json: &serde_json::Value) -> Result<(), String> {
        use serde_json::Value;
        let text = json.to_string();
        let value = match json {
            Value::Bool(value) => DeValue::Boolean(*value),
            Value::String(text) => DeValue::String(text.into()),
            Value::Number(_) => DeValue::parse(&text).map_or(DeValue::Boolean(false), |value| value.into_inner()),
            Value::Null | Value::Array(_) | Value::Object(_) => DeValue::Array(Default::default()),
        };
        self.set(key, Given { value: &value, text: None })
    }
}
