//! Names of `GPT2LMHeadModel` and `OpenAIGPTLMHeadModel`, which differ only in the embeddings.
//!
//! The matrices of blocks are (out, in) here and (in, out) in the files (`Conv1D`). Files of models without a head lack `transformer.`; old files
//! contain attention masks. A model without biases is written with biases of zero, so that `transformers` opens it.

use samara_core::model::gpt::GptConfig;

use crate::model_folder::map::{NameMap, NameRule};

/// Matrices of a block.
const MATRICES: [&str; 4] = ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"];

/// The table for a model of the family.
pub fn name_map(config: &GptConfig) -> NameMap {
    let embedding = if config.post_norm { "transformer.tokens_embed.weight" } else { "transformer.wte.weight" };
    let mut rules = vec![
        NameRule::rename("*", "transformer.*"),
        NameRule::Prefix("transformer."),
        NameRule::tie("lm_head.weight", embedding),
        NameRule::ignore("*.attn.bias"),
        NameRule::ignore("*.attn.masked_bias"),
        NameRule::ignore("position_ids"),
        NameRule::ignore("*.position_ids"),
    ];
    rules.extend(MATRICES.map(|matrix| NameRule::transpose(format!("transformer.h.{{}}.{matrix}.weight"))));
    if !config.bias {
        rules.push(NameRule::absent_if_zero("transformer.h.{}.*.bias", "h.{}.*.weight"));
        rules.push(NameRule::absent_if_zero("transformer.ln_f.bias", "ln_f.weight"));
    }
    NameMap { rules }
}
