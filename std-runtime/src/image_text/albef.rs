//! ALBEF: its keys, and its `config.json`. The authors' files have no description of the model; ours has the names of this table.

use samara_core::graph::Activation;
use samara_core::model::albef::AlbefConfig;
use samara_core::model::bert::BertConfig;
use samara_core::model::image::{ImageDims, PixelOrder};
use samara_core::model::vit::VitConfig;
use serde_json::{Map, Value};

use crate::config::{Choice, Invalid, Table, table};
use crate::model_folder::FolderError;
use crate::model_folder::hidden_act::HiddenAct;
use crate::model_folder::keys::{ConfigJson, Keys};

/// The family of models whose encoders are aligned before their fusion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AlbefType {
    /// ALBEF.
    #[default]
    Albef,
}

impl Choice for AlbefType {
    const WORDS: &'static [(&'static str, Self)] = &[(AlbefModel::TYPE, Self::Albef)];
}

table! {
    /// An ALBEF. Keys of the image encoder begin with vision_, those without are of the encoder of texts and of both.
    pub AlbefModel {
        /// The family of the model: "albef".
        model_type: AlbefType = AlbefType::Albef;
        /// Height and width of images in pixels, a multiple of patch_size.
        image_size: usize = 256, 1..=8192;
        /// Height and width of a patch in pixels.
        patch_size: usize = 16, 1..=1024;
        /// Values of a pixel.
        num_channels: usize = 3, 1..=64;
        /// Width of the image encoder, a multiple of its heads.
        vision_hidden_size: usize = 768, 1..=65536;
        /// Blocks of the image encoder.
        vision_num_hidden_layers: usize = 12, 1..=4096;
        /// Heads of the image encoder.
        vision_num_attention_heads: usize = 12, 1..=4096;
        /// Width of the hidden layers of the image encoder.
        vision_intermediate_size: usize = 3072, 1..=1048576;
        /// Token ids.
        vocab_size: usize = 30522, 1..=2147483647;
        /// The longest text in tokens.
        max_position_embeddings: usize = 512, 3..=65536;
        /// Kinds of segments: first and second text.
        type_vocab_size: usize = 2, 1..=65536;
        /// Width of texts and of the fusion, a multiple of the heads.
        hidden_size: usize = 768, 1..=65536;
        /// Layers of texts and of the fusion together.
        num_hidden_layers: usize = 12, 1..=4096;
        /// The first layer, counted from 0, that attends to the image.
        fusion_layer: usize = 6, 0..=4096;
        /// Heads of texts and of the fusion.
        num_attention_heads: usize = 12, 1..=4096;
        /// Width of the hidden layers of texts and of the fusion.
        intermediate_size: usize = 3072, 1..=1048576;
        /// "gelu" (exact), "gelu_new" (tanh form), "quick_gelu" or "relu", of texts and of the fusion.
        hidden_act: HiddenAct = HiddenAct::Gelu;
        /// Added to the variance in layer norms of texts and of the fusion.
        layer_norm_eps: f64 = 1e-12, 1e-30..=1;
        /// Standard deviation of initial weights.
        initializer_range: f64 = 0.02, 0..=10;
        /// Width of the vectors that are compared.
        embed_dim: usize = 256, 1..=65536;
        /// The initial temperature of their cosines.
        temp: f64 = 0.07, 0.001..=0.5;
    }
}

impl AlbefModel {
    /// The value of `model_type`.
    pub const TYPE: &'static str = "albef";

    /// The model for the engine.
    ///
    /// # Errors
    /// The first value that contradicts others.
    pub fn to_core(&self) -> Result<AlbefConfig, Invalid> {
        for (key, value, of, divisor) in [
            ("model.image_size", self.image_size, "model.patch_size", self.patch_size),
            (
                "model.vision_hidden_size",
                self.vision_hidden_size,
                "model.vision_num_attention_heads",
                self.vision_num_attention_heads,
            ),
            ("model.hidden_size", self.hidden_size, "model.num_attention_heads", self.num_attention_heads),
        ] {
            if !value.is_multiple_of(divisor) {
                return Err(Invalid::new(key, format!("a multiple of {of} = {divisor}"), value));
            }
        }
        if self.fusion_layer >= self.num_hidden_layers {
            let expected =
                format!("less than model.num_hidden_layers = {}, so that a layer attends to the image", self.num_hidden_layers);
            return Err(Invalid::new("model.fusion_layer", expected, self.fusion_layer));
        }
        Ok(AlbefConfig {
            vision: self.vision(),
            text: self.text(),
            fusion_layer: self.fusion_layer,
            embed_dim: self.embed_dim,
            temperature: self.temp,
        })
    }

    /// The sizes of the image encoder's input.
    pub fn image_dims(&self) -> ImageDims {
        ImageDims {
            image: [self.image_size; 2],
            channels: self.num_channels,
            order: PixelOrder::Patches(self.patch_size),
            width: self.vision_hidden_size,
            classes: 0,
            blocks: self.vision_num_hidden_layers,
        }
    }

    /// As the authors build it from DeiT's.
    fn vision(&self) -> VitConfig {
        VitConfig {
            image_size: [self.image_size; 2],
            patch_size: self.patch_size,
            num_channels: self.num_channels,
            hidden_size: self.vision_hidden_size,
            num_hidden_layers: self.vision_num_hidden_layers,
            num_attention_heads: self.vision_num_attention_heads,
            intermediate_size: self.vision_intermediate_size,
            hidden_act: Activation::GeluErf,
            layer_norm_eps: 1e-6,
            qkv_bias: true,
            initializer_range: self.initializer_range,
            num_labels: 0,
        }
    }

    fn text(&self) -> BertConfig {
        BertConfig {
            vocab_size: self.vocab_size,
            hidden_size: self.hidden_size,
            num_hidden_layers: self.num_hidden_layers,
            num_attention_heads: self.num_attention_heads,
            intermediate_size: self.intermediate_size,
            hidden_act: self.hidden_act.into(),
            max_position_embeddings: self.max_position_embeddings,
            type_vocab_size: self.type_vocab_size,
            layer_norm_eps: self.layer_norm_eps,
            initializer_range: self.initializer_range,
        }
    }
}

impl ConfigJson for AlbefModel {
    fn from_keys(keys: &Keys<'_>) -> Result<Self, FolderError> {
        let mut model = Self::default();
        for key in model.keys() {
            keys.set(&mut model, key.name, key.name)?;
        }
        model.to_core().map_err(|invalid| keys.invalid(invalid))?;
        Ok(model)
    }

    /// Dropout has no key: a file describes a model that is used.
    fn to_keys(&self, _: f64, json: &mut Map<String, Value>) {
        let value = |text: String| serde_json::from_str(&text).unwrap_or(Value::Null);
        json.extend(self.keys().iter().filter_map(|key| Some((key.name.to_owned(), value(self.show(key.name)?)))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_has_every_key_as_it_was() {
        let model = AlbefModel { temp: 0.05, fusion_layer: 3, hidden_act: HiddenAct::Relu, ..AlbefModel::default() };
        let mut json = Map::new();
        model.to_keys(0.0, &mut json);
        let json = Value::from(json);
        let path = std::path::Path::new("config.json");
        assert_eq!(AlbefModel::from_keys(&Keys::new(path, json.as_object().unwrap())).unwrap(), model);
        let error = AlbefModel { fusion_layer: 12, ..model }.to_core().unwrap_err().to_string();
        assert!(error.contains("less than model.num_hidden_layers = 12"), "{error}");
    }
}
