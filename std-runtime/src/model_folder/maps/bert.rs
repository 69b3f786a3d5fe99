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
        NameRule::Formerly("LayerNorm.weight", "LayerNorm.gamma"),
        NameRule::Formerly("LayerNorm.bias", "LayerNorm.beta"),
        NameRule::ignore("*embeddings.position_ids"),
        NameRule::ignore("*pooler.*"),
    ]
}

#[cfg(test)]
mod tests {
    use samara_core::model::bert::Bert;

    use super::*;
    use crate::encoder::bert::BertModel;
    use crate::model_folder::safetensors::{SINGLE_FILE, Weights, WeightsWriter};
    use crate::model_folder::{load_weights, save_weights};
    use crate::session::OwnedParams;

    /// Files of the first BERTs call the weights of norms gamma and their biases beta.
    #[test]
    fn old_names_of_norms_are_read() {
        let config = BertModel {
            hidden_size: 4,
            num_hidden_layers: 1,
            num_attention_heads: 1,
            intermediate_size: 4,
            ..BertModel::default()
        };
        let config = BertModel { vocab_size: 8, max_position_embeddings: 4, ..config }.to_core().unwrap();
        let (registry, _) = OwnedParams::of(|s| Bert::register(&config, &mut s.at("bert"))).unwrap();
        let params = registry.view();
        let values: Vec<f32> = (0..params.trainable_len()).map(|i| i as f32).collect();
        let (new, old) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        save_weights(new.path(), &params, &encoder(&config), &values[..]).unwrap();
        let weights = Weights::open(new.path()).unwrap();
        let renamed =
            |name: &str| name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta");
        let shapes = weights.names().map(|name| (renamed(name), weights.shape(name).unwrap().to_vec())).collect();
        let mut writer = WeightsWriter::create_with(&old.path().join(SINGLE_FILE), shapes, &[]).unwrap();
        for name in weights.names() {
            let shape = weights.shape(name).unwrap().to_vec();
            let mut tensor = vec![0.0; shape.iter().product()];
            weights.read(name, &shape, &mut tensor).unwrap();
            writer.values(&renamed(name), &tensor).unwrap();
        }
        writer.finish().unwrap();
        let mut read = vec![0.0; values.len()];
        load_weights(old.path(), &params, &encoder(&config), &mut read, &mut []).unwrap();
        for info in params.infos() {
            assert_eq!(read[info.range()], values[info.range()], "{}", info.name);
        }
    }
}
