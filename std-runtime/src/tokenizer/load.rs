//! Reading `tokenizer.json` (Hugging Face `tokenizers`), and `vocab.json` with `merges.txt` (openai/gpt-2's files).
//!
//! Read are the parts that decide ids: added tokens, split, model. What is put around ids (`post_processor`), truncation and padding are
//! left to the caller; whatever else would change ids and is not supported is an error.

use super::json::{AddedJson, CHAR_PATTERN, GPT2_PATTERN, Merge, ModelJson, Pattern, PreTokenizer, TokenizerJson, Vocab};
use super::{AddedToken, Bpe, BpeError, END_OF_TEXT, Model, Tokenizer, byte_chars};
use crate::error::{Failure, Kind};
use crate::files::IoError;
use samara_core::tokenizer::Split;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Why a tokenizer file cannot be used, or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The operating system refused.
    #[error(transparent)]
    Io(#[from] IoError),
    /// No tokenizer in a folder.
    #[error("{}: no tokenizer here; expected tokenizer.json, or vocab.json and merges.txt", path.display())]
    Missing {
        /// The folder.
        path: PathBuf,
    },
    /// A model folder without a tokenizer, where text is to be read or written.
    #[error("{}: the folder has no tokenizer.json; add one, or give token ids", path.display())]
    NoneInModel {
        /// The folder.
        path: PathBuf,
    },
    /// Broken JSON, or a value of the wrong kind.
    #[error("{}:{line}:{column}: expected a tokenizer's JSON file, found: {message}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What is wrong.
        message: String,
    },
    /// Something that is well-formed and wrong or not supported.
    #[error("{}: {item}: {problem}", path.display())]
    Item {
        /// The file.
        path: PathBuf,
        /// The part of the file.
        item: String,
        /// What was found and what was expected.
        problem: String,
    },
}

impl FileError {
    /// Text is asked of the model folder `path`, which has no tokenizer.
    pub fn none_in(path: &Path) -> Self {
        Self::NoneInModel { path: path.to_path_buf() }
    }
}

impl Failure for FileError {
    fn kind(&self) -> Kind {
        match self {
            Self::Io(error) => error.kind(),
            _ => Kind::Data,
        }
    }
}

/// What is wrong with which part of a file.
type Problem = (String, String);

fn problem<T>(item: impl Into<String>, what: impl Into<String>) -> Result<T, Problem> {
    Err((item.into(), what.into()))
}

impl Tokenizer {
    /// Loads a `tokenizer.json`, or from a folder `tokenizer.json` or else `vocab.json` and `merges.txt`. `eos_token` of a
    /// `tokenizer_config.json` beside them is the end of text.
    pub fn load(path: &Path) -> Result<Self, FileError> {
        let (folder, file) =
            if path.is_dir() { (Some(path), path.join("tokenizer.json")) } else { (path.parent(), path.to_owned()) };
        let eos = folder.map_or(Ok(None), |folder| read_eos(&folder.join("tokenizer_config.json")))?;
        let mut tokenizer = match folder {
            Some(folder) if path.is_dir() && !file.exists() => {
                let (vocab, merges) = (folder.join("vocab.json"), folder.join("merges.txt"));
                if !vocab.exists() || !merges.exists() {
                    return Err(FileError::Missing { path: path.to_owned() });
                }
                load_vocab_and_merges(&vocab, &merges, eos.as_deref())?
            }
            _ => Self::from_json(&read(&file)?, &file)?,
        };
        if let Some(id) = eos.and_then(|text| tokenizer.added_id(&text)) {
            tokenizer.end_of_text = Some(id);
        }
        Ok(tokenizer)
    }

    /// The tokenizer of a model folder, if it has a `tokenizer.json`.
    pub fn of_model(folder: &Path) -> Result<Option<Self>, FileError> {
        let path = folder.join("tokenizer.json");
        path.is_file().then(|| Self::load(&path)).transpose()
    }

