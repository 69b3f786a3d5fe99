//! Residual networks: their keys, and their `config.json`.

use std::sync::Arc;

use samara_core::model::image::ImageModel;
use samara_core::model::resnet::{MAX_STAGES, ResNet, ResNetConfig, Stage};
use samara_core::params::Scope;
use serde_json::{Map, Value, json};

use crate::config::{Choice, Invalid, table};
use crate::model_folder::FolderError;
use crate::model_folder::keys::{ConfigJson, Keys};
use crate::model_folder::map::NameMap;
use crate::model_folder::maps;
use crate::vision::ImageArchitecture;
use crate::vision::family::ImageFamily;

/// The form of a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LayerType {
    /// Two convolutions of 3 × 3.
    Basic,
    /// Three convolutions, 1 × 1, 3 × 3 and 1 × 1, whose second has a quarter of the channels.
    #[default]
    Bottleneck,
}

impl Choice for LayerType {
    const WORDS: &'static [(&'static str, Self)] = &[("basic", Self::Basic), ("bottleneck", Self::Bottleneck)];
}

table! {
    /// A residual network, with the names of Hugging Face's `config.json`.
    pub ResNetModel {
        /// Height and width of images in pixels.
        image_size: usize = 224, 1..=8192;
        /// Values of a pixel.
        num_channels: usize = 3, 1..=64;
        /// Channels of the stem.
        embedding_size: usize = 64, 1..=65536;
        /// Channels of the result of each stage; of bottlenecks multiples of 4.
        hidden_sizes: Vec<usize> = vec![256, 512, 1024, 2048], 1..=65536;
        /// Blocks of each stage.
        depths: Vec<usize> = vec![3, 4, 6, 3], 1..=4096;
        /// "basic": two convolutions of 3 × 3; "bottleneck": 1 × 1, 3 × 3, 1 × 1.
        layer_type: LayerType = LayerType::Bottleneck;
        /// Whether the first stage halves height and width as the others do.
        downsample_in_first_stage: bool = false;
        /// Whether the first convolution of a bottleneck has the stride, and not its second.
        downsample_in_bottleneck: bool = false;
        /// Classes.
        num_labels: usize = 2, 1..=1048576;
    }
}

/// ε of batch norms, which `config.json` does not have.
const NORM_EPS: f64 = 1e-5;

impl ResNetModel {
    /// The stages of a model with these channels and numbers of blocks.
    ///
    /// # Errors
    /// Lists of different lengths, too many stages, channels that bottlenecks cannot have.
    fn stages(&self) -> Result<[Stage; MAX_STAGES], Invalid> {
        let (channels, depths) = (&self.hidden_sizes, &self.depths);
        let mut stages = [Stage::default(); MAX_STAGES];
        if !(1..=MAX_STAGES).contains(&depths.len()) || depths.contains(&0) {
            return Err(Invalid::new(
                "model.depths",
                format!("1 to {MAX_STAGES} numbers of blocks, none of them 0"),
                show(depths),
            ));
        }
        let multiple = if self.layer_type == LayerType::Bottleneck { 4 } else { 1 };
        if channels.len() != depths.len() || channels.iter().any(|&n| n == 0 || !n.is_multiple_of(multiple)) {
            let expected = format!("{} multiples of {multiple}, as many as model.depths has", depths.len());
            return Err(Invalid::new("model.hidden_sizes", expected, show(channels)));
        }
        for ((to, &depth), &channels) in stages.iter_mut().zip(depths).zip(channels) {
            *to = Stage { depth, channels };
        }
        Ok(stages)
    }

    /// The model for the engine.
    ///
    /// # Errors
    /// The first value that contradicts others.
    pub fn to_core(&self) -> Result<ResNetConfig, Invalid> {
        let config = ResNetConfig {
            image_size: [self.image_size; 2],
            num_channels: self.num_channels,
            embedding_size: self.embedding_size,
            stages: self.stages()?,
            bottleneck: self.layer_type == LayerType::Bottleneck,
            downsample_in_first_stage: self.downsample_in_first_stage,
            downsample_in_bottleneck: self.downsample_in_bottleneck,
            trained_norms: true,
            norm_eps: NORM_EPS,
            num_labels: self.num_labels,
        };
        Ok(config)
    }
}

