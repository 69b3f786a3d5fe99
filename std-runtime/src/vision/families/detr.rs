//! DETR: its keys, and its `config.json`.

use samara_core::detect::{LossWeights, MatchCosts};
use samara_core::graph::Activation;
use samara_core::model::detr::{DetrConfig, Positions};
use samara_core::model::resnet::ResNetConfig;
use serde_json::{Map, Value, json};

use super::resnet::{LayerType, ResNetModel};
use crate::config::{Choice, Invalid, table};
use crate::detect::set_loss::SetCriterion;
use crate::model_folder::FolderError;
use crate::model_folder::hidden_act::HiddenAct;
use crate::model_folder::keys::{ConfigJson, Keys};
use crate::model_folder::map::NameMap;
use crate::model_folder::maps;
use crate::vision::family::ImageFamily;

/// Positions of places in a feature map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PositionType {
    /// Sines and cosines.
    #[default]
    Sine,
    /// A vector for every column and every row.
    Learned,
}

impl Choice for PositionType {
    const WORDS: &'static [(&'static str, Self)] = &[("sine", Self::Sine), ("learned", Self::Learned)];
}

/// The families of detectors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DetectorType {
    /// DETR.
    #[default]
    Detr,
}

impl Choice for DetectorType {
    const WORDS: &'static [(&'static str, Self)] = &[(DetrModel::TYPE, Self::Detr)];
}

table! {
    /// A DETR with a residual network as its backbone, with the names of Hugging Face's `config.json`.
    pub DetrModel {
        /// The family of the model: "detr".
        model_type: DetectorType = DetectorType::Detr;
        /// Height and width of images in pixels during training.
        image_size: usize = 800, 1..=8192;
        /// Values of a pixel.
        num_channels: usize = 3, 1..=64;
        /// Channels of the backbone's stem.
        embedding_size: usize = 64, 1..=65536;
        /// Channels of the result of each of its stages; of bottlenecks multiples of 4.
        hidden_sizes: Vec<usize> = vec![256, 512, 1024, 2048], 1..=65536;
        /// Blocks of each stage.
        depths: Vec<usize> = vec![3, 4, 6, 3], 1..=4096;
        /// "basic": two convolutions of 3 × 3; "bottleneck": 1 × 1, 3 × 3, 1 × 1.
        layer_type: LayerType = LayerType::Bottleneck;
        /// Whether the first stage halves height and width as the others do.
        downsample_in_first_stage: bool = false;
        /// Whether the first convolution of a bottleneck has the stride, and not its second.
        downsample_in_bottleneck: bool = false;
        /// Whether folders have timm's names for the backbone, which must then be one of timm's.
        use_timm_backbone: bool = false;
        /// Width, a multiple of 4 and of both numbers of heads.
        d_model: usize = 256, 4..=65536;
        /// Layers of the encoder.
        encoder_layers: usize = 6, 0..=256;
        /// Layers of the decoder.
        decoder_layers: usize = 6, 1..=256;
        /// Heads of the encoder.
        encoder_attention_heads: usize = 8, 1..=4096;
        /// Heads of the decoder.
        decoder_attention_heads: usize = 8, 1..=4096;
        /// Width of the encoder's hidden layers.
        encoder_ffn_dim: usize = 2048, 1..=1048576;
        /// Width of the decoder's hidden layers.
        decoder_ffn_dim: usize = 2048, 1..=1048576;
        /// "relu", "gelu" (exact), "gelu_new" (tanh form) or "quick_gelu".
        activation_function: HiddenAct = HiddenAct::Relu;
        /// Whether layers normalise their inputs, and not their results.
        pre_norm: bool = false;
        /// Whether the decoder's last norm follows every layer and its result enters the next one, as in `transformers` with auxiliary_loss.
        norm_between: bool = false;
        /// "sine" or "learned".
        position_embedding_type: PositionType = PositionType::Sine;
        /// Queries.
        num_queries: usize = 100, 1..=65536;
        /// Classes, without the one that means no object.
        num_labels: usize = 91, 1..=1048576;
        /// Whether every layer of the decoder is matched and has a loss in training, and not the last one alone.
        auxiliary_loss: bool = true;
        /// Weight of the probability of the object's class in the cost of a match.
        class_cost: f64 = 1.0, 0..=1e6;
        /// Weight of the L1 distance of boxes in it.
        bbox_cost: f64 = 5.0, 0..=1e6;
        /// Weight of their generalised IoU in it.
        giou_cost: f64 = 2.0, 0..=1e6;
        /// Weight of the L1 distance in the loss; the cross-entropy has 1.
        bbox_loss_coefficient: f64 = 5.0, 0..=1e6;
        /// Weight of 1 − generalised IoU in the loss.
        giou_loss_coefficient: f64 = 2.0, 0..=1e6;
        /// Relative weight of queries without an object in the cross-entropy.
        eos_coefficient: f64 = 0.1, 0..=1e6;
    }
}

