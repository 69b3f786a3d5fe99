//! A corpus without downloads: short tales from a grammar written for this project.
//!
//! A tale has a cast (names with their pronouns, places, things) that stays the same from its title to its end, one of several plots, and dialogue.
//! So a small model shows its progress step by step: letters, words, sentences, closed quotation marks, and at last names and things that recur
//! consistently. The text is ASCII and the same on every machine: a counter-based generator of integers makes the choices, and tale i depends on
//! (seed, i) alone.

mod plots;

use std::convert::Infallible;

use samara_core::math::rng::{Purpose, Rng};

use plots::{ELDERS, FOODS, HOMES, KINDS, NAMES, NUMBERS, PLACES, PLOTS, RIDDLES, SEASONS, THINGS, TRAITS, WISHES};

/// The first `bytes` bytes of the tales of a seed. A longer text has a shorter one as prefix; the last tale may be cut off.
pub fn tales(seed: u64, bytes: usize) -> String {
    let mut text = String::with_capacity(bytes.saturating_add(4096));
    let joined = for_each_tale(seed, bytes, |tale| {
        text.push_str(tale);
        Ok::<(), Infallible>(())
    });
    joined.map_or_else(|never| match never {}, |()| text)
}

/// Passes the tales of [`tales`] to `take`, each with the empty line after it.
///
/// # Errors
/// What `take` returns.
pub fn for_each_tale<E>(seed: u64, bytes: usize, mut take: impl FnMut(&str) -> Result<(), E>) -> Result<(), E> {
    let (mut left, mut text) = (bytes, String::new());
    for number in 0.. {
        if left == 0 {
            break;
        }
        text.clear();
        write_tale(seed, number, &mut text);
        text.push('\n');
        text.truncate(left);
        left -= text.len();
        take(&text)?;
    }
    Ok(())
}

/// Tale `number` of a seed: a title, then paragraphs, one a line.
pub fn tale(seed: u64, number: u64) -> String {
    let mut text = String::new();
    write_tale(seed, number, &mut text);
    text
}

fn write_tale(seed: u64, number: u64, text: &mut String) {
    let mut rng = Rng::new(seed, Purpose::Corpus, number);
    let cast = Cast::choose(&mut rng);
    let plot = pick(&mut rng, PLOTS);
    for part in plot.iter() {
        cast.expand(part, &mut rng, text);
        text.push('\n');
    }
}

/// The words for the slots of a plot in one tale.
struct Cast(Vec<(&'static str, &'static str)>);

impl Cast {
    fn choose(rng: &mut Rng) -> Self {
        let mut slots = Vec::with_capacity(48);
        let [hero, friend, third] = distinct(rng, NAMES);
        for (prefix, (name, is_she)) in [(["hero", "he", "him", "his"], hero), (["friend", "fhe", "fhim", "fhis"], friend)] {
            slots.push((prefix[0], name));
            slots.extend(prefix[1..].iter().copied().zip(pronouns(is_she)));
        }
        slots.push(("third", third.0));
        let [kind, fkind] = distinct(rng, KINDS);
        slots.extend([("kind", kind), ("fkind", fkind)]);
        let (elder, elder_is_she) = pick(rng, ELDERS);
        slots.push(("elder", elder));
        slots.extend(["ehe", "ehim", "ehis"].into_iter().zip(pronouns(elder_is_she)));
        for (names, words) in [
            (["place", "place2", "place3"], PLACES),
            (["thing", "thing2", "thing3"], THINGS),
            (["food", "food2", "food3"], FOODS),
        ] {
            slots.extend(names.into_iter().zip(distinct::<_, 3>(rng, words)));
        }
        for (name, words) in [("home", HOMES), ("season", SEASONS), ("trait", TRAITS), ("number", NUMBERS)] {
            slots.push((name, pick(rng, words)));
        }
        let (wish, wish_seen) = pick(rng, WISHES);
        let [riddle, other_riddle, _] = distinct(rng, RIDDLES);
        slots.extend([("wish", wish), ("wish-seen", wish_seen)]);
        slots.extend([("riddle", riddle.0), ("answer", riddle.1), ("wrong-answer", other_riddle.1)]);
        Self(slots)
    }

    /// Expands a template: `{slot}` is a word of the cast, `{^slot}` the same capitalised, `{a slot}` with "a" or "an" before it, and `[this|that]`
    /// one of its alternatives, which may contain slots and further alternatives.
    fn expand(&self, template: &str, rng: &mut Rng, out: &mut String) {
        let mut rest = template;
        while let Some(at) = rest.find(['[', '{']) {
            let (plain, tail) = rest.split_at(at);
            out.push_str(plain);
            let Some(end) = closing(tail) else { break };
            let (inside, after) = (&tail[1..end], &tail[end + 1..]);
            if tail.starts_with('[') {
                let alternatives = split_alternatives(inside);
                self.expand(pick(rng, &alternatives), rng, out);
            } else {
                self.put_slot(inside, rng, out);
            }
            rest = after;
        }
        out.push_str(rest);
    }

