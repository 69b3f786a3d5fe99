//! From an object of a file to a row: which format it has follows from its keys.

use serde_json::{Map, Value};

use super::hh;
use super::row::{Format, Ranked, Row};
use super::turn::{Role, Turn};

/// Why an object is no row.
#[derive(Debug, PartialEq)]
pub(super) enum Refusal {
    /// No format has its keys.
    Unknown,
    /// Its keys are those of a format, its values are not: what was expected and what was found.
    Wrong(String, String),
    /// The two dialogues of a pair answer different prompts.
    OtherPrompt(Row),
}

type Object = Map<String, Value>;
type Read = Result<(Row, Format), Refusal>;

/// The row of an object.
pub(super) fn row(object: &Object) -> Read {
    let has = |key: &str| object.get(key).is_some_and(|value| !value.is_null());
    for (there, missing) in [("chosen", "rejected"), ("rejected", "chosen")] {
        if has(there) && object.get(missing).is_some_and(Value::is_null) {
            return wrong(format!("an answer for {missing:?} beside {there:?}"), "null");
        }
    }
    let talk = ["messages", "conversations", "conversation"].into_iter().find(|key| has(key));
    if has("chosen") && has("rejected") {
        return preference(object, talk);
    }
    if let Some(key) = talk {
        return dialogue(object, key);
    }
    if has("prompt") && has("completions") {
        return if has("labels") { stepwise() } else { ranked(object) };
    }
    let pairs = [("prompt", ["completion", "response", "answer"]), ("question", ["answer", "response", "completion"])];
    for (asked, answers) in pairs {
        let answer = answers.into_iter().find(|answer| has(answer));
        if let Some(answer) = answer.filter(|_| has(asked)) {
            return completion(object, asked, answer);
        }
    }
    if has("instruction") {
        let answer = ["output", "response"].into_iter().find(|key| has(key));
        return answer.map_or(Err(Refusal::Unknown), |answer| alpaca(object, answer));
    }
    if has("prompt") { prompt_alone(object) } else { Err(Refusal::Unknown) }
}

fn wrong<T>(expected: impl Into<String>, found: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::Wrong(expected.into(), found.into()))
}

fn stepwise() -> Read {
    wrong("completions that are ranked", "\"completions\" with \"labels\", which judge steps; rank whole completions")
}

/// What a value is, for messages.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn text<'v>(object: &'v Object, key: &str) -> Result<&'v str, Refusal> {
    match object.get(key) {
        Some(Value::String(text)) => Ok(text),
        found => wrong(format!("string for {key:?}"), found.map_or("nothing", kind)),
    }
}

/// The string under a key that may be absent.
fn text_if_there<'v>(object: &'v Object, key: &str) -> Result<&'v str, Refusal> {
    if object.get(key).is_none_or(Value::is_null) { Ok("") } else { text(object, key) }
}

/// A text, or a list of parts of which all are text.
fn content(value: &Value) -> Result<String, Refusal> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Array(parts) => parts
            .iter()
            .map(|part| match (part["type"].as_str(), part["text"].as_str()) {
                (Some("text"), Some(text)) => Ok(text),
                (kind, _) => wrong("parts of type \"text\" in a message", format!("a part of type {:?}", kind.unwrap_or("none"))),
            })
            .collect(),
        // A message that only calls a tool.
        Value::Null => Ok(String::new()),
        other => wrong("string for the content of a message", kind(other)),
    }
}

/// A message: `role` and `content`, or ShareGPT's `from` and `value`.
fn turn(value: &Value) -> Result<Turn, Refusal> {
    let Value::Object(message) = value else { return wrong("a message with \"role\" and \"content\"", kind(value)) };
    let pairs = [("role", "content"), ("from", "value")];
    let Some((role, said)) = pairs.into_iter().find(|(role, _)| message.contains_key(*role)) else {
        return wrong("a message with \"role\" and \"content\", or \"from\" and \"value\"", "a message without");
    };
    let name = text(message, role)?;
    let Some(speaker) = Role::read(name) else {
        return wrong("one of the roles \"system\", \"user\", \"assistant\", \"tool\"", format!("role {name:?}"));
    };
    learnt(message, speaker)?;
    let others = message.iter().filter(|(key, _)| *key != role && *key != said);
    let others = others.map(|(key, value)| (key.clone(), value.clone())).collect();
    Ok(Turn { role: speaker, content: content(message.get(said).unwrap_or(&Value::Null))?, others })
}

