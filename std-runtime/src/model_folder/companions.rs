//! The other files of a model folder, which a model keeps when it is trained further.
//!
//! A README, a chat template, special and added tokens, and the tokenizer's own files are copied unchanged. Weights in any form, indexes of weights,
//! and the files that a training run writes are not: next to new weights they would be stale.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::error::FolderError;
use super::{ADAPTER_FILE, CONFIG_FILE, GENERATION_FILE};
use crate::files::IoError;
use crate::run::durable::DurableFile;

/// Files that [`save_folder`](super::save_folder) or a run writes anew.
const REWRITTEN: [&str; 10] = [
    CONFIG_FILE,
    ADAPTER_FILE,
    GENERATION_FILE,
    "run.toml",
    "metrics.jsonl",
    "loss.svg",
    "samples.txt",
    "MODEL_CARD.md",
    "host.jsonl",
    "report.html",
];

/// Suffixes of files with weights or indexes of weights.
const WEIGHTS: [&str; 16] = [
    ".safetensors",
    ".index.json",
    ".bin",
    ".pt",
    ".pth",
    ".ckpt",
    ".h5",
    ".msgpack",
    ".gguf",
    ".ggml",
    ".onnx",
    ".onnx_data",
    ".npz",
    ".ot",
    ".tflite",
    ".tmp",
];

/// Files of a tokenizer. They do not belong to another one.
const TOKENIZER: [&str; 10] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "tokenizer.model",
];

/// Files of event logs of runs.
const EVENTS: &str = "events.out.tfevents.";

/// The files of a folder that accompany its model.
#[derive(Clone, Debug, Default)]
pub struct Companions {
    files: Vec<PathBuf>,
}

impl Companions {
    /// Those of a folder.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn of(folder: &Path) -> Result<Self, FolderError> {
        let mut files = Vec::new();
        for entry in fs::read_dir(folder).map_err(IoError::at(folder, "read"))? {
            let path = entry.map_err(IoError::at(folder, "read"))?.path();
            // A link of the Hugging Face cache leads to a file.
            if path.is_file() && path.file_name().is_some_and(goes_along) {
                files.push(path);
            }
        }
        files.sort();
        Ok(Self { files })
    }

    /// The same without the files of a tokenizer: the model gets another one.
    #[must_use]
    pub fn without_tokenizer(mut self) -> Self {
        self.files.retain(|path| TOKENIZER.iter().all(|name| path.file_name() != Some(OsStr::new(name))));
        self
    }

    /// The files of a tokenizer alone.
    #[must_use]
    pub fn only_tokenizer(mut self) -> Self {
        self.files.retain(|path| TOKENIZER.iter().any(|name| path.file_name() == Some(OsStr::new(name))));
        self
    }

    /// Whether the tokenizer is among them.
    pub fn have_tokenizer(&self) -> bool {
        let pair = self.contains("vocab.json") && self.contains("merges.txt");
        pair || self.contains("tokenizer.json") || self.contains("vocab.txt")
    }

    fn contains(&self, name: &str) -> bool {
        self.files.iter().any(|path| path.file_name() == Some(OsStr::new(name)))
    }

    /// Copies them into another folder, each synced to disk; a file that is the same file already is left alone.
    ///
    /// # Errors
    /// A file that cannot be read or written.
    pub fn copy_to(&self, folder: &Path) -> Result<(), FolderError> {
        let destination = folder.canonicalize().map_err(IoError::at(folder, "read"))?;
        for from in &self.files {
            let Some(name) = from.file_name() else { continue };
            if from.parent().and_then(|parent| parent.canonicalize().ok()).as_ref() == Some(&destination) {
                continue;
            }
            let to = destination.join(name);
            let mut source = File::open(from).map_err(IoError::at(from, "read"))?;
            let mut file = DurableFile::create(&to).map_err(IoError::at(&to, "write"))?;
            io::copy(&mut source, &mut file).and_then(|_| file.commit()).map_err(IoError::at(&to, "write"))?;
        }
        Ok(())
    }
}

fn goes_along(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else { return false };
    let stale = REWRITTEN.contains(&name) || WEIGHTS.iter().any(|ending| name.ends_with(ending));
    !(stale || name.starts_with('.') || name.starts_with(EVENTS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_describes_the_model_goes_along_and_weights_stay() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let kept = ["README.md", "added_tokens.json", "chat_template.jinja", "special_tokens_map.json", "tokenizer.json"];
        let left = [
            "config.json",
            "generation_config.json",
            "model.safetensors",
            "model.safetensors.index.json",
            "pytorch_model.bin",
            "model-q4.gguf",
            "events.out.tfevents.1",
            "run.toml",
            ".gitattributes",
        ];
        for name in kept.iter().chain(&left) {
            fs::write(from.path().join(name), name).unwrap();
        }
        fs::create_dir(from.path().join("checkpoints")).unwrap();
        let companions = Companions::of(from.path()).unwrap();
        assert!(companions.have_tokenizer() && !companions.contains("config.json"));
        companions.copy_to(to.path()).unwrap();
        let mut found: Vec<String> =
            fs::read_dir(to.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        found.sort();
        assert_eq!(found, kept);
        assert_eq!(fs::read_to_string(to.path().join("README.md")).unwrap(), "README.md");
        // Into the folder itself.
        companions.copy_to(from.path()).unwrap();
        assert_eq!(fs::read_to_string(from.path().join("README.md")).unwrap(), "README.md");
        assert!(Companions::of(&from.path().join("absent")).is_err());
        fs::remove_file(from.path().join("tokenizer.json")).unwrap();
        fs::write(from.path().join("vocab.json"), "").unwrap();
        assert!(!Companions::of(from.path()).unwrap().have_tokenizer());
        fs::write(from.path().join("merges.txt"), "").unwrap();
        assert!(Companions::of(from.path()).unwrap().have_tokenizer());
        fs::remove_file(from.path().join("merges.txt")).unwrap();
        let kept = Companions::of(from.path()).unwrap();
        assert!(!kept.have_tokenizer() && kept.contains("chat_template.jinja"));
        let without = kept.without_tokenizer();
        assert!(without.contains("README.md") && !without.contains("chat_template.jinja"));
        let only = Companions::of(from.path()).unwrap().only_tokenizer();
        assert!(only.contains("chat_template.jinja") && !only.contains("README.md"));
    }
}
