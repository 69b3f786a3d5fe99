//! From the parts of a `tokenizer.json` to a tokenizer.
//!
//! It reads the parts that determine ids: added tokens, normalizer, split, model; the decoder, where tokens are text; and the tokens around a text,
//! on request (`post_processor`). Truncation and padding are left to the caller. Any other part that would change ids is an error.

use super::beside::Beside;
use super::error::{Problem, problem};
use super::json::{CHAR_PATTERN, GPT2_PATTERN, ModelJson, Part, Pattern, TokenizerJson, Vocab};
use super::matcher::Matcher;
use super::normalize::Normalizer;
use super::pieces::SPACE;
use super::steps::{Behavior, Scheme, Step};
use super::template::Template;
use super::vocabulary::Vocabulary;
use super::{AddedToken, Model, TextSteps, Tokenizer, byte_chars, patterns};
use samara_core::tokenizer::Split;

/// The tokenizer of a file, with the added tokens of those beside it.
pub(super) fn build(json: TokenizerJson, beside: &Beside) -> Result<Tokenizer, Problem> {
    let template = Template::read(&json.post_processor);
    Ok(Tokenizer { template, ..without_template(json, beside)? })
}

fn without_template(json: TokenizerJson, beside: &Beside) -> Result<Tokenizer, Problem> {
    let mut normalizer = Vec::new();
    for part in json.normalizer.iter().flat_map(Part::flat) {
        normalizers(part, &mut normalizer)?;
    }
    let own: Vec<AddedToken> = json.added_tokens.iter().map(AddedToken::from).collect();
    let added = beside.added_to(own, &json.model.vocab)?;
    check_model(&json.model)?;
    let parts: Vec<&Part> = json.pre_tokenizer.iter().flat_map(Part::flat).collect();
    match (json.model.kind.as_deref(), &json.model.merges) {
        (Some("BPE"), _) | (None, Some(_)) => bpe(json.model, &parts, json.decoder.as_ref(), normalizer, added),
        (Some("WordLevel"), _) => {
            if !matches!(parts[..], [only] if is_isolating(only, CHAR_PATTERN)) {
                let what = format!("a WordLevel model is supported over single characters; expected a Split by {CHAR_PATTERN}");
                return problem("pre_tokenizer", what);
            }
            let model = Vocabulary::new(json.model.vocab, &added)?.characters(&added)?;
            finish(model, added, TextSteps { normalizer, pieces: Vec::new() })
        }
        (Some("WordPiece"), _) => word_piece(&json.model, &parts, json.decoder.as_ref(), normalizer, added),
        (kind, _) => unsupported("model.type", kind.unwrap_or("none"), "\"BPE\", \"WordPiece\" or \"WordLevel\""),
    }
}

/// A tokenizer from a model and the steps before it.
pub(super) fn finish(model: Model, added: Vec<AddedToken>, text: TextSteps) -> Result<Tokenizer, Problem> {
    match Tokenizer::new(model, added) {
        Ok(tokenizer) => Ok(Tokenizer { text, ..tokenizer }),
        Err(error) => problem("added_tokens and model.vocab", error.to_string()),
    }
}

/// Over bytes if the split produces bytes, else over characters.
fn bpe(
    mut json: ModelJson,
    parts: &[&Part],
    decoder: Option<&Part>,
    normalizer: Vec<Normalizer>,
    added: Vec<AddedToken>,
) -> Result<Tokenizer, Problem> {
    let mut steps = Vec::new();
    for part in parts {
        steps_of(part, &mut steps)?;
    }
    let vocab = std::mem::replace(&mut json.vocab, Vocab(Vec::new()));
    let vocabulary = Vocabulary::new(vocab, &added)?;
    if !steps.iter().any(|step| matches!(step, Step::ByteChars)) {
        let model = pieces(&json, &vocabulary, decoder)?;
        return finish(model, added, TextSteps { normalizer, pieces: steps });
    }
    if [&json.continuing_subword_prefix, &json.end_of_word_suffix].into_iter().flatten().any(|affix| !affix.is_empty()) {
        let model = written_pieces(&json, &vocabulary)?;
        let written = |step| if matches!(step, Step::ByteChars) { Step::Written } else { step };
        return finish(model, added, TextSteps { normalizer, pieces: steps.into_iter().map(written).collect() });
    }
    // Most files represent bytes as characters in the last step: then the model reads the bytes themselves.
    if matches!(steps.last(), Some(Step::ByteChars)) {
        steps.pop();
    }
    let split = match steps[..] {
        [Step::Gpt2] => Split::Gpt2,
        _ => Split::Whole,
    };
    if split == Split::Gpt2 {
        steps.clear();
    }
    let merges = json.merges.as_deref().unwrap_or_default();
    let model = vocabulary.bpe(merges, split, json.ignore_merges, &added)?;
    finish(model, added, TextSteps { normalizer, pieces: steps })
}

