//! Names of `LlamaForCausalLM`, `MistralForCausalLM` and `Qwen2ForCausalLM`.
//!
//! Queries, keys and values are three matrices in the files and one here, with consecutive rows; so are their biases, if the model has them. Rows of
//! a head are paired by halves in the files. Files of models without a head lack `model.`.

use samara_core::graph::Pairing;
use samara_core::model::llama::LlamaConfig;

use crate::model_folder::map::{NameMap, NameRule};

/// The table for a model of the family.
pub fn name_map(config: &LlamaConfig) -> NameMap {
    let queries = config.num_attention_heads * config.head_dim;
    let keys = config.num_key_value_heads * config.head_dim;
    let part = |name: &str, rows: usize| (format!("model.layers.{{}}.self_attn.{name}.*"), rows);
    let parts = [part("q_proj", queries), part("k_proj", keys), part("v_proj", keys)];
    let mut rules = vec![
        NameRule::fuse("model.layers.{}.self_attn.qkv.*", parts),
        NameRule::Prefix("model."),
        NameRule::ignore("*.rotary_emb.inv_freq"),
    ];
    if config.rope_pairs != Pairing::Halves {
        let permute =
            |name: &str| NameRule::permute(format!("model.layers.{{}}.self_attn.{name}.*"), config.head_dim, Pairing::Halves);
        rules.extend([permute("q_proj"), permute("k_proj")]);
    }
    if config.tie_word_embeddings {
        rules.push(NameRule::tie("lm_head.weight", "model.embed_tokens.weight"));
    }
    NameMap { rules }
}
