//! BERT: its keys, and its `config.json`.

use samara_core::model::bert::BertConfig;
use serde_json::{Map, Value, json};

use crate::config::{Choice, Invalid, table};
use crate::model_folder::FolderError;
use crate::model_folder::hidden_act::HiddenAct;
use crate::model_folder::keys::{ConfigJson, Keys};

/// The family of an encoder of text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EncoderType {
    /// BERT.
    #[default]
    Bert,
}

impl Choice for EncoderType {
    const WORDS: &'static [(&'static str, Self)] = &[(BertModel::TYPE, Self::Bert)];
}

table! {
    /// A BERT, with the names of Hugging Face's `config.json`.
    pub BertModel {
        /// The family of the model: "bert".
        model_type: EncoderType = EncoderType::Bert;
        /// Token ids.
        vocab_size: usize = 30522, 1..=2147483647;
        /// Width of the residual stream, a multiple of num_attention_heads.
        hidden_size: usize = 768, 1..=65536;
        /// Layers.
        num_hidden_layers: usize = 12, 1..=4096;
        /// Attention heads.
        num_attention_heads: usize = 12, 1..=4096;
        /// Width of the hidden layer.
        intermediate_size: usize = 3072, 1..=1048576;
        /// "gelu" (exact), "gelu_new" (tanh form), "quick_gelu" or "relu".
        hidden_act: HiddenAct = HiddenAct::Gelu;
        /// The longest sequence in tokens.
        max_position_embeddings: usize = 512, 1..=16777216;
        /// Kinds of segments: first and second text.
        type_vocab_size: usize = 2, 1..=65536;
        /// Added to the variance in layer norms.
        layer_norm_eps: f64 = 1e-12, 1e-30..=1;
        /// Standard deviation of initial weights.
        initializer_range: f64 = 0.02, 0..=10;
    }
}

impl BertModel {
    /// The value of `model_type`.
    pub const TYPE: &'static str = "bert";

    /// The model for the engine.
    ///
    /// # Errors
    /// The first value that contradicts others.
    pub fn to_core(&self) -> Result<BertConfig, Invalid> {
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            let expected = format!("a multiple of model.num_attention_heads = {}", self.num_attention_heads);
            return Err(Invalid::new("model.hidden_size", expected, self.hidden_size));
        }
        Ok(BertConfig {
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
        })
    }
}

/// Keys of the table that the file calls the same.
const SAME: [&str; 9] = [
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
    "layer_norm_eps",
    "initializer_range",
];

impl ConfigJson for BertModel {
    fn from_keys(keys: &Keys<'_>) -> Result<Self, FolderError> {
        let mut model = Self::default();
        for key in SAME {
            keys.set(&mut model, key, key)?;
        }
        keys.set_unless_null(&mut model, "hidden_act", "hidden_act")?;
        keys.only("position_embedding_type", &json!("absolute"))?;
        keys.only("tie_word_embeddings", &json!(true))?;
        for key in ["is_decoder", "add_cross_attention"] {
            keys.only(key, &json!(false))?;
        }
        model.to_core().map_err(|invalid| keys.invalid(invalid))?;
        Ok(model)
    }

    fn to_keys(&self, dropout: f64, json: &mut Map<String, Value>) {
        json.extend([
            ("architectures".to_owned(), json!(["BertForMaskedLM"])),
            ("vocab_size".to_owned(), self.vocab_size.into()),
            ("hidden_size".to_owned(), self.hidden_size.into()),
            ("num_hidden_layers".to_owned(), self.num_hidden_layers.into()),
            ("num_attention_heads".to_owned(), self.num_attention_heads.into()),
            ("intermediate_size".to_owned(), self.intermediate_size.into()),
            ("hidden_act".to_owned(), self.hidden_act.word().into()),
            ("max_position_embeddings".to_owned(), self.max_position_embeddings.into()),
            ("type_vocab_size".to_owned(), self.type_vocab_size.into()),
            ("layer_norm_eps".to_owned(), self.layer_norm_eps.into()),
            ("initializer_range".to_owned(), self.initializer_range.into()),
            ("hidden_dropout_prob".to_owned(), dropout.into()),
            ("attention_probs_dropout_prob".to_owned(), dropout.into()),
        ]);
    }
}
