//! ViLT: its keys, and its `config.json`.

use samara_core::model::vilt::{ViltConfig, ViltHeads};
use serde_json::{Map, Value, json};

use crate::config::{Choice, Invalid, table};
use crate::model_folder::FolderError;
use crate::model_folder::hidden_act::HiddenAct;
use crate::model_folder::keys::{ConfigJson, Keys};

/// The family of models with one transformer over texts and images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ViltType {
    /// ViLT.
    #[default]
    Vilt,
}

impl Choice for ViltType {
    const WORDS: &'static [(&'static str, Self)] = &[("vilt", Self::Vilt)];
}

table! {
    /// A ViLT, with the names of Hugging Face's `config.json`.
    pub ViltModel {
        /// The family of the model: "vilt".
        model_type: ViltType = ViltType::Vilt;
        /// Token ids.
        vocab_size: usize = 30522, 1..=2147483647;
        /// The longest text in tokens.
        max_position_embeddings: usize = 40, 3..=65536;
        /// Kinds of segments of a text.
        type_vocab_size: usize = 2, 1..=65536;
        /// Kinds of inputs: text and image, and the second image of pairs of images.
        modality_type_vocab_size: usize = 2, 2..=65536;
        /// The shorter side of images in pixels, a multiple of patch_size; positions are learnt for a square of it.
        image_size: usize = 384, 1..=8192;
        /// Height and width of a patch in pixels.
        patch_size: usize = 32, 1..=1024;
        /// Values of a pixel.
        num_channels: usize = 3, 1..=64;
        /// Width of the residual stream, a multiple of num_attention_heads.
        hidden_size: usize = 768, 1..=65536;
        /// Blocks.
        num_hidden_layers: usize = 12, 1..=4096;
        /// Attention heads.
        num_attention_heads: usize = 12, 1..=4096;
        /// Width of the hidden layer.
        intermediate_size: usize = 3072, 1..=1048576;
        /// "gelu" (exact), "gelu_new" (tanh form), "quick_gelu" or "relu".
        hidden_act: HiddenAct = HiddenAct::Gelu;
        /// Whether queries, keys and values have biases.
        qkv_bias: bool = true;
        /// Added to the variance in layer norms.
        layer_norm_eps: f64 = 1e-12, 1e-30..=1;
        /// Standard deviation of initial weights.
        initializer_range: f64 = 0.02, 0..=10;
        /// Whether the head that restores tokens is tied to the table of tokens, as in folders of transformers.
        tie_word_embeddings: bool = true;
    }
}

impl ViltModel {
    /// The value of `model_type`.
    pub const TYPE: &'static str = "vilt";

    /// The model for the engine.
    ///
    /// # Errors
    /// The first value that contradicts others.
    pub fn to_core(&self) -> Result<ViltConfig, Invalid> {
        for (key, value, of, divisor) in [
            ("model.image_size", self.image_size, "model.patch_size", self.patch_size),
            ("model.hidden_size", self.hidden_size, "model.num_attention_heads", self.num_attention_heads),
        ] {
            if !value.is_multiple_of(divisor) {
                return Err(Invalid::new(key, format!("a multiple of {of} = {divisor}"), value));
            }
        }
        Ok(ViltConfig {
            vocab_size: self.vocab_size,
            max_position_embeddings: self.max_position_embeddings,
            type_vocab_size: self.type_vocab_size,
            modality_type_vocab_size: self.modality_type_vocab_size,
            image_size: self.image_size,
            patch_size: self.patch_size,
            num_channels: self.num_channels,
            hidden_size: self.hidden_size,
            num_hidden_layers: self.num_hidden_layers,
            num_attention_heads: self.num_attention_heads,
            intermediate_size: self.intermediate_size,
            hidden_act: self.hidden_act.into(),
            qkv_bias: self.qkv_bias,
            layer_norm_eps: self.layer_norm_eps,
            initializer_range: self.initializer_range,
            tie_word_embeddings: self.tie_word_embeddings,
        })
    }

    /// The class of `transformers` that opens a model with these heads.
    pub const fn architecture(heads: ViltHeads) -> &'static str {
        match heads {
            ViltHeads { masked_lm: true, .. } => "ViltForMaskedLM",
            ViltHeads { rank: true, .. } => "ViltForImageAndTextRetrieval",
            _ => "ViltModel",
        }
    }
}

/// Keys of the table that the file calls the same.
const SAME: [&str; 12] = [
    "vocab_size",
    "max_position_embeddings",
    "type_vocab_size",
    "modality_type_vocab_size",
    "num_channels",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "qkv_bias",
    "layer_norm_eps",
    "initializer_range",
];

impl ConfigJson for ViltModel {
    fn from_keys(keys: &Keys<'_>) -> Result<Self, FolderError> {
        let mut model = Self::default();
        for key in SAME {
            keys.set(&mut model, key, key)?;
        }
        for key in ["image_size", "patch_size"] {
            match keys.not_null(key) {
                // A square may be given by both sides.
                Some(Value::Array(sides)) if matches!(sides.as_slice(), [a, b] if a == b) => {
                    keys.put(&mut model, key, key, &sides[0])?;
                }
                _ => keys.set(&mut model, key, key)?,
            }
        }
        for key in ["hidden_act", "tie_word_embeddings"] {
            keys.set_unless_null(&mut model, key, key)?;
        }
        model.to_core().map_err(|invalid| keys.invalid(invalid))?;
        Ok(model)
    }

    fn to_keys(&self, dropout: f64, json: &mut Map<String, Value>) {
        json.extend([
            ("vocab_size".to_owned(), self.vocab_size.into()),
            ("max_position_embeddings".to_owned(), self.max_position_embeddings.into()),
            ("type_vocab_size".to_owned(), self.type_vocab_size.into()),
            ("modality_type_vocab_size".to_owned(), self.modality_type_vocab_size.into()),
            ("image_size".to_owned(), self.image_size.into()),
            ("patch_size".to_owned(), self.patch_size.into()),
            ("num_channels".to_owned(), self.num_channels.into()),
            ("hidden_size".to_owned(), self.hidden_size.into()),
            ("num_hidden_layers".to_owned(), self.num_hidden_layers.into()),
            ("num_attention_heads".to_owned(), self.num_attention_heads.into()),
            ("intermediate_size".to_owned(), self.intermediate_size.into()),
            ("hidden_act".to_owned(), self.hidden_act.word().into()),
            ("qkv_bias".to_owned(), self.qkv_bias.into()),
            ("layer_norm_eps".to_owned(), self.layer_norm_eps.into()),
            ("initializer_range".to_owned(), self.initializer_range.into()),
            ("tie_word_embeddings".to_owned(), self.tie_word_embeddings.into()),
            ("hidden_dropout_prob".to_owned(), dropout.into()),
            ("attention_probs_dropout_prob".to_owned(), dropout.into()),
        ]);
        json.entry("max_image_length").or_insert(json!(-1));
    }
}
