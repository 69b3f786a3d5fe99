//! The part of YAML that a `data.yaml` of YOLO consists of: keys with texts, and one list or table of names.

use std::collections::BTreeMap;

/// What a key has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Yaml {
    /// Text.
    Text(String),
    /// A list.
    List(Vec<String>),
    /// A table.
    Table(BTreeMap<String, String>),
}

/// The keys of a file. Deeper levels, anchors and texts over several lines are refused.
///
/// # Errors
/// Line, from 1, and content of the first line that is not understood.
pub fn parse(text: &str) -> Result<BTreeMap<String, Yaml>, (usize, String)> {
    let mut keys: BTreeMap<String, Yaml> = BTreeMap::new();
    let mut open: Option<String> = None;
    for (number, line) in text.lines().enumerate() {
        let content = without_comment(line).trim_end();
        if content.trim().is_empty() || content == "---" {
            continue;
        }
        let wrong = || (number + 1, line.trim().to_owned());
        let is_within = content.starts_with([' ', '\t']) || content.starts_with("- ");
        if !is_within {
            let (key, value) = content.split_once(':').ok_or_else(wrong)?;
            let key = unquoted(key);
            open = value.trim().is_empty().then(|| key.clone());
            keys.insert(key, value_of(value.trim()).ok_or_else(wrong)?);
            continue;
        }
        let content = content.trim_start();
        // Deeper levels under keys with a value of another kind, such as scripts, are passed over by the caller's choice of keys.
        let Some(to) = open.as_ref().and_then(|key| keys.get_mut(key)) else { return Err(wrong()) };
        match (content.strip_prefix("- "), content.split_once(':')) {
            (Some(item), _) => match to {
                Yaml::List(list) => list.push(unquoted(item)),
                _ => *to = Yaml::List(vec![unquoted(item)]),
            },
            (None, Some((key, value))) => match to {
                Yaml::Table(table) => _ = table.insert(unquoted(key), unquoted(value)),
                _ => *to = Yaml::Table(BTreeMap::from([(unquoted(key), unquoted(value))])),
            },
            (None, None) => match to {
                // The lines of a text.
                Yaml::Text(text) if text.starts_with('|') => {}
                _ => return Err(wrong()),
            },
        }
    }
    Ok(keys)
}

/// A value on the line of its key.
fn value_of(text: &str) -> Option<Yaml> {
    if let Some(inner) = text.strip_prefix('[') {
        let inner = inner.strip_suffix(']')?;
        let items = inner.split(',').map(unquoted).filter(|item| !item.is_empty());
        return Some(Yaml::List(items.collect()));
    }
    if let Some(inner) = text.strip_prefix('{') {
        let pairs = inner.strip_suffix('}')?.split(',').filter(|pair| !pair.trim().is_empty());
        let pair = |pair: &str| pair.split_once(':').map(|(key, value)| (unquoted(key), unquoted(value)));
        return pairs.map(pair).collect::<Option<_>>().map(Yaml::Table);
    }
    Some(Yaml::Text(unquoted(text)))
}

fn unquoted(text: &str) -> String {
    let text = text.trim();
    let of = |quote: char| text.strip_prefix(quote).and_then(|text| text.strip_suffix(quote));
    of('"').or_else(|| of('\'')).unwrap_or(text).to_owned()
}

/// A line up to a `#` that begins a comment.
fn without_comment(line: &str) -> &str {
    if line.trim_start().starts_with('#') {
        return "";
    }
    line.split_once(" #").map_or(line, |(content, _)| content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_names_are_read() {
        let list = |names: &[&str]| Some(Yaml::List(names.iter().map(|name| (*name).to_owned()).collect()));
        let of = |text: &str| parse(text).unwrap().remove("names");
        assert_eq!(of("train: a  # here\nnames: ['cat', \"dog\"]\nnc: 2\n"), list(&["cat", "dog"]));
        assert_eq!(of("names:\n- cat\n- dog\ntrain: a\n"), list(&["cat", "dog"]));
        assert_eq!(of("names:\n  - cat\n"), list(&["cat"]));
        let Some(Yaml::Table(table)) = of("names:\n  0: cat\n  1: dog\n# end\n") else { panic!() };
        assert_eq!(table.get("1").map(String::as_str), Some("dog"));
        assert_eq!(parse("names: [a\n"), Err((1, "names: [a".to_owned())));
        assert_eq!(parse("path: x\n  y\n"), Err((2, "y".to_owned())));
    }
}