    /// Reads the contents of a `tokenizer.json`; errors name `path`.
    pub fn from_json(json: &[u8], path: &Path) -> Result<Self, FileError> {
        build(parse(json, path)?).map_err(|(item, problem)| FileError::Item { path: path.to_owned(), item, problem })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    Ok(std::fs::read(path).map_err(IoError::at(path, "read"))?)
}

fn parse<'j, T: serde::Deserialize<'j>>(json: &'j [u8], path: &Path) -> Result<T, FileError> {
    serde_json::from_slice(json).map_err(|error| {
        let message = error.to_string();
        let place = format!(" at line {} column {}", error.line(), error.column());
        FileError::Json {
            path: path.to_owned(),
            line: error.line(),
            column: error.column(),
            message: message.strip_suffix(&place).unwrap_or(&message).to_owned(),
        }
    })
}

/// `eos_token`: a text, or an object with `content`.
fn read_eos(config: &Path) -> Result<Option<String>, FileError> {
    if !config.exists() {
        return Ok(None);
    }
    let value: serde_json::Value = parse(&read(config)?, config)?;
    let token = &value["eos_token"];
    Ok(token.as_str().or(token["content"].as_str()).map(str::to_owned))
}

/// GPT-2's pair of files. They do not say which tokens are special: `eos`, or else `<|endoftext|>`, is if it is in the vocabulary.
fn load_vocab_and_merges(vocab: &Path, merges: &Path, eos: Option<&str>) -> Result<Tokenizer, FileError> {
    let entries: Vocab = parse(&read(vocab)?, vocab)?;
    let special = eos.unwrap_or(END_OF_TEXT);
    let specials = entries.0.iter().filter(|(text, _)| text == special);
    let added = specials.map(|(text, id)| AddedToken { id: *id, text: text.clone(), special: true }).collect();
    let at = |path: &Path, (item, problem)| FileError::Item { path: path.to_owned(), item, problem };
    let list = parse_merges_txt(&read(merges)?).map_err(|problem| at(merges, problem))?;
    let vocabulary = Vocabulary::new(entries, &[]).map_err(|problem| at(vocab, problem))?;
    let merge_line = |(item, problem)| at(merges, (item, problem));
    vocabulary.bpe(&list, Split::Gpt2, false, added).map_err(merge_line)
}

/// One merge a line; `#version` lines and empty ones are passed over.
fn parse_merges_txt(bytes: &[u8]) -> Result<Vec<Merge>, Problem> {
    let mut merges = Vec::new();
    for (number, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() || line.starts_with(b"#version") {
            continue;
        }
        match std::str::from_utf8(line).ok().and_then(Merge::parse) {
            Some(merge) => merges.push(merge),
            None => {
                let found = String::from_utf8_lossy(line).chars().take(80).collect::<String>();
                return problem(
                    format!("line {}", number + 1),
                    format!("found {found:?}; expected two tokens with a space between"),
                );
            }
        }
    }
    Ok(merges)
}

fn build(json: TokenizerJson) -> Result<Tokenizer, Problem> {
    if let Some(normalizer) = &json.normalizer {
        return problem("normalizer", format!("{:?} is not supported; expected null", normalizer.kind));
    }
    let added = added_tokens(&json.added_tokens)?;
    let vocab_added: &[AddedToken] = &added;
    check_model(&json.model)?;
    match (json.model.kind.as_deref(), &json.model.merges) {
        (Some("BPE"), merges) | (None, merges @ Some(_)) => {
            let split = bpe_split(json.pre_tokenizer.as_ref())?;
            let ignore_merges = json.model.ignore_merges;
            let vocabulary = Vocabulary::new(json.model.vocab, vocab_added)?;
            vocabulary.bpe(merges.as_deref().unwrap_or_default(), split, ignore_merges, added)
        }
        (Some("WordLevel"), _) => {
            check_char_split(json.pre_tokenizer.as_ref())?;
            Vocabulary::new(json.model.vocab, vocab_added)?.characters(added)
        }
        (kind, _) => {
            problem("model.type", format!("{:?} is not supported; expected \"BPE\" or \"WordLevel\"", kind.unwrap_or("none")))
        }
    }
}

fn added_tokens(list: &[AddedJson]) -> Result<Vec<AddedToken>, Problem> {
    let convert = |token: &AddedJson| {
        if token.lstrip || token.rstrip || token.single_word {
            return problem(format!("added token {:?}", token.content), "lstrip, rstrip and single_word are not supported");
        }
        Ok(AddedToken { id: token.id, text: token.content.clone(), special: token.special })
    };
    list.iter().map(convert).collect()
}

fn check_model(model: &ModelJson) -> Result<(), Problem> {
    if model.dropout.is_some_and(|dropout| dropout != 0.0) {
        return problem("model.dropout", "merges that are left out at random are not supported; expected null or 0");
    }
    let affixes =
        [("continuing_subword_prefix", &model.continuing_subword_prefix), ("end_of_word_suffix", &model.end_of_word_suffix)];
    for (name, affix) in affixes {
        if let Some(affix) = affix.as_deref().filter(|affix| !affix.is_empty()) {
            return problem(
                format!("model.{name}"),
                format!("{affix:?} is not supported; expected null or \"\" (byte-level BPE)"),
            );
        }
    }
    Ok(())
}

fn bpe_split(pre: Option<&PreTokenizer>) -> Result<Split, Problem> {
    const EXPECTED: &str = "expected ByteLevel, or a Split by GPT-2's pattern and then ByteLevel";
    let Some(pre) = pre else { return problem("pre_tokenizer", format!("found null; {EXPECTED}")) };
    let (split, byte_level) = match pre.pretokenizers.as_slice() {
        [] => (None, pre),
        [byte_level] => (None, byte_level),
        [split, byte_level] => (Some(split), byte_level),
        _ => return problem("pre_tokenizer", format!("found a sequence of {}; {EXPECTED}", pre.pretokenizers.len())),
    };
    if byte_level.kind != "ByteLevel" {
        return problem("pre_tokenizer", format!("found {:?}; {EXPECTED}", byte_level.kind));
    } else if byte_level.add_prefix_space {
        return problem("pre_tokenizer.add_prefix_space", "true is not supported; expected false (bytes out are the bytes in)");
    }
    match (split, byte_level.use_regex) {
        (None, true) => Ok(Split::Gpt2),
        (None, false) => Ok(Split::Whole),
        (Some(split), false) if is_isolating(split, GPT2_PATTERN) => Ok(Split::Gpt2),
        _ => problem("pre_tokenizer", format!("this Split is not supported; {EXPECTED}")),
    }
}

fn check_char_split(pre: Option<&PreTokenizer>) -> Result<(), Problem> {
    match pre {
        Some(pre) if is_isolating(pre, CHAR_PATTERN) => Ok(()),
        _ => problem(
            "pre_tokenizer",
            format!("a WordLevel model is supported over single characters; expected a Split by {CHAR_PATTERN}"),
        ),
    }
}

fn is_isolating(pre: &PreTokenizer, pattern: &str) -> bool {
    let same = matches!(&pre.pattern, Some(Pattern::Regex(found)) if found == pattern);
    same && pre.kind == "Split" && pre.behavior.as_deref() == Some("Isolated") && !pre.invert
}

/// Tokens by id, without gaps, as they are written in the file.
struct Vocabulary {
    /// The first are those of the model, the others added.
    tokens: Vec<String>,
    model_len: usize,
}

impl Vocabulary {
    fn new(entries: Vocab, added: &[AddedToken]) -> Result<Self, Problem> {
        let mut ids: HashMap<String, u32> = HashMap::with_capacity(entries.0.len());
        for (text, id) in entries.0 {
            if let Some(other) = ids.insert(text.clone(), id) {
                return problem("model.vocab", format!("token {text:?} occurs twice, with ids {other} and {id}"));
            }
        }
        let model_len = ids.len();
        for token in added {
            match ids.get(&token.text) {
                Some(&id) if id != token.id => {
                    let what = format!("has id {}, but {id} in the vocabulary", token.id);
                    return problem(format!("added token {:?}", token.text), what);
                }
                Some(_) => {}
                None => drop(ids.insert(token.text.clone(), token.id)),
            }
        }
        let mut tokens: Vec<Option<String>> = vec![None; ids.len()];
        let mut by_id: Vec<(u32, String)> = ids.into_iter().map(|(text, id)| (id, text)).collect();
        by_id.sort_unstable();
        for (id, text) in by_id {
            let total = tokens.len();
            match tokens.get_mut(id as usize) {
                Some(Some(other)) => return problem("model.vocab", format!("tokens {other:?} and {text:?} have one id, {id}")),
                Some(place) => *place = Some(text),
                None => {
                    let what = format!("token {text:?} has id {id}; {total} tokens must have the ids 0 to {}", total - 1);
                    return problem("model.vocab", what);
                }
            }
        }
        Ok(Self { tokens: tokens.into_iter().flatten().collect(), model_len })
    }

