//! Names of parameters: paths of scopes, in place and without allocation.

use core::fmt;
use core::iter;

/// Parts of the longest path.
pub const MAX_DEPTH: usize = 8;

/// Marks a part without a number.
const NO_NUMBER: u16 = u16::MAX;
/// The largest number that a part can have.
const MAX_NUMBER: u16 = NO_NUMBER - 1;

const FNV_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

/// A path of up to [`MAX_DEPTH`] parts, each a word with an optional number: `h.3.ln_1.weight` has the parts `h.3`, `ln_1` and `weight`.
///
/// Names are equal when their text is.
#[derive(Clone, Copy)]
pub struct Name {
    words: [&'static str; MAX_DEPTH],
    numbers: [u16; MAX_DEPTH],
    depth: u8,
    hash: u64,
}

impl Name {
    /// The empty path: the root of a registry.
    pub const ROOT: Self = Self { words: [""; MAX_DEPTH], numbers: [NO_NUMBER; MAX_DEPTH], depth: 0, hash: FNV_BASIS };

    /// The path with one more part; `None` if it has [`MAX_DEPTH`] parts already, or if the number does not fit 16 bits.
    pub fn join(mut self, word: &'static str, number: Option<usize>) -> Option<Self> {
        let number = match number {
            Some(n) => u16::try_from(n).ok().filter(|&n| n <= MAX_NUMBER)?,
            None => NO_NUMBER,
        };
        let at = usize::from(self.depth);
        *self.words.get_mut(at)? = word;
        *self.numbers.get_mut(at)? = number;
        for byte in part_bytes(at, word, number) {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME);
        }
        self.depth = self.depth.saturating_add(1);
        Some(self)
    }

    /// The parts from the root on: a word and an optional number.
    pub fn parts(&self) -> impl Iterator<Item = (&'static str, Option<usize>)> {
        let number = |n: u16| (n != NO_NUMBER).then_some(usize::from(n));
        self.words.into_iter().zip(self.numbers).take(self.depth.into()).map(move |(word, n)| (word, number(n)))
    }

    /// The word of the last part: `weight` of `h.3.ln_1.weight`.
    pub fn leaf(&self) -> &'static str {
        self.parts().last().map_or("", |(word, _)| word)
    }

    /// Whether these are its last parts: `attn.c_proj` of `h.3.attn.c_proj`.
    pub fn ends_with(&self, parts: &str) -> bool {
        let Some(start) = self.bytes().count().checked_sub(parts.len()) else { return false };
        let begins_a_part = start.checked_sub(1).is_none_or(|before| self.bytes().nth(before) == Some(b'.'));
        begins_a_part && self.bytes().skip(start).eq(parts.bytes())
    }

    /// 64-bit FNV-1a of the name's text (Fowler, Noll, Vo; RFC 9923): the same on every machine and in every version.
    pub const fn hash(&self) -> u64 {
        self.hash
    }

    fn bytes(&self) -> impl Iterator<Item = u8> {
        let parts = self.words.into_iter().zip(self.numbers).take(self.depth.into());
        parts.enumerate().flat_map(|(at, (word, number))| part_bytes(at, word, number))
    }
}

/// Part `at` of a path as it reads, with the dot before it.
fn part_bytes(at: usize, word: &'static str, number: u16) -> impl Iterator<Item = u8> {
    let dot = (at > 0).then_some(b'.');
    let number = (number != NO_NUMBER).then_some(number);
    dot.into_iter().chain(word.bytes()).chain(number.into_iter().flat_map(|n| iter::once(b'.').chain(digits(n))))
}

fn digits(n: u16) -> impl Iterator<Item = u8> {
    let places = [10_000, 1_000, 100, 10, 1].into_iter().filter(move |&place| n >= place || place == 1);
    places.map(move |place| (n.checked_div(place).unwrap_or(0) % 10) as u8 + b'0')
}

impl Default for Name {
    fn default() -> Self {
        Self::ROOT
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.bytes().eq(other.bytes())
    }
}

impl Eq for Name {}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (word, number)) in self.parts().enumerate() {
            if at > 0 {
                f.write_str(".")?;
            }
            f.write_str(word)?;
            if let Some(n) = number {
                write!(f, ".{n}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;
    use std::string::String;

    fn name(parts: &[(&'static str, Option<usize>)]) -> Name {
        parts.iter().fold(Name::ROOT, |name, &(word, number)| name.join(word, number).expect("a short path"))
    }

    #[test]
    fn names_are_paths() {
        let weight = name(&[("h", Some(3)), ("ln_1", None), ("weight", None)]);
        assert_eq!(format!("{weight}"), "h.3.ln_1.weight");
        assert_eq!(weight.leaf(), "weight");
        let deep = name(&[("layer1", Some(0)), ("conv2", Some(65_534)), ("weight", None)]);
        assert_eq!(format!("{deep}"), "layer1.0.conv2.65534.weight");
        assert_eq!(deep.parts().next(), Some(("layer1", Some(0))));
    }

    #[test]
    fn a_name_ends_with_whole_parts() {
        let name = name(&[("h", Some(3)), ("attn", None), ("c_proj", None)]);
        for (parts, expected) in [
            ("c_proj", true),
            ("attn.c_proj", true),
            ("3.attn.c_proj", true),
            ("h.3.attn.c_proj", true),
            ("proj", false),
            ("n.c_proj", false),
            ("mlp.c_proj", false),
            ("x.h.3.attn.c_proj", false),
        ] {
            assert_eq!(name.ends_with(parts), expected, "{parts}");
        }
    }

    #[test]
    fn names_are_equal_when_they_read_the_same() {
        let whole = name(&[("a.b", Some(10))]);
        let parts = name(&[("a", None), ("b.10", None)]);
        assert_eq!((whole, whole.hash()), (parts, parts.hash()));
        assert_ne!(whole, name(&[("a", None), ("b", Some(1)), ("0", None)]));
    }

    #[test]
    fn the_bytes_of_a_name_are_those_that_it_is_written_in() {
        for n in [0, 7, 10, 99, 100, 1234, 10_000, 65_534] {
            let x = name(&[("x", Some(n)), ("y", None)]);
            let bytes: String = x.bytes().map(char::from).collect();
            assert_eq!(bytes, format!("x.{n}.y"));
            let fnv = bytes.bytes().fold(FNV_BASIS, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME));
            assert_eq!(x.hash(), fnv);
        }
        // The published value of "foobar".
        assert_eq!(name(&[("foobar", None)]).hash(), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn too_deep_or_too_large() {
        let mut deepest = Name::ROOT;
        for _ in 0..MAX_DEPTH {
            deepest = deepest.join("a", None).expect("room");
        }
        assert!(deepest.join("a", None).is_none());
        assert!(Name::ROOT.join("a", Some(65_535)).is_none());
    }
}
