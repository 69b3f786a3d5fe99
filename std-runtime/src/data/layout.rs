//! Storage of the ids of a token shard: raw ids of two, four or eight bytes, or a shard of llm.c, which begins with a header.
//!
//! Raw shards do not record their width, but ids below 65536 stored in a wider type have upper halves of 0. Wide ids read as narrow ones would train
//! a model on zeros with a deceptively low loss, so an ambiguous shard is an error.

use super::DataError;
use super::mapped::Mapped;

/// How a token id is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdWidth {
    /// Two bytes, little endian: ids below 65536.
    U16,
    /// Four bytes, little endian.
    U32,
    /// Eight bytes, little endian: NumPy's default integers.
    I64,
}

/// The offset and the type of the ids in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// Bytes of a header.
    pub(super) start: usize,
    pub(super) width: IdWidth,
    /// A note for the user.
    pub(super) note: Option<String>,
}

/// llm.c's header: 256 integers of four bytes, of which the first three are magic number, version and number of tokens.
const HEADER_BYTES: usize = 1024;
/// Magic number, version and width of llm.c's shards, for GPT-2 and for Llama 3.
const LLM_C: [(u32, u32, IdWidth); 2] = [(20_240_520, 1, IdWidth::U16), (20_240_801, 7, IdWidth::U32)];

/// Fewer ids than this can all have upper halves of 0 by chance.
const SURE: usize = 32;
/// Fewer ids than this are not enough for a decision.
const SUSPECT: usize = 4;
/// The upper halves of ids from the largest vocabularies (below 2²⁰ ids) are below this; the lower halves are not.
const UPPER: u16 = 1 << 4;

impl IdWidth {
    /// Bytes of one id.
    pub fn bytes(self) -> usize {
        match self {
            Self::U16 => 2,
            Self::U32 => 4,
            Self::I64 => 8,
        }
    }

    /// Its name in a configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::U16 => "u16",
            Self::U32 => "u32",
            Self::I64 => "i64",
        }
    }
}

impl Layout {
    /// Determines the layout from the content of a file whose name suggests `named`.
    ///
    /// # Errors
    /// A header whose number of tokens differs from the file's; an array with its own header; ids of ambiguous width.
    pub(super) fn of(file: &Mapped, named: IdWidth) -> Result<Self, DataError> {
        let bytes = file.bytes()?;
        if bytes.starts_with(b"\x93NUMPY") {
            let expected = "raw token ids (in Python: numpy.load(PATH).astype(\"uint16\").tofile(\"ids.bin\"))";
            return Err(DataError::format(file.path(), expected, "a NumPy array"));
        }
        if let Some(of_llm_c) = llm_c(file, bytes)? {
            return Ok(of_llm_c);
        }
        if is_text(bytes) {
            let (shown, width) = (file.path().display(), named.name());
            let expected = format!("token ids (rename a text, as in mv {shown} text.txt; data.id_type={width} reads it as ids)");
            return Err(DataError::format(file.path(), expected, "text"));
        }
        let raw = |width| Self { start: 0, width, note: None };
        let wider = match named {
            IdWidth::U16 => wider_than_16(bytes),
            IdWidth::U32 => above_32(bytes),
            IdWidth::I64 => Content::AsNamed,
        };
        match wider {
            Content::AsNamed => Ok(raw(named)),
            Content::Wider(width) => {
                let note = format!(
                    "note: {}: read as {} ids, because the upper part of every one is 0 (data.id_type overrides this)",
                    file.path().display(),
                    width.name()
                );
                Ok(Self { note: Some(note), ..raw(width) })
            }
            Content::Unclear(width) => {
                let expected = format!("ids of unambiguous width: set data.id_type to {} or {}", named.name(), width.name());
                let found = format!(
                    "ids that may be {} or {}: every second {} value looks like the upper part of a wider id",
                    named.name(),
                    width.name(),
                    named.name()
                );
                Err(DataError::format(file.path(), expected, found))
            }
        }
    }
}

/// How much of a file is looked at for text.
const LOOKED_AT: usize = 1 << 12;

/// Whether a file begins as text: UTF-8 without control characters, which are frequent in ids. The last character may be cut.
fn is_text(bytes: &[u8]) -> bool {
    let begin = bytes.get(..LOOKED_AT).unwrap_or(bytes);
    let text = std::str::from_utf8(begin).or_else(|error| match error.error_len() {
        None => std::str::from_utf8(begin.get(..error.valid_up_to()).unwrap_or_default()),
        Some(_) => Err(error),
    });
    begin.len() >= 2 * SURE && text.is_ok_and(|text| !text.contains(|c: char| c.is_control() && !c.is_ascii_whitespace()))
}

