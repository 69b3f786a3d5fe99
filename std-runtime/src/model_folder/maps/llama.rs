//! Names of `LlamaForCausalLM`, `MistralForCausalLM` and `Qwen2ForCausalLM`.
//!
//! Queries, keys and values are three matrices in the files and one here, their rows one after the other; so are their biases, where a model
//! has them. Rows of a head are paired in halves on both sides. Files of bare models lack `model.`.

use crate::model_folder::map::{NameMap, Rule};

/// What the table depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LlamaRows {
    /// Rows of the queries: heads × head_dim.
    pub queries: usize,
    /// Rows of the keys, and of the values: key and value heads × head_dim.
    pub keys: usize,
    /// Whether the head is the token embedding.
    pub tied: bool,
}

/// The table for a model of the family.
pub fn name_map(rows: &LlamaRows) -> NameMap {
    let part = |name: &str, rows: usize| (format!("model.layers.{{}}.self_attn.{name}.*"), rows);
    let parts = [part("q_proj", rows.queries), part("k_proj", rows.keys), part("v_proj", rows.keys)];
    let mut rules =
        vec![Rule::fuse("model.layers.{}.self_attn.qkv.*", parts), Rule::Prefix("model."), Rule::ignore("*.rotary_emb.inv_freq")];
    if rows.tied {
        rules.push(Rule::tie("lm_head.weight", "model.embed_tokens.weight"));
    }
    NameMap { rules }
}