/// Checks what a message says of its loss: `weight` is 1 or 0, `train` is true or false, and only what the assistant says is learnt.
fn learnt(message: &Object, speaker: Role) -> Result<(), Refusal> {
    for (key, expected, yes, no) in [("weight", "1 or 0", "1", "0"), ("train", "true or false", "true", "false")] {
        let found = match message.get(key) {
            None | Some(Value::Null) => continue,
            // 1.0 is a weight of 1.
            Some(Value::Number(number)) if number.as_f64().is_some_and(|weight| weight.fract() == 0.0) => {
                format!("{}", number.as_f64().unwrap_or(0.0))
            }
            Some(value) => value.to_string(),
        };
        if found != yes && found != no {
            return wrong(format!("{expected} for {key:?} of a message"), found);
        }
        if found == yes && speaker != Role::Assistant {
            return wrong(
                format!("{no} or no {key:?} for a message of {}: only the assistant's are learnt", speaker.name()),
                found,
            );
        }
    }
    Ok(())
}

/// Messages, a message, or a text that `role` says.
fn turns(value: &Value, role: Role) -> Result<Vec<Turn>, Refusal> {
    match value {
        Value::Array(messages) => messages.iter().map(turn).collect(),
        Value::Object(_) => Ok(vec![turn(value)?]),
        Value::String(text) => Ok(vec![Turn::new(role, text.as_str())]),
        other => wrong("a string, a message or a list of messages", kind(other)),
    }
}

fn turns_of(object: &Object, key: &str, role: Role) -> Result<Vec<Turn>, Refusal> {
    turns(object.get(key).unwrap_or(&Value::Null), role)
}

/// The turns before a row's own: what its `system` key says.
fn system(object: &Object) -> Result<Vec<Turn>, Refusal> {
    let text = text_if_there(object, "system")?;
    Ok(if text.is_empty() { Vec::new() } else { vec![Turn::system(text)] })
}

fn dialogue(object: &Object, key: &str) -> Read {
    if let Some(value) = object.get(key).filter(|value| !value.is_array()) {
        return wrong(format!("a list of messages for {key:?}"), kind(value));
    }
    let turns = [system(object)?, turns_of(object, key, Role::User)?].concat();
    let format = if key == "messages" { Format::Messages } else { Format::ShareGpt };
    let Some(last) = turns.iter().rposition(|turn| turn.role == Role::Assistant) else {
        if turns.is_empty() {
            return wrong("at least one message", "none");
        }
        return Ok((Row::Prompt { prompt: turns, others: without(object, &[key, "system"]) }, format));
    };
    if let Some(label) = label(object)? {
        let (prompt, completion) = turns.split_at(last);
        return Ok((Row::Unpaired { prompt: prompt.to_vec(), completion: completion.to_vec(), label }, Format::Unpaired));
    }
    Ok((Row::Dialogue { turns }, format))
}

/// The judgement of a row, if it has one.
fn label(object: &Object) -> Result<Option<bool>, Refusal> {
    let value = match object.get("label") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Bool(label)) => *label,
        // Cells of CSV, and Python's way to write them.
        Some(Value::String(text)) if text.eq_ignore_ascii_case("true") || text == "1" => true,
        Some(Value::String(text)) if text.eq_ignore_ascii_case("false") || text == "0" => false,
        Some(Value::Number(number)) if number.as_u64() == Some(1) => true,
        Some(Value::Number(number)) if number.as_u64() == Some(0) => false,
        Some(other) => return wrong("true or false for \"label\"", other.to_string()),
    };
    Ok(Some(value))
}

fn completion(object: &Object, asked: &str, answer: &str) -> Read {
    let prompt = [system(object)?, turns_of(object, asked, Role::User)?].concat();
    let completion = turns_of(object, answer, Role::Assistant)?;
    if let Some(label) = label(object)? {
        return Ok((Row::Unpaired { prompt, completion, label }, Format::Unpaired));
    }
    Ok((Row::Dialogue { turns: [prompt, completion].concat() }, Format::PromptCompletion))
}

