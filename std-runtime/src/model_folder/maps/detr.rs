//! Names of `DetrForObjectDetection`, on disk and in memory, with backbones of `transformers` and of timm; and those of the authors' code, which
//! parameters have in memory but for the matrix of queries, keys and values.

use samara_core::model::detr::DetrConfig;

use super::resnet;
use crate::model_folder::map::{NameMap, NameRule};

/// How versions of `transformers` call parts of a model.
struct Names {
    backbone: &'static str,
    output: &'static str,
    mlp: &'static str,
}

const ON_DISK: Names = Names { backbone: "model.backbone.conv_encoder.model.", output: "out_proj", mlp: "" };
/// From version 5 on.
const IN_MEMORY: Names = Names { backbone: "model.backbone.model.", output: "o_proj", mlp: "mlp." };

/// Where the backbone is in memory, and in the authors' files.
const BODY: &str = "backbone.0.body.";

/// The tables, each with a tensor that only a file of its kind has. The first is that of folders of `transformers` whose backbone is its own, or timm's.
pub fn name_maps(config: &DetrConfig, timm: bool) -> Vec<(&'static str, NameMap)> {
    let map = |names, timm| NameMap { rules: transformers(config, names, timm) };
    let mut maps = vec![
        ("model.backbone.conv_encoder.model.embedder.embedder.convolution.weight", map(&ON_DISK, false)),
        ("model.backbone.conv_encoder.model.conv1.weight", map(&ON_DISK, true)),
        ("model.backbone.model.embedder.embedder.convolution.weight", map(&IN_MEMORY, false)),
        ("model.backbone.model.conv1.weight", map(&IN_MEMORY, true)),
        ("backbone.0.body.conv1.weight", NameMap { rules: authors(config) }),
    ];
    maps.swap(0, usize::from(timm));
    maps
}

fn transformers(config: &DetrConfig, names: &Names, timm: bool) -> Vec<NameRule> {
    let Names { backbone, output, mlp } = names;
    let mut rules = match timm {
        true => resnet::timm(&config.backbone, BODY, backbone),
        false => resnet::transformers(&config.backbone, BODY, backbone),
    };
    rules.extend([
        NameRule::rename("backbone.1.row_embed.weight", "model.position_embedding.row_embeddings.weight"),
        NameRule::rename("backbone.1.col_embed.weight", "model.position_embedding.column_embeddings.weight"),
        NameRule::rename("query_embed.weight", "model.query_position_embeddings.weight"),
        NameRule::rename("input_proj.*", "model.input_projection.*"),
        NameRule::rename("transformer.decoder.norm.*", "model.decoder.layernorm.*"),
        NameRule::rename("class_embed.*", "class_labels_classifier.*"),
        NameRule::rename("bbox_embed.*", "bbox_predictor.*"),
        NameRule::ignore("*.num_batches_tracked"),
        projection(config, "model.input_projection.weight"),
    ]);
    let d = config.d_model;
    for part in ["encoder", "decoder"] {
        let (ours, theirs) = (format!("transformer.{part}.layers.{{}}"), format!("model.{part}.layers.{{}}"));
        let halves = ["q_proj", "k_proj"].map(|half| (format!("{theirs}.self_attn.{half}.*"), d));
        rules.push(NameRule::fuse(format!("{ours}.self_attn.qk.*"), halves));
        let last = if part == "encoder" { "norm2" } else { "norm3" };
        let mut renamed = vec![
            ("self_attn.v", "self_attn.v_proj".to_owned()),
            ("self_attn.out_proj", format!("self_attn.{output}")),
            ("norm1", "self_attn_layer_norm".to_owned()),
            ("linear1", format!("{mlp}fc1")),
            ("linear2", format!("{mlp}fc2")),
            (last, "final_layer_norm".to_owned()),
        ];
        if part == "decoder" {
            renamed.extend([
                ("multihead_attn.q", "encoder_attn.q_proj".to_owned()),
                ("multihead_attn.k", "encoder_attn.k_proj".to_owned()),
                ("multihead_attn.v", "encoder_attn.v_proj".to_owned()),
                ("multihead_attn.out_proj", format!("encoder_attn.{output}")),
                ("norm2", "encoder_attn_layer_norm".to_owned()),
            ]);
        }
        rules.extend(
            renamed.iter().map(|(own, other)| NameRule::rename(format!("{ours}.{own}.*"), format!("{theirs}.{other}.*"))),
        );
    }
    rules
}

/// The authors' names: one matrix for queries, keys and values.
fn authors(config: &DetrConfig) -> Vec<NameRule> {
    let mut rules = resnet::timm(&config.backbone, BODY, BODY);
    rules.extend([NameRule::ignore("*.num_batches_tracked"), projection(config, "input_proj.weight")]);
    for kind in ["weight", "bias"] {
        let split = |layers: &str, attention: &str, parts: &[&str]| {
            let at = format!("transformer.{layers}.layers.{{}}.{attention}");
            NameRule::split(format!("{at}.in_proj_{kind}"), parts.iter().map(|part| format!("{at}.{part}.{kind}")))
        };
        rules.extend([
            split("encoder", "self_attn", &["qk", "v"]),
            split("decoder", "self_attn", &["qk", "v"]),
            split("decoder", "multihead_attn", &["q", "k", "v"]),
        ]);
    }
    rules
}

/// The projection of features is a convolution in files.
fn projection(config: &DetrConfig, disk: &'static str) -> NameRule {
    NameRule::extents(disk, [config.backbone.width(), 1, 1], false)
}
