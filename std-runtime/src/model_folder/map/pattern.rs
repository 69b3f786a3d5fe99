//! Names with wildcards: `h.{}.*.weight`.

use std::borrow::Cow;
use std::fmt;

/// A name in which `{}` matches a number and `*` any text, possibly empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Cow<'static, str>);

const WILDCARDS: [&str; 2] = ["{}", "*"];

impl Pattern {
    /// The captures of the wildcards in `name`, from left to right; `None` when the name does not match.
    pub fn captures<'n>(&self, name: &'n str) -> Option<Vec<&'n str>> {
        captures(&self.0, name)
    }

    /// The name with the wildcards replaced, from left to right. `None` when there are more wildcards than captures: a derived name can only repeat
    /// captured text.
    pub fn fill(&self, captures: &[&str]) -> Option<String> {
        let (mut name, mut rest, mut captures) = (String::new(), &*self.0, captures.iter());
        while let Some((before, _, after)) = next_wildcard(rest) {
            name += before;
            name += captures.next()?;
            rest = after;
        }
        Some(name + rest)
    }
}

impl From<&'static str> for Pattern {
    fn from(text: &'static str) -> Self {
        Self(text.into())
    }
}

impl From<String> for Pattern {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Text before the first wildcard, the wildcard, and what follows it.
fn next_wildcard(pattern: &str) -> Option<(&str, &str, &str)> {
    let found = WILDCARDS.iter().filter_map(|&wildcard| pattern.find(wildcard).map(|at| (at, wildcard)));
    let (at, wildcard) = found.min()?;
    let (before, rest) = pattern.split_at(at);
    Some((before, wildcard, rest.strip_prefix(wildcard)?))
}

fn captures<'n>(pattern: &str, name: &'n str) -> Option<Vec<&'n str>> {
    let Some((before, wildcard, after)) = next_wildcard(pattern) else { return (pattern == name).then(Vec::new) };
    let name = name.strip_prefix(before)?;
    let digits = name.bytes().take_while(u8::is_ascii_digit).count();
    let ends: Vec<usize> = match wildcard {
        "{}" if digits == 0 => return None,
        "{}" => vec![digits],
        _ => name.char_indices().map(|(at, _)| at).chain([name.len()]).rev().collect(),
    };
    ends.into_iter().find_map(|end| {
        let (taken, rest) = name.split_at(end);
        let mut all = vec![taken];
        all.extend(captures(after, rest)?);
        Some(all)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_capture_from_left_to_right() {
        let of = |pattern: &'static str, name: &'static str| Pattern::from(pattern).captures(name);
        assert_eq!(of("wte.weight", "wte.weight"), Some(vec![]));
        assert_eq!(of("wte.weight", "wte.bias"), None);
        assert_eq!(of("h.{}.ln_1.weight", "h.12.ln_1.weight"), Some(vec!["12"]));
        assert_eq!(of("h.{}.ln_1.weight", "h.x.ln_1.weight"), None);
        assert_eq!(of("h.{}.ln_1.weight", "h.1.ln_1.weights"), None);
        assert_eq!(of("layer{}.{}.conv{}.weight", "layer1.0.conv23.weight"), Some(vec!["1", "0", "23"]));
        assert_eq!(of("*.bias", "a.bias.bias"), Some(vec!["a.bias"]));
        assert_eq!(of("*position_ids", "position_ids"), Some(vec![""]));
        assert_eq!(of("h.{}.*.weight", "h.3.mlp.c_fc.weight"), Some(vec!["3", "mlp.c_fc"]));
        assert_eq!(of("*é*", "naïve café"), Some(vec!["naïve caf", ""]));
    }

    #[test]
    fn a_name_is_made_of_captures() {
        let captures = Pattern::from("h.{}.*.weight").captures("h.3.attn.weight").unwrap();
        assert_eq!(Pattern::from("transformer.h.{}.*.bias").fill(&captures).as_deref(), Some("transformer.h.3.attn.bias"));
        assert_eq!(Pattern::from("h.{}").fill(&captures).as_deref(), Some("h.3"));
        assert_eq!(Pattern::from("h.{}.*.{}").fill(&captures), None);
    }
}
