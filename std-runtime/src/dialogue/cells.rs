//! Rows of tables, whose cells are text: what is a list in other files is JSON in a cell.

use serde_json::{Map, Value};

/// Keys whose values are lists.
const LISTS: [&str; 6] = ["messages", "conversations", "conversation", "completions", "ranks", "history"];
/// Keys whose values are texts or lists of messages.
const TEXTS_OR_LISTS: [&str; 5] = ["prompt", "completion", "response", "chosen", "rejected"];

/// A row of a table, whose cells are text: lists in them are JSON, and an empty cell of a list is none. Of a cell that is neither, what was expected and
/// what was found.
pub(super) fn of_cells(mut object: Map<String, Value>) -> Result<Map<String, Value>, (String, String)> {
    for (key, value) in &mut object {
        let (is_list, may_be) = (LISTS.contains(&key.as_str()), TEXTS_OR_LISTS.contains(&key.as_str()));
        let Some(text) = value.as_str().filter(|_| is_list || may_be).map(str::trim) else { continue };
        match serde_json::from_str(text) {
            Ok(list @ Value::Array(_)) if is_list || has_messages(&list) => *value = list,
            _ if is_list && text.is_empty() => *value = Value::Null,
            // As Python writes a list of messages.
            _ if is_list || text.starts_with("[{'role'") || text.starts_with("[{'from'") => {
                let start: String = text.chars().take(40).collect();
                let expected =
                    format!("a list as JSON in the column {key:?}, such as [{{\"role\": \"user\", \"content\": \"Hi\"}}]");
                return Err((expected, format!("text that begins with {start:?}")));
            }
            _ => {}
        }
    }
    Ok(object)
}

/// Whether a list is one of messages.
fn has_messages(list: &Value) -> bool {
    let is_message =
        |value: &Value| value.as_object().is_some_and(|message| message.contains_key("role") || message.contains_key("from"));
    list.as_array().is_some_and(|list| !list.is_empty() && list.iter().all(is_message))
}
