//! Splitting a text into the pieces that the model encodes one by one (Hugging Face's `pre_tokenizer`): each step splits the pieces of the one
//! before.

use super::matcher::Matcher;
use super::{EncodeError, byte_chars, patterns};
use samara_core::tokenizer::Split;
use std::ops::Range;

/// A step.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Adds a space before every piece that does not begin with one.
    PrefixSpace,
    /// Represents bytes as characters for the steps that follow, not for the model.
    ByteChars,
    /// Bytes are written as characters, for the model too.
    Written,
    /// GPT-2's pattern.
    Gpt2,
    /// GPT-4's pattern with at most this many digits per word.
    Gpt4 { digits: usize },
    /// Splits at matches, or, inverted, at the text between.
    Split { matcher: Matcher, behavior: Behavior, invert: bool },
    /// Replaces spaces by `replacement`, and by the scheme prefixes the piece with it; optionally splits before each of them (SentencePiece).
    Metaspace { replacement: char, scheme: Scheme, split: bool },
}

/// What happens to a match of [`Step::Split`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behavior {
    Isolated,
    Removed,
    /// Matches that touch stay together.
    Contiguous,
    MergedWithPrevious,
    MergedWithNext,
}

/// Which pieces [`Step::Metaspace`] puts something before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Always,
    /// The piece at the start of the text.
    First,
    Never,
}

/// Takes the pieces.
pub(super) type Take<'t> = dyn FnMut(&[u8]) -> Result<(), EncodeError> + 't;

/// Splits `text` by all steps in order. `first`: it is at the start of the whole text.
pub(super) fn run(steps: &[Step], text: &str, first: bool, take: &mut Take<'_>) -> Result<(), EncodeError> {
    let Some((step, rest)) = steps.split_first() else {
        return if text.is_empty() { Ok(()) } else { take(text.as_bytes()) };
    };
    match step {
        Step::PrefixSpace if text.is_empty() || text.starts_with(' ') => run(rest, text, first, take),
        Step::PrefixSpace => run(rest, &format!(" {text}"), first, take),
        Step::Written => run(rest, &byte_chars::write(text.as_bytes()), first, take),
        Step::ByteChars => {
            let written = byte_chars::write(text.as_bytes());
            run(rest, &written, first, &mut |piece| {
                let bytes = std::str::from_utf8(piece).ok().and_then(byte_chars::read);
                take(bytes.as_deref().unwrap_or(piece))
            })
        }
        Step::Gpt2 => each_word(
            text,
            |text| Split::Gpt2.words(text.as_bytes()).next().map_or(0, <[u8]>::len),
            |range| run(rest, &text[range.clone()], first && range.start == 0, take),
        ),
        Step::Gpt4 { digits } => each_word(
            text,
            |text| patterns::word(text, *digits),
            |range| run(rest, &text[range.clone()], first && range.start == 0, take),
        ),
        Step::Split { matcher, behavior, invert } => {
            for range in behavior.pieces(matcher.parts(text)?, *invert) {
                run(rest, &text[range.clone()], first && range.start == 0, take)?;
            }
            Ok(())
        }
        Step::Metaspace { replacement, scheme, split } => {
            let text = metaspace(text, *replacement, *scheme, first);
            let parts =
                if *split { Matcher::Literal(replacement.to_string()).parts(&text)? } else { vec![(0..text.len(), true)] };
            for range in Behavior::MergedWithNext.pieces(parts, false) {
                run(rest, &text[range.clone()], first && range.start == 0, take)?;
            }
            Ok(())
        }
    }
}

/// Whether words that begin with a space begin a piece, whatever is before them.
pub(super) fn keep_cuts(steps: &[Step]) -> bool {
    let digits = |matcher: &Matcher| matches!(matcher, Matcher::Char(class) if !class(' '));
    steps.iter().all(|step| match step {
        Step::PrefixSpace | Step::ByteChars | Step::Written | Step::Gpt2 | Step::Gpt4 { .. } => true,
        Step::Split { matcher, behavior: Behavior::Isolated | Behavior::Contiguous, invert: false } => digits(matcher),
        Step::Split { .. } | Step::Metaspace { .. } => false,
    })
}

/// Passes the words of `text` to `take`; `length` gives their lengths.
fn each_word(
    text: &str,
    length: impl Fn(&str) -> usize,
    mut take: impl FnMut(Range<usize>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let mut start = 0;
    while let Some(rest) = text.get(start..).filter(|rest| !rest.is_empty()) {
        let end = start + length(rest);
        take(start..end)?;
        start = end;
    }
    Ok(())
}

fn metaspace(text: &str, replacement: char, scheme: Scheme, first: bool) -> String {
    let mut text = text.replace(' ', replacement.encode_utf8(&mut [0; 4]));
    let wanted = scheme == Scheme::Always || scheme == Scheme::First && first;
    if wanted && !text.is_empty() && !text.starts_with(replacement) {
        text.insert(0, replacement);
    }
    text
}

impl Behavior {
    /// The pieces from matches (true) and the text between them.
    fn pieces(self, mut parts: Vec<(Range<usize>, bool)>, invert: bool) -> Vec<Range<usize>> {
        parts.iter_mut().for_each(|(_, is_match)| *is_match ^= invert);
        let parts = parts.into_iter();
        match self {
            Self::Isolated => parts.map(|(range, _)| range).collect(),
            Self::Removed => parts.filter(|(_, is_match)| !is_match).map(|(range, _)| range).collect(),
            Self::Contiguous => joined(parts, |before, now| before == now),
            Self::MergedWithPrevious => joined(parts, |before, now| now && !before),
            Self::MergedWithNext => joined(parts, |before, now| before && !now),
        }
    }
}

/// Parts, with neighbours joined where `join` of both is true.
fn joined(parts: impl Iterator<Item = (Range<usize>, bool)>, join: impl Fn(bool, bool) -> bool) -> Vec<Range<usize>> {
    let (mut pieces, mut before) = (Vec::<Range<usize>>::new(), None);
    for (range, now) in parts {
        match pieces.last_mut() {
            Some(last) if before.is_some_and(|before| join(before, now)) => last.end = range.end,
            _ => pieces.push(range),
        }
        before = Some(now);
    }
    pieces
}
