//! Training of a CLIP or SigLIP for the command line.

use std::path::{Path, PathBuf};

use samara_core::model::clip::Clip;
use samara_core::model::image::ImageDims;
use samara_core::params::Params;

use super::config::TrainConfig;
use super::contrast_config::ContrastRunConfig;
use super::error::TrainingError as Error;
use super::image_plan::{flops, of_programs};
use super::objective::Source;
use super::objectives::contrast::{Contrast, Model};
use super::objectives::contrast_graphs::programs;
use super::objectives::supervised::TaskFolder;
use super::pair_data::PairTables;
use super::pairs::PairRun;
use super::tokenizer::named;
use crate::config::Invalid;
use crate::data::config::TokenizerChoice;
use crate::image_text::data::list::PairList;
use crate::image_text::data::tokens::CaptionEncoder;
use crate::image_text::folder::DualFolder;
use crate::lm::plan::TrainingPlan;
use crate::model_folder::{ExtraTensors, ParamValues, load_weights_with, maps, save_weights};
use crate::session::{Engine, OwnedParams};
use crate::tokenizer::Tokenizer;
use crate::vision::folder::own_first;
use crate::vision::processor::Processor;

impl PairRun for ContrastRunConfig {
    type Objective = Contrast;

    fn model_type(&self) -> &'static str {
        self.model.model_type.word()
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
        self.model.eos_token_id = tokenizer.end_of_text().map_or(0, |id| id as usize);
    }

    fn encoder<'t>(&'t self, tokenizer: &'t Tokenizer) -> Result<CaptionEncoder<'t>, Invalid> {
        Ok(CaptionEncoder::new(tokenizer, &self.model))
    }

    fn objective(
        &self,
        source: Source,
        text_len: [usize; 2],
        tokenizer: Tokenizer,
        processor: Processor,
    ) -> Result<Contrast, Error> {
        let core = self.model.to_core()?;
        let (registry, clip) = OwnedParams::of(|s| Clip::register(&core, s))?;
        let own = Own { config: self.clone(), others: others(self)?, clip, processor, tokenizer };
        let model = Model { clip, registry, text_len, folder: Box::new(own) };
        Ok(Contrast::new(model, &self.contrast, source, &self.train))
    }

    fn planned(&self, planner: &Engine, len: usize) -> Result<Option<TrainingPlan>, Error> {
        let core = self.model.to_core()?;
        let (registry, clip) = OwnedParams::of(|s| Clip::register(&core, s))?;
        let programs = programs(planner, (&registry, &clip), &self.contrast, &self.train, len)?;
        // Vectors are computed a second time where a step has several chunks.
        let again = if self.train.grad_accumulation > 1 { programs.get(1).map_or(0, flops) } else { 0 };
        let flops = (programs.first().map_or(0, flops) + again) / self.train.batch_size.max(1) as u64;
        let row = self.model.image_dims().image_len() + len + 4;
        Ok(Some(of_programs(planner, &registry, &self.train, &programs, (row, flops))?))
    }

    fn parameters(objective: &Contrast) -> usize {
        objective.parameters()
    }
}

/// The resources of a training on captions of any length, and the number of pairs. Data is listed and not read: a tokenizer that would be trained counts with its
/// largest vocabulary.
///
/// # Errors
/// Data that cannot be listed, a model that cannot be planned.
pub fn plan(planner: &Engine, config: &ContrastRunConfig) -> Result<(TrainingPlan, u64), Error> {
    let mut config = config.clone();
    if config.train.init.is_none() {
        let model = &mut config.model;
        model.vocab_size = match &config.data.tokenizer {
            TokenizerChoice::Bpe | TokenizerChoice::WordPiece => config.data.vocab_size,
            TokenizerChoice::Path(path) => named(path)?.vocab_size(),
            TokenizerChoice::Byte | TokenizerChoice::Char => BYTES,
        };
        model.eos_token_id = model.vocab_size - 1;
    }
    let pairs = match &config.data.path {
        None => config.captions.train,
        Some(path) => PairList::open(path, &config.data)?.train.pairs.len() as u64,
    };
    Ok((config.planned(planner, config.model.max_position_embeddings)?.unwrap_or_default(), pairs))
}

/// Tokens of bytes, with the end of a text.
const BYTES: usize = 257;

/// Keys of the initial folder without a meaning here.
fn others(config: &ContrastRunConfig) -> Result<serde_json::Map<String, serde_json::Value>, Error> {
    let described = config.train.init.as_deref().map(DualFolder::read).transpose()?.flatten();
    Ok(described.map(|folder| folder.others).unwrap_or_default())
}

/// The folder of a run as one of `transformers`.
struct Own {
    config: ContrastRunConfig,
    others: serde_json::Map<String, serde_json::Value>,
    clip: Clip,
    processor: Processor,
    tokenizer: Tokenizer,
}

impl TaskFolder for Own {
    fn read(&self, params: &Params<'_>, trained: &mut [f32], frozen: &mut [u8]) -> Result<(), Error> {
        let Some(init) = &self.config.train.init else { return Ok(()) };
        let maps = own_first(init, maps::clip::name_maps(self.clip.config()))?;
        let extra = ExtraTensors::ignore_if(self.config.train.ignore_extra);
        let map = maps.into_iter().next().unwrap_or_default();
        load_weights_with(init, params, &map, extra, trained, frozen)?;
        Ok(())
    }

    fn write(&self, folder: &Path, params: &Params<'_>, values: ParamValues<'_>) -> Result<(), Error> {
        let map = maps::clip::name_maps(self.clip.config()).into_iter().next().map(|(_, map)| map).unwrap_or_default();
        save_weights(folder, params, &map, values)?;
        DualFolder { model: self.config.model.clone(), others: self.others.clone() }.write(folder)?;
        self.tokenizer.save(folder, Some(self.config.model.max_position_embeddings))?;
        Ok(self.processor.write(folder)?)
    }

    fn describe(&self) -> String {
        let pairs = self.config.train.batch_size * self.config.train.grad_accumulation;
        format!("{pairs} pairs a step; ")
    }
}