/// timm's networks: blocks, whether they are bottlenecks.
const TIMM: [(&str, [usize; 4], bool); 5] = [
    ("resnet18", [2, 2, 2, 2], false),
    ("resnet34", [3, 4, 6, 3], false),
    ("resnet50", [3, 4, 6, 3], true),
    ("resnet101", [3, 4, 23, 3], true),
    ("resnet152", [3, 8, 36, 3], true),
];

/// Channels of the stages of one of timm's networks.
fn timm_channels(bottleneck: bool) -> Vec<usize> {
    let expansion = if bottleneck { 4 } else { 1 };
    [64, 128, 256, 512].map(|n| n * expansion).to_vec()
}

impl DetrModel {
    /// The value of `model_type`.
    pub const TYPE: &'static str = "detr";

    /// The keys of the backbone.
    fn backbone(&self) -> ResNetModel {
        ResNetModel {
            image_size: self.image_size,
            num_channels: self.num_channels,
            embedding_size: self.embedding_size,
            hidden_sizes: self.hidden_sizes.clone(),
            depths: self.depths.clone(),
            layer_type: self.layer_type,
            downsample_in_first_stage: self.downsample_in_first_stage,
            downsample_in_bottleneck: self.downsample_in_bottleneck,
            num_labels: 1,
        }
    }

    fn set_backbone(&mut self, backbone: ResNetModel) {
        let ResNetModel { embedding_size, hidden_sizes, depths, layer_type, .. } = backbone;
        (self.embedding_size, self.hidden_sizes, self.depths, self.layer_type) =
            (embedding_size, hidden_sizes, depths, layer_type);
        self.downsample_in_first_stage = backbone.downsample_in_first_stage;
        self.downsample_in_bottleneck = backbone.downsample_in_bottleneck;
    }