    fn bpe(self, merges: &[Merge], split: Split, ignore_merges: bool, added: Vec<AddedToken>) -> Result<Tokenizer, Problem> {
        let ids: HashMap<&str, u32> = self.tokens.iter().zip(0..).map(|(text, id)| (text.as_str(), id)).collect();
        let mut pairs = Vec::with_capacity(merges.len());
        for (rank, Merge(left, right)) in merges.iter().enumerate() {
            let id = |token: &str| match ids.get(token) {
                Some(&id) => Ok(id),
                None => problem(merge_item(merges, rank), format!("token {token:?} is not in the vocabulary")),
            };
            pairs.push((id(left)?, id(right)?));
        }
        let mut is_added = vec![false; self.tokens.len()];
        added.iter().for_each(|token| is_added[token.id as usize] = true);
        // A token with a character that stands for no byte is taken literally, as the peer's decoder does.
        let written = |(text, &added): (&String, &bool)| match byte_chars::read(text) {
            Some(bytes) if !added => bytes,
            _ => text.clone().into_bytes(),
        };
        let tokens: Vec<Vec<u8>> = self.tokens.iter().zip(&is_added).map(written).collect();
        let bytes_only = pairs.is_empty() && split == Split::Whole && self.model_len == 256;
        if bytes_only && tokens.iter().take(256).enumerate().all(|(id, token)| token[..] == [id as u8]) {
            return finish(Model::Byte, added);
        }
        let bpe = Bpe::new(&tokens, pairs, split, ignore_merges, |id| is_added[id as usize]);
        finish(Model::Bpe(bpe.map_err(|error| bpe_problem(error, merges))?), added)
    }

