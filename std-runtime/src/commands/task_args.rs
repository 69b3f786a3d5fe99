//! The configuration of a command line that names a model other than a language model: each kind of task has tables of its own.

use std::fs;
use std::path::{Path, PathBuf};

use super::Error;
use super::args::ConfigArgs;
use crate::config::{Layers, Place, Table, Tables, Unread};
use crate::model_folder::CONFIG_FILE;

/// The tables of a kind of task.
pub(super) trait Task: Tables {
    /// What messages call its models, as in "an image model".
    const MODELS: &'static str;
    /// The values of `model.model_type` that are its own.
    const TYPES: &'static [&'static str];
    /// Keys of `[train]` that it has no use for, each with what is there instead.
    const UNREAD: &'static [(&'static str, &'static str)];

    /// `[model]`.
    type Model: Table;

    /// The model of a folder.
    ///
    /// # Errors
    /// A description that is not one of a supported model.
    fn model_in(folder: &Path) -> Result<Self::Model, Error>;

    /// Replaces the model.
    fn take(&mut self, model: Self::Model);

    /// Changes defaults that follow from what is given.
    ///
    /// # Errors
    /// A value that is given and cannot be read.
    fn follow(_layers: &mut Layers<Self>) -> Result<(), Error> {
        Ok(())
    }

    /// The keys of tables that have no effect because of other values.
    fn idle(&self) -> Vec<(&'static str, Unread)> {
        Vec::new()
    }
}

impl ConfigArgs {
    /// The configuration of a task, if `model.model_type` of the command line, of its file or of the initial folder is one of its types. `base` is the file to
    /// use when no file is given.
    pub(super) fn merge_task<T: Task>(&self, base: Option<&Path>, out: Option<&Path>) -> Result<Option<T>, Error> {
        let file = self.config.as_deref().or(base);
        let toml = file.map(table_of).unwrap_or_default();
        let of = |table: &str, key: &str| self.set_of(table, key).or_else(|| text(&toml, table, key));
        let init = self.init.clone().or_else(|| of("train", "init").map(PathBuf::from));
        let of_init = init.as_deref().and_then(type_of);
        let is_ours = |named: &String| T::TYPES.contains(&named.as_str());
        if !of("model", "model_type").as_ref().or(of_init.as_ref()).is_some_and(is_ours) {
            return Ok(None);
        }
        if let Some(preset) = &self.preset {
            let models = T::MODELS;
            return Err(Error::usage(format!(
                "--preset {preset} is one of language models, and model.model_type names {models}"
            )));
        }
        if let (Some(named), Some(own), Some(folder)) = (of("model", "model_type"), of_init, &init)
            && named != own
        {
            let folder = folder.display();
            return Err(Error::usage(format!(
                "--init {folder}: its model is a {own}, and model.model_type = {named}: weights of one family do not fit another; leave model.model_type or --init out"
            )));
        }
        let mut layers = Layers::<T>::new();
        if let Some(folder) = init {
            let model = T::model_in(&folder)?;
            let keys: Vec<String> = model.keys().iter().map(|key| format!("model.{}", key.name)).collect();
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            layers.put(&keys, &Place::Folder(folder.join(CONFIG_FILE)), |config| config.take(model));
        }
        if let Some(file) = file {
            layers.file(file)?;
        }
        self.set.iter().try_for_each(|set| layers.set(set))?;
        self.flags(out).into_iter().for_each(|(flag, key, value)| layers.flag(flag, key, &value));
        T::follow(&mut layers)?;
        let config = layers.finish()?;
        let of_train = T::UNREAD.iter().map(|&(key, instead)| ("train", Unread { key, instead }));
        of_train.chain(config.idle()).try_for_each(|(table, unread)| layers.refuse_given(&config, table, unread))?;
        Ok(Some(config))
    }

    /// The last value of a key after `--set`.
    pub(super) fn set_of(&self, table: &str, key: &str) -> Option<String> {
        let value = |set: &String| {
            let (name, value) = set.split_once('=')?;
            let is_it = name.trim().split_once('.') == Some((table, key));
            is_it.then(|| value.trim().trim_matches(['"', '\'']).to_owned())
        };
        self.set.iter().rev().find_map(value)
    }
}

/// The same of several keys.
pub(super) fn unread(
    table: &'static str,
    keys: &[&'static str],
    instead: &'static str,
) -> impl Iterator<Item = (&'static str, Unread)> {
    keys.iter().map(move |&key| (table, Unread { key, instead }))
}

/// A file's tables; a file that cannot be read is complained about later.
pub(super) fn table_of(file: &Path) -> toml::Table {
    fs::read_to_string(file).ok().and_then(|text| text.parse().ok()).unwrap_or_default()
}

fn text(toml: &toml::Table, table: &str, key: &str) -> Option<String> {
    toml.get(table)?.get(key)?.as_str().map(str::to_owned)
}

/// The model's type in a folder, whatever it is.
fn type_of(folder: &Path) -> Option<String> {
    let json: serde_json::Value = serde_json::from_slice(&fs::read(folder.join(CONFIG_FILE)).ok()?).ok()?;
    json.get("model_type")?.as_str().map(str::to_owned)
}