    fn put_slot(&self, slot: &str, rng: &mut Rng, out: &mut String) {
        let name = slot.trim_start_matches("a ").trim_start_matches('^');
        let Some(&(_, value)) = self.0.iter().find(|(n, _)| *n == name) else { return };
        let start = out.len();
        if slot.starts_with("a ") {
            out.push_str(if value.starts_with(['a', 'e', 'i', 'o', 'u']) { "an " } else { "a " });
        }
        // Words of the cast may contain slots: a sentence about a wish names its owner.
        self.expand(value, rng, out);
        if slot.starts_with('^')
            && let Some(first) = out.get_mut(start..start + 1)
        {
            first.make_ascii_uppercase();
        }
    }
}

fn pronouns(is_she: bool) -> [&'static str; 3] {
    if is_she { ["she", "her", "her"] } else { ["he", "him", "his"] }
}

/// Where the bracket at the start of `text` closes.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0_u32;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

/// Cuts at the bars that are not inside a further bracket.
fn split_alternatives(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0_u32, 0, Vec::new());
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'[' => depth += 1,
            b']' => depth -= 1,
            b'|' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn pick<T: Copy>(rng: &mut Rng, words: &[T]) -> T {
    words[rng.below(words.len() as u64) as usize]
}

/// N different words, drawn by rejection.
fn distinct<T: Copy, const N: usize>(rng: &mut Rng, words: &[T]) -> [T; N] {
    let mut chosen: Vec<usize> = Vec::with_capacity(N);
    while chosen.len() < N {
        let index = rng.below(words.len() as u64) as usize;
        if !chosen.contains(&index) {
            chosen.push(index);
        }
    }
    std::array::from_fn(|i| words[chosen[i]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn any_size_and_every_prefix() {
        let long = tales(1, 20_000);
        assert_eq!(long.len(), 20_000);
        for bytes in [0, 1, 500, 19_999] {
            assert_eq!(tales(1, bytes), long[..bytes]);
        }
        assert_ne!(tales(2, 500), long[..500]);
        assert!(long.starts_with(&tale(1, 0)) && long.contains(&tale(1, 3)));
    }

    #[test]
    fn every_slot_and_bracket_is_resolved() {
        let text = tales(7, 2_000_000);
        assert!(text.is_ascii());
        for wrong in [
            "{", "}", "[", "]", "|", "^", "  ", " .", " ,", "..", ",,", "a an ", " a the ", " a a", " a o", " an b", "\"\"",
            "the the ", "the a ",
        ] {
            let at = text.find(wrong);
            assert!(at.is_none(), "{wrong:?} in {:?}", at.map(|at| &text[at.saturating_sub(60)..at + 20]));
        }
    }

    /// Quotation marks come in pairs on every line, and every line is a sentence from its capital to its punctuation; so no slot is empty.
    #[test]
    fn lines_are_well_formed() {
        for number in 0..2000 {
            let tale = tale(3, number);
            let mut lines = tale.lines();
            let title = lines.next().unwrap();
            assert!(title.starts_with(|c: char| c.is_ascii_uppercase()) && !title.ends_with('.'), "{title}");
            for line in lines {
                assert_eq!(line.matches('"').count() % 2, 0, "{line}");
                assert!(line.starts_with(|c: char| c == '"' || c.is_ascii_uppercase()), "{line}");
                assert!(line.ends_with(['.', '!', '?', '"']), "{line}");
                for sentence in line.split(['.', '?', '!']).map(|s| s.trim_start_matches(['"', ' '])) {
                    assert!(
                        !sentence.starts_with(|c: char| c.is_ascii_lowercase()) || line.contains("?\"") || line.contains("!\""),
                        "{line}"
                    );
                }
            }
        }
    }

    #[test]
    fn tales_are_varied_and_share_their_words() {
        let tales: Vec<String> = (0..3000).map(|number| tale(11, number)).collect();
        assert_eq!(tales.iter().collect::<BTreeSet<_>>().len(), 3000);
        let mean = tales.iter().map(String::len).sum::<usize>() / tales.len();
        assert!((600..1600).contains(&mean), "{mean}");
        let is_letter = |c: char| c.is_ascii_alphabetic();
        let words: BTreeSet<&str> = tales.iter().flat_map(|t| t.split(|c| !is_letter(c))).collect();
        assert!((500..1500).contains(&words.len()), "{}", words.len());
        let characters: BTreeSet<char> = tales.iter().flat_map(|t| t.chars()).collect();
        assert!(characters.len() < 65, "{characters:?}");
    }

    /// The corpus of a seed must never change: published losses depend on it.
    #[test]
    fn same_bytes_for_ever() {
        assert_eq!(crc32c::crc32c(tales(1337, 1 << 20).as_bytes()), 266_031_423);
    }
}
