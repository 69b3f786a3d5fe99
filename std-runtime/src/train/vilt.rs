//! Training of a ViLT for the command line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use samara_core::model::image::{ImageDims, PixelOrder};
use samara_core::model::vilt::{Vilt, ViltConfig, ViltHeads};
use samara_core::params::Params;
use serde_json::{Map, Value};

use super::config::TrainConfig;
use super::error::TrainingError as Error;
use super::objective::Source;
use super::objectives::supervised::TaskFolder;
use super::objectives::vilt::{FuseOne, Model};
use super::objectives::vilt_passes::Extents;
use super::pair_data::PairTables;
use super::pairs::PairRun;
use super::vilt_config::ViltRunConfig;
use crate::config::Invalid;
use crate::encoder::masking::{Masking, Separators};
use crate::image_text::data::tokens::CaptionEncoder;
use crate::image_text::vilt::ViltModel;
use crate::image_text::vilt_folder::ViltFolder;
use crate::model_folder::{ExtraTensors, ParamValues, load_weights_with, maps, save_weights};
use crate::session::OwnedParams;
use crate::tokenizer::Tokenizer;
use crate::vision::folder::own_first;
use crate::vision::processor::{Kind, Processor, Resize};

impl ViltRunConfig {
    /// Sides of images in pixels: the shorter one, and the longest that files can have.
    fn sides(&self) -> [usize; 2] {
        let (side, patch) = (self.model.image_size, self.model.patch_size);
        let very_long = [side, 100 * side];
        let longest = Processor::vilt(side, patch).multiples(very_long).map_or(side, |[_, long]| long);
        [side, longest.max(side)]
    }

    /// Which heads are trained.
    fn heads(&self) -> ViltHeads {
        let weights = &self.vilt;
        ViltHeads { masked_lm: weights.mlm_weight > 0.0, matching: weights.itm_weight > 0.0, rank: weights.rank_weight > 0.0 }
    }
}

impl PairRun for ViltRunConfig {
    type Objective = FuseOne;

    fn model_type(&self) -> &'static str {
        ViltModel::TYPE
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

    /// Images of files have any proportions, those of the generated world are squares.
    fn image_dims(&self) -> ImageDims {
        let [side, longest] = self.sides();
        ImageDims {
            image: [if self.data.path.is_some() { longest } else { side }; 2],
            channels: self.model.num_channels,
            order: PixelOrder::Patches(self.model.patch_size),
            width: self.model.hidden_size,
            classes: 0,
            blocks: self.model.num_hidden_layers,
        }
    }

    fn processor(&self, own: Option<Processor>) -> Processor {
        let (shorter, divisor) = (self.model.image_size, self.model.patch_size);
        let own = own.filter(|own| own.kind == Kind::Vilt).unwrap_or_else(|| Processor::vilt(shorter, divisor));
        Processor { resize: Some(Resize::Multiples { shorter, divisor }), ..own }
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
    ) -> Result<FuseOne, Error> {
        let (core, heads) = (self.model.to_core()?, self.heads());
        let (registry, vilt) = OwnedParams::of(|s| Vilt::register(&core, heads, s))?;
        let masking =
            heads.masked_lm.then(|| Masking::new(&self.mlm, &tokenizer, self.model.vocab_size, Separators::Kept)).transpose()?;
        let ([side, longest], patch) = (self.sides(), self.model.patch_size);
        let frame = self.image_dims().image.map(|pixels| pixels / patch);
        // Of an image one side is the shorter one at most.
        let patches = (side / patch) * (frame[0].min(longest / patch));
        let init = self.train.init.as_deref().map(|folder| Initial::read(folder, self.train.ignore_extra)).transpose()?;
        let own = Own { config: self.clone(), init, core, heads, processor, tokenizer };
        let model = Model { vilt, registry, extents: Extents { text_len, frame, patches }, masking, folder: Box::new(own) };
        Ok(FuseOne::new(model, &self.vilt, source, &self.train))
    }

    fn parameters(objective: &FuseOne) -> usize {
        objective.parameters()
    }
}

