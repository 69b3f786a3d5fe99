//! Normalisation of a text before it is split: Unicode's forms, lower case, replacements (Hugging Face's `normalizer`).

use super::EncodeError;
use super::matcher::Matcher;
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// A step of normalisation.
#[derive(Clone, Debug)]
pub(super) enum Normalizer {
    Nfc,
    Nfd,
    Nfkc,
    Nfkd,
    /// Character by character.
    Lowercase,
    /// Without the characters that change the one before them.
    StripAccents,
    /// Without white space at the ends.
    Strip {
        left: bool,
        right: bool,
    },
    /// Something before a text that is not empty.
    Prepend(String),
    Replace {
        pattern: Matcher,
        with: String,
    },
    /// White space around Chinese characters (Devlin et al. 2019).
    SpaceChinese,
}

impl Normalizer {
    pub(super) fn apply(&self, text: &str) -> Result<String, EncodeError> {
        Ok(match self {
            Self::Nfc => text.nfc().collect(),
            Self::Nfd => text.nfd().collect(),
            Self::Nfkc => text.nfkc().collect(),
            Self::Nfkd => text.nfkd().collect(),
            Self::Lowercase => text.chars().flat_map(char::to_lowercase).collect(),
            Self::StripAccents => text.chars().filter(|&c| !is_combining_mark(c)).collect(),
            Self::Strip { left, right } => {
                let text = if *left { text.trim_start() } else { text };
                if *right { text.trim_end() } else { text }.to_owned()
            }
            Self::Prepend(_) if text.is_empty() => String::new(),
            Self::Prepend(before) => format!("{before}{text}"),
            Self::Replace { pattern, with } => pattern.replace(text, with)?,
            Self::SpaceChinese => {
                let spaced = |c: char| if is_chinese(c) { [Some(' '), Some(c), Some(' ')] } else { [None, Some(c), None] };
                text.chars().flat_map(spaced).flatten().collect()
            }
        })
    }

    /// Whether a text and its parts, cut before a space, are normalised equally.
    pub(super) fn keeps_cuts(&self) -> bool {
        matches!(self, Self::Nfc | Self::Nfd | Self::Nfkc | Self::Nfkd | Self::Lowercase | Self::SpaceChinese)
    }
}

/// The ranges of CJK Unified Ideographs that BERT surrounds with white space.
fn is_chinese(c: char) -> bool {
    matches!(u32::from(c), 0x4e00..=0x9fff | 0x3400..=0x4dbf | 0x20000..=0x2a6df | 0x2a700..=0x2b73f | 0x2b740..=0x2b81f
        | 0x2b920..=0x2ceaf | 0xf900..=0xfaff | 0x2f800..=0x2fa1f)
}