fn show(list: &[usize]) -> String {
    format!("{list:?}")
}

impl ImageFamily for ResNetModel {
    const TYPE: &'static str = "resnet";

    fn classes(&self) -> usize {
        self.num_labels
    }

    fn architecture(&self) -> Result<Arc<dyn ImageArchitecture>, Invalid> {
        Ok(Arc::new(self.to_core()?))
    }
}

impl ImageArchitecture for ResNetConfig {
    fn register(&self, s: &mut Scope<'_>) -> Box<dyn ImageModel> {
        Box::new(ResNet::register(self, s))
    }

    fn name_maps(&self) -> Vec<(&'static str, NameMap)> {
        maps::resnet::name_maps(self)
    }
}

/// Keys of the table that the file calls the same.
const SAME: [&str; 8] = [
    "image_size",
    "num_channels",
    "embedding_size",
    "hidden_sizes",
    "depths",
    "layer_type",
    "downsample_in_first_stage",
    "downsample_in_bottleneck",
];

impl ConfigJson for ResNetModel {
    fn from_keys(keys: &Keys<'_>) -> Result<Self, FolderError> {
        let mut model = Self::default();
        for key in SAME {
            keys.set(&mut model, key, key)?;
        }
        keys.set_unless_null(&mut model, "num_labels", "num_labels")?;
        // Transformers derives the number of classes from their names.
        if let Some(Value::Object(labels)) = keys.peek("id2label") {
            model.num_labels = labels.len();
        }
        keys.only("hidden_act", &json!("relu"))?;
        // Written anew, or of backbones only.
        keys.pass_over(&["hidden_act", "stage_names", "out_features", "out_indices"]);
        model.to_core().map_err(|invalid| keys.invalid(invalid))?;
        Ok(model)
    }

    fn to_keys(&self, _: f64, json: &mut Map<String, Value>) {
        let word = LayerType::WORDS.iter().find(|(_, form)| *form == self.layer_type).map_or("bottleneck", |(word, _)| word);
        json.extend([
            ("architectures".to_owned(), json!(["ResNetForImageClassification"])),
            ("image_size".to_owned(), self.image_size.into()),
            ("num_channels".to_owned(), self.num_channels.into()),
            ("embedding_size".to_owned(), self.embedding_size.into()),
            ("hidden_sizes".to_owned(), json!(self.hidden_sizes)),
            ("depths".to_owned(), json!(self.depths)),
            ("layer_type".to_owned(), word.into()),
            ("hidden_act".to_owned(), "relu".into()),
            ("downsample_in_first_stage".to_owned(), self.downsample_in_first_stage.into()),
            ("downsample_in_bottleneck".to_owned(), self.downsample_in_bottleneck.into()),
        ]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_that_make_no_model_are_named() {
        let basic =
            ResNetModel { layer_type: LayerType::Basic, hidden_sizes: vec![6, 10], depths: vec![1, 2], ..ResNetModel::default() };
        let config = basic.to_core().unwrap();
        assert_eq!((config.stages().count(), config.width(), config.extents([37, 29])), (2, 10, Some([5, 4])));
        for (model, expected) in [
            (ResNetModel { depths: vec![1], ..basic.clone() }, "model.hidden_sizes: expected 1 multiples of 1"),
            (ResNetModel { depths: vec![1, 0], ..basic.clone() }, "model.depths: expected 1 to 8 numbers of blocks"),
            (ResNetModel { depths: vec![1; 9], ..basic.clone() }, "model.depths: expected 1 to 8 numbers of blocks"),
            (ResNetModel { layer_type: LayerType::Bottleneck, ..basic.clone() }, "model.hidden_sizes: expected 2 multiples of 4"),
        ] {
            let error = model.to_core().unwrap_err().to_string();
            assert!(error.contains(expected), "got {error}\nwant {expected}");
        }
    }
}
