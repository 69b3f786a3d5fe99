//! Dialogues in one text, as Anthropic's HH-RLHF has them: `\n\nHuman: …\n\nAssistant: …`.

use super::turn::{Role, Turn};

const MARKS: [(&str, Role); 2] = [("\n\nHuman:", Role::User), ("\n\nAssistant:", Role::Assistant)];

/// Whether a text is a dialogue of this form.
pub(super) fn is_dialogue(text: &str) -> bool {
    MARKS.iter().any(|(mark, _)| text.starts_with(mark)) && text.contains(MARKS[1].0)
}

/// The prompt and the answer: a text is split at its last turn of the assistant.
pub(super) fn split(text: &str) -> Option<(Vec<Turn>, Vec<Turn>)> {
    let (prompt, answer) = text.rsplit_once(MARKS[1].0)?;
    Some((turns(prompt), vec![Turn::assistant(content(answer))]))
}

fn turns(mut text: &str) -> Vec<Turn> {
    let first =
        |text: &str| MARKS.iter().filter_map(|&(mark, role)| Some((text.find(mark)?, mark, role))).min_by_key(|found| found.0);
    let mut turns = Vec::new();
    while let Some((at, mark, role)) = first(text) {
        let rest = text.get(at + mark.len()..).unwrap_or_default();
        let end = first(rest).map_or(rest.len(), |(end, ..)| end);
        let (said, after) = rest.split_at(end);
        turns.push(Turn::new(role, content(said)));
        text = after;
    }
    turns
}

/// What is said behind a mark, without the space between.
fn content(said: &str) -> &str {
    said.strip_prefix(' ').unwrap_or(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_answer_is_the_completion() {
        let text = "\n\nHuman: Hi\n\nAssistant: Hello\nthere\n\nHuman:  two spaces\n\nAssistant: Bye";
        let (prompt, answer) = split(text).unwrap();
        assert_eq!(prompt, [Turn::user("Hi"), Turn::assistant("Hello\nthere"), Turn::user(" two spaces")]);
        assert_eq!(answer, [Turn::assistant("Bye")]);
        assert!(is_dialogue(text) && !is_dialogue("Human: Hi") && !is_dialogue("\n\nHuman: Hi"));
        assert_eq!(split("\n\nHuman: Hi\n\nAssistant:").unwrap().1, [Turn::assistant("")]);
        assert_eq!(split("nothing"), None);
    }
}
