//! A value as somebody wrote it, in TOML, in JSON or on a command line.

use std::fmt;

use toml::de::DeValue;

/// A parsed value; numbers keep their digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Text.
    Text(String),
    /// An integer.
    Integer {
        /// Its digits and sign.
        digits: String,
        /// Their base.
        radix: u32,
        /// As it was written.
        shown: String,
    },
    /// A number with a point or an exponent, an infinity or NaN.
    Float(String),
    /// True or false.
    Boolean(bool),
    /// Several values.
    List(Vec<Value>),
    /// Something that no key takes, in words.
    Other(&'static str),
}

impl From<&DeValue<'_>> for Value {
    fn from(value: &DeValue<'_>) -> Self {
        match value {
            DeValue::String(text) => Self::Text(text.as_ref().to_owned()),
            DeValue::Integer(integer) => {
                Self::Integer { digits: integer.as_str().to_owned(), radix: integer.radix(), shown: integer.to_string() }
            }
            DeValue::Float(float) => Self::Float(float.as_str().to_owned()),
            DeValue::Boolean(value) => Self::Boolean(*value),
            DeValue::Array(values) => Self::List(values.iter().map(|value| value.get_ref().into()).collect()),
            DeValue::Table(_) => Self::Other("a table"),
            DeValue::Datetime(_) => Self::Other("a date"),
        }
    }
}

impl From<&serde_json::Value> for Value {
    fn from(json: &serde_json::Value) -> Self {
        match json {
            serde_json::Value::Bool(value) => Self::Boolean(*value),
            serde_json::Value::String(text) => Self::Text(text.clone()),
            serde_json::Value::Number(number) => {
                let digits = number.to_string();
                let is_float = digits.contains(['.', 'e', 'E']);
                if is_float { Self::Float(digits) } else { Self::Integer { shown: digits.clone(), digits, radix: 10 } }
            }
            serde_json::Value::Null => Self::Other("null"),
            serde_json::Value::Array(values) => Self::List(values.iter().map(Self::from).collect()),
            serde_json::Value::Object(_) => Self::Other("an object"),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{:?}", text.chars().take(80).collect::<String>()),
            Self::Integer { shown, .. } => f.write_str(shown),
            Self::Float(digits) => f.write_str(digits),
            Self::Boolean(value) => write!(f, "{value}"),
            Self::List(values) => {
                let shown: Vec<String> = values.iter().take(16).map(ToString::to_string).collect();
                write!(f, "[{}]", shown.join(", "))
            }
            Self::Other(what) => f.write_str(what),
        }
    }
}