/// WordPiece, with the spaces that the decoder writes between tokens.
fn word_piece(
    json: &ModelJson,
    parts: &[&Part],
    decoder: Option<&Part>,
    normalizer: Vec<Normalizer>,
    added: Vec<AddedToken>,
) -> Result<Tokenizer, Problem> {
    let mut pieces = Vec::new();
    for part in parts {
        steps_of(part, &mut pieces)?;
    }
    let cleanup = match decoder {
        None => false,
        Some(part) if part.kind == "WordPiece" => part.cleanup.unwrap_or(true),
        Some(part) => return unsupported("decoder", &part.kind, "WordPiece"),
    };
    let vocab = Vocab(json.vocab.0.clone());
    let model = Vocabulary::new(vocab, &added)?.word_piece(json, cleanup)?;
    finish(model, added, TextSteps { normalizer, pieces })
}

fn check_model(model: &ModelJson) -> Result<(), Problem> {
    if model.dropout.is_some_and(|dropout| dropout != 0.0) {
        return problem("model.dropout", "merges that are left out at random are not supported; expected null or 0");
    }
    Ok(())
}

/// BPE over characters, with the decoder's text of each token.
fn pieces(json: &ModelJson, vocabulary: &Vocabulary, decoder: Option<&Part>) -> Result<Model, Problem> {
    let (mut replaced, mut trim_start, mut bytes, mut suffix) = (Vec::new(), 0, false, json.end_of_word_suffix.clone());
    for part in decoder.into_iter().flat_map(Part::flat) {
        match (part.kind.as_str(), &part.pattern) {
            ("Replace", Some(Pattern::String(pattern))) => replaced.push((pattern.clone(), part.content.clone())),
            ("ByteFallback", _) => bytes = true,
            ("Fuse", _) => {}
            ("Strip", _) if part.content == " " => trim_start = part.start,
            ("BPEDecoder", _) => suffix = Some(part.suffix.clone()),
            ("Metaspace", _) => {
                replaced.push((part.replacement.unwrap_or(SPACE).to_string(), " ".to_owned()));
                trim_start = usize::from(scheme(part)? != Scheme::Never);
            }
            (kind, _) => {
                let expected =
                    "BPEDecoder, Metaspace, or a sequence of Replace (of a string), ByteFallback, Fuse, Strip (of spaces)";
                return unsupported("decoder", kind, expected);
            }
        }
    }
    let suffix = suffix.filter(|suffix| !suffix.is_empty());
    let trim_end = suffix.is_some();
    vocabulary.pieces(json, trim_start, trim_end, |token| {
        let byte = token.strip_prefix("<0x").and_then(|rest| u8::from_str_radix(rest.strip_suffix('>')?, 16).ok());
        if let Some(byte) = byte.filter(|_| bytes && token.len() == 6) {
            return vec![byte];
        }
        let text = suffix.iter().fold(token.to_owned(), |text, suffix| text.replace(suffix, " "));
        replaced.iter().fold(text, |text, (from, to)| text.replace(from, to)).into_bytes()
    })
}

