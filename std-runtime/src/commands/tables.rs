//! Every table of every command: what `samara config` prints, files may hold and `--set` reaches.

use crate::config::{Invalid, Tables, tables};
use crate::data::config::DataConfig;
use crate::dialogue::config::DialogueConfig;
use crate::lm::generation::GenerateConfig;
use crate::model::ModelConfig;
use crate::model::tune::config::TuneConfig;
use crate::train::config::{RunConfig, SftConfig, TrainConfig};

// A command that brings a table of its own adds it here: a line with its name and its type.
tables! {
    /// The configuration that a command line asks for.
    pub(crate) Config checked by Config::check_together {
        /// `[model]`
        model: ModelConfig;
        /// `[data]`
        data: DataConfig;
        /// `[dialogue]`
        dialogue: DialogueConfig;
        /// `[train]`
        train: TrainConfig;
        /// `[tune]`
        tune: TuneConfig;
        /// `[generate]`
        generate: GenerateConfig;
    }
}

impl Config {
    fn check_together(&self) -> Result<(), Invalid> {
        self.clone().sft().check()
    }

    /// What a training takes of it.
    pub(crate) fn run(self) -> RunConfig {
        self.sft().training()
    }

    /// What a training on dialogues takes of it.
    pub(crate) fn sft(self) -> SftConfig {
        let Self { model, data, dialogue, train, tune, generate } = self;
        SftConfig { model, data, dialogue, train, tune, generate }
    }
}
