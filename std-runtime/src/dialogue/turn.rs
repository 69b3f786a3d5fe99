//! A turn of a dialogue: who speaks, and what is said.

use serde_json::{Map, Value, json};

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Instructions that hold for the whole dialogue.
    System,
    /// The same under OpenAI's later name.
    Developer,
    /// A person.
    User,
    /// The model.
    Assistant,
    /// What a tool answered.
    Tool,
}

/// Names of roles in files; the first of each role is the one that templates see.
const NAMES: [(&str, Role); 14] = [
    ("system", Role::System),
    ("developer", Role::Developer),
    ("user", Role::User),
    ("assistant", Role::Assistant),
    ("tool", Role::Tool),
    ("human", Role::User),
    ("gpt", Role::Assistant),
    ("bot", Role::Assistant),
    ("chatgpt", Role::Assistant),
    ("model", Role::Assistant),
    ("bing", Role::Assistant),
    ("bard", Role::Assistant),
    ("observation", Role::Tool),
    ("function", Role::Tool),
];

impl Role {
    /// The role that a file names, such as `"user"` or ShareGPT's `"human"`.
    pub fn read(name: &str) -> Option<Self> {
        NAMES.iter().find(|(known, _)| *known == name).map(|(_, role)| *role)
    }

    /// The name that templates see.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(_, role)| *role == self).map_or("", |(name, _)| name)
    }
}

/// A turn.
#[derive(Clone, Debug, PartialEq)]
pub struct Turn {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: String,
    /// Other keys of the message, such as `reasoning_content`, for templates that read them.
    pub others: Map<String, Value>,
}

impl Turn {
    /// A turn without other keys.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into(), others: Map::new() }
    }

    /// A turn of a person.
    pub fn user(content: impl Into<String>) -> Self {
        Self::new(Role::User, content)
    }

    /// A turn of the model.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self::new(Role::Assistant, content)
    }

    /// Instructions that hold for the whole dialogue.
    pub fn system(content: impl Into<String>) -> Self {
        Self::new(Role::System, content)
    }

    /// Whether it is learnt where the assistant's turns are: not with a `weight` of 0, or `train` false.
    pub fn is_learnt(&self) -> bool {
        let refuses =
            |key: &str, no: &Value| self.others.get(key).is_some_and(|value| value == no || value.as_f64() == Some(0.0));
        self.role == Role::Assistant && !refuses("weight", &json!(0)) && !refuses("train", &json!(false))
    }

    /// Turns as the messages of a row.
    pub fn messages(turns: &[Self]) -> Value {
        turns.iter().map(|turn| json!({ "role": turn.role.name(), "content": turn.content })).collect()
    }
}