    /// timm's name of the backbone.
    fn timm_name(&self) -> Option<&'static str> {
        let is_plain = self.embedding_size == 64 && !self.downsample_in_first_stage && !self.downsample_in_bottleneck;
        let is_this = |bottleneck: bool, depths: &[usize; 4]| {
            let layer_type = if bottleneck { LayerType::Bottleneck } else { LayerType::Basic };
            is_plain && self.layer_type == layer_type && self.depths == *depths && self.hidden_sizes == timm_channels(bottleneck)
        };
        TIMM.iter().find(|(_, depths, bottleneck)| is_this(*bottleneck, depths)).map(|(name, ..)| *name)
    }

    /// The model for the engine.
    ///
    /// # Errors
    /// The first value that contradicts others.
    pub fn to_core(&self) -> Result<DetrConfig, Invalid> {
        let d = self.d_model;
        for (key, heads) in [
            ("model.encoder_attention_heads", self.encoder_attention_heads),
            ("model.decoder_attention_heads", self.decoder_attention_heads),
        ] {
            if !d.is_multiple_of(heads) || !d.is_multiple_of(4) {
                return Err(Invalid::new("model.d_model", format!("a multiple of 4 and of {key} = {heads}"), d));
            }
        }
        if self.use_timm_backbone && self.timm_name().is_none() {
            let expected = "false, or the sizes of timm's resnet18, 34, 50, 101 or 152";
            return Err(Invalid::new("model.use_timm_backbone", expected, true));
        }
        let backbone = ResNetConfig { trained_norms: false, ..self.backbone().to_core()? };
        if backbone.extents([self.image_size; 2]).is_none() {
            return Err(Invalid::new("model.image_size", "images that the stages of the backbone can halve", self.image_size));
        }
        Ok(DetrConfig {
            backbone,
            d_model: d,
            layers: [self.encoder_layers, self.decoder_layers],
            heads: [self.encoder_attention_heads, self.decoder_attention_heads],
            ffn_dim: [self.encoder_ffn_dim, self.decoder_ffn_dim],
            activation: Activation::from(self.activation_function),
            num_queries: self.num_queries,
            num_labels: self.num_labels,
            pre_norm: self.pre_norm,
            norm_between: self.norm_between,
            positions: match self.position_embedding_type {
                PositionType::Sine => Positions::Sine,
                PositionType::Learned => Positions::Learned,
            },
        })
    }

    /// The mappings of parameters to the tensors of a folder, each with a tensor that only folders of its kind have; the first is written.
    pub fn name_maps(&self, config: &DetrConfig) -> Vec<(&'static str, NameMap)> {
        maps::detr::name_maps(config, self.use_timm_backbone)
    }

    /// The weights of matching and losses.
    pub fn criterion(&self) -> SetCriterion {
        SetCriterion {
            costs: MatchCosts { class: self.class_cost as f32, l1: self.bbox_cost as f32, giou: self.giou_cost as f32 },
            weights: LossWeights {
                class: 1.0,
                l1: self.bbox_loss_coefficient as f32,
                giou: self.giou_loss_coefficient as f32,
                no_object: self.eos_coefficient as f32,
            },
        }
    }

    /// Reads the backbone: one of `transformers`, or one of timm's by its name.
    fn read_backbone(&mut self, keys: &Keys<'_>) -> Result<(), FolderError> {
        let own = keys.within("backbone_config");
        let is_timm = |own: &Keys<'_>| own.get("model_type").and_then(Value::as_str) == Some("timm_backbone");
        if let Some(own) = own.as_ref().filter(|own| !is_timm(own)) {
            own.only("model_type", &json!(<ResNetModel as ImageFamily>::TYPE))?;
            let last = format!("stage{}", own.get("depths").and_then(Value::as_array).map_or(4, Vec::len));
            let features = own.get("out_features").and_then(Value::as_array).and_then(|all| all.last()?.as_str());
            if let Some(found) = features.filter(|found| *found != last) {
                return Err(own.wrong("out_features", last, found));
            }
            self.set_backbone(ResNetModel::from_keys(own)?);
            return Ok(());
        }
        let name = own.as_ref().and_then(|own| own.get("backbone")).or_else(|| keys.get("backbone")).and_then(Value::as_str);
        let name = name.unwrap_or("resnet50");
        let Some((_, depths, bottleneck)) = TIMM.iter().find(|(known, ..)| *known == name) else {
            return Err(keys.wrong("backbone", "resnet18, resnet34, resnet50, resnet101 or resnet152", name));
        };
        let layer_type = if *bottleneck { LayerType::Bottleneck } else { LayerType::Basic };
        let (hidden_sizes, depths) = (timm_channels(*bottleneck), depths.to_vec());
        self.set_backbone(ResNetModel { hidden_sizes, depths, layer_type, ..ResNetModel::default() });
        self.use_timm_backbone = true;
        Ok(())
    }

    /// What `config.json` says of the backbone.
    fn backbone_json(&self) -> Value {
        if let Some(name) = self.timm_name().filter(|_| self.use_timm_backbone) {
            return json!({
                "model_type": "timm_backbone", "backbone": name, "num_channels": self.num_channels, "features_only": true,
                "use_pretrained_backbone": false, "out_indices": [1, 2, 3, 4],
            });
        }
        let mut json = Map::new();
        self.backbone().to_keys(0.0, &mut json);
        json.insert("model_type".to_owned(), <ResNetModel as ImageFamily>::TYPE.into());
        json.insert("out_features".to_owned(), json!([format!("stage{}", self.depths.len())]));
        json.remove("architectures");
        json.into()
    }
}

/// Whether all layers of the decoder have losses in training; `transformers` has no such key.
const AUXILIARY: &str = "auxiliary_loss_in_training";

