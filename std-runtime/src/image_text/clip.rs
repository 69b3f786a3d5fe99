//! CLIP and SigLIP: their keys, and their `config.json`.

use samara_core::model::clip::{ClipConfig, ClipKind};
use samara_core::model::image::{ImageDims, PixelOrder};
use samara_core::model::tower::TowerConfig;
use serde_json::{Map, Value, json};

use crate::config::{Choice, Invalid, table};
use crate::model_folder::FolderError;
use crate::model_folder::hidden_act::HiddenAct;
use crate::model_folder::keys::{ConfigJson, Keys};

/// The families of models with an encoder each for images and texts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DualType {
    /// CLIP.
    #[default]
    Clip,
    /// SigLIP.
    SigLip,
}

impl Choice for DualType {
    const WORDS: &'static [(&'static str, Self)] = &[("clip", Self::Clip), ("siglip", Self::SigLip)];
}

impl DualType {
    /// The value of `model_type`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Clip => "clip",
            Self::SigLip => "siglip",
        }
    }
}

table! {
    /// A CLIP or SigLIP. Keys of `vision_config` begin with vision_, those of `text_config` with text_.
    pub ClipModel {
        /// The family of the model: "clip" or "siglip".
        model_type: DualType = DualType::Clip;
        /// Height and width of images in pixels, a multiple of patch_size.
        image_size: usize = 224, 1..=8192;
        /// Height and width of a patch in pixels.
        patch_size: usize = 32, 1..=1024;
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
        vocab_size: usize = 49408, 1..=2147483647;
        /// The longest text in tokens.
        max_position_embeddings: usize = 77, 1..=65536;
        /// Width of the text encoder, a multiple of its heads.
        text_hidden_size: usize = 512, 1..=65536;
        /// Blocks of the text encoder.
        text_num_hidden_layers: usize = 12, 1..=4096;
        /// Heads of the text encoder.
        text_num_attention_heads: usize = 8, 1..=4096;
        /// Width of the hidden layers of the text encoder.
        text_intermediate_size: usize = 2048, 1..=1048576;
        /// "quick_gelu" (OpenAI's weights), "gelu" (exact), "gelu_new" (tanh form) or "relu".
        hidden_act: HiddenAct = HiddenAct::QuickGelu;
        /// Added to the variance in layer norms.
        layer_norm_eps: f64 = 1e-5, 1e-30..=1;
        /// Width of the vectors that are compared; of SigLIP that of both encoders.
        projection_dim: usize = 512, 1..=65536;
        /// The initial logarithm of the factor of cosines.
        logit_scale_init_value: f64 = 2.6592, -100..=100;
        /// The token at whose place a text's vector is taken; of SigLIP it is the last place.
        eos_token_id: usize = 49407, 0..=2147483647;
    }
}

impl ClipModel {
    /// The model for the engine.
    ///
    /// # Errors
    /// The first value that contradicts others.
    pub fn to_core(&self) -> Result<ClipConfig, Invalid> {
        if !self.image_size.is_multiple_of(self.patch_size) {
            let expected = format!("a multiple of model.patch_size = {}", self.patch_size);
            return Err(Invalid::new("model.image_size", expected, self.image_size));
        }
        for (key, width, heads_key, heads) in [
            (
                "model.vision_hidden_size",
                self.vision_hidden_size,
                "model.vision_num_attention_heads",
                self.vision_num_attention_heads,
            ),
            ("model.text_hidden_size", self.text_hidden_size, "model.text_num_attention_heads", self.text_num_attention_heads),
        ] {
            if !width.is_multiple_of(heads) {
                return Err(Invalid::new(key, format!("a multiple of {heads_key} = {heads}"), width));
            }
        }
        let kind = match self.model_type {
            DualType::Clip => ClipKind::Clip,
            DualType::SigLip => ClipKind::SigLip,
        };
        if kind == ClipKind::SigLip && self.projection_dim != self.vision_hidden_size {
            let expected = format!("model.vision_hidden_size = {}, whose vectors SigLIP compares", self.vision_hidden_size);
            return Err(Invalid::new("model.projection_dim", expected, self.projection_dim));
        }
        let [vision, text] = self.towers();
        Ok(ClipConfig {
            kind,
            image_size: self.image_size,
            patch_size: self.patch_size,
            num_channels: self.num_channels,
            vision,
            vocab_size: self.vocab_size,
            max_position_embeddings: self.max_position_embeddings,
            text,
            projection_dim: self.projection_dim,
            logit_scale: self.logit_scale_init_value,
        })
    }

