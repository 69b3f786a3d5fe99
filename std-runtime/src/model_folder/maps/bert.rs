//! Names of `BertModel` and `BertForMaskedLM`. Queries, keys and values are three matrices in files and one here, with consecutive rows.

use samara_core::model::bert::BertConfig;

use crate::model_folder::map::{NameMap, NameRule};

/// The table of an encoder alone: the tensors of heads are passed over.
pub fn encoder(config: &BertConfig) -> NameMap {
    let mut rules = rules(config);
    rules.push(NameRule::ignore("cls.*"));
    NameMap { rules }
}

/// The table of an encoder with the head that restores tokens, which is tied to the table of tokens.
pub fn masked_lm(config: &BertConfig) -> NameMap {
    let mut rules = rules(config);
    rules.extend([
        NameRule::tie("cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"),
        NameRule::tie("cls.predictions.decoder.bias", "cls.predictions.bias"),
        NameRule::ignore("cls.seq_relationship.*"),
    ]);
    NameMap { rules }
}

fn rules(config: &BertConfig) -> Vec<NameRule> {
    const ATTENTION: &str = "bert.encoder.layer.{}.attention.self";
    let parts = ["query", "key", "value"].map(|part| (format!("{ATTENTION}.{part}.*"), config.hidden_size));
    vec![
        NameRule::fuse(format!("{ATTENTION}.qkv.*"), parts),
        // Files of an encoder without heads have no prefix.
        NameRule::Prefix("bert."),
        NameRule::ignore("*embeddings.position_ids"),
        NameRule::ignore("*pooler.*"),
    ]
}