/// The prompt of a row of Alpaca: the parts stay apart for the template of that name.
fn instruction(object: &Object) -> Result<Vec<Turn>, Refusal> {
    let mut turns = system(object)?;
    for pair in object.get("history").and_then(Value::as_array).into_iter().flatten() {
        match (pair[0].as_str(), pair[1].as_str()) {
            (Some(asked), Some(answer)) => turns.extend([Turn::user(asked), Turn::assistant(answer)]),
            _ => return wrong("pairs of strings in \"history\"", pair.to_string()),
        }
    }
    let (instruction, mut input) = (text(object, "instruction")?, text_if_there(object, "input")?);
    if input.is_empty() {
        input = text_if_there(object, "context")?;
    }
    let mut turn = Turn::user(instruction);
    if !input.is_empty() {
        turn.content = format!("{instruction}\n\n{input}");
        turn.others.insert("instruction".to_owned(), instruction.into());
        turn.others.insert("input".to_owned(), input.into());
    }
    turns.push(turn);
    Ok(turns)
}

fn alpaca(object: &Object, answer: &str) -> Read {
    let mut turns = instruction(object)?;
    turns.extend(turns_of(object, answer, Role::Assistant)?);
    Ok((Row::Dialogue { turns }, Format::Alpaca))
}

fn prompt_alone(object: &Object) -> Read {
    let prompt = [system(object)?, turns_of(object, "prompt", Role::User)?].concat();
    Ok((Row::Prompt { prompt, others: without(object, &["prompt", "system"]) }, Format::Prompts))
}

/// The other keys of an object.
fn without(object: &Object, keys: &[&str]) -> Object {
    object.iter().filter(|(key, _)| !keys.contains(&key.as_str())).map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn pair(prompt: Vec<Turn>, chosen: Vec<Turn>, rejected: Vec<Turn>, margin: Option<f64>) -> Row {
    let ranked = [(0, chosen), (1, rejected)].map(|(rank, completion)| Ranked { rank, completion });
    Row::Preference { prompt, ranked: ranked.into(), margin }
}

fn preference(object: &Object, talk: Option<&str>) -> Read {
    let margin = margin(object)?;
    let explicit =
        ["prompt", "instruction", "question"].into_iter().find(|key| object.get(*key).is_some_and(|value| !value.is_null()));
    let prompt = match (talk, explicit) {
        (Some(key), _) => Some(turns_of(object, key, Role::User)?),
        (None, Some("instruction")) => Some(instruction(object)?),
        (None, Some(key)) => Some(turns_of(object, key, Role::User)?),
        (None, None) => None,
    };
    let sides = ["chosen", "rejected"].map(|key| turns_of(object, key, Role::Assistant));
    let [chosen, rejected] = sides;
    let (chosen, rejected) = (chosen?, rejected?);
    if let Some(prompt) = prompt {
        // A list of messages may repeat the prompt.
        let [chosen, rejected] =
            [chosen, rejected].map(|side| if side.starts_with(&prompt) { side[prompt.len()..].to_vec() } else { side });
        let before = if talk.is_some() || explicit != Some("instruction") { system(object)? } else { Vec::new() };
        return Ok((pair([before, prompt].concat(), chosen, rejected, margin), Format::Preference));
    }
    match (object.get("chosen"), object.get("rejected")) {
        (Some(Value::String(chosen)), Some(Value::String(rejected))) => implicit_texts(chosen, rejected, margin),
        _ => {
            let alike = chosen.iter().zip(&rejected).take_while(|(a, b)| a == b).count();
            // What is compared begins with an answer.
            let is_answer = |at: &usize| chosen.get(*at).is_none_or(|turn| turn.role == Role::Assistant);
            let mut common = alike.min(chosen.len().saturating_sub(1)).min(rejected.len().saturating_sub(1));
            while common > 0 && !is_answer(&common) {
                common -= 1;
            }
            let row = pair(chosen[..common].to_vec(), chosen[common..].to_vec(), rejected[common..].to_vec(), margin);
            if common == 0 && chosen.first().is_some_and(|turn| turn.role != Role::Assistant) {
                return Err(Refusal::OtherPrompt(row));
            }
            Ok((row, Format::ImplicitPreference))
        }
    }
}

/// Two whole texts: dialogues of HH-RLHF, or texts whose common beginning is the prompt.
fn implicit_texts(chosen: &str, rejected: &str, margin: Option<f64>) -> Read {
    if hh::is_dialogue(chosen) && hh::is_dialogue(rejected) {
        let [Some((prompt, chosen)), Some((other, rejected))] = [chosen, rejected].map(hh::split) else {
            return Err(Refusal::Unknown);
        };
        let same = prompt == other;
        let row = pair(prompt, chosen, rejected, margin);
        return if same { Ok((row, Format::HhRlhf)) } else { Err(Refusal::OtherPrompt(row)) };
    }
    let at = common_prefix(chosen, rejected);
    let side = |text: &str| vec![Turn::assistant(&text[at..])];
    let prompt = if at == 0 { Vec::new() } else { vec![Turn::user(&chosen[..at])] };
    Ok((pair(prompt, side(chosen), side(rejected), margin), Format::ImplicitPreference))
}

/// Where the completions of two texts begin: behind what they share, and before a space that both begin with. Equal texts share nothing.
fn common_prefix(a: &str, b: &str) -> usize {
    let same = a.char_indices().zip(b.chars()).take_while(|((_, a), b)| a == b);
    let at = same.last().map_or(0, |((at, c), _)| at + c.len_utf8());
    let before = a.get(..at).unwrap_or_default();
    if a == b { 0 } else { before.strip_suffix(' ').map_or(at, str::len) }
}

/// How much better the preferred completion is, in units of the score: a number, or one as text, as tables have it.
fn margin(object: &Object) -> Result<Option<f64>, Refusal> {
    let found = match object.get("margin") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => text.trim().parse().ok(),
        Some(value) => value.as_f64(),
    };
    let shown = || object.get("margin").map_or_else(String::new, Value::to_string);
    found
        .filter(|margin: &f64| margin.is_finite())
        .map_or_else(|| wrong("a number for \"margin\"", shown()), |margin| Ok(Some(margin)))
}

