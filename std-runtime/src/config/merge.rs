//! Layers of a configuration: preset, model folder, file, `--set`, flags. Later layers win, and every value records where it came from.
//!
//! Layers are stored as given and interpreted when the values are read: the model's family determines which keys `[model]` has, and the last layer
//! that names a family decides.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Place, hint};
use super::table::{Given, Tables, Unread};
use super::value::Value;

/// A named configuration.
#[derive(Clone, Copy, Debug)]
pub struct Preset {
    /// Its name.
    pub name: &'static str,
    /// A one-line description.
    pub about: &'static str,
    /// Its values in TOML. A preset that sets keys of `[model]` names the family, unless that is the first one.
    pub toml: &'static str,
}

/// One key of one layer.
#[derive(Clone, Debug)]
struct Entry {
    table: String,
    key: String,
    value: Value,
    /// The bare text of a command line, which needs no quotes.
    text: Option<String>,
    /// The position of the key, for errors about unknown keys.
    key_place: Place,
    /// Where the value is.
    place: Place,
}

/// A configuration under construction.
#[derive(Clone, Debug, Default)]
pub struct Layers<C> {
    base: C,
    base_places: BTreeMap<String, Place>,
    entries: Vec<Entry>,
}

impl<C: Tables> Layers<C> {
    /// The defaults of every key.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a preset as a layer.
    ///
    /// # Errors
    /// The preset is not TOML.
    pub fn preset(&mut self, preset: &Preset) -> Result<(), ConfigError> {
        self.document(preset.toml, &|_| Place::Preset(preset.name.to_owned()))
    }

    /// Adds a file as a layer.
    ///
    /// # Errors
    /// The file cannot be read, or is not TOML.
    pub fn file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let text = fs::read_to_string(path).map_err(|source| ConfigError::Io { path: path.to_path_buf(), source })?;
        self.text(path, &text)
    }

    /// Adds the text of a file as a layer; errors call the file `path`.
    ///
    /// # Errors
    /// The text is not TOML, or has entries other than tables.
    pub fn text(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        self.document(text, &|at| {
            let before = text.get(..at).unwrap_or(text);
            let line = before.matches('\n').count() + 1;
            let column = before.rsplit('\n').next().map_or(0, |rest| rest.chars().count()) + 1;
            Place::File { path: path.to_path_buf(), line, column }
        })
    }

    /// Sets one key from the text after `--set`, such as `train.steps=30`. String values need no quotes.
    ///
    /// # Errors
    /// There is no `=`.
    pub fn set(&mut self, argument: &str) -> Result<(), ConfigError> {
        let place = Place::Set(argument.to_owned());
        let Some((key, value)) = argument.split_once('=') else {
            let expected = "key=value, such as train.steps=30".to_owned();
            return Err(ConfigError::Value { place, key: "--set".to_owned(), expected, found: format!("{argument:?}") });
        };
        self.assign(key.trim(), value.trim(), place);
        Ok(())
    }

    /// Sets the key of a flag.
    pub fn flag(&mut self, flag: &'static str, key: &str, value: &str) {
        self.assign(key, value, Place::Flag(flag));
    }

    /// Sets values that are not text, such as the model of a folder, through `apply`. Earlier values of these keys are dropped.
    pub fn put(&mut self, keys: &[&str], place: &Place, apply: impl FnOnce(&mut C)) {
        apply(&mut self.base);
        self.entries.retain(|entry| !keys.contains(&format!("{}.{}", entry.table, entry.key).as_str()));
        self.base_places.extend(keys.iter().map(|&key| (key.to_owned(), place.clone())));
    }

    /// Where the value of a key was given last; `None` for a default.
    pub fn place(&self, key: &str) -> Option<&Place> {
        let given =
            self.entries.iter().rev().find(|entry| key.split_once('.') == Some((entry.table.as_str(), entry.key.as_str())));
        given.map(|entry| &entry.place).or_else(|| self.base_places.get(key))
    }

    /// The values of all layers, without checks across keys.
    ///
    /// # Errors
    /// A key is unknown, or its value is out of range.
    pub fn values(&self) -> Result<C, ConfigError> {
        let mut config = self.base.clone();
        let deciding = self.deciding();
        for entry in &deciding {
            apply(&mut config, entry)?;
        }
        for entry in &self.entries {
            if deciding.iter().any(|last| (&last.table, &last.key) == (&entry.table, &entry.key)) {
                // The last of these decides; one before it must be right all the same.
                apply(&mut config.clone(), entry)?;
            } else {
                apply(&mut config, entry)?;
            }
        }
        Ok(config)
    }

    /// The values of one table; other tables are not read.
    ///
    /// # Errors
    /// As [`Layers::values`], for keys of this table.
    pub fn values_of(&self, table: &str) -> Result<C, ConfigError> {
        let mut config = self.base.clone();
        self.entries.iter().filter(|entry| entry.table == table).try_for_each(|entry| apply(&mut config, entry))?;
        Ok(config)
    }

    /// The last entry of every key that decides which other keys its table has.
    fn deciding(&self) -> Vec<&Entry> {
        let tables = self.base.tables().into_iter();
        let keys = tables.filter_map(|(name, table)| table.deciding_key().map(|key| (name, key)));
        keys.filter_map(|(name, key)| self.entries.iter().rfind(|e| e.table == name && e.key == key)).collect()
    }

    /// The configuration, with checks across keys.
    ///
    /// # Errors
    /// As [`Layers::values`]; values that contradict each other, or that have no effect.
    pub fn finish(&self) -> Result<C, ConfigError> {
        let config = self.values()?;
        self.refuse_unread(&config)?;
        config.check().map_err(|invalid| {
            let place = self.place(invalid.key).cloned().unwrap_or(Place::Default);
            ConfigError::Value { place, key: invalid.key.to_owned(), expected: invalid.expected, found: invalid.found }
        })?;
        Ok(config)
    }

    /// Refuses values given by the user that have no effect.
    fn refuse_unread(&self, config: &C) -> Result<(), ConfigError> {
        let unread = config.tables().into_iter().flat_map(|(name, table)| table.unread().into_iter().map(move |key| (name, key)));
        unread.into_iter().try_for_each(|(name, unread)| self.refuse_given(config, name, unread))
    }

    /// Refuses the value of a key given by the user that has no effect. Values of a preset may have none (they are for its own optimizer and the
    /// like), and so may defaults in a file that contains a complete configuration.
    ///
    /// # Errors
    /// It was given.
    pub fn refuse_given(&self, config: &C, table: &str, unread: Unread) -> Result<(), ConfigError> {
        let (key, defaults) = (format!("{table}.{}", unread.key), C::default());
        let shown =
            |config: &C| config.tables().iter().find(|(name, _)| *name == table).and_then(|(_, table)| table.show(unread.key));
        let place = match self.place(&key) {
            Some(Place::File { .. }) if shown(config) == shown(&defaults) => return Ok(()),
            Some(place @ (Place::File { .. } | Place::Set(_) | Place::Flag(_))) => place.clone(),
            _ => return Ok(()),
        };
        let expected = format!("no value; {}", unread.instead);
        Err(ConfigError::Value { place, key, expected, found: shown(config).unwrap_or_else(|| "none".to_owned()) })
    }

    fn assign(&mut self, dotted: &str, text: &str, place: Place) {
        let (table, key) = dotted.split_once('.').unwrap_or(("", dotted));
        // Anything that is not a TOML value is a string without quotes.
        let parsed = DeValue::parse(text).map(|value| value.into_inner());
        let value = parsed.map_or_else(|_| Value::Text(text.to_owned()), |value| Value::from(&value));
        let (table, key, text) = (table.to_owned(), key.to_owned(), Some(text.to_owned()));
        self.entries.push(Entry { table, key, value, text, key_place: place.clone(), place });
    }

    fn document(&mut self, text: &str, place: &dyn Fn(usize) -> Place) -> Result<(), ConfigError> {
        let document = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
            place: place(error.span().map_or(0, |span| span.start)),
            message: error.message().replace('\n', ", "),
        })?;
        for (name, table) in document.get_ref() {
            let (at, name) = (place(name.span().start), name.get_ref().as_ref());
            let known = self.base.tables().iter().any(|(known, _)| *known == name);
            let table = match (known, table.get_ref().as_table()) {
                (true, Some(table)) => table,
                (true, None) => {
                    let (expected, found) = (format!("a table [{name}]"), Value::from(table.get_ref()).to_string());
                    return Err(ConfigError::Value { place: at, key: name.to_owned(), expected, found });
                }
                (false, _) => return Err(unknown(&self.base, "", name, at)),
            };
            for (key, value) in table {
                self.entries.push(Entry {
                    table: name.to_owned(),
                    key: key.get_ref().as_ref().to_owned(),
                    value: Value::from(value.get_ref()),
                    text: None,
                    key_place: place(key.span().start),
                    place: place(value.span().start),
                });
            }
        }
        Ok(())
    }
}

