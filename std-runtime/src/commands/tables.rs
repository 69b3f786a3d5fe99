//! Every table of every command: `samara config` prints them, files may contain them and `--set` reaches them.

use crate::config::{Invalid, Tables, tables};
use crate::data::config::DataConfig;
use crate::dialogue::config::DialogueConfig;
use crate::lm::generation::GenerateConfig;
use crate::model::ModelConfig;
use crate::model::tune::config::TuneConfig;
use crate::train::config::{RunConfig, SftConfig, TrainConfig};

// A command with a table of its own adds a line here: the table's name and type.
tables! {
    /// The complete configuration of a command line.
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

    /// The part that a training reads.
    pub(crate) fn run(self) -> RunConfig {
        self.sft().training()
    }

    /// The part that a training on dialogues reads.
    pub(crate) fn sft(self) -> SftConfig {
        let Self { model, data, dialogue, train, tune, generate } = self;
        SftConfig { model, data, dialogue, train, tune, generate }
    }
}