/// BPE over the characters that represent bytes, with end-of-word markers (CLIP).
fn written_pieces(json: &ModelJson, vocabulary: &Vocabulary) -> Result<Model, Problem> {
    let suffix = json.end_of_word_suffix.clone().unwrap_or_default();
    vocabulary.pieces(json, 0, !suffix.is_empty(), |token| {
        let word = Some(&suffix).filter(|suffix| !suffix.is_empty()).and_then(|suffix| token.strip_suffix(suffix.as_str()));
        let text = word.unwrap_or(token);
        let bytes = byte_chars::read(text).unwrap_or_else(|| text.as_bytes().to_vec());
        [&bytes[..], if word.is_some() { b" " } else { b"" }].concat()
    })
}

/// Appends the steps of a normalizer.
fn normalizers(part: &Part, steps: &mut Vec<Normalizer>) -> Result<(), Problem> {
    let class = |pattern: &str, with: &str| -> Result<Normalizer, Problem> {
        Ok(Normalizer::Replace { pattern: regex("normalizer", pattern)?, with: with.to_owned() })
    };
    match part.kind.as_str() {
        "NFC" => steps.push(Normalizer::Nfc),
        "NFD" => steps.push(Normalizer::Nfd),
        "NFKC" => steps.push(Normalizer::Nfkc),
        "NFKD" => steps.push(Normalizer::Nfkd),
        "Lowercase" => steps.push(Normalizer::Lowercase),
        "StripAccents" => steps.push(Normalizer::StripAccents),
        "Strip" => steps.push(Normalizer::Strip { left: part.strip_left, right: part.strip_right }),
        "Prepend" => steps.push(Normalizer::Prepend(part.prepend.clone())),
        "Replace" => steps.push(Normalizer::Replace { pattern: pattern("normalizer", part)?, with: part.content.clone() }),
        "BertNormalizer" => {
            if part.clean_text {
                steps.push(class(r"[\p{Cc}\p{Cf}\p{Co}\x{FFFD}--[\t\n\r]]", "")?);
                steps.push(class(r"\s", " ")?);
            }
            if part.handle_chinese_chars {
                steps.push(Normalizer::SpaceChinese);
            }
            if part.strip_accents.unwrap_or(part.lowercase) {
                steps.extend([Normalizer::Nfd, class(r"\p{Mn}", "")?]);
            }
            if part.lowercase {
                steps.push(Normalizer::Lowercase);
            }
        }
        kind => {
            let known = "NFC, NFD, NFKC, NFKD, Lowercase, StripAccents, Strip, Prepend, Replace, BertNormalizer, or a Sequence";
            return unsupported("normalizer", kind, known);
        }
    }
    Ok(())
}

/// Appends the steps of a pre-tokenizer.
fn steps_of(part: &Part, steps: &mut Vec<Step>) -> Result<(), Problem> {
    let split = |matcher, behavior, invert| Step::Split { matcher, behavior, invert };
    let named = |pattern: &str| regex("pre_tokenizer", pattern);
    match part.kind.as_str() {
        "ByteLevel" => {
            let prefix = part.add_prefix_space.unwrap_or_default().then_some(Step::PrefixSpace);
            let words = part.use_regex.unwrap_or(true).then_some(Step::Gpt2);
            steps.extend(prefix.into_iter().chain(words));
            steps.push(Step::ByteChars);
        }
        "Split" => steps.push(split_step(part)?),
        "Digits" => {
            let behavior = if part.individual_digits { Behavior::Isolated } else { Behavior::Contiguous };
            steps.push(split(Matcher::Char(char::is_numeric), behavior, false));
        }
        "Punctuation" => steps.push(split(named(PUNCTUATION)?, behavior(part.behavior.as_deref().unwrap_or("Isolated"))?, false)),
        "Whitespace" => steps.push(split(named(r"\w+|[^\w\s]+")?, Behavior::Removed, true)),
        "WhitespaceSplit" => steps.push(split(Matcher::Char(char::is_whitespace), Behavior::Removed, false)),
        "CharDelimiterSplit" => {
            let delimiter = part.delimiter.map(String::from).unwrap_or_default();
            steps.push(split(Matcher::Literal(delimiter), Behavior::Removed, false));
        }
        "BertPreTokenizer" => {
            steps.push(split(Matcher::Char(char::is_whitespace), Behavior::Removed, false));
            steps.push(split(named(PUNCTUATION)?, Behavior::Isolated, false));
        }
        "Metaspace" => {
            let (replacement, split) = (part.replacement.unwrap_or(SPACE), part.split.unwrap_or(true));
            steps.push(Step::Metaspace { replacement, scheme: scheme(part)?, split });
        }
        kind => {
            let known = "ByteLevel, Split, Digits, Punctuation, Whitespace, WhitespaceSplit, CharDelimiterSplit, BertPreTokenizer, \
                         Metaspace, or a Sequence";
            return unsupported("pre_tokenizer", kind, known);
        }
    }
    Ok(())
}

