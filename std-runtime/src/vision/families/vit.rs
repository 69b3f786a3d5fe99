//! The Vision Transformer: its keys, and its `config.json`.

use std::sync::Arc;

use samara_core::model::image::ImageModel;
use samara_core::model::vit::{Vit, VitConfig};
use samara_core::params::{Init, Scope};
use serde_json::{Map, Value, json};

use crate::config::{Invalid, table};
use crate::model_folder::FolderError;
use crate::model_folder::hidden_act::HiddenAct;
use crate::model_folder::keys::{ConfigJson, Keys};
use crate::model_folder::map::NameMap;
use crate::model_folder::maps;
use crate::vision::ImageArchitecture;
use crate::vision::family::ImageFamily;
use crate::vision::tune::Added;

table! {
    /// A Vision Transformer, with the names of Hugging Face's `config.json`.
    pub VitModel {
        /// Height and width of images in pixels, a multiple of patch_size.
        image_size: usize = 224, 1..=8192;
        /// Height and width of a patch in pixels.
        patch_size: usize = 16, 1..=1024;
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
        /// Added to the variance in layer norms.
        layer_norm_eps: f64 = 1e-12, 1e-30..=1;
        /// Whether queries, keys and values have biases.
        qkv_bias: bool = true;
        /// Standard deviation of initial embeddings.
        initializer_range: f64 = 0.02, 0..=10;
        /// Classes.
        num_labels: usize = 2, 1..=1048576;
    }
}

impl VitModel {
    fn to_core(&self) -> Result<VitConfig, Invalid> {
        if !self.image_size.is_multiple_of(self.patch_size) {
            let expected = format!("a multiple of model.patch_size = {}", self.patch_size);
            return Err(Invalid::new("model.image_size", expected, self.image_size));
        }
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            let expected = format!("a multiple of model.num_attention_heads = {}", self.num_attention_heads);
            return Err(Invalid::new("model.hidden_size", expected, self.hidden_size));
        }
        Ok(VitConfig {
            image_size: [self.image_size; 2],
            patch_size: self.patch_size,
            num_channels: self.num_channels,
            hidden_size: self.hidden_size,
            num_hidden_layers: self.num_hidden_layers,
            num_attention_heads: self.num_attention_heads,
            intermediate_size: self.intermediate_size,
            hidden_act: self.hidden_act.into(),
            layer_norm_eps: self.layer_norm_eps,
            qkv_bias: self.qkv_bias,
            initializer_range: self.initializer_range,
            num_labels: self.num_labels,
        })
    }
}

impl ImageFamily for VitModel {
    const TYPE: &'static str = "vit";

    fn classes(&self) -> usize {
        self.num_labels
    }

    fn grid(&self) -> [usize; 2] {
        [self.image_size.checked_div(self.patch_size).unwrap_or(0); 2]
    }

    fn architecture(&self) -> Result<Arc<dyn ImageArchitecture>, Invalid> {
        Ok(Arc::new(self.to_core()?))
    }
}

impl ImageArchitecture for VitConfig {
    fn register(&self, s: &mut Scope<'_>) -> Box<dyn ImageModel> {
        Box::new(Vit::register(self, s))
    }

    fn register_with(&self, added: &Added, init: Init, s: &mut Scope<'_>) -> Option<Box<dyn ImageModel>> {
        Some(Box::new(Vit::register_with(self, &added.to_core(init), s)))
    }

    fn name_maps(&self) -> Vec<(&'static str, NameMap)> {
        maps::vit::name_maps(self)
    }
}

/// Keys of the table that the file calls the same.
const SAME: [&str; 9] = [
    "image_size",
    "patch_size",
    "num_channels",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "layer_norm_eps",
    "initializer_range",
];

impl ConfigJson for VitModel {
    fn from_keys(keys: &Keys<'_>) -> Result<Self, FolderError> {
        let mut model = Self::default();
        for key in SAME {
            keys.set(&mut model, key, key)?;
        }
        for key in ["hidden_act", "qkv_bias", "num_labels"] {
            keys.set_unless_null(&mut model, key, key)?;
        }
        // Transformers derives the number of classes from their names.
        if let Some(Value::Object(labels)) = keys.peek("id2label") {
            model.num_labels = labels.len();
        }
        // Written anew; the pooler is no part of the classifier.
        keys.pass_over(&["pooler_output_size", "pooler_act", "encoder_stride"]);
        model.to_core().map_err(|invalid| keys.invalid(invalid))?;
        Ok(model)
    }

    fn to_keys(&self, dropout: f64, json: &mut Map<String, Value>) {
        json.extend([
            ("architectures".to_owned(), json!(["ViTForImageClassification"])),
            ("image_size".to_owned(), self.image_size.into()),
            ("patch_size".to_owned(), self.patch_size.into()),
            ("num_channels".to_owned(), self.num_channels.into()),
            ("hidden_size".to_owned(), self.hidden_size.into()),
            ("num_hidden_layers".to_owned(), self.num_hidden_layers.into()),
            ("num_attention_heads".to_owned(), self.num_attention_heads.into()),
            ("intermediate_size".to_owned(), self.intermediate_size.into()),
            ("hidden_act".to_owned(), self.hidden_act.word().into()),
            ("layer_norm_eps".to_owned(), self.layer_norm_eps.into()),
            ("qkv_bias".to_owned(), self.qkv_bias.into()),
            ("initializer_range".to_owned(), self.initializer_range.into()),
            ("hidden_dropout_prob".to_owned(), dropout.into()),
            ("attention_probs_dropout_prob".to_owned(), dropout.into()),
        ]);
    }
}