fn ranked(object: &Object) -> Read {
    if object.get("margin").is_some_and(|margin| !margin.is_null()) {
        return wrong("ranks without \"margin\", which a pair has: \"chosen\", \"rejected\"", "both");
    }
    let prompt = [system(object)?, turns_of(object, "prompt", Role::User)?].concat();
    let Some(Value::Array(list)) = object.get("completions") else { return wrong("a list for \"completions\"", "another value") };
    let ranks: Vec<Option<u64>> = match object.get("ranks") {
        None | Some(Value::Null) => (0..list.len() as u64).map(Some).collect(),
        Some(Value::Array(ranks)) if ranks.len() == list.len() => ranks
            .iter()
            .map(|rank| match (rank.as_u64(), rank) {
                // One that nobody ranked.
                (None, Value::Null) => Ok(None),
                (Some(rank), _) => Ok(Some(rank)),
                (None, other) => wrong("whole numbers or null in \"ranks\" (smaller is better)", other.to_string()),
            })
            .collect::<Result<_, _>>()?,
        Some(other) => {
            let found = other.as_array().map_or(kind(other).to_owned(), |ranks| ranks.len().to_string());
            return wrong(format!("{} ranks, one for every completion", list.len()), found);
        }
    };
    let mut ranked = Vec::new();
    for (value, rank) in list.iter().zip(ranks) {
        let completion = turns(value, Role::Assistant)?;
        ranked.extend(rank.map(|rank| Ranked { rank, completion }));
    }
    ranked.sort_by_key(|completion| completion.rank);
    if ranked.first().map(|first| first.rank) == ranked.last().map(|last| last.rank) {
        return wrong(
            "at least two completions of different ranks",
            format!("{} completions, {} ranked", list.len(), ranked.len()),
        );
    }
    Ok((Row::Preference { prompt, ranked, margin: None }, Format::Ranked))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A margin is a number, or one as text, as a table has it; anything else is an error, and so is one beside ranks.
    #[test]
    fn margins_are_read_or_refused() {
        let pair = |margin: Value| {
            let Value::Object(object) = json!({"prompt": "a", "chosen": "b", "rejected": "c", "margin": margin}) else {
                unreachable!()
            };
            preference(&object, None).ok().map(|(row, _)| match row {
                Row::Preference { margin, .. } => margin,
                _ => None,
            })
        };
        assert_eq!([json!(50), json!("0.5"), json!(null)].map(pair), [Some(Some(50.0)), Some(Some(0.5)), Some(None)]);
        assert_eq!([json!("big"), json!(true), json!("inf")].map(pair), [None; 3]);
        let Value::Object(list) = json!({"prompt": "a", "completions": ["b", "c"], "margin": 1}) else { unreachable!() };
        assert!(ranked(&list).is_err());
    }
}
