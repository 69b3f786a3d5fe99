//! Names of `CLIPModel`, `SiglipModel`, and of OpenAI's and open_clip's CLIP. Queries, keys and values are three matrices in folders of `transformers` and one
//! here, with consecutive rows.

use samara_core::model::clip::{ClipConfig, ClipKind};

use crate::model_folder::map::{NameMap, NameRule};

/// The tables, each with a tensor that only a file of its kind has; the first is that of folders of `transformers`.
pub fn name_maps(config: &ClipConfig) -> Vec<(&'static str, NameMap)> {
    let mut maps = vec![("text_model.final_layer_norm.weight", transformers(config))];
    if config.kind == ClipKind::Clip {
        maps.push(("visual.ln_pre.weight", openai(config)));
    }
    maps
}

fn transformers(config: &ClipConfig) -> NameMap {
    let attention = |tower: &str, width: usize| {
        let at = format!("{tower}.encoder.layers.{{}}.self_attn");
        let parts = ["q_proj", "k_proj", "v_proj"].map(|part| (format!("{at}.{part}.*"), width));
        NameRule::fuse(format!("{at}.qkv.*"), parts)
    };
    let mut rules = vec![
        attention("vision_model", config.vision.hidden_size),
        attention("text_model", config.text.hidden_size),
        patches(config, "vision_model.embeddings.patch_embedding.weight"),
        NameRule::ignore("*.embeddings.position_ids"),
    ];
    if config.kind == ClipKind::SigLip {
        rules.extend(["weight", "bias"].map(|kind| {
            let at = "vision_model.head.attention";
            NameRule::split(format!("{at}.in_proj_{kind}"), ["q", "kv"].map(|part| format!("{at}.{part}.{kind}")))
        }));
    }
    NameMap { rules }
}

/// OpenAI's names: fused projections, and matrices of the last projections that are stored transposed.
fn openai(config: &ClipConfig) -> NameMap {
    let mut rules = vec![
        NameRule::rename("vision_model.embeddings.class_embedding", "visual.class_embedding"),
        NameRule::rename("vision_model.embeddings.patch_embedding.weight", "visual.conv1.weight"),
        patches(config, "visual.conv1.weight"),
        NameRule::rename("vision_model.embeddings.position_embedding.weight", "visual.positional_embedding"),
        NameRule::rename("vision_model.pre_layrnorm.*", "visual.ln_pre.*"),
        NameRule::rename("vision_model.post_layernorm.*", "visual.ln_post.*"),
        NameRule::rename("visual_projection.weight", "visual.proj"),
        NameRule::transpose("visual.proj"),
        NameRule::rename("text_model.embeddings.token_embedding.weight", "token_embedding.weight"),
        NameRule::rename("text_model.embeddings.position_embedding.weight", "positional_embedding"),
        NameRule::rename("text_model.final_layer_norm.*", "ln_final.*"),
        NameRule::rename("text_projection.weight", "text_projection"),
        NameRule::transpose("text_projection"),
        // Sizes of the model, which OpenAI's files have among the weights.
        NameRule::ignore("input_resolution"),
        NameRule::ignore("context_length"),
        NameRule::ignore("vocab_size"),
    ];
    for (ours, theirs) in [("vision_model", "visual.transformer"), ("text_model", "transformer")] {
        let (ours, theirs) = (format!("{ours}.encoder.layers.{{}}"), format!("{theirs}.resblocks.{{}}"));
        for kind in ["weight", "bias"] {
            rules.push(NameRule::rename(format!("{ours}.self_attn.qkv.{kind}"), format!("{theirs}.attn.in_proj_{kind}")));
        }
        let parts = [
            ("self_attn.out_proj", "attn.out_proj"),
            ("layer_norm1", "ln_1"),
            ("layer_norm2", "ln_2"),
            ("mlp.fc1", "mlp.c_fc"),
            ("mlp.fc2", "mlp.c_proj"),
        ];
        rules.extend(parts.map(|(own, other)| NameRule::rename(format!("{ours}.{own}.*"), format!("{theirs}.{other}.*"))));
    }
    NameMap { rules }
}

fn patches(config: &ClipConfig, disk: &'static str) -> NameRule {
    NameRule::extents(disk, [config.num_channels, config.patch_size, config.patch_size], false)
}
