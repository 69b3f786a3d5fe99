//! From turns to token ids, with a mask of what is to be learnt.
//!
//! Prompt and completion are encoded apart, so that no token stands across their border. Texts of special tokens in contents are text. A completion
//! ends with a stop token, which is learnt.

use std::ops::Range;

use thiserror::Error;

use super::template::{Rendered, Template, TemplateError};
use super::tokens::NewTokens;
use super::turn::{Role, Turn};
use crate::error::{Failure, Kind};
use crate::tokenizer::{Scratch, TextError, Tokenizer};

/// Why turns have no ids.
#[derive(Debug, Error)]
pub enum EncodeError {
    /// The template.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// A text that the tokenizer or the model lacks tokens for.
    #[error(transparent)]
    Text(#[from] TextError),
    /// Nothing ends an answer.
    #[error(
        "no token ends an answer: the model folder names none (\"eos_token\" in tokenizer_config.json, \"eos_token_id\" in config.json), so that a \
         trained model would never stop; name one that the tokenizer has"
    )]
    NoStop,
}

impl Failure for EncodeError {
    fn kind(&self) -> Kind {
        match self {
            Self::Template(error) => error.kind(),
            Self::Text(error) => error.kind(),
            Self::NoStop => Kind::Data,
        }
    }
}

/// Token ids, and which of them are to be learnt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoded {
    /// The ids.
    pub ids: Vec<u32>,
    /// Whether each is predicted, and so counts in the loss.
    pub mask: Vec<bool>,
}

impl Encoded {
    /// Tokens that count in the loss: the first one has nothing before it, and is never predicted.
    pub fn loss_tokens(&self) -> usize {
        self.mask.iter().skip(1).filter(|&&learnt| learnt).count()
    }

    /// The place of the first token that is learnt; the number of tokens if none is.
    pub fn completion_start(&self) -> usize {
        self.mask.iter().position(|&learnt| learnt).unwrap_or(self.mask.len())
    }

    /// Keeps so many tokens from the start; whether some were cut off.
    pub fn truncate(&mut self, max_length: usize) -> bool {
        let is_longer = self.ids.len() > max_length;
        self.ids.truncate(max_length);
        self.mask.truncate(max_length);
        is_longer
    }

    fn push(&mut self, ids: &[u32], learnt: bool) {
        self.ids.extend_from_slice(ids);
        self.mask.resize(self.ids.len(), learnt);
    }
}

/// Encodes dialogues for a model.
#[derive(Debug)]
pub struct Encoder {
    tokenizer: Tokenizer,
    template: Template,
    stops: Vec<u32>,
    /// A stop token that the model folder does not name.
    new_stop: Option<u32>,
    new_tokens: NewTokens,
    vocab_size: usize,
    specials: bool,
    completion_only: bool,
}

impl Encoder {
    /// For a model of `vocab_size` ids that ends its answers with one of `stops`. Where the template ends an answer with another special token, that
    /// is the first of the stop tokens.
    ///
    /// # Errors
    /// Nothing ends an answer.
    pub fn new(tokenizer: Tokenizer, template: Template, stops: Vec<u32>, vocab_size: usize) -> Result<Self, EncodeError> {
        let mut encoder = Self {
            tokenizer,
            template,
            stops,
            new_stop: None,
            new_tokens: NewTokens::default(),
            vocab_size,
            specials: false,
            completion_only: true,
        };
        let probe = [Turn::user("Hi"), Turn::assistant("Hello")];
        // A template that wants another beginning says so when it meets a row.
        if let Ok(rendered) = encoder.template.render_marked(&probe, false, false)
            && let Some(answer) = rendered.answers.last()
        {
            let mut ids = Vec::new();
            encoder.part(&rendered, answer.clone(), &mut ids)?;
            let is_special = |id: &&u32| encoder.tokenizer.added().iter().any(|token| token.special && token.id == **id);
            if !ids.iter().any(|id| encoder.stops.contains(id)) {
                encoder.new_stop = ids.iter().rfind(is_special).copied().filter(|&id| (id as usize) < vocab_size);
            }
        }
        encoder.stops.splice(0..0, encoder.new_stop);
        if encoder.stops.is_empty() { Err(EncodeError::NoStop) } else { Ok(encoder) }
    }

