//! Names of `ViTForImageClassification`, and those of timm's `VisionTransformer`, which parameters have in memory.
//!
//! Queries, keys and values are three matrices in folders of `transformers` and one here, with consecutive rows; so are their biases. The patch embedding
//! is a convolution in both.

use samara_core::model::vit::VitConfig;

use crate::model_folder::map::{NameMap, NameRule, Pattern};

/// How `transformers` calls the parts of a block.
struct Names {
    block: &'static str,
    /// Queries, keys, values.
    projections: [&'static str; 3],
    /// As `norm1`, `norm2`, `attn.proj`, `mlp.fc1` and `mlp.fc2` here.
    layers: [&'static str; 5],
}

const LAYERS: [&str; 5] = ["norm1", "norm2", "attn.proj", "mlp.fc1", "mlp.fc2"];

/// The names in files.
const ON_DISK: Names = Names {
    block: "vit.encoder.layer.{}",
    projections: ["attention.attention.query", "attention.attention.key", "attention.attention.value"],
    layers: ["layernorm_before", "layernorm_after", "attention.output.dense", "intermediate.dense", "output.dense"],
};

/// The names in the memory of `transformers` from version 5 on.
const IN_MEMORY: Names = Names {
    block: "vit.layers.{}",
    projections: ["attention.q_proj", "attention.k_proj", "attention.v_proj"],
    layers: ["layernorm_before", "layernorm_after", "attention.o_proj", "mlp.fc1", "mlp.fc2"],
};

/// The tables, each with a tensor that only a file of its kind has; the first is that of folders of `transformers`.
pub fn name_maps(config: &VitConfig) -> Vec<(&'static str, NameMap)> {
    vec![
        ("vit.encoder.layer.0.layernorm_before.weight", transformers(config, &ON_DISK)),
        ("vit.layers.0.layernorm_before.weight", transformers(config, &IN_MEMORY)),
        ("blocks.0.norm1.weight", timm(config)),
    ]
}

fn transformers(config: &VitConfig, names: &Names) -> NameMap {
    const EMBEDDINGS: &str = "vit.embeddings";
    let block = names.block;
    let parts = names.projections.map(|part| (format!("{block}.{part}.*"), config.hidden_size));
    let mut rules = vec![
        NameRule::rename("cls_token", format!("{EMBEDDINGS}.cls_token")),
        NameRule::rename("pos_embed", format!("{EMBEDDINGS}.position_embeddings")),
        NameRule::rename("patch_embed.proj.*", format!("{EMBEDDINGS}.patch_embeddings.projection.*")),
        patches(config, format!("{EMBEDDINGS}.patch_embeddings.projection.weight")),
        NameRule::fuse("blocks.{}.attn.qkv.*", parts),
        NameRule::rename("norm.*", "vit.layernorm.*"),
        NameRule::rename("head.*", "classifier.*"),
    ];
    let layers = LAYERS.iter().zip(names.layers);
    rules.extend(layers.map(|(ours, theirs)| NameRule::rename(format!("blocks.{{}}.{ours}.*"), format!("{block}.{theirs}.*"))));
    NameMap { rules }
}

fn timm(config: &VitConfig) -> NameMap {
    NameMap { rules: vec![patches(config, "patch_embed.proj.weight")] }
}

fn patches(config: &VitConfig, disk: impl Into<Pattern>) -> NameRule {
    NameRule::extents(disk, [config.num_channels, config.patch_size, config.patch_size], false)
}
