//! The folder that an alignment leaves: a model that answers.

use std::fs;
use std::path::Path;

use super::base::Frozen;
use crate::dialogue::encode::Encoder;
use crate::lm::scored::Scored;
use crate::lm::set_weights::leave;
use crate::model::architecture::Architecture;
use crate::model::folder::FolderConfig;
use crate::model_folder::Companions;
use crate::run::durable;
use crate::session::{Device, Session, SetId};
use crate::tokenizer::Tokenizer;
use crate::train::dialogues::{answering, changed_files};
use crate::train::error::TrainingError;
use crate::train::run::companions;

/// What goes into the folder beside the weights.
pub struct Output {
    config: FolderConfig,
    companions: Companions,
    tokenizer: Tokenizer,
    /// Files in place of those that the run began with.
    files: Vec<(&'static str, Vec<u8>)>,
}

impl Output {
    /// The files of the folder `from` that the run begins with, and the template of its encoder.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn new(base: &FolderConfig, from: &Path, encoder: &Encoder) -> Result<Self, TrainingError> {
        let (config, companions) = (answering(base, encoder), companions(Some(from), false)?);
        Ok(Self { config, companions, tokenizer: encoder.tokenizer().clone(), files: changed_files(encoder) })
    }

    /// Writes a language model, or its adapters.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn save<D: Device>(
        &self,
        session: &mut Session<D>,
        set: SetId,
        (architecture, frozen): (&dyn Architecture, &Frozen),
        folder: &Path,
    ) -> Result<(), TrainingError> {
        self.save_companions(folder)?;
        Ok(leave(session, set, architecture, frozen.as_ref(), (folder, &self.config))?)
    }

    /// Writes a model with a score, or its adapters and the score, all scores moved by a number where the model can hold that.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn save_scored<D: Device>(
        &self,
        session: &mut Session<D>,
        (set, model, frozen): (SetId, &Scored, &Frozen),
        (pad, shift): (Option<u32>, f64),
        folder: &Path,
    ) -> Result<(), TrainingError> {
        self.save_companions(folder)?;
        Ok(model.leave(session, (set, shift), frozen.as_ref(), (folder, &self.config, pad))?)
    }

    fn save_companions(&self, folder: &Path) -> Result<(), TrainingError> {
        fs::create_dir_all(folder).map_err(TrainingError::io(folder, "create"))?;
        if !self.companions.have_tokenizer() {
            self.tokenizer.save(folder, Some(self.config.model.positions()))?;
        }
        self.companions.copy_to(folder)?;
        for (name, content) in &self.files {
            let path = folder.join(name);
            durable::write(&path, content).map_err(TrainingError::io(&path, "write"))?;
        }
        Ok(())
    }
}