/// Keys of the table that the file calls the same.
const SAME: [&str; 22] = [
    "image_size",
    "num_channels",
    "d_model",
    "encoder_layers",
    "decoder_layers",
    "encoder_attention_heads",
    "decoder_attention_heads",
    "encoder_ffn_dim",
    "decoder_ffn_dim",
    "activation_function",
    "pre_norm",
    "position_embedding_type",
    "num_queries",
    "num_labels",
    "auxiliary_loss",
    "class_cost",
    "bbox_cost",
    "giou_cost",
    "bbox_loss_coefficient",
    "giou_loss_coefficient",
    "eos_coefficient",
    "use_timm_backbone",
];

impl ConfigJson for DetrModel {
    fn from_keys(keys: &Keys<'_>) -> Result<Self, FolderError> {
        // What `transformers` takes for granted.
        let mut model = Self { auxiliary_loss: false, ..Self::default() };
        for key in SAME {
            keys.set_unless_null(&mut model, key, key)?;
        }
        if let Some(Value::Object(labels)) = keys.peek("id2label") {
            model.num_labels = labels.len();
        }
        // With it `transformers` computes another function. Losses of all layers do not change ours, and have a key of their own.
        model.norm_between = model.auxiliary_loss;
        keys.set(&mut model, "auxiliary_loss", AUXILIARY)?;
        keys.only("dilation", &json!(false))?;
        model.read_backbone(keys)?;
        keys.pass_over(&[
            "dropout",
            "backbone",
            "backbone_kwargs",
            "use_pretrained_backbone",
            "hidden_size",
            "num_attention_heads",
        ]);
        keys.pass_over(&["num_hidden_layers", "is_encoder_decoder", "dilation"]);
        model.to_core().map_err(|invalid| keys.invalid(invalid))?;
        Ok(model)
    }

    fn to_keys(&self, dropout: f64, json: &mut Map<String, Value>) {
        let act = HiddenAct::WORDS.iter().find(|(_, act)| *act == self.activation_function).map_or("relu", |(word, _)| word);
        let kind =
            PositionType::WORDS.iter().find(|(_, kind)| *kind == self.position_embedding_type).map_or("sine", |(word, _)| word);
        json.extend([
            ("architectures".to_owned(), json!(["DetrForObjectDetection"])),
            ("backbone_config".to_owned(), self.backbone_json()),
            ("use_timm_backbone".to_owned(), self.use_timm_backbone.into()),
            ("activation_function".to_owned(), act.into()),
            ("position_embedding_type".to_owned(), kind.into()),
            ("dropout".to_owned(), dropout.into()),
            ("auxiliary_loss".to_owned(), self.norm_between.into()),
            (AUXILIARY.to_owned(), self.auxiliary_loss.into()),
        ]);
        if self.pre_norm {
            json.insert("pre_norm".to_owned(), true.into());
        }
        let sizes = [
            ("image_size", self.image_size),
            ("num_channels", self.num_channels),
            ("d_model", self.d_model),
            ("encoder_layers", self.encoder_layers),
            ("decoder_layers", self.decoder_layers),
            ("encoder_attention_heads", self.encoder_attention_heads),
            ("decoder_attention_heads", self.decoder_attention_heads),
            ("encoder_ffn_dim", self.encoder_ffn_dim),
            ("decoder_ffn_dim", self.decoder_ffn_dim),
            ("num_queries", self.num_queries),
        ];
        json.extend(sizes.map(|(key, size)| (key.to_owned(), size.into())));
        let weights = [
            ("class_cost", self.class_cost),
            ("bbox_cost", self.bbox_cost),
            ("giou_cost", self.giou_cost),
            ("bbox_loss_coefficient", self.bbox_loss_coefficient),
            ("giou_loss_coefficient", self.giou_loss_coefficient),
        ];
        // `transformers` accepts only integers.
        let whole = |x: f64| if x.fract() == 0.0 { Value::from(x as i64) } else { x.into() };
        json.extend(weights.map(|(key, weight)| (key.to_owned(), whole(weight))));
        json.insert("eos_coefficient".to_owned(), self.eos_coefficient.into());
    }

    fn dropout(keys: &Keys<'_>) -> f64 {
        keys.get("dropout").and_then(Value::as_f64).unwrap_or(0.1)
    }
}