    /// Where the vector of a text is taken: at its first end; at its largest id with the old `eos_token_id` of 2; of SigLIP at its last place.
    pub fn end_of(&self, tokens: &[i32]) -> usize {
        let last = tokens.len().saturating_sub(1);
        if self.model_type == DualType::SigLip {
            return last;
        }
        if self.eos_token_id == 2 {
            // The first of the largest.
            return tokens.iter().enumerate().rev().max_by_key(|(_, id)| **id).map_or(0, |(at, _)| at);
        }
        tokens.iter().position(|&id| usize::try_from(id) == Ok(self.eos_token_id)).unwrap_or(0)
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

    fn towers(&self) -> [TowerConfig; 2] {
        let tower = |hidden_size, num_hidden_layers, num_attention_heads, intermediate_size| TowerConfig {
            hidden_size,
            num_hidden_layers,
            num_attention_heads,
            intermediate_size,
            hidden_act: self.hidden_act.into(),
            layer_norm_eps: self.layer_norm_eps,
        };
        [
            tower(
                self.vision_hidden_size,
                self.vision_num_hidden_layers,
                self.vision_num_attention_heads,
                self.vision_intermediate_size,
            ),
            tower(self.text_hidden_size, self.text_num_hidden_layers, self.text_num_attention_heads, self.text_intermediate_size),
        ]
    }
}

/// Keys of both encoders in a file, and of the table behind `vision_` or `text_`.
const OF_TOWERS: [&str; 4] = ["hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"];

impl ConfigJson for ClipModel {
    fn from_keys(keys: &Keys<'_>) -> Result<Self, FolderError> {
        let mut model = Self::default();
        keys.set(&mut model, "model_type", "model_type")?;
        if model.model_type == DualType::SigLip {
            model = Self { patch_size: 16, vocab_size: 32000, max_position_embeddings: 64, layer_norm_eps: 1e-6, ..model };
            model = Self { text_hidden_size: 768, text_num_attention_heads: 12, text_intermediate_size: 3072, ..model };
            model = Self { projection_dim: 768, hidden_act: HiddenAct::GeluNew, eos_token_id: 49407, ..model };
        }
        for key in ["projection_dim", "logit_scale_init_value"] {
            keys.set_unless_null(&mut model, key, key)?;
        }
        let parts = ["vision_config", "text_config"].map(|part| keys.within(part));
        for (part, prefix) in parts.iter().zip(["vision", "text"]).filter_map(|(part, prefix)| Some((part.as_ref()?, prefix))) {
            for key in OF_TOWERS {
                part.set(&mut model, &format!("{prefix}_{key}"), key)?;
            }
            part.set_unless_null(&mut model, "hidden_act", "hidden_act")?;
            part.set_unless_null(&mut model, "layer_norm_eps", "layer_norm_eps")?;
        }
        let [vision, text] = &parts;
        if let Some(vision) = vision {
            for key in ["image_size", "patch_size", "num_channels"] {
                vision.set(&mut model, key, key)?;
            }
            vision.only("vision_use_head", &json!(true))?;
        }
        if let Some(text) = text {
            for key in ["vocab_size", "max_position_embeddings"] {
                text.set(&mut model, key, key)?;
            }
            text.set_unless_null(&mut model, "eos_token_id", "eos_token_id")?;
        }
        if let [Some(vision), Some(text)] = &parts {
            for key in ["hidden_act", "layer_norm_eps"] {
                let [a, b] = [vision.get(key), text.get(key)];
                if let (Some(a), Some(b)) = (a, b)
                    && a != b
                {
                    return Err(keys.wrong(&format!("text_config.{key}"), format!("that of vision_config, {a}"), b));
                }
            }
        }
        if model.model_type == DualType::SigLip {
            model.projection_dim = model.vision_hidden_size;
        }
        model.to_core().map_err(|invalid| keys.invalid(invalid))?;
        Ok(model)
    }

    fn to_keys(&self, dropout: f64, json: &mut Map<String, Value>) {
        let kind = self.model_type.word();
        let tower = |part: &str, [width, layers, heads, inner]: [usize; 4]| {
            json!({
                "model_type": format!("{kind}_{part}_model"), "hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads,
                "intermediate_size": inner, "hidden_act": self.hidden_act.word(), "layer_norm_eps": self.layer_norm_eps,
                "attention_dropout": dropout, "projection_dim": self.projection_dim,
            })
        };
        let mut vision = tower(
            "vision",
            [
                self.vision_hidden_size,
                self.vision_num_hidden_layers,
                self.vision_num_attention_heads,
                self.vision_intermediate_size,
            ],
        );
        vision["image_size"] = self.image_size.into();
        vision["patch_size"] = self.patch_size.into();
        vision["num_channels"] = self.num_channels.into();
        let mut text = tower(
            "text",
            [self.text_hidden_size, self.text_num_hidden_layers, self.text_num_attention_heads, self.text_intermediate_size],
        );
        text["vocab_size"] = self.vocab_size.into();
        text["max_position_embeddings"] = self.max_position_embeddings.into();
        for key in ["eos_token_id", "pad_token_id", "bos_token_id"] {
            text[key] = self.eos_token_id.into();
        }
        let architecture = match self.model_type {
            DualType::Clip => "CLIPModel",
            DualType::SigLip => "SiglipModel",
        };
        json.extend([
            ("architectures".to_owned(), json!([architecture])),
            ("projection_dim".to_owned(), self.projection_dim.into()),
            ("logit_scale_init_value".to_owned(), self.logit_scale_init_value.into()),
            ("vision_config".to_owned(), vision),
            ("text_config".to_owned(), text),
        ]);
    }
}
