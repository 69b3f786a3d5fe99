//! Training of an ALBEF for the command line.

use std::path::{Path, PathBuf};

use samara_core::model::albef::{Albef, AlbefConfig};
use samara_core::model::image::ImageDims;
use samara_core::params::Params;

use super::albef_config::AlbefRunConfig;
use super::config::TrainConfig;
use super::error::TrainingError as Error;
use super::objective::Source;
use super::objectives::albef::{AlignFuse, Model, Terms};
use super::objectives::supervised::TaskFolder;
use super::pair_data::PairTables;
use super::pairs::PairRun;
use crate::config::Invalid;
use crate::encoder::masking::{Masking, Separators};
use crate::image_text::albef::AlbefModel;
use crate::image_text::albef_folder::AlbefFolder;
use crate::image_text::data::tokens::CaptionEncoder;
use crate::model_folder::{ExtraTensors, ParamValues, load_weights_with, maps, save_weights};
use crate::session::OwnedParams;
use crate::tokenizer::Tokenizer;
use crate::vision::processor::Processor;

impl PairRun for AlbefRunConfig {
    type Objective = AlignFuse;

    fn model_type(&self) -> &'static str {
        AlbefModel::TYPE
    }

    fn train(&self) -> &TrainConfig {
        &self.train
    }

    fn data_path(&mut self) -> &mut Option<PathBuf> {
        &mut self.data.path
    }

    fn pairs(&self) -> PairTables<'_> {
        self.into()
    }

    fn image_dims(&self) -> ImageDims {
        self.model.image_dims()
    }

    fn fit(&mut self, tokenizer: &Tokenizer) {
        self.model.vocab_size = tokenizer.vocab_size();
    }

    fn encoder<'t>(&'t self, tokenizer: &'t Tokenizer) -> Result<CaptionEncoder<'t>, Invalid> {
        CaptionEncoder::of_bert(tokenizer, self.model.vocab_size, self.model.max_position_embeddings)
    }

    fn objective(
        &self,
        source: Source,
        text_len: [usize; 2],
        tokenizer: Tokenizer,
        processor: Processor,
    ) -> Result<AlignFuse, Error> {
        let core = self.model.to_core()?;
        let (registry, albef) = OwnedParams::of(|s| Albef::register(&core, s))?;
        let masking = Masking::new(&self.mlm, &tokenizer, self.model.vocab_size, Separators::Maskable)?;
        let terms = Terms::new(&self.albef, source.train.len() / self.train.batch_size.max(1) as u64)?;
        let own = Own { config: self.clone(), core, tokenizer, processor, others: others(self)? };
        let model = Model { albef, registry, text_len, masking, masked: self.mlm.probability, folder: Box::new(own) };
        Ok(AlignFuse::new(model, terms, source, &self.train))
    }

    fn parameters(objective: &AlignFuse) -> usize {
        objective.parameters()
    }
}

/// Keys of the initial folder without a meaning here.
fn others(config: &AlbefRunConfig) -> Result<serde_json::Map<String, serde_json::Value>, Error> {
    let described = config.train.init.as_deref().map(AlbefFolder::open).transpose()?;
    Ok(described.map(|folder| folder.others).unwrap_or_default())
}

/// The folder of a run, with the authors' names of tensors.
struct Own {
    config: AlbefRunConfig,
    core: AlbefConfig,
    others: serde_json::Map<String, serde_json::Value>,
    processor: Processor,
    tokenizer: Tokenizer,
}

impl TaskFolder for Own {
    fn read(&self, params: &Params<'_>, trained: &mut [f32], frozen: &mut [u8]) -> Result<(), Error> {
        let Some(init) = &self.config.train.init else { return Ok(()) };
        let extra = ExtraTensors::ignore_if(self.config.train.ignore_extra);
        load_weights_with(init, params, &maps::albef::name_map(&self.core), extra, trained, frozen)?;
        Ok(())
    }

    fn write(&self, folder: &Path, params: &Params<'_>, values: ParamValues<'_>) -> Result<(), Error> {
        save_weights(folder, params, &maps::albef::name_map(&self.core), values)?;
        AlbefFolder { model: self.config.model.clone(), others: self.others.clone() }.write(folder)?;
        self.tokenizer.save(folder, Some(self.config.model.max_position_embeddings))?;
        Ok(self.processor.write(folder)?)
    }

    fn describe(&self) -> String {
        String::new()
    }
}