    fn characters(self, added: Vec<AddedToken>) -> Result<Tokenizer, Problem> {
        let mut model_tokens = self.tokens;
        let first_added = added.iter().map(|token| token.id as usize).min().unwrap_or(model_tokens.len());
        model_tokens.truncate(first_added);
        let single = |text: &String| {
            let mut chars = text.chars();
            match (chars.next(), chars.next()) {
                (Some(char), None) => Ok(char),
                _ => problem("model.vocab", format!("token {text:?}: expected a single character")),
            }
        };
        let chars = model_tokens.iter().map(single).collect::<Result<Vec<char>, Problem>>()?;
        finish(Model::Character(chars), added)
    }
}

fn finish(model: Model, added: Vec<AddedToken>) -> Result<Tokenizer, Problem> {
    Tokenizer::new(model, added).or_else(|error| problem("added_tokens and model.vocab", error.to_string()))
}

fn merge_item(merges: &[Merge], rank: usize) -> String {
    match merges.get(rank) {
        Some(Merge(left, right)) => format!("merge {rank} ({left:?} {right:?})"),
        None => format!("merge {rank}"),
    }
}

fn bpe_problem(error: BpeError, merges: &[Merge]) -> Problem {
    let item = match error {
        BpeError::MergeId { rank, .. } | BpeError::NoResult { rank } | BpeError::DuplicateMerge { rank } => {
            merge_item(merges, rank)
        }
        BpeError::TooLarge { .. } | BpeError::SameBytes { .. } | BpeError::Crowded { .. } => "model.vocab".to_owned(),
    };
    (item, error.to_string())
}
