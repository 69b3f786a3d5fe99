//! Flags that several commands have.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::builder::PossibleValuesParser;

use super::Error;
use super::tables::Config;
use crate::config::{ConfigError, Layers, Place, Table, Tables, Unread};
use crate::data::config::TokenizerChoice;
use crate::lm::Model;
use crate::lm::formats::Quantize;
use crate::model::ModelConfig;
use crate::model::folder::FolderConfig;
use crate::model::tune::peft::Source;
use crate::model_folder::ExtraTensors;
use crate::say;
use crate::session::Engine;
use crate::train::presets::{DEFAULT_PRESET, PRESETS, SFT_PRESETS, find};

/// Everything that makes a configuration.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct ConfigArgs {
    /// Start from a named configuration.
    #[arg(long, value_name = "NAME", value_parser = preset_names())]
    pub(super) preset: Option<String>,
    /// Read a TOML file over it.
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Text, rows of JSON or CSV (each also .gz or .zst), token shards, or a folder.
    #[arg(long, value_name = "PATH")]
    pub(super) data: Option<PathBuf>,
    /// Start from the model in this folder.
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
    let all = PRESETS.iter().chain(SFT_PRESETS);
    all.map(|preset| clap::builder::PossibleValue::new(preset.name).help(preset.about)).collect::<Vec<_>>().into()
}

impl ConfigArgs {
    /// The effective configuration. `base` is the file to use when neither a preset nor a file is given.
    pub(super) fn merge(&self, base: Option<&Path>, out: Option<&Path>) -> Result<Config, Error> {
        Ok(self.merge_and_note(base, out)?.0)
    }

    /// The same, with notes for the user about values that have no effect.
    pub(super) fn merge_and_note(&self, base: Option<&Path>, out: Option<&Path>) -> Result<(Config, Vec<String>), Error> {
        const UNREAD: &[(&str, &str)] = &[
            ("template", DIALOGUES),
            ("today", DIALOGUES),
            ("epochs", DIALOGUES),
            ("max_length", DIALOGUES),
            ("packing", DIALOGUES),
            ("completion_only_loss", DIALOGUES),
            ("val", DIALOGUES),
            ("pad_token", DIALOGUES),
            ("add_tokens", DIALOGUES),
        ];
        const DIALOGUES: &str = "plain text has no dialogues: train on dialogues with samara sft";
        self.merge_for(DEFAULT_PRESET, "dialogue", UNREAD, base, out)
    }

    /// The effective configuration of a command that starts from the preset `default` and does not read some keys of `table`: each key with the
    /// alternative.
    pub(super) fn merge_for(
        &self,
        default: &'static str,
        table: &str,
        unread: &[(&'static str, &'static str)],
        base: Option<&Path>,
        out: Option<&Path>,
    ) -> Result<(Config, Vec<String>), Error> {
        let (layers, notes) = self.merge_layers(default, base, out)?;
        let config = layers.finish()?;
        refuse_idle_evaluation(&layers, &config)?;
        for &(key, instead) in unread {
            layers.refuse_given(&config, table, Unread { key, instead })?;
        }
        Ok((config, notes))
    }

    fn merge_layers(
        &self,
        default: &'static str,
        base: Option<&Path>,
        out: Option<&Path>,
    ) -> Result<(Layers<Config>, Vec<String>), Error> {
        // The folder determines which keys [model] has, so it is read first.
        let mut layers = self.layers(default, base, out, None)?;
        let init = layers.values_of("train")?.train.init;
        let mut notes = Vec::new();
        if let Some(folder) = init {
            let model = FolderConfig::read(&folder)?.model;
            let preset = self.layers(default, base, out, None)?;
            layers = self.layers(default, base, out, Some((&folder, model)))?;
            notes.extend(self.preset.as_ref().and_then(|name| idle_in_preset(name, &folder, &preset, &layers)));
        }
        notes.extend(follow_lr(&mut layers)?);
        notes.extend(choose_end(&mut layers)?);
        Ok((layers, notes))
    }

    fn layers(
        &self,
        default: &'static str,
        base: Option<&Path>,
        out: Option<&Path>,
        folder: Option<(&Path, ModelConfig)>,
    ) -> Result<Layers<Config>, Error> {
        let mut layers = Layers::<Config>::new();
        layers.preset(find(self.preset.as_deref().unwrap_or(default))?)?;
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
        self.flags(out).into_iter().for_each(|(flag, key, value)| layers.flag(flag, key, &value));
        Ok(layers)
    }

