//! Names of `ViltForMaskedLM` and `ViltForImageAndTextRetrieval`, and those of ViLT's authors. Queries, keys and values are three matrices in folders of
//! `transformers` and one here, with consecutive rows.

use samara_core::model::vilt::{ViltConfig, ViltHeads};

use crate::model_folder::map::{NameMap, NameRule};

/// The tables, each with a tensor that only a file of its kind has; the first is that of folders of `transformers`.
pub fn name_maps(config: &ViltConfig, heads: ViltHeads) -> Vec<(&'static str, NameMap)> {
    const BIASES: [&str; 2] = ["mlm_score.decoder.bias", "mlm_score.bias"];
    let [new, old] = BIASES;
    vec![
        (new, transformers(config, heads, BIASES)),
        ("transformer.norm.weight", authors(config, heads)),
        // Before version 5.
        (old, transformers(config, heads, [old, new])),
    ]
}

/// `bias`: the name of the bias of every token, and one that may repeat it.
fn transformers(config: &ViltConfig, heads: ViltHeads, [bias, other]: [&'static str; 2]) -> NameMap {
    const ATTENTION: &str = "vilt.encoder.layer.{}.attention.attention";
    let parts = ["query", "key", "value"].map(|part| (format!("{ATTENTION}.{part}.*"), config.hidden_size));
    let mut rules = vec![
        NameRule::fuse(format!("{ATTENTION}.qkv.*"), parts),
        patches(config, "vilt.embeddings.patch_embeddings.projection.weight"),
        NameRule::ignore("*embeddings.position_ids"),
        NameRule::ignore("*embeddings.token_type_ids"),
    ];
    if heads.masked_lm {
        rules.extend([NameRule::rename("mlm_score.bias", bias), NameRule::tie(other, bias)]);
        if config.tie_word_embeddings {
            rules.push(NameRule::tie("mlm_score.decoder.weight", "vilt.embeddings.text_embeddings.word_embeddings.weight"));
        }
    }
    rules.extend(absent(heads));
    NameMap { rules }
}

/// The names of the authors' files, whose parts are those of BERT and of timm's `VisionTransformer`.
fn authors(config: &ViltConfig, heads: ViltHeads) -> NameMap {
    const PATCHES: &str = "transformer.patch_embed.proj";
    let mut rules = vec![
        NameRule::rename("vilt.embeddings.text_embeddings.*", "text_embeddings.*"),
        NameRule::rename("vilt.embeddings.token_type_embeddings.*", "token_type_embeddings.*"),
        NameRule::rename("vilt.embeddings.cls_token", "transformer.cls_token"),
        NameRule::rename("vilt.embeddings.position_embeddings", "transformer.pos_embed"),
        NameRule::rename("vilt.embeddings.patch_embeddings.projection.*", format!("{PATCHES}.*")),
        patches(config, "transformer.patch_embed.proj.weight"),
        NameRule::rename("vilt.layernorm.*", "transformer.norm.*"),
        NameRule::rename("vilt.pooler.*", "pooler.*"),
        NameRule::ignore("text_embeddings.position_ids"),
    ];
    let parts = [
        ("layernorm_before", "norm1"),
        ("attention.attention.qkv", "attn.qkv"),
        ("attention.output.dense", "attn.proj"),
        ("layernorm_after", "norm2"),
        ("intermediate.dense", "mlp.fc1"),
        ("output.dense", "mlp.fc2"),
    ];
    rules.extend(parts.map(|(ours, theirs)| {
        NameRule::rename(format!("vilt.encoder.layer.{{}}.{ours}.*"), format!("transformer.blocks.{{}}.{theirs}.*"))
    }));
    if heads.masked_lm && config.tie_word_embeddings {
        rules.push(NameRule::tie("mlm_score.decoder.weight", "text_embeddings.word_embeddings.weight"));
    }
    rules.extend(absent(heads));
    NameMap { rules }
}

/// The tensors of heads that the model is opened without, and of those that it never has.
fn absent(heads: ViltHeads) -> impl Iterator<Item = NameRule> {
    let of = [
        (heads.masked_lm, "mlm_score.*"),
        (heads.matching, "itm_score.*"),
        (heads.rank, "rank_output.*"),
        (false, "mpp_score.*"),
    ];
    of.into_iter().filter(|(has, _)| !has).map(|(_, names)| NameRule::ignore(names))
}

fn patches(config: &ViltConfig, disk: &'static str) -> NameRule {
    NameRule::extents(disk, [config.num_channels, config.patch_size, config.patch_size], false)
}
