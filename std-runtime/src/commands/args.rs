//! Flags that several commands have.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::builder::PossibleValuesParser;

use super::Error;
use super::tables::Config;
use crate::config::{ConfigError, Layers, Place, Table};
use crate::data::config::TokenizerChoice;
use crate::lm::Model;
use crate::lm::formats::Quantize;
use crate::model::ModelConfig;
use crate::model::folder::FolderConfig;
use crate::model::tune::peft::Source;
use crate::session::Engine;
use crate::train::presets::{DEFAULT_PRESET, PRESETS, find};

/// Everything that makes a configuration.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct ConfigArgs {
    /// Begin with a named configuration.
    #[arg(long, value_name = "NAME", value_parser = preset_names())]
    pub(super) preset: Option<String>,
    /// Read a TOML file over it.
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Text, rows of JSON (each also .gz or .zst), token shards, or a folder.
    #[arg(long, value_name = "PATH")]
    pub(super) data: Option<PathBuf>,
    /// Begin with the model of this folder.
    #[arg(long, value_name = "DIR")]
    pub(super) init: Option<PathBuf>,
    /// Threads; 0: one for each core.
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub(super) threads: Option<String>,
    /// Seed of everything random.
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub(super) seed: Option<String>,
    /// Set a key of the configuration, as in train.steps=30.
    #[arg(long, value_name = "KEY=VALUE", allow_hyphen_values = true)]
    pub(super) set: Vec<String>,
}

fn preset_names() -> PossibleValuesParser {
    PRESETS.iter().map(|preset| clap::builder::PossibleValue::new(preset.name).help(preset.about)).collect::<Vec<_>>().into()
}

impl ConfigArgs {
    /// The effective configuration. `base` is a file that stands in for preset and file when neither is given.
    pub(super) fn merge(&self, base: Option<&Path>, out: Option<&Path>) -> Result<Config, Error> {
        Ok(self.merge_and_note(base, out)?.0)
    }

    /// The same, and what a person should know of values that do not count.
    pub(super) fn merge_and_note(&self, base: Option<&Path>, out: Option<&Path>) -> Result<(Config, Vec<String>), Error> {
        // Which keys [model] has follows from the folder: it is looked at first.
        let mut layers = self.layers(base, out, None)?;
        let init = layers.values_of("train")?.train.init;
        let mut notes = Vec::new();
        if let Some(folder) = init {
            let model = FolderConfig::read(&folder)?.model;
            let preset = self.layers(base, out, None)?;
            layers = self.layers(base, out, Some((&folder, model)))?;
            notes.extend(self.preset.as_ref().and_then(|name| idle_in_preset(name, &folder, &preset, &layers)));
        }
        notes.extend(follow_lr(&mut layers)?);
        notes.extend(choose_end(&mut layers)?);
        Ok((layers.finish()?, notes))
    }

    fn layers(
        &self,
        base: Option<&Path>,
        out: Option<&Path>,
        folder: Option<(&Path, ModelConfig)>,
    ) -> Result<Layers<Config>, Error> {
        let mut layers = Layers::<Config>::new();
        layers.preset(find(self.preset.as_deref().unwrap_or(DEFAULT_PRESET))?)?;
        if let Some((folder, model)) = folder {
            lay_folder(&mut layers, folder, &model)?;
        }
        let base = base.filter(|_| self.preset.is_none() && self.config.is_none());
        if let Some(file) = base.or(self.config.as_deref()) {
            layers.file(file)?;
        }
        for set in &self.set {
            layers.set(set)?;
        }
        let path = |path: &PathBuf| toml::Value::String(path.to_string_lossy().into_owned()).to_string();
        let flags = [
            ("--data", "data.path", self.data.as_ref().map(path)),
            ("--init", "train.init", self.init.as_ref().map(path)),
            ("--out", "train.out", out.map(|out| path(&out.to_path_buf()))),
            ("--threads", "train.threads", self.threads.clone()),
            ("--seed", "train.seed", self.seed.clone()),
        ];
        for (flag, key, value) in flags {
            if let Some(value) = value {
                layers.flag(flag, key, &value);
            }
        }
        Ok(layers)
    }
}

