//! Tokens of a file by their ids, and the models that are made of them.

use super::error::{Problem, problem};
use super::json::{Merge, ModelJson, Vocab};
use super::pieces::{PieceBpe, PieceOptions, SPACE};
use super::word_piece::WordPiece;
use super::{AddedToken, Bpe, BpeError, Model, byte_chars};
use samara_core::tokenizer::Split;
use std::collections::HashMap;

/// The limit of ids in sparse vocabularies: this many, or a few per token.
const MOST_IDS: usize = 1 << 20;

/// Tokens by id, as they are written in the file.
pub(super) struct Vocabulary {
    /// Those of the model and the added ones; `None` for an id without a token.
    pub(super) tokens: Vec<Option<String>>,
    ids: HashMap<String, u32>,
    /// Ids of the model's own tokens.
    model_len: usize,
}

impl Vocabulary {
    /// The tokens of a model, plus those of `added` that are not among them.
    pub(super) fn new(entries: Vocab, added: &[AddedToken]) -> Result<Self, Problem> {
        let mut ids: HashMap<String, u32> = HashMap::with_capacity(entries.0.len());
        for (text, id) in entries.0 {
            if let Some(other) = ids.insert(text.clone(), id) {
                return problem("model.vocab", format!("token {text:?} occurs twice, with ids {other} and {id}"));
            }
        }
        let model_len = ids.values().max().map_or(0, |&id| id as usize + 1);
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
        Ok(Self { tokens: by_id(&ids)?, ids, model_len })
    }

    /// The id of a token.
    pub(super) fn id(&self, text: &str) -> Option<u32> {
        self.ids.get(text).copied()
    }

    /// Byte-level BPE.
    pub(super) fn bpe(
        &self,
        merges: &[Merge],
        split: Split,
        ignore_merges: bool,
        added: &[AddedToken],
    ) -> Result<Model, Problem> {
        let pairs = self.pairs(merges)?;
        // Nor is an id without a token one of the model's.
        let mut is_added: Vec<bool> = self.tokens.iter().map(Option::is_none).collect();
        added.iter().for_each(|token| is_added[token.id as usize] = true);
        // A token with a character that represents no byte is taken literally, as Hugging Face's decoder does.
        let written = |(text, &added): (&Option<String>, &bool)| match text.as_deref().map(|text| (text, byte_chars::read(text)))
        {
            Some((_, Some(bytes))) if !added => bytes,
            Some((text, _)) => text.as_bytes().to_vec(),
            None => Vec::new(),
        };
        let tokens: Vec<Vec<u8>> = self.tokens.iter().zip(&is_added).map(written).collect();
        let bytes_only = pairs.is_empty() && split == Split::Whole && self.model_len == 256;
        if bytes_only && tokens.iter().take(256).enumerate().all(|(id, token)| token[..] == [id as u8]) {
            return Ok(Model::Byte);
        }
        let bpe = Bpe::new(&tokens, pairs, split, ignore_merges, |id| is_added[id as usize]);
        bpe.map(Model::Bpe).map_err(|error| bpe_problem(error, merges))
    }

    /// One token for each character.
    pub(super) fn characters(self, added: &[AddedToken]) -> Result<Model, Problem> {
        let mut model_tokens = self.tokens;
        let first_added = added.iter().map(|token| token.id as usize).min().unwrap_or(model_tokens.len());
        model_tokens.truncate(first_added);
        let single = |text: &Option<String>| {
            let text = text.as_deref().unwrap_or_default();
            let mut chars = text.chars();
            match (chars.next(), chars.next()) {
                (Some(char), None) => Ok(char),
                _ => problem("model.vocab", format!("token {text:?}: expected a single character")),
            }
        };
        Ok(Model::Character(model_tokens.iter().map(single).collect::<Result<Vec<char>, Problem>>()?))
    }

