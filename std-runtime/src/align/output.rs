//! The folder that an alignment leaves: a model that answers.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::dialogue::encode::Encoder;
use crate::files::text_if_there;
use crate::lm::RunError;
use crate::lm::scored::Scored;
use crate::model::folder::{FolderConfig, save_folder};
use crate::model_folder::Companions;
use crate::run::durable;
use crate::session::{Device, Session, SetId};
use crate::tokenizer::Tokenizer;
use crate::train::error::TrainingError;
use crate::train::run::companions;

/// What goes into the folder beside the weights.
pub struct Output {
    config: FolderConfig,
    companions: Companions,
    tokenizer: Tokenizer,
    template: (&'static str, Vec<u8>),
}

impl Output {
    /// The files of the folder `from` that the run begins with, and the template of its encoder.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn new(base: &FolderConfig, from: &Path, encoder: &Encoder) -> Result<Self, TrainingError> {
        let mut config = base.clone();
        if config.eos_token_ids.is_empty() || encoder.new_stop().is_some() {
            config.eos_token_ids = encoder.stops().to_vec();
            config.generation.remove("eos_token_id");
        }
        let tokenizer = encoder.tokenizer().clone();
        let template = tokenizer.chat_template_file(encoder.template().source());
        Ok(Self { config, companions: companions(Some(from), false)?, tokenizer, template })
    }

    /// Writes a language model.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn save<D: Device>(&self, session: &mut Session<D>, set: SetId, folder: &Path) -> Result<(), TrainingError> {
        self.save_companions(folder)?;
        let (set, device) = session.set_mut(set);
        let mut saved = Ok(());
        let params = set.registry().clone();
        device
            .lend(&set.weights, &mut |values| saved = save_folder(folder, &self.config, &params.view(), values))
            .map_err(RunError::from)?;
        Ok(saved?)
    }

    /// Writes a model with a score, all scores moved by a number where the model can hold that.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn save_scored<D: Device>(
        &self,
        session: &mut Session<D>,
        (set, model): (SetId, &Scored),
        (pad, shift): (Option<&Pad>, f64),
        folder: &Path,
    ) -> Result<(), TrainingError> {
        self.save_companions(folder)?;
        pad.filter(|pad| pad.is_new).map_or(Ok(()), |pad| pad.add_to(folder))?;
        let (set, device) = session.set_mut(set);
        let mut saved = Ok(());
        let mut save = |values: &[f32]| {
            let mut values = values.to_vec();
            model.shift(&mut values, shift);
            saved = model.save(folder, &self.config, pad.map(|pad| pad.id), &values);
        };
        device.lend(&set.weights, &mut save).map_err(RunError::from)?;
        Ok(saved?)
    }

    fn save_companions(&self, folder: &Path) -> Result<(), TrainingError> {
        fs::create_dir_all(folder).map_err(TrainingError::io(folder, "create"))?;
        if !self.companions.have_tokenizer() {
            self.tokenizer.save(folder, Some(self.config.model.positions()))?;
        }
        self.companions.copy_to(folder)?;
        let (name, content) = &self.template;
        let path = folder.join(name);
        durable::write(&path, content).map_err(TrainingError::io(&path, "write"))
    }
}

/// A token for padding that ends no text: other tools find the end of a row by it.
pub struct Pad {
    /// What it is written as.
    pub text: String,
    /// Its id.
    pub id: u32,
    /// Ids of a model that has it.
    pub vocab_size: usize,
    is_new: bool,
}

impl Pad {
    /// That of a tokenizer, or a new one behind its ids, for a model of `vocab_size` ids.
    pub fn of(encoder: &Encoder, vocab_size: usize) -> Self {
        let tokenizer = encoder.tokenizer();
        let named = tokenizer.named_tokens().into_iter().find(|(name, _)| *name == "pad_token");
        let own = named.and_then(|(_, text)| tokenizer.added_id(&text).map(|id| (text, id)));
        match own.filter(|(_, id)| !encoder.stops().contains(id) && (*id as usize) < vocab_size) {
            Some((text, id)) => Self { text, id, vocab_size, is_new: false },
            None => {
                let id = tokenizer.vocab_size();
                Self { text: "<|pad|>".to_owned(), id: id as u32, vocab_size: vocab_size.max(id + 1), is_new: true }
            }
        }
    }

    /// Adds it to the tokenizer files of a folder.
    fn add_to(&self, folder: &Path) -> Result<(), TrainingError> {
        let token = json!({
            "id": self.id, "content": self.text, "special": true, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false
        });
        edit(&folder.join("tokenizer.json"), |json| {
            if let Some(added) = json.get_mut("added_tokens").and_then(Value::as_array_mut) {
                added.push(token.clone());
            }
        })?;
        edit(&folder.join("tokenizer_config.json"), |json| {
            json["pad_token"] = self.text.as_str().into();
            if let Some(added) = json.get_mut("added_tokens_decoder").and_then(Value::as_object_mut) {
                let mut own = token.clone();
                if let Some(own) = own.as_object_mut() {
                    own.remove("id");
                }
                added.insert(self.id.to_string(), own);
            }
        })?;
        if folder.join("tokenizer.json").exists() {
            return Ok(());
        }
        // A slow tokenizer of vocab.json and merges.txt keeps its added tokens here.
        let path = folder.join("added_tokens.json");
        let mut json: Value = serde_json::from_str(&text_if_there(&path)?).unwrap_or_else(|_| json!({}));
        json[&self.text] = self.id.into();
        durable::write(&path, json.to_string().as_bytes()).map_err(TrainingError::io(&path, "write"))
    }
}

/// Changes a file of JSON, if it is there.
fn edit(path: &Path, change: impl FnOnce(&mut Value)) -> Result<(), TrainingError> {
    let Ok(mut json) = serde_json::from_str(&text_if_there(path)?) else { return Ok(()) };
    change(&mut json);
    durable::write(path, format!("{json:#}\n").as_bytes()).map_err(TrainingError::io(path, "write"))
}