    /// The given flags: each with its key and its value in TOML.
    pub(super) fn flags(&self, out: Option<&Path>) -> Vec<(&'static str, &'static str, String)> {
        let path = |path: &PathBuf| toml::Value::String(path.to_string_lossy().into_owned()).to_string();
        let flags = [
            ("--data", "data.path", self.data.as_ref().map(path)),
            ("--init", "train.init", self.init.as_ref().map(path)),
            ("--out", "train.out", out.map(|out| path(&out.to_path_buf()))),
            ("--threads", "train.threads", self.threads.clone()),
            ("--seed", "train.seed", self.seed.clone()),
        ];
        flags.into_iter().filter_map(|(flag, key, value)| Some((flag, key, value?))).collect()
    }
}

/// A note that lists the values of a preset that the initial model's folder overrides.
fn idle_in_preset(name: &str, folder: &Path, before: &Layers<Config>, after: &Layers<Config>) -> Option<String> {
    let model = before.values().map(|config| config.model).ok()?;
    let keys = model.keys().iter().map(|key| format!("model.{}", key.name));
    let others = ["data.tokenizer", "train.block_size"].map(str::to_owned);
    let gives_way =
        |key: &String| matches!(before.place(key), Some(Place::Preset(_))) && !matches!(after.place(key), Some(Place::Preset(_)));
    // A value that is the same in both needs no note.
    let [then, now] = [before, after].map(|layers| layers.values().ok());
    let shown = |config: &Option<Config>, key: &str| {
        let (table, key) = key.split_once('.')?;
        config.as_ref()?.tables().into_iter().find(|(name, _)| *name == table).and_then(|(_, table)| table.show(key))
    };
    let differs = |key: &String| shown(&then, key) != shown(&now, key);
    let idle: Vec<String> = keys.chain(others).filter(gives_way).filter(differs).collect();
    let (have, them) = if idle.len() == 1 { ("has", "it") } else { ("have", "them") };
    (!idle.is_empty())
        .then(|| format!("note: {} of preset {name} {have} no effect: {} sets {them}", idle.join(", "), folder.display()))
}

/// Refuses settings of evaluations on the command line where nothing is held out.
fn refuse_idle_evaluation(layers: &Layers<Config>, config: &Config) -> Result<(), ConfigError> {
    // A folder may have held-out shards, and dialogues a file of their own.
    if config.data.val_fraction > 0.0
        || config.dialogue.val.is_some()
        || config.data.path.as_ref().is_some_and(|path| path.is_dir())
    {
        return Ok(());
    }
    let instead = "data.val_fraction = 0 holds nothing out that could be evaluated";
    let given = ["eval_batches", "patience"].into_iter().filter(|key| is_given(layers.place(&format!("train.{key}"))));
    given.map(|key| Unread { key, instead }).try_for_each(|unread| layers.refuse_given(config, "train", unread))
}

/// Whether a person gave a value on the command line.
pub(super) fn is_given(place: Option<&Place>) -> bool {
    matches!(place, Some(Place::Set(_) | Place::Flag(_)))
}

/// A preset's smallest learning rate follows a learning rate below it.
fn follow_lr(layers: &mut Layers<Config>) -> Result<Option<String>, Error> {
    let train = layers.values_of("train")?.train;
    let (lr, is_preset) = (train.lr, matches!(layers.place("train.min_lr"), Some(Place::Preset(_))));
    let Some(min_lr) = train.min_lr.filter(|&min_lr| min_lr > lr && is_preset) else { return Ok(None) };
    layers.put(&["train.min_lr"], &Place::Default, |config| config.train.min_lr = None);
    Ok(Some(format!("note: train.min_lr is a tenth of train.lr = {lr:e}: the preset's {min_lr:e} is larger than train.lr")))
}