/// ASCII's punctuation with its signs, and Unicode's.
const PUNCTUATION: &str = r"[!-/:-@\[-`{-~\p{P}]";

/// A `Split`; published patterns are matched by hand.
fn split_step(part: &Part) -> Result<Step, Problem> {
    if is_isolating(part, GPT2_PATTERN) {
        return Ok(Step::Gpt2);
    }
    if let Some(Pattern::Regex(pattern)) = &part.pattern
        && let Some(digits) = patterns::digits_of(pattern)
        && is_isolating(part, pattern)
    {
        return Ok(Step::Gpt4 { digits });
    }
    let behavior = behavior(part.behavior.as_deref().unwrap_or_default())?;
    Ok(Step::Split { matcher: pattern("pre_tokenizer", part)?, behavior, invert: part.invert })
}

/// Whether a part splits text by a pattern that matches all of it. Removing what does not match gives the same pieces.
fn is_isolating(part: &Part, pattern: &str) -> bool {
    let same = matches!(&part.pattern, Some(Pattern::Regex(found)) if found == pattern);
    let behavior = (part.behavior.as_deref(), part.invert);
    same && part.kind == "Split" && matches!(behavior, (Some("Isolated"), false) | (Some("Removed"), true))
}

/// An error about a part of an unknown kind, with the advice that token ids need no tokenizer.
fn unsupported<T>(item: &str, kind: &str, known: &str) -> Result<T, Problem> {
    problem(item, format!("{kind:?} is not supported; expected {known}; token ids can be used without a tokenizer"))
}

fn behavior(name: &str) -> Result<Behavior, Problem> {
    Ok(match name {
        "Isolated" => Behavior::Isolated,
        "Removed" => Behavior::Removed,
        "Contiguous" => Behavior::Contiguous,
        "MergedWithPrevious" => Behavior::MergedWithPrevious,
        "MergedWithNext" => Behavior::MergedWithNext,
        other => {
            let known = "\"Isolated\", \"Removed\", \"Contiguous\", \"MergedWithPrevious\" or \"MergedWithNext\"";
            return problem("pre_tokenizer.behavior", format!("found {other:?}; expected {known}"));
        }
    })
}

/// Which pieces get a prefix from a Metaspace; older files express it by `add_prefix_space`.
fn scheme(part: &Part) -> Result<Scheme, Problem> {
    match part.prepend_scheme.as_deref() {
        _ if part.add_prefix_space == Some(false) => Ok(Scheme::Never),
        None | Some("always") => Ok(Scheme::Always),
        Some("first") => Ok(Scheme::First),
        Some("never") => Ok(Scheme::Never),
        Some(other) => {
            problem("Metaspace.prepend_scheme", format!("found {other:?}; expected \"always\", \"first\" or \"never\""))
        }
    }
}

fn pattern(item: &str, part: &Part) -> Result<Matcher, Problem> {
    match &part.pattern {
        Some(Pattern::Regex(pattern)) => regex(item, pattern),
        Some(Pattern::String(text)) => Ok(Matcher::Literal(text.clone())),
        None => problem(item, format!("{:?} has no pattern", part.kind)),
    }
}

fn regex(item: &str, pattern: &str) -> Result<Matcher, Problem> {
    Matcher::regex(pattern).or_else(|error| problem(item, format!("the pattern {pattern:?} is not supported: {error}")))
}