/// Says which values of a preset give way to those of the folder that a run begins with.
fn idle_in_preset(name: &str, folder: &Path, before: &Layers<Config>, after: &Layers<Config>) -> Option<String> {
    let model = before.values().map(|config| config.model).ok()?;
    let keys = model.keys().iter().map(|key| format!("model.{}", key.name));
    let others = ["data.tokenizer", "train.block_size"].map(str::to_owned);
    let gives_way =
        |key: &String| matches!(before.place(key), Some(Place::Preset(_))) && !matches!(after.place(key), Some(Place::Preset(_)));
    let idle: Vec<String> = keys.chain(others).filter(gives_way).collect();
    (!idle.is_empty())
        .then(|| format!("note: {} of preset {name} do not count: {} says what they are", idle.join(", "), folder.display()))
}

/// Whether a person gave a value on the command line.
fn is_given(place: Option<&Place>) -> bool {
    matches!(place, Some(Place::Set(_) | Place::Flag(_)))
}

/// A preset's smallest learning rate follows a learning rate below it.
fn follow_lr(layers: &mut Layers<Config>) -> Result<Option<String>, Error> {
    let train = layers.values_of("train")?.train;
    let (lr, is_preset) = (train.lr, matches!(layers.place("train.min_lr"), Some(Place::Preset(_))));
    let Some(min_lr) = train.min_lr.filter(|&min_lr| min_lr > lr && is_preset) else { return Ok(None) };
    layers.put(&["train.min_lr"], &Place::Default, |config| config.train.min_lr = None);
    Ok(Some(format!("note: train.min_lr is a tenth of train.lr = {lr:e}: the preset's {min_lr:e} is above that")))
}

/// Steps, tokens or operations end a run: the one that is given on the command line counts, and those of a file do not.
fn choose_end(layers: &mut Layers<Config>) -> Result<Option<String>, Error> {
    const ENDS: [&str; 3] = ["train.steps", "train.tokens", "train.flops"];
    let given: Vec<&str> = ENDS.into_iter().filter(|key| is_given(layers.place(key))).collect();
    let train = layers.values_of("train")?.train;
    match given.as_slice() {
        ["train.steps", other, ..] if train.tokens > 0 || train.flops > 0.0 => {
            let place = layers.place("train.steps").cloned().unwrap_or(Place::Default);
            let expected = format!("no value; {other} says when the run ends: set one of them");
            Err(ConfigError::Value { place, key: "train.steps".to_owned(), expected, found: train.steps.to_string() }.into())
        }
        [one] => {
            let idle: Vec<&str> = [("train.tokens", train.tokens > 0), ("train.flops", train.flops > 0.0)]
                .into_iter()
                .filter(|(key, counts)| *counts && key != one)
                .map(|(key, _)| key)
                .collect();
            for key in &idle {
                layers.put(&[*key], &Place::Default, |config| match *key {
                    "train.tokens" => config.train.tokens = 0,
                    _ => config.train.flops = 0.0,
                });
            }
            let what = idle.join(" and ");
            Ok((!idle.is_empty()).then(|| format!("note: {one} says when the run ends; {what} of the file no longer does")))
        }
        _ => Ok(None),
    }
}

/// Takes the model of a folder, and its tokenizer.
fn lay_folder(layers: &mut Layers<Config>, folder: &Path, model: &ModelConfig) -> Result<(), Error> {
    let former = layers.values()?;
    let place = Place::Folder(folder.join("config.json"));
    let all = [&former.model, model].map(|model| model.keys().iter().map(|key| format!("model.{}", key.name)));
    let keys: Vec<String> = all.into_iter().flatten().collect();
    layers.put(&keys.iter().map(String::as_str).collect::<Vec<_>>(), &place, |config| config.model = model.clone());
    // A block that nobody asked for fits into the model.
    if !matches!(layers.place("train.block_size"), Some(Place::File { .. } | Place::Set(_) | Place::Flag(_))) {
        let block = former.train.block_size.min(model.positions());
        layers.put(&["train.block_size"], &place, |config| config.train.block_size = block);
    }
    // A folder without one has no other: text is refused then, unless somebody names one.
    let tokenizer = TokenizerChoice::Path(folder.to_path_buf());
    layers.put(&["data.tokenizer"], &Place::Folder(folder.to_path_buf()), |config| config.data.tokenizer = tokenizer);
    Ok(())
}

