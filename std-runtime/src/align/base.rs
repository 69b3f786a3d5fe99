//! The language model that is aligned, and where its first weights come from.

use std::path::PathBuf;
use std::sync::Arc;

use samara_core::model::lm::LanguageModel;
use serde_json::Value;

use crate::lm::set_weights::begin;
use crate::lm::{RunError, register};
use crate::model::architecture::Architecture;
use crate::model::folder::FolderConfig;
use crate::model::tune::peft;
use crate::model_folder::Reading;
use crate::session::{BuildError, Device, OwnedParams, Session, SetId};
use crate::train::error::TrainingError;

/// A language model with its first weights.
pub struct Base {
    /// What it is made by, with its adapters if it has some.
    pub architecture: Arc<dyn Architecture>,
    /// The folder with its first weights, which are the reference's as well; none: random ones.
    pub init: Option<PathBuf>,
}

/// What frozen weights were read from, if there are some: they are in no checkpoint.
pub type Frozen = Option<peft::Base>;

impl Base {
    /// Its registry and layers.
    ///
    /// # Errors
    /// The registry cannot hold the parameters.
    pub fn register(&self) -> Result<(Arc<OwnedParams>, Arc<dyn LanguageModel>), BuildError> {
        register(&*self.architecture, 0, |_, _| ())
    }

    /// Fills a policy with the first weights, or with its frozen ones alone where a checkpoint has the others, and its reference, which reads the same
    /// frozen weights: adapters begin with B = 0, so that the reference is the base without them, to the bit.
    ///
    /// # Errors
    /// The folder cannot be read, or its tensors are not those of the model.
    pub fn fill<D: Device>(
        &self,
        session: &mut Session<D>,
        (policy, reference): (SetId, Option<SetId>),
        seed: u64,
        resumed: bool,
    ) -> Result<Frozen, TrainingError> {
        let has_frozen = session.set(policy).params().frozen_bytes() > 0;
        let mut frozen = None;
        let first = Some(policy).filter(|_| !resumed || has_frozen);
        for set in first.into_iter().chain(reference) {
            let Some(folder) = &self.init else {
                let (set, device) = session.set_mut(set);
                set.initialise(device, seed).map_err(RunError::from)?;
                continue;
            };
            // The model has more token ids than the folder's where tokens were added.
            let reading = Reading { token_ids: FolderConfig::read(folder)?.model.vocab_size(), ..Reading::default() };
            frozen = frozen.or(begin(session, set, &*self.architecture, (folder, reading), seed)?.base);
        }
        Ok(frozen)
    }
}

/// What a run remembers of them.
pub fn state_of(frozen: &Frozen) -> Value {
    frozen.as_ref().map_or(Value::Null, peft::Base::to_state)
}

/// Refuses to go on with other frozen weights than those that a run remembers.
///
/// # Errors
/// They are others, in words.
pub fn check_state(frozen: &Frozen, state: &Value) -> Result<(), String> {
    frozen.as_ref().map_or(Ok(()), |frozen| frozen.check_state(state))
}
