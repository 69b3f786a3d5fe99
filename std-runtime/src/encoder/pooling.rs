//! How the hidden states of a text become its embedding, as the folders of sentence-transformers say it.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::config::Choice;
use crate::files::IoError;
use crate::model_folder::FolderError;

/// What is taken of the hidden states of a text's tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pooling {
    /// Their mean, padding apart.
    #[default]
    Mean,
    /// The first.
    Cls,
    /// The largest value of every column.
    Max,
}

impl Choice for Pooling {
    const WORDS: &'static [(&'static str, Self)] = &[("mean", Self::Mean), ("cls", Self::Cls), ("max", Self::Max)];
}

/// From hidden states to an embedding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Embedder {
    /// What is taken of the hidden states.
    pub pooling: Pooling,
    /// Whether the result is divided by its length.
    pub normalise: bool,
    /// The longest text in tokens, if the folder limits it.
    pub max_tokens: Option<usize>,
}

impl Embedder {
    /// Reads `modules.json`, the settings of its pooling, and `sentence_bert_config.json`; a folder without them has the normalised mean.
    ///
    /// # Errors
    /// Files that cannot be read; a pooling that is not supported.
    pub fn of(folder: &Path) -> Result<Self, FolderError> {
        let length = json(&folder.join("sentence_bert_config.json"))?;
        let max_tokens = length["max_seq_length"].as_u64().and_then(|n| usize::try_from(n).ok());
        let modules = json(&folder.join("modules.json"))?;
        let Some(modules) = modules.as_array() else {
            return Ok(Self { pooling: Pooling::Mean, normalise: true, max_tokens });
        };
        let is = |module: &&Value, word: &str| module["type"].as_str().is_some_and(|name| name.ends_with(word));
        let normalise = modules.iter().any(|module| is(&module, "Normalize"));
        let pooling = match modules.iter().find(|module| is(module, "Pooling")) {
            Some(module) => pooling(&folder.join(module["path"].as_str().unwrap_or("1_Pooling")).join("config.json"))?,
            None => Pooling::Mean,
        };
        Ok(Self { pooling, normalise, max_tokens })
    }

    /// The embedding of hidden states (T, C) of the tokens of a text; zeros without a token.
    pub fn pool(&self, hidden: &[f32], columns: usize) -> Vec<f32> {
        let rows = hidden.chunks_exact(columns.max(1));
        let count = rows.len().max(1) as f64;
        let mut pooled: Vec<f64> =
            rows.clone().next().map_or_else(|| vec![0.0; columns], |row| row.iter().map(|&x| x.into()).collect());
        for row in rows.skip(1) {
            for (to, &x) in pooled.iter_mut().zip(row) {
                match self.pooling {
                    Pooling::Mean => *to += f64::from(x),
                    Pooling::Max => *to = to.max(x.into()),
                    Pooling::Cls => {}
                }
            }
        }
        if self.pooling == Pooling::Mean {
            pooled.iter_mut().for_each(|x| *x /= count);
        }
        let norm = pooled.iter().map(|x| x * x).sum::<f64>().sqrt().max(1e-12);
        pooled.into_iter().map(|x| if self.normalise { x / norm } else { x } as f32).collect()
    }
}

/// The pooling of a file with keys such as `pooling_mode_mean_tokens`.
fn pooling(path: &Path) -> Result<Pooling, FolderError> {
    let keys = json(path)?;
    let modes = keys.as_object().into_iter().flatten();
    let on: Vec<&str> =
        modes.filter(|(key, value)| key.starts_with("pooling_mode_") && **value == true).map(|(key, _)| key.as_str()).collect();
    match on[..] {
        ["pooling_mode_mean_tokens"] | [] => Ok(Pooling::Mean),
        ["pooling_mode_cls_token"] => Ok(Pooling::Cls),
        ["pooling_mode_max_tokens"] => Ok(Pooling::Max),
        _ => {
            let expected = "one of pooling_mode_mean_tokens, pooling_mode_cls_token and pooling_mode_max_tokens".to_owned();
            Err(FolderError::Key { path: path.to_owned(), key: "pooling_mode".to_owned(), expected, found: on.join(", ") })
        }
    }
}

/// The contents of a file; null without one.
fn json(path: &Path) -> Result<Value, FolderError> {
    if !path.exists() {
        return Ok(Value::Null);
    }
    let text = fs::read(path).map_err(IoError::at(path, "read"))?;
    serde_json::from_slice(&text).map_err(|error| FolderError::Json {
        path: path.to_owned(),
        line: error.line(),
        column: error.column(),
        message: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_states_are_pooled_as_the_folder_says() {
        let hidden = [3.0, 0.0, 1.0, -4.0];
        let of = |pooling, normalise| Embedder { pooling, normalise, max_tokens: None }.pool(&hidden, 2);
        assert_eq!(of(Pooling::Mean, false), [2.0, -2.0]);
        assert_eq!(of(Pooling::Max, false), [3.0, 0.0]);
        assert_eq!(of(Pooling::Cls, true), [1.0, 0.0]);
        assert_eq!(of(Pooling::Mean, true), [0.5_f32.sqrt(), -(0.5_f32.sqrt())]);
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        assert_eq!(Embedder::of(folder.path()).unwrap().pooling, Pooling::Mean);
        fs::create_dir(folder.path().join("1_Pooling")).unwrap();
        write("modules.json", r#"[{"path": "", "type": "a.Transformer"}, {"path": "1_Pooling", "type": "a.Pooling"}]"#);
        write("1_Pooling/config.json", r#"{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}"#);
        write("sentence_bert_config.json", r#"{"max_seq_length": 7}"#);
        let expected = Embedder { pooling: Pooling::Cls, normalise: false, max_tokens: Some(7) };
        assert_eq!(Embedder::of(folder.path()).unwrap(), expected);
        write("1_Pooling/config.json", r#"{"pooling_mode_cls_token": true, "pooling_mode_max_tokens": true}"#);
        assert!(Embedder::of(folder.path()).unwrap_err().to_string().contains("found pooling_mode_cls_token, pooling_mode_max"));
    }
}