/// Sets one key.
fn apply<C: Tables>(config: &mut C, entry: &Entry) -> Result<(), ConfigError> {
    let Entry { table, key, value, text, place, .. } = entry;
    let known = config.table_mut(table).filter(|table| table.keys().iter().any(|known| known.name == key));
    let Some(known) = known else { return Err(unknown(config, table, key, entry.key_place.clone())) };
    known.set(key, Given { value, text: text.as_deref() }).map_err(|expected| ConfigError::Value {
        place: place.clone(),
        key: format!("{table}.{key}"),
        expected,
        found: value.to_string(),
    })
}

/// An error with the nearest name: in the table, or in another table that has exactly this key.
fn unknown(config: &impl Tables, table: &str, key: &str, place: Place) -> ConfigError {
    let tables = config.tables();
    let names = || tables.iter().map(|(name, _)| *name);
    let elsewhere = tables.iter().find(|(name, t)| *name != table && t.keys().iter().any(|known| known.name == key));
    let hint = match (tables.iter().find(|(name, _)| *name == table), elsewhere) {
        (Some((_, table)), _) if table.hint(key).is_some() => table.hint(key).unwrap_or_default(),
        (_, Some((other, _))) => format!("; did you mean `{other}.{key}`?"),
        (Some((_, table)), None) => hint(key, table.keys().iter().map(|key| key.name)),
        (None, None) if table.is_empty() => hint(key, names()),
        (None, None) => hint(table, names()),
    };
    let (what, key) = if table.is_empty() { ("table", key.to_owned()) } else { ("key", format!("{table}.{key}")) };
    ConfigError::Unknown { place, what, key, hint }
}