/// The layout according to a header of llm.c.
fn llm_c(file: &Mapped, bytes: &[u8]) -> Result<Option<Layout>, DataError> {
    let [magic, version, tokens] = [0, 1, 2].map(|i| bytes.as_chunks().0.get(i).map_or(0, |&b| u32::from_le_bytes(b)));
    let Some(&(_, known, width)) = LLM_C.iter().find(|(known, ..)| *known == magic) else { return Ok(None) };
    let shard = format!("a shard of llm.c (magic number {magic})");
    let Some(ids) = bytes.get(HEADER_BYTES..).filter(|_| version == known) else {
        let found = format!("version {version} in {} bytes", bytes.len());
        return Err(DataError::format(file.path(), format!("{shard} of version {known} with a header of 1024 bytes"), found));
    };
    if ids.len() as u64 != u64::from(tokens) * width.bytes() as u64 {
        let expected = format!("{shard} of {tokens} {} tokens, as its header says", width.name());
        let found = format!("{} bytes behind the header (is the file truncated?)", ids.len());
        return Err(DataError::format(file.path(), expected, found));
    }
    let note = format!("note: {}: {shard}, {tokens} {} tokens behind its header", file.path().display(), width.name());
    Ok(Some(Layout { start: HEADER_BYTES, width, note: Some(note) }))
}

/// What the content tells beyond the name.
enum Content {
    AsNamed,
    Wider(IdWidth),
    /// It may be as named, or this.
    Unclear(IdWidth),
}

/// Ids of two bytes, unless every second one is 0 or small.
fn wider_than_16(bytes: &[u8]) -> Content {
    let pairs =
        bytes.as_chunks().0.iter().map(|&[a, b, c, d]: &[u8; 4]| [u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d])]);
    // The upper half of a small negative value, such as padding of -1 or -100.
    let is_upper = |half: u16| half < UPPER || half == u16::MAX;
    if !bytes.len().is_multiple_of(4) || bytes.len() / 4 < SUSPECT || !pairs.clone().all(|[_, upper]| is_upper(upper)) {
        return Content::AsNamed;
    }
    let is_sign = |pair: [u16; 2]| pair == [0, 0] || pair == [u16::MAX; 2];
    let is_i64 = bytes.len().is_multiple_of(8) && pairs.clone().skip(1).step_by(2).all(is_sign);
    let width = if is_i64 { IdWidth::I64 } else { IdWidth::U32 };
    let sure = bytes.len() / width.bytes() >= SURE && pairs.clone().any(|[lower, _]| lower != 0);
    if pairs.clone().all(|[_, upper]| upper == 0) {
        return if sure { Content::Wider(width) } else { Content::Unclear(width) };
    }
    // Ids of a small vocabulary are all small; those of a large one are not, except for their upper halves.
    if pairs.clone().any(|[lower, _]| lower >= 1 << 12) { Content::Unclear(width) } else { Content::AsNamed }
}