/// A model folder, or an adapter folder and its base.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ModelArgs {
    /// The model folder, or a folder with an adapter.
    #[arg(long, value_name = "DIR")]
    pub(super) model: PathBuf,
    /// The base of an adapter, where it is not where the adapter says.
    #[arg(long, value_name = "DIR")]
    base: Option<PathBuf>,
}

impl ModelArgs {
    /// Where the model is.
    pub(super) fn source(&self) -> Result<Source, Error> {
        Ok(Source::of(&self.model, self.base.as_deref())?)
    }
}

/// Threads and kernels.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct EngineArgs {
    /// Threads; 0: one for each core. The result does not depend on it.
    #[arg(long, value_name = "N", default_value = "0", allow_hyphen_values = true)]
    threads: String,
    /// GEMM backend.
    #[arg(long, value_name = "NAME", default_value = "samara", value_parser = ["samara", "portable", "matrixmultiply"])]
    gemm: String,
}

impl EngineArgs {
    /// The engine that was asked for.
    pub(super) fn engine(&self) -> Result<Arc<Engine>, Error> {
        let mut layers = Layers::<Config>::new();
        layers.flag("--threads", "train.threads", &self.threads);
        layers.flag("--gemm", "train.gemm", &self.gemm);
        let train = layers.values()?.train;
        Ok(Engine::new(train.threads, train.gemm)?)
    }
}

/// The element type of a model's weights.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct WeightFormat {
    /// Quantise the weights to 8 or 4 bits, and report the loss that this costs.
    #[arg(long, value_enum, value_name = "TYPE")]
    pub(super) quantize: Option<Quantize>,
    /// Skip the comparison with the f32 model, so that its weights are never loaded.
    #[arg(long, requires = "quantize")]
    skip_f32: bool,
}

impl WeightFormat {
    /// Whether the f32 model is measured as well.
    pub(super) fn compares(&self) -> bool {
        self.quantize.is_some() && !self.skip_f32
    }

    /// What `measure` gives for a model and, if it is quantised and compared, for the f32 model of the same folder. The first model is dropped
    /// before the second is opened: they are never in memory together.
    pub(super) fn compared<T>(
        &self,
        engine: &Arc<Engine>,
        source: &Source,
        mut model: Model,
        mut measure: impl FnMut(&mut Model) -> Result<T, Error>,
    ) -> Result<(T, Option<T>), Error> {
        let own = measure(&mut model)?;
        drop(model);
        if !self.compares() {
            return Ok((own, None));
        }
        let mut model = Model::open_quantised(engine, source, None)?;
        Ok((own, Some(measure(&mut model)?)))
    }
}

/// Sets keys for a command that reads one table only; a key of another table is refused, because it would change nothing.
pub(super) fn set_keys(layers: &mut Layers<Config>, sets: &[String], table: &str) -> Result<(), Error> {
    for set in sets {
        layers.set(set)?;
        if set.split('.').next().is_none_or(|found| found.trim() != table) {
            return Err(Error::usage(format!(
                "--set {set}: this command reads [{table}] only: expected a key such as {table}.KEY; leave it out"
            )));
        }
    }
    Ok(())
}

/// Token ids between commas.
pub(super) fn token_ids(text: &str) -> Result<Vec<u32>, String> {
    let id = |(at, id): (usize, &str)| {
        id.trim().parse().map_err(|_| format!("id {at} is {id:?}: expected ids between commas, as in 1,2,3"))
    };
    text.split([',']).enumerate().map(id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::gpt::GptModel;

    #[test]
    fn a_folder_brings_its_model_and_its_positions() {
        let model: ModelConfig = GptModel { n_positions: 64, bias: false, ..GptModel::default() }.into();
        let mut layers = Layers::<Config>::new();
        lay_folder(&mut layers, Path::new("some-folder"), &model).unwrap();
        let config = layers.finish().unwrap();
        assert_eq!((config.model, config.train.block_size), (model, 64));
        layers.set("model.n_head=5").unwrap();
        let error = layers.finish().unwrap_err().to_string();
        assert!(error.starts_with("some-folder/config.json: model.n_embd"), "{error}");
    }
}
