//! The keys of a `config.json` during reading.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::config::{Invalid, Table, set_json};
use crate::files::IoError;
use crate::model_folder::CONFIG_FILE;
use crate::model_folder::error::FolderError;

/// A family's configuration in `config.json`, with the names of `transformers`.
pub trait ConfigJson: Sized {
    /// Reads it. Absent keys have the defaults of `transformers`.
    ///
    /// # Errors
    /// A key that selects an unsupported variant of the model, with its value and the supported one.
    fn from_keys(keys: &Keys<'_>) -> Result<Self, FolderError>;

    /// Writes it. `dropout` is the share of activations that training drops.
    fn to_keys(&self, dropout: f64, json: &mut Map<String, Value>);

    /// The activation dropout with which `transformers` trains the model.
    fn dropout(_keys: &Keys<'_>) -> f64 {
        0.0
    }
}

/// The keys of a file. A key that was read is known; the others are kept for other tools.
pub struct Keys<'k> {
    path: &'k Path,
    keys: &'k Map<String, Value>,
    known: RefCell<BTreeSet<String>>,
}

impl<'k> Keys<'k> {
    /// The keys of the file `path`.
    pub fn new(path: &'k Path, keys: &'k Map<String, Value>) -> Self {
        Self { path, keys, known: RefCell::default() }
    }

    /// The value of a key, which is known from now on.
    pub fn get(&self, key: &str) -> Option<&'k Value> {
        self.pass_over(&[key]);
        self.keys.get(key)
    }

    /// The value of a key that is kept nevertheless.
    pub fn peek(&self, key: &str) -> Option<&'k Value> {
        self.keys.get(key)
    }

    /// The value of a key unless it is null.
    pub fn not_null(&self, key: &str) -> Option<&'k Value> {
        self.get(key).filter(|value| !value.is_null())
    }

    /// The keys of an object in the file, which is known from now on.
    pub fn within(&self, key: &str) -> Option<Self> {
        let keys = self.get(key)?.as_object()?;
        Some(Self { path: self.path, keys, known: RefCell::default() })
    }

    /// Drops keys: they are written anew, or would be wrong for f32 weights.
    pub fn pass_over(&self, keys: &[&str]) {
        self.known.borrow_mut().extend(keys.iter().map(|&key| key.to_owned()));
    }

    /// The keys that were not read.
    pub fn others(&self) -> Map<String, Value> {
        let known = self.known.borrow();
        self.keys.iter().filter(|(key, _)| !known.contains(*key)).map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// Sets a key of a table to the value that the file has under `name`, if it has one.
    ///
    /// # Errors
    /// A value that the key does not accept.
    pub fn set(&self, table: &mut impl Table, key: &str, name: &str) -> Result<(), FolderError> {
        self.get(name).map_or(Ok(()), |value| self.put(table, key, name, value))
    }

    /// The same for a key that may also be null, which leaves the table's value unchanged.
    ///
    /// # Errors
    /// A value that the key does not accept.
    pub fn set_unless_null(&self, table: &mut impl Table, key: &str, name: &str) -> Result<(), FolderError> {
        self.not_null(name).map_or(Ok(()), |value| self.put(table, key, name, value))
    }

    /// Sets a key of a table to a value that the file has at `name`.
    ///
    /// # Errors
    /// A value that the key does not accept.
    pub fn put(&self, table: &mut impl Table, key: &str, name: &str, value: &Value) -> Result<(), FolderError> {
        set_json(table, key, value).map_err(|expected| self.wrong(name, expected, value))
    }

    /// Refuses a key that selects a variant of the model, unless it is absent, null, or has the supported value; then it is kept.
    ///
    /// # Errors
    /// Another value.
    pub fn only(&self, key: &str, allowed: &Value) -> Result<(), FolderError> {
        match self.peek(key) {
            Some(value) if !value.is_null() && value != allowed => Err(self.wrong(key, allowed.to_string(), value)),
            _ => Ok(()),
        }
    }

    /// A token id, or null.
    ///
    /// # Errors
    /// Another value.
    pub fn token(&self, key: &str) -> Result<Option<u32>, FolderError> {
        let Some(value) = self.not_null(key) else { return Ok(None) };
        token(value).map(Some).ok_or_else(|| self.wrong(key, "a token id or null", value))
    }

    /// A token id, several, or null.
    ///
    /// # Errors
    /// Another value.
    pub fn tokens(&self, key: &str) -> Result<Vec<u32>, FolderError> {
        let ids = match self.not_null(key) {
            None => return Ok(Vec::new()),
            Some(Value::Array(ids)) => ids.iter().map(token).collect(),
            Some(id) => token(id).map(|id| vec![id]),
        };
        ids.ok_or_else(|| self.wrong(key, "a token id or null, or a list of ids", self.keys.get(key).unwrap_or(&Value::Null)))
    }

    /// An error about a key.
    pub fn wrong(&self, key: &str, expected: impl Into<String>, found: impl ToString) -> FolderError {
        let (path, key) = (self.path.to_path_buf(), key.to_owned());
        FolderError::Key { path, key, expected: expected.into(), found: found.to_string() }
    }

    /// An error about contradictory values, with the names in the file.
    pub fn invalid(&self, invalid: Invalid) -> FolderError {
        self.wrong(invalid.key.trim_start_matches("model."), invalid.expected.replace("model.", ""), invalid.found)
    }
}

/// A `config.json`: its path and its keys.
pub type Described = (PathBuf, Map<String, Value>);

/// The `config.json` of a folder; `None` without one, or if it is no JSON.
///
/// # Errors
/// A file that cannot be read.
pub fn described(folder: &Path) -> Result<Option<Described>, FolderError> {
    let path = folder.join(CONFIG_FILE);
    if !path.exists() {
        return Ok(None);
    }
    let text = fs::read(&path).map_err(IoError::at(&path, "read"))?;
    let Ok(Value::Object(json)) = serde_json::from_slice(&text) else { return Ok(None) };
    Ok(Some((path, json)))
}

/// What a folder must describe: `found` is what its reader has found, `expected` the kinds that are meant.
///
/// # Errors
/// No `config.json`, or that of another kind of model.
pub fn of_kind<T>(folder: &Path, found: Option<T>, expected: &str) -> Result<T, FolderError> {
    let path = folder.join(CONFIG_FILE);
    match found {
        Some(found) => Ok(found),
        None if !path.exists() => {
            let source = std::io::Error::from(std::io::ErrorKind::NotFound);
            Err(FolderError::NoModel { path, source })
        }
        None => {
            let (key, expected) = ("model_type".to_owned(), format!("that of {expected}"));
            Err(FolderError::Key { path, key, expected, found: "another".to_owned() })
        }
    }
}

fn token(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|id| u32::try_from(id).ok())
}