    /// BPE over characters. `text_of`: the decoded text of a token.
    pub(super) fn pieces(
        &self,
        json: &ModelJson,
        trim_start: usize,
        trim_end: bool,
        text_of: impl Fn(&str) -> Vec<u8>,
    ) -> Result<Model, Problem> {
        let merges = json.merges.as_deref().unwrap_or_default();
        let prefix = json.continuing_subword_prefix.clone().unwrap_or_default();
        let mut table = HashMap::with_capacity(merges.len());
        for ((rank, &(left, right)), Merge(a, b)) in self.pairs(merges)?.iter().enumerate().zip(merges) {
            let result = format!("{a}{}", b.strip_prefix(prefix.as_str()).unwrap_or(b));
            let Some(id) = self.id(&result) else {
                return problem(merge_item(merges, rank), format!("makes {result:?}, which is not in the vocabulary"));
            };
            // Of a duplicate merge, Hugging Face's library uses the last.
            table.insert((left, right), (rank as u32, id));
        }
        let unknown = match json.unk_token.as_deref() {
            Some(text) => Some(self.id(text).ok_or_else(|| unk_problem(text))?),
            None => None,
        };
        let byte_token = |byte: u8| self.id(&format!("<0x{byte:02X}>"));
        let options = PieceOptions {
            unknown,
            fuse_unknown: json.fuse_unk,
            byte_tokens: json.byte_fallback.then(|| (0..=255).map(byte_token).collect()),
            prefix,
            suffix: json.end_of_word_suffix.clone().unwrap_or_default(),
            ignore_merges: json.ignore_merges,
            trim_start,
            trim_end,
            words: false,
        };
        let own = &self.tokens[..self.model_len];
        let across = |text: &str| text.trim_start_matches(SPACE).contains(SPACE);
        let words = options.prefix.is_empty() && options.suffix.is_empty() && self.id(&SPACE.to_string()).is_some();
        let options = PieceOptions { words: words && !own.iter().flatten().any(|text| across(text)), ..options };
        let texts = own.iter().map(|token| token.as_deref().map(&text_of).unwrap_or_default()).collect();
        let ids =
            self.ids.iter().filter(|(_, id)| (**id as usize) < self.model_len).map(|(text, id)| (text.as_str().into(), *id));
        Ok(Model::Pieces(PieceBpe { ids: ids.collect(), texts, merges: table, options }))
    }

    /// WordPiece, whose decoder may remove spaces before punctuation.
    pub(super) fn word_piece(&self, json: &ModelJson, cleanup: bool) -> Result<Model, Problem> {
        let unknown = json.unk_token.as_deref().unwrap_or("[UNK]");
        let id = self.id(unknown).ok_or_else(|| unk_problem(unknown))?;
        let prefix = json.continuing_subword_prefix.clone().unwrap_or_else(|| "##".to_owned());
        let most_chars = json.max_input_chars_per_word.unwrap_or(100);
        let own = self.tokens.get(..self.model_len).unwrap_or_default();
        Ok(Model::WordPiece(WordPiece::new(own, id, (prefix, cleanup), most_chars)))
    }

    /// Left and right id of each merge.
    fn pairs(&self, merges: &[Merge]) -> Result<Vec<(u32, u32)>, Problem> {
        let id = |rank: usize, token: &str| match self.id(token) {
            Some(id) => Ok(id),
            None => problem(merge_item(merges, rank), format!("token {token:?} is not in the vocabulary")),
        };
        merges.iter().enumerate().map(|(rank, Merge(left, right))| Ok((id(rank, left)?, id(rank, right)?))).collect()
    }
}

/// Tokens by their ids.
fn by_id(ids: &HashMap<String, u32>) -> Result<Vec<Option<String>>, Problem> {
    let limit = MOST_IDS.max(ids.len().saturating_mul(4));
    let mut sorted: Vec<(u32, &str)> = ids.iter().map(|(text, id)| (*id, text.as_str())).collect();
    sorted.sort_unstable();
    let mut tokens: Vec<Option<String>> = Vec::with_capacity(sorted.len());
    for (id, text) in sorted {
        let place = id as usize;
        if place >= limit {
            let what = format!("token {text:?} has id {id}; ids of a vocabulary of {} tokens are below {limit}", ids.len());
            return problem("model.vocab", what);
        }
        if let Some(Some(other)) = tokens.get(place) {
            return problem("model.vocab", format!("tokens {other:?} and {text:?} have one id, {id}"));
        }
        tokens.resize(place, None);
        tokens.push(Some(text.to_owned()));
    }
    Ok(tokens)
}

fn unk_problem(text: &str) -> Problem {
    ("model.unk_token".to_owned(), format!("{text:?} is not in the vocabulary"))
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