    /// The same; whether texts of special tokens in contents are those tokens.
    #[must_use]
    pub fn with_specials(self, specials: bool) -> Self {
        Self { specials, ..self }
    }

    /// The same; whether only the assistant's turns are learnt.
    #[must_use]
    pub fn with_completion_only_loss(self, completion_only: bool) -> Self {
        Self { completion_only, ..self }
    }

    /// The same with what became of its tokenizer.
    #[must_use]
    pub fn with_new_tokens(self, new_tokens: NewTokens) -> Self {
        Self { new_tokens, ..self }
    }

    /// What became of its tokenizer.
    pub fn new_tokens(&self) -> &NewTokens {
        &self.new_tokens
    }

    /// What a person should know of its tokens: what was added, and padding that ends answers.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = self.new_tokens.lines(&self.stops);
        let named = self.tokenizer.named_tokens().into_iter().find(|(name, _)| *name == "pad_token").map(|(_, text)| text);
        let pad = named.filter(|text| {
            self.new_tokens.pad.is_none() && self.tokenizer.token_id(text).is_some_and(|id| self.stops.contains(&id))
        });
        lines.extend(pad.map(|pad| {
            format!(
                "warning: the folder's token for padding, {pad:?}, ends answers as well: here padding is known by its place, but tools that leave padding out \
                 of the loss, or find the end of a row by it, miss the end; dialogue.pad_token=\"<|pad|>\" gives the folder one of its own"
            )
        }));
        lines
    }

    /// Token ids of the model.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The template.
    pub fn template(&self) -> &Template {
        &self.template
    }

    /// The tokens that end an answer; the first is the one that is put behind an answer without one.
    pub fn stops(&self) -> &[u32] {
        &self.stops
    }

    /// A stop token of the template that the model folder does not name.
    pub fn new_stop(&self) -> Option<u32> {
        self.new_stop
    }

    /// A dialogue: every turn of the assistant is learnt.
    ///
    /// # Errors
    /// The template refuses it, or a text has no ids.
    pub fn encode_dialogue(&self, turns: &[Turn]) -> Result<Encoded, EncodeError> {
        self.encode(turns, 0)
    }

    /// A prompt, ended by what comes before an answer.
    ///
    /// # Errors
    /// As [`Self::encode_dialogue`].
    pub fn encode_prompt(&self, prompt: &[Turn]) -> Result<Vec<u32>, EncodeError> {
        let rendered = self.template.render_marked(prompt, true, self.specials)?;
        let (mut encoded, at, _) = self.answers(&rendered, &vec![false; rendered.answers.len()])?;
        let mut ids = Vec::new();
        self.part(&rendered, at..rendered.text.len(), &mut ids)?;
        encoded.push(&ids, false);
        self.check(&encoded)?;
        Ok(encoded.ids)
    }

    /// A prompt and its completion, of which only the completion is learnt.
    ///
    /// # Errors
    /// As [`Self::encode_dialogue`].
    pub fn encode_completion(&self, prompt: &[Turn], completion: &[Turn]) -> Result<Encoded, EncodeError> {
        let first = prompt.iter().filter(|turn| turn.role == Role::Assistant).count();
        self.encode(&[prompt, completion].concat(), first)
    }

    /// The text of tokens with what is learnt between ‹ and ›, and how much that is.
    pub fn show(&self, encoded: &Encoded) -> String {
        let mut text = String::new();
        let mut at = 0;
        for part in encoded.mask.chunk_by(|a, b| a == b) {
            let ids = &encoded.ids[at..at + part.len()];
            at += part.len();
            let bytes: Vec<u8> = ids.iter().flat_map(|&id| self.tokenizer.token_bytes(id)).collect();
            let shown = String::from_utf8_lossy(&bytes);
            text += &if part[0] { format!("‹{shown}›") } else { shown.into_owned() };
        }
        text
    }

    /// A dialogue whose answers from number `first` on are learnt, but for those that say otherwise.
    fn encode(&self, turns: &[Turn], first: usize) -> Result<Encoded, EncodeError> {
        let rendered = self.template.render_marked(turns, false, self.specials)?;
        let spoken = turns.iter().filter(|turn| turn.role == Role::Assistant);
        let learnt: Vec<bool> = spoken.enumerate().map(|(number, turn)| number >= first && turn.is_learnt()).collect();
        let (mut encoded, at, left_out) = self.answers(&rendered, &learnt)?;
        if !learnt.contains(&true) && self.completion_only {
            return Ok(encoded);
        }
        let is_ended =
            encoded.mask.iter().zip(&encoded.ids).rfind(|(learnt, _)| **learnt).is_some_and(|(_, id)| self.stops.contains(id));
        if !is_ended && learnt.last() == Some(&true) {
            // What follows an answer without a stop token is no end of it.
            encoded.push(&self.stops[..1], true);
        } else if !self.completion_only {
            let mut ids = Vec::new();
            self.part(&rendered, at..rendered.text.len(), &mut ids)?;
            encoded.push(&ids, false);
        }
        if self.completion_only {
            // Nothing that is learnt comes after it.
            let end = encoded.mask.iter().rposition(|&learnt| learnt).map_or(0, |last| last + 1);
            encoded.truncate(end);
        } else {
            encoded.mask.fill(true);
            left_out.into_iter().for_each(|answer| encoded.mask[answer].fill(false));
        }
        self.check(&encoded)?;
        Ok(encoded)
    }

    /// The ids up to the end of the last answer, where that stands in the text, and the tokens of answers that are not learnt. `learnt` says of every
    /// answer whether it is, each up to its last stop token.
    fn answers(&self, rendered: &Rendered, learnt: &[bool]) -> Result<(Encoded, usize, Vec<Range<usize>>), EncodeError> {
        let (mut encoded, mut ids, mut at, mut left_out) = (Encoded::default(), Vec::new(), 0, Vec::new());
        for (answer, &is_learnt) in rendered.answers.iter().zip(learnt) {
            ids.clear();
            self.part(rendered, at..answer.start, &mut ids)?;
            encoded.push(&ids, false);
            ids.clear();
            self.part(rendered, answer.clone(), &mut ids)?;
            let end = ids.iter().rposition(|id| self.stops.contains(id)).map_or(ids.len(), |stop| stop + 1);
            left_out.extend((!is_learnt).then(|| encoded.ids.len()..encoded.ids.len() + ids.len()));
            encoded.push(&ids[..end], is_learnt);
            encoded.push(&ids[end..], false);
            at = answer.end;
        }
        Ok((encoded, at, left_out))
    }

    /// The ids of a part of a text.
    fn part(&self, rendered: &Rendered, range: Range<usize>, ids: &mut Vec<u32>) -> Result<(), EncodeError> {
        let walls: Vec<usize> =
            rendered.walls.iter().filter(|wall| range.contains(wall)).map(|wall| wall - range.start).collect();
        let (text, begins) = (&rendered.text.as_bytes()[range.clone()], range.start == 0);
        let encoded = self.tokenizer.encode_part(text, &walls, begins, &mut Scratch::default(), ids);
        Ok(encoded.map_err(TextError::of("a turn"))?)
    }

    fn check(&self, encoded: &Encoded) -> Result<(), EncodeError> {
        Ok(self.tokenizer.check_ids(&encoded.ids, self.vocab_size).map_err(TextError::of("a turn"))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialogue::config::TemplateChoice;
    use crate::dialogue::jinja::Day;
    use crate::dialogue::row::Format;
    use crate::tokenizer::Specials;

    const END: u32 = 256;
    const IM_END: u32 = 258;

    fn tokenizer() -> Tokenizer {
        Tokenizer::bytes(&["<|endoftext|>", "<|im_start|>", "<|im_end|>"]).unwrap()
    }

    fn encoder(template: &'static str, stops: &[u32]) -> Encoder {
        let template =
            Template::choose(&TemplateChoice::BuiltIn(template), &tokenizer(), Format::Messages, Day::of_seconds(0)).unwrap();
        Encoder::new(tokenizer(), template, stops.to_vec(), 259).unwrap()
    }

    fn own(source: &str, stops: &[u32]) -> Result<Encoder, EncodeError> {
        let template = Template::new("own".to_owned(), source.to_owned(), &tokenizer(), Day::of_seconds(0)).unwrap();
        Encoder::new(tokenizer(), template, stops.to_vec(), 259)
    }

    fn ids(text: &str) -> Vec<u32> {
        tokenizer().encode(text.as_bytes(), Specials::None).unwrap()
    }

    fn learnt(encoded: &Encoded) -> Vec<u32> {
        encoded.ids.iter().zip(&encoded.mask).filter(|(_, learnt)| **learnt).map(|(id, _)| *id).collect()
    }

    #[test]
    fn every_answer_is_learnt_with_the_token_that_ends_it() {
        let turns = [Turn::user("a"), Turn::assistant("b"), Turn::user("c"), Turn::assistant("d")];
        let encoder = encoder("plain", &[END]);
        let encoded = encoder.encode_dialogue(&turns).unwrap();
        assert_eq!(encoded.ids, [&ids("ab")[..], &[END], &ids("cd"), &[END]].concat());
        assert_eq!(encoded.mask, [false, true, true, false, true, true]);
        assert_eq!(encoder.show(&encoded), "a‹b<|endoftext|>›c‹d<|endoftext|>›");
        let completion = encoder.encode_completion(&turns[..3], &turns[3..]).unwrap();
        assert_eq!(
            (completion.ids.clone(), completion.completion_start(), completion.loss_tokens()),
            (encoded.ids.clone(), 4, 2)
        );
        assert_eq!(encoder.encode_prompt(&turns[..3]).unwrap(), completion.ids[..4]);
        let mut cut = encoded;
        assert!(cut.truncate(5) && !cut.truncate(5));
        assert_eq!((cut.ids.len(), cut.loss_tokens()), (5, 3));
    }

    #[test]
    fn special_tokens_in_contents_are_text() {
        let turns = [Turn::user("<|im_end|><|endoftext|>"), Turn::assistant("x<|endoftext|>y")];
        let encoder = encoder("plain", &[END]);
        let encoded = encoder.encode_dialogue(&turns).unwrap();
        assert_eq!(encoded.ids, [ids("<|im_end|><|endoftext|>x<|endoftext|>y"), vec![END]].concat());
        let taken = encoder.with_specials(true).encode_dialogue(&turns).unwrap();
        assert_eq!(taken.ids, [&[IM_END, END][..], &ids("x"), &[END], &ids("y"), &[END]].concat());
    }

    #[test]
    fn a_stop_token_is_always_learnt() {
        let turns = [Turn::user("a"), Turn::assistant("b")];
        // The template ends a turn with a special token that the folder does not name.
        let chat = "{% for m in messages %}{{ m.content }}<|im_end|>\n{% endfor %}";
        let encoder = own(chat, &[END]).unwrap();
        assert_eq!((encoder.new_stop(), encoder.stops()), (Some(IM_END), &[IM_END, END][..]));
        assert_eq!(learnt(&encoder.encode_dialogue(&turns).unwrap()), [98, IM_END]);
        // Nothing ends it: the model's own stop token is put behind.
        let bare = "{% for m in messages %}{{ m.content }} {% endfor %}";
        let encoder = own(bare, &[END]).unwrap();
        let encoded = encoder.encode_dialogue(&turns).unwrap();
        assert_eq!((learnt(&encoded), encoder.new_stop()), (vec![98, 32, END], None));
        assert!(own(bare, &[]).unwrap_err().to_string().contains("eos_token"));
    }

    #[test]
    fn every_token_is_learnt_where_that_is_asked_for() {
        let encoder = encoder("chatml", &[END]).with_completion_only_loss(false);
        let encoded = encoder.encode_dialogue(&[Turn::user("a"), Turn::assistant("b")]).unwrap();
        assert_eq!(encoded.loss_tokens(), encoded.ids.len() - 1);
        assert_eq!(encoded.ids[encoded.ids.len() - 3..], [IM_END, END, 10]);
    }

    #[test]
    fn ids_beyond_the_model_are_refused() {
        let template =
            Template::choose(&TemplateChoice::BuiltIn("plain"), &tokenizer(), Format::Messages, Day::of_seconds(0)).unwrap();
        let encoder = Encoder::new(tokenizer(), template, vec![END], 256).unwrap();
        let error = encoder.encode_dialogue(&[Turn::user("a"), Turn::assistant("b")]).unwrap_err().to_string();
        assert!(error.contains("\"<|endoftext|>\" has id 256"), "{error}");
    }
}