/// The weights that a training begins with.
struct Initial {
    folder: ViltFolder,
    /// Parameters by name.
    values: BTreeMap<String, Vec<f32>>,
}

impl Initial {
    fn read(folder: &Path, ignore_extra: bool) -> Result<Self, Error> {
        let described = ViltFolder::open(folder)?;
        let (config, heads) = (described.model.to_core()?, described.heads);
        let (registry, _) = OwnedParams::of(|s| Vilt::register(&config, heads, s))?;
        let map = own_first(folder, maps::vilt::name_maps(&config, heads))?.into_iter().next().unwrap_or_default();
        let view = registry.view();
        let mut values = vec![0.0; view.trainable_len()];
        load_weights_with(folder, &view, &map, ExtraTensors::ignore_if(ignore_extra), &mut values, &mut [])?;
        let named = |info: &samara_core::params::ParamInfo| {
            (info.name.to_string(), values.get(info.range()).unwrap_or_default().to_vec())
        };
        let mut values: BTreeMap<String, Vec<f32>> = view.infos().iter().map(named).collect();
        // A score begins as the logit that a pair belongs together, the second of two rows.
        for kind in ["weight", "bias"] {
            let second = values.get(&format!("itm_score.fc.{kind}")).map(|rows| rows[rows.len() / 2..].to_vec());
            if let Some(second) = second {
                values.entry(format!("rank_output.{kind}")).or_insert(second);
            }
        }
        Ok(Self { folder: described, values })
    }

    /// The heads that it has no values for.
    fn without(&self, heads: ViltHeads) -> Vec<&'static str> {
        let asked = [
            (heads.masked_lm, "mlm_score", "mlm_score.transform.dense.weight"),
            (heads.matching, "itm_score", "itm_score.fc.weight"),
            (heads.rank, "rank_output", "rank_output.weight"),
        ];
        asked.into_iter().filter(|(has, _, tensor)| *has && !self.values.contains_key(*tensor)).map(|(_, name, _)| name).collect()
    }
}

/// The folder of a run as one of `transformers`.
struct Own {
    config: ViltRunConfig,
    init: Option<Initial>,
    core: ViltConfig,
    heads: ViltHeads,
    processor: Processor,
    tokenizer: Tokenizer,
}

impl TaskFolder for Own {
    fn read(&self, params: &Params<'_>, trained: &mut [f32], _: &mut [u8]) -> Result<(), Error> {
        let Some(init) = &self.init else { return Ok(()) };
        for info in params.infos() {
            let name = info.name.to_string();
            let (Some(to), Some(values)) = (trained.get_mut(info.range()), init.values.get(&name)) else { continue };
            if to.len() != values.len() {
                let expected = format!("the sizes of train.init: {name} has {} values there", values.len());
                return Err(Invalid::new("model", expected, to.len()).into());
            }
            to.copy_from_slice(values);
        }
        Ok(())
    }

    fn write(&self, folder: &Path, params: &Params<'_>, values: ParamValues<'_>) -> Result<(), Error> {
        let maps = maps::vilt::name_maps(&self.core, self.heads);
        let map = maps.into_iter().next().map(|(_, map)| map).unwrap_or_default();
        save_weights(folder, params, &map, values)?;
        let others = self.init.as_ref().map_or_else(Map::<String, Value>::new, |init| init.folder.others.clone());
        let described = ViltFolder { model: self.config.model.clone(), heads: self.heads, others };
        described.write(folder, self.config.train.dropout)?;
        self.tokenizer.save(folder, Some(self.config.model.max_position_embeddings))?;
        Ok(self.processor.write(folder)?)
    }

    fn describe(&self) -> String {
        let pairs = self.config.train.batch_size * self.config.train.grad_accumulation;
        let anew = self.init.as_ref().map(|init| init.without(self.heads)).unwrap_or_default();
        let anew = if anew.is_empty() { String::new() } else { format!("{} begins anew; ", anew.join(", ")) };
        format!("{pairs} pairs a step; {anew}")
    }
}
