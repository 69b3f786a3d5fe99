//! Opening a tokenizer: `tokenizer.json` (Hugging Face `tokenizers`), or `vocab.json` with `merges.txt` (openai/gpt-2's files), or `vocab.txt` (BERT's).

use super::bert::{self, Letters};
use super::beside::{Beside, CONFIG_FILE, FILES, object};
use super::build::{build, finish};
use super::error::{FileError, Problem, parse, problem, read};
use super::json::{Merge, ModelJson, Part, TokenizerJson, Vocab};
use super::steps::Step;
use super::vocabulary::Vocabulary;
use super::{TextSteps, Tokenizer};
use crate::say;
use samara_core::tokenizer::Split;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The file that a tokenizer has of its own.
pub(super) const TOKENIZER_FILE: &str = "tokenizer.json";
/// GPT-2's pair of files.
const PAIR: [&str; 2] = ["vocab.json", "merges.txt"];

/// BERT's list of tokens, one a line.
const LIST: &str = "vocab.txt";

/// The original files: a loaded tokenizer is saved unchanged.
#[derive(Debug)]
pub(super) struct Original {
    /// Names and contents.
    pub(super) files: Vec<(&'static str, Vec<u8>)>,
}

impl Tokenizer {
    /// Loads a `tokenizer.json` or a `vocab.txt`, or from a folder `tokenizer.json` or else `vocab.json` and `merges.txt` or else `vocab.txt`. The
    /// accompanying files tell which tokens were added, and which one ends a text (`eos_token`).
    ///
    /// # Errors
    /// A file that cannot be read, or that is invalid or not supported.
    pub fn load(path: &Path) -> Result<Self, FileError> {
        let is_folder = path.is_dir();
        let file = if is_folder { own_file(path)? } else { path.to_owned() };
        let folder = if is_folder { Some(path) } else { path.parent() };
        let beside = folder.map_or_else(|| Ok(Beside::default()), Beside::read)?;
        let mut files = Vec::new();
        let mut tokenizer = if is_folder && file.ends_with(PAIR[0]) {
            let pair = PAIR.map(|name| path.join(name));
            let [vocab, merges] = [read(&pair[0])?, read(&pair[1])?];
            let tokenizer = of_pair((&pair[0], &vocab), (&pair[1], &merges), &beside)?;
            files.extend(PAIR.into_iter().zip([vocab, merges]));
            tokenizer
        } else if file.ends_with(LIST) {
            let list = read(&file)?;
            let letters = folder
                .map_or(Ok(Letters::UNCASED), |folder| Ok::<_, FileError>(Letters::of(&object(&folder.join(CONFIG_FILE))?)))?;
            let built = of_list(&list, letters, &beside).map_err(|problem| FileError::item(&file, problem))?;
            files.push((LIST, list));
            built
        } else {
            let json = read(&file)?;
            let built = build(parse(&json, &file)?, &beside).map_err(|problem| FileError::item(&file, problem))?;
            files.push((TOKENIZER_FILE, json));
            built
        };
        for name in FILES {
            let path = folder.map(|folder| folder.join(name)).filter(|path| path.is_file());
            files.extend(path.map(|path| Ok::<_, FileError>((name, read(&path)?))).transpose()?);
        }
        if let Some(id) = beside.end_of_text.and_then(|text| tokenizer.id_of(&text)) {
            tokenizer.end_of_text = Some(id);
        }
        tokenizer.original = Some(Arc::new(Original { files }));
        Ok(tokenizer)
    }

    /// The tokenizer of a model folder, if it has one.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn of_model(folder: &Path) -> Result<Option<Self>, FileError> {
        Self::is_in(folder).then(|| Self::load(folder)).transpose()
    }

    /// Whether a folder has the files of a tokenizer.
    pub fn is_in(folder: &Path) -> bool {
        own_file(folder).is_ok()
    }

    /// The tokenizer of a model folder for a command that can work without: one that cannot be used counts as absent, with a note.
    pub fn of_model_if_usable(folder: &Path, quiet: bool) -> Option<Self> {
        Self::of_model(folder).unwrap_or_else(|error| {
            if !quiet {
                say::line(&format!("note: token ids only, without text: {error}"));
            }
            None
        })
    }

    /// Parses the contents of a `tokenizer.json`; errors name `path`.
    ///
    /// # Errors
    /// Contents that are invalid or not supported.
    pub fn from_json(json: &[u8], path: &Path) -> Result<Self, FileError> {
        let tokenizer = build(parse(json, path)?, &Beside::default()).map_err(|problem| FileError::item(path, problem))?;
        let files = vec![(TOKENIZER_FILE, json.to_vec())];
        Ok(Self { original: Some(Arc::new(Original { files })), ..tokenizer })
    }
}

