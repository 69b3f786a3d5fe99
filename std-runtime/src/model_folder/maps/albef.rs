//! Names of the authors' ALBEF files. Queries, keys and values of texts are three matrices in files and one here, with consecutive rows.

use samara_core::model::albef::AlbefConfig;

use crate::model_folder::map::{NameMap, NameRule};

/// The table of the authors' `state_dict`. Momentum encoders and queues are passed over: a training that begins has its own.
pub fn name_map(config: &AlbefConfig) -> NameMap {
    const LAYER: &str = "text_encoder.bert.encoder.layer.{}";
    let (width, vision) = (config.text.hidden_size, &config.vision);
    let part = |kind: &str, part: &str| (format!("{LAYER}.{kind}.self.{part}.*"), width);
    let momentum = ["visual_encoder_m.*", "text_encoder_m.*", "vision_proj_m.*", "text_proj_m.*", "*_queue", "queue_ptr"];
    let mut rules = vec![
        NameRule::extents(
            "visual_encoder.patch_embed.proj.weight",
            [vision.num_channels, vision.patch_size, vision.patch_size],
            false,
        ),
        NameRule::fuse(format!("{LAYER}.attention.self.qkv.*"), ["query", "key", "value"].map(|name| part("attention", name))),
        NameRule::fuse(format!("{LAYER}.crossattention.self.kv.*"), ["key", "value"].map(|name| part("crossattention", name))),
        NameRule::tie("text_encoder.cls.predictions.decoder.weight", "text_encoder.bert.embeddings.word_embeddings.weight"),
        NameRule::tie("text_encoder.cls.predictions.decoder.bias", "text_encoder.cls.predictions.bias"),
        NameRule::ignore("*embeddings.position_ids"),
    ];
    rules.extend(momentum.map(NameRule::ignore));
    NameMap { rules }
}