/// Ids of four bytes, unless every second one is 0.
fn above_32(bytes: &[u8]) -> Content {
    let halves = bytes.as_chunks().0.iter().map(|&b: &[u8; 4]| u32::from_le_bytes(b));
    let is_i64 =
        bytes.len().is_multiple_of(8) && bytes.len() / 8 >= SUSPECT && halves.clone().skip(1).step_by(2).all(|upper| upper == 0);
    match is_i64 {
        false => Content::AsNamed,
        true if bytes.len() / 8 >= SURE && halves.clone().any(|lower| lower != 0) => Content::Wider(IdWidth::I64),
        true => Content::Unclear(IdWidth::I64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How a file with this name and content is read.
    fn layout(named: IdWidth, bytes: &[u8]) -> Result<(usize, IdWidth), String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ids.bin");
        std::fs::write(&path, bytes).unwrap();
        let layout = Layout::of(&Mapped::open(&path).unwrap(), named).map_err(|error| error.to_string())?;
        assert_eq!(layout.note.is_some(), (layout.start, layout.width) != (0, named));
        Ok((layout.start, layout.width))
    }

    fn bytes<const N: usize, T: Copy>(ids: &[T], to: impl Fn(T) -> [u8; N]) -> Vec<u8> {
        ids.iter().flat_map(|&id| to(id)).collect()
    }

    #[test]
    fn wide_ids_are_recognised() {
        let ids: Vec<u32> = (0..200).map(|i| i * 2_654_435 % 50257).collect();
        let (u16s, u32s) = (bytes(&ids, |id| (id as u16).to_le_bytes()), bytes(&ids, u32::to_le_bytes));
        let i64s = bytes(&ids, |id| i64::from(id).to_le_bytes());
        for (named, bytes, width) in [
            (IdWidth::U16, &u16s, IdWidth::U16),
            (IdWidth::U16, &u32s, IdWidth::U32),
            (IdWidth::U16, &i64s, IdWidth::I64),
            (IdWidth::U32, &u32s, IdWidth::U32),
            (IdWidth::U32, &i64s, IdWidth::I64),
            (IdWidth::I64, &i64s, IdWidth::I64),
        ] {
            assert_eq!(layout(named, bytes), Ok((0, width)));
        }
        // Ids of a vocabulary of two, and too few ids for a decision.
        assert_eq!(layout(IdWidth::U16, &bytes(&[1, 0, 0, 1, 1, 0, 1, 1], u16::to_le_bytes)), Ok((0, IdWidth::U16)));
        assert_eq!(layout(IdWidth::U16, &bytes(&[5, 0], u16::to_le_bytes)), Ok((0, IdWidth::U16)));
    }

    #[test]
    fn what_may_be_either_is_an_error() {
        let large = bytes(&[70_000_u32, 8, 131_000, 6000].repeat(20), u32::to_le_bytes);
        for unclear in [large, vec![0; 400], bytes(&[3_u32, 9, 7, 1], u32::to_le_bytes)] {
            let message = layout(IdWidth::U16, &unclear).unwrap_err();
            assert!(message.contains("ids.bin: expected ids of unambiguous width: set data.id_type to u16 or "), "{message}");
        }
        // Padding of -1 among wide ids.
        let ids = |i: i32| if i % 10 == 3 { -1 } else { i * 37 };
        let i32s = bytes(&(0..100).map(ids).collect::<Vec<_>>(), i32::to_le_bytes);
        let i64s = bytes(&(0..100).map(|i| i64::from(ids(i))).collect::<Vec<_>>(), i64::to_le_bytes);
        assert!(layout(IdWidth::U16, &i32s).unwrap_err().contains("data.id_type to u16 or u32"));
        assert!(layout(IdWidth::U16, &i64s).unwrap_err().contains("data.id_type to u16 or i64"));
        assert!(layout(IdWidth::U32, &[0; 400]).unwrap_err().contains("data.id_type to u32 or i64"));
        assert!(layout(IdWidth::U16, b"\x93NUMPY\x01\x00").unwrap_err().contains("found a NumPy array"));
    }

    #[test]
    fn text_is_no_shard() {
        for text in ["The crow and the fox.\r\n\tA tale. ".repeat(9), "\u{98a8}\u{304c}".repeat(900)] {
            let message = layout(IdWidth::U16, text.as_bytes()).unwrap_err();
            assert!(message.contains("ids.bin: expected token ids (rename a text, as in mv "), "{message}");
            assert!(message.ends_with("data.id_type=u16 reads it as ids), found text"), "{message}");
        }
        // Ids of a small vocabulary and of a large one.
        for ids in [(0..200).map(|i| 32 + i % 90).collect::<Vec<u32>>(), (0..200).map(|i| 8224 + i * 211 % 30_000).collect()] {
            assert_eq!(layout(IdWidth::U16, &bytes(&ids, |id| (id as u16).to_le_bytes())), Ok((0, IdWidth::U16)));
        }
    }

    #[test]
    fn shards_of_llm_c_say_what_they_are() {
        let shard = |magic: u32, version: u32, tokens: u32, ids: usize| {
            let mut bytes = bytes(&[magic, version, tokens], u32::to_le_bytes);
            bytes.resize(HEADER_BYTES + ids, 7);
            bytes
        };
        assert_eq!(layout(IdWidth::U16, &shard(20_240_520, 1, 50, 100)), Ok((1024, IdWidth::U16)));
        assert_eq!(layout(IdWidth::U16, &shard(20_240_801, 7, 50, 200)), Ok((1024, IdWidth::U32)));
        let message = layout(IdWidth::U16, &shard(20_240_520, 1, 51, 100)).unwrap_err();
        assert!(message.contains("a shard of llm.c (magic number 20240520) of 51 u16 tokens"), "{message}");
        let message = layout(IdWidth::U16, &shard(20_240_520, 2, 50, 100)).unwrap_err();
        assert!(message.contains("of version 1") && message.contains("found version 2"), "{message}");
    }
}