/// What can end a run besides a number of steps: whether it does.
type End = (&'static str, fn(&Config) -> bool, fn(&mut Config));

const ENDS: [End; 3] = [
    ("train.tokens", |config| config.train.tokens > 0, |config| config.train.tokens = 0),
    ("train.flops", |config| config.train.flops > 0.0, |config| config.train.flops = 0.0),
    ("dialogue.epochs", |config| config.dialogue.epochs > 0.0, |config| config.dialogue.epochs = 0.0),
];

/// Steps, tokens, FLOP or epochs end a run: one that is given on the command line replaces those of a file.
fn choose_end(layers: &mut Layers<Config>) -> Result<Option<String>, Error> {
    let names = ["train.steps"].into_iter().chain(ENDS.map(|(key, ..)| key));
    let given: Vec<&str> = names.filter(|key| is_given(layers.place(key))).collect();
    let config = Config { dialogue: layers.values_of("dialogue")?.dialogue, ..layers.values_of("train")? };
    let is_set = |key: &&str| ENDS.iter().any(|(end, counts, _)| end == key && counts(&config));
    let twice = |key: &str, other: &str, found: String| {
        let place = layers.place(key).cloned().unwrap_or(Place::Default);
        let expected = format!("no value; {other} already ends the run: set one of them");
        Err(ConfigError::Value { place, key: key.to_owned(), expected, found }.into())
    };
    match given.as_slice() {
        ["train.steps", others @ ..] if others.iter().any(is_set) => {
            twice("train.steps", others[0], config.train.steps.to_string())
        }
        [other, .., "dialogue.epochs"] if config.dialogue.epochs > 0.0 => {
            twice("dialogue.epochs", other, config.dialogue.epochs.to_string())
        }
        [one] => {
            let idle: Vec<End> = ENDS.into_iter().filter(|(key, counts, _)| counts(&config) && key != one).collect();
            for (key, _, clear) in &idle {
                layers.put(&[*key], &Place::Default, clear);
            }
            // Values of a preset are replaced silently.
            let what: Vec<&str> = idle.iter().map(|(key, ..)| *key).filter(|key| *key != "dialogue.epochs").collect();
            let what = what.join(" and ");
            Ok((!what.is_empty()).then(|| format!("note: {one} ends the run; {what} of the file has no effect")))
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
    // A default window is cut to the model's context.
    if !matches!(layers.place("train.block_size"), Some(Place::File { .. } | Place::Set(_) | Place::Flag(_))) {
        let block = former.train.block_size.min(model.positions());
        layers.put(&["train.block_size"], &place, |config| config.train.block_size = block);
    }
    // A folder without a tokenizer has no default: text is refused unless the user names one.
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
    /// The base of an adapter, if it is not where the adapter's description says.
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
    /// The same as keys of a configuration.
    pub(super) fn flags(&self) -> [(&'static str, &'static str, Option<String>); 2] {
        [("--threads", "train.threads", Some(self.threads.clone())), ("--gemm", "train.gemm", Some(self.gemm.clone()))]
    }

    /// The engine of the flags.
    pub(super) fn engine(&self) -> Result<Arc<Engine>, Error> {
        let mut layers = Layers::<Config>::new();
        for (flag, key, value) in self.flags() {
            layers.flag(flag, key, &value.unwrap_or_default());
        }
        let train = layers.values()?.train;
        Ok(Engine::new(train.threads, train.gemm)?)
    }
}

/// The element type of a model's weights.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct WeightFormat {
    /// Quantise the weights to 8 or 4 bits, and report the loss due to quantisation.
    #[arg(long, value_enum, value_name = "TYPE")]
    pub(super) quantize: Option<Quantize>,
    /// Skip the comparison with the f32 model, so that its weights are never loaded.
    #[arg(long, requires = "quantize")]
    skip_f32: bool,
    #[command(flatten)]
    extra: ExtraArgs,
}

/// Tensors of a folder that its model has no place for.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct ExtraArgs {
    /// Leave out tensors that the model has no place for, and list them.
    #[arg(long)]
    ignore_extra: bool,
}

impl ExtraArgs {
    /// The options for opening the weights.
    pub(super) fn tensors(self) -> ExtraTensors {
        ExtraTensors::ignore_if(self.ignore_extra)
    }

    /// Opens a model and lists the tensors that were left out.
    pub(super) fn open(
        self,
        engine: &Arc<Engine>,
        source: &Source,
        quantize: Option<Quantize>,
        quiet: bool,
    ) -> Result<Model, Error> {
        let model = Model::open_quantised(engine, source, quantize, self.tensors())?;
        if !quiet && !model.ignored().is_empty() {
            say::line(&format!("note: {}: ignored tensors: {}", source.base.display(), model.ignored().join(", ")));
        }
        Ok(model)
    }
}

impl WeightFormat {
    /// Opens a model in this format.
    pub(super) fn open(&self, engine: &Arc<Engine>, source: &Source, quiet: bool) -> Result<Model, Error> {
        self.extra.open(engine, source, self.quantize, quiet)
    }

    /// Whether the f32 model is measured as well.
    pub(super) fn compares(&self) -> bool {
        self.quantize.is_some() && !self.skip_f32
    }

    /// The result of `measure` for a model and, if it is quantised and compared, for the f32 model of the same folder. The first model is dropped
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
        let mut model = Model::open_quantised(engine, source, None, self.extra.tensors())?;
        Ok((own, Some(measure(&mut model)?)))
    }
}

/// Sets keys for a command that reads one table only; a key of another table is refused, because it would have no effect.
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
        id.trim().parse().map_err(|_| format!("id {at} is {id:?}: expected ids separated by commas, as in 1,2,3"))
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