/// The file of a folder that has its tokenizer: the first of the pair, where there is no `tokenizer.json`.
fn own_file(folder: &Path) -> Result<PathBuf, FileError> {
    let is_there = |name: &&str| folder.join(name).is_file();
    let pair = PAIR.iter().all(&is_there).then_some(PAIR[0]);
    let found = [TOKENIZER_FILE].into_iter().find(&is_there).or(pair).or_else(|| [LIST].into_iter().find(is_there));
    found.map(|name| folder.join(name)).ok_or_else(|| FileError::Missing { path: folder.to_owned() })
}

/// BERT's list of tokens: a token's id is its line.
fn of_list(list: &[u8], letters: Letters, beside: &Beside) -> Result<Tokenizer, Problem> {
    let Ok(text) = std::str::from_utf8(list) else { return problem("the tokens", "expected UTF-8, a token a line") };
    let tokens: Vec<String> = text.lines().map(str::to_owned).collect();
    let mut known = HashSet::new();
    if let Some(line) = tokens.iter().position(|token| !known.insert(token.as_str())) {
        return problem(
            format!("line {}", line + 1),
            format!("token {:?} occurs before; expected every token once", tokens[line]),
        );
    }
    match serde_json::from_value(bert::file(&tokens, letters)) {
        Ok(json) => build(json, beside),
        Err(error) => problem("the tokens", error.to_string()),
    }
}

/// GPT-2's pair of files, each with its path. They do not mark special tokens: those that the accompanying files name, or else the usual end-of-text
/// tokens, are special if they are in the vocabulary.
fn of_pair(vocab: (&Path, &[u8]), merges: (&Path, &[u8]), beside: &Beside) -> Result<Tokenizer, FileError> {
    let entries: Vocab = parse(vocab.1, vocab.0)?;
    let mut beside = beside.clone();
    if beside.end_of_text.is_none() {
        beside.specials.extend(super::ENDS_OF_TEXT.map(str::to_owned));
    }
    let added = beside.added_to(Vec::new(), &entries).map_err(|problem| FileError::item(vocab.0, problem))?;
    let list = parse_merges_txt(merges.1).map_err(|problem| FileError::item(merges.0, problem))?;
    if list.iter().any(|Merge(_, right)| right.ends_with(END_OF_WORD)) {
        return of_words(entries, list, beside).map_err(|problem| FileError::item(merges.0, problem));
    }
    let vocabulary = Vocabulary::new(entries, &added).map_err(|problem| FileError::item(vocab.0, problem))?;
    let (split, pieces) = match beside.add_prefix_space {
        false => (Split::Gpt2, Vec::new()),
        true => (Split::Whole, vec![Step::PrefixSpace, Step::Gpt2]),
    };
    let model = vocabulary.bpe(&list, split, false, &added);
    let text = TextSteps { normalizer: Vec::new(), pieces };
    model.and_then(|model| finish(model, added, text)).map_err(|problem| FileError::item(merges.0, problem))
}

/// The end-of-word marker of GPT-1's files.
const END_OF_WORD: &str = "</w>";
/// GPT-1's token for unknown characters.
const UNKNOWN: &str = "<unk>";

/// GPT-1's pair of files: lower-case words, split at white space and punctuation, with end-of-word markers.
fn of_words(vocab: Vocab, merges: Vec<Merge>, mut beside: Beside) -> Result<Tokenizer, Problem> {
    if !vocab.0.iter().any(|(text, _)| text == UNKNOWN) {
        let what = format!(
            "ends of words are marked with {END_OF_WORD}, but {UNKNOWN} is not in vocab.json: these are not GPT-1's files"
        );
        return problem("the merges", format!("{what}; add the model's tokenizer.json, which says how text is cut into words"));
    }
    beside.specials.push(UNKNOWN.to_owned());
    let part = |kind: &str| Part { kind: kind.to_owned(), ..Part::default() };
    let normalizer = Part { clean_text: true, handle_chinese_chars: true, lowercase: true, ..part("BertNormalizer") };
    let model = ModelJson {
        kind: Some("BPE".to_owned()),
        vocab,
        merges: Some(merges),
        unk_token: Some(UNKNOWN.to_owned()),
        end_of_word_suffix: Some(END_OF_WORD.to_owned()),
        ..ModelJson::default()
    };
    let json = TokenizerJson {
        added_tokens: Vec::new(),
        normalizer: Some(normalizer),
        pre_tokenizer: Some(part("BertPreTokenizer")),
        decoder: Some(Part { suffix: END_OF_WORD.to_owned(), ..part("BPEDecoder") }),
        post_processor: serde_json::Value::Null,
        model,
    };
    build(json, &beside)
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
