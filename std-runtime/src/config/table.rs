//! Tables of a configuration: each key is declared once, with its meaning, default and range.

use std::path::PathBuf;

use super::invalid::Invalid;
use super::value::Value;

/// A key of a table.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// Its meaning: lines of text.
    pub doc: &'static [&'static str],
    /// Whether its value may change on resume: it does not affect the result of a step.
    pub may_change: bool,
}

/// A key that the other values of its table make idle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unread {
    /// Its name.
    pub key: &'static str,
    /// The alternative to setting it.
    pub instead: &'static str,
}

/// A value for a key.
#[derive(Clone, Copy, Debug)]
pub struct Given<'v> {
    /// The value as it was written.
    pub value: &'v Value,
    /// The bare text of a command line, which needs no quotes.
    pub text: Option<&'v str>,
}

impl<'v> Given<'v> {
    /// The value as text, quoted or bare.
    fn as_text(self) -> Option<&'v str> {
        match self.value {
            Value::Text(text) => Some(text),
            _ => self.text,
        }
    }
}

/// A type that a key can have.
pub trait Setting: Sized {
    /// Parses the value.
    ///
    /// # Errors
    /// A description of what is expected.
    fn read(given: Given<'_>) -> Result<Self, String>;
    /// The value in TOML; `None` when there is none.
    fn show(&self) -> Option<String>;
    /// The numeric value to check against the bounds.
    fn number(&self) -> Option<f64> {
        None
    }
}

/// A choice among words.
pub trait Choice: Sized + Copy + PartialEq + 'static {
    /// All words; the first of several with one meaning is the one written.
    const WORDS: &'static [(&'static str, Self)];
}

/// A table: keys with values.
pub trait Table {
    /// All keys.
    fn keys(&self) -> &'static [Key];
    /// Sets an existing key.
    ///
    /// # Errors
    /// A description of what is expected.
    fn set(&mut self, key: &str, given: Given<'_>) -> Result<(), String>;
    /// The value of a key in TOML.
    fn show(&self, key: &str) -> Option<String>;
    /// The key that decides which other keys the table has; it is read first.
    fn deciding_key(&self) -> Option<&'static str> {
        None
    }
    /// The keys that have no effect because of other values: giving one in a file or on a command line is an error.
    fn unread(&self) -> Vec<Unread> {
        Vec::new()
    }
    /// The text after "unknown key" for a key that the table lacks; `None`: the nearest key.
    fn hint(&self, _key: &str) -> Option<String> {
        None
    }
}

/// The value of a key in TOML, unless it has no effect.
pub(super) fn shown(table: &dyn Table, key: &str) -> Option<String> {
    if table.unread().iter().any(|unread| unread.key == key) { None } else { table.show(key) }
}

/// A configuration: several tables.
pub trait Tables: Clone + Default {
    /// All tables with their names, in the order in which they are written.
    fn tables(&self) -> Vec<(&'static str, &dyn Table)>;
    /// The table of a name.
    fn table_mut(&mut self, name: &str) -> Option<&mut dyn Table>;
    /// Checks across keys. The range of a single key is checked when it is set.
    ///
    /// # Errors
    /// The first value that contradicts others.
    fn check(&self) -> Result<(), Invalid>;
}

/// Declares a struct of tables as a configuration. Its checks are in a function `check`.
macro_rules! tables {
    ($(#[doc = $about:literal])+ $vis:vis $name:ident checked by $check:path { $( $(#[doc = $doc:literal])+ $field:ident: $type:ty; )+ }) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, Default, PartialEq)]
        $vis struct $name {
            $( $(#[doc = $doc])+ $vis $field: $type, )+
        }

        impl $crate::config::Tables for $name {
            fn tables(&self) -> Vec<(&'static str, &dyn $crate::config::Table)> {
                vec![$( (stringify!($field), &self.$field), )+]
            }

            fn table_mut(&mut self, name: &str) -> Option<&mut dyn $crate::config::Table> {
                match name {
                    $( stringify!($field) => Some(&mut self.$field), )+
                    _ => None,
                }
            }

            fn check(&self) -> Result<(), $crate::config::Invalid> {
                $check(self)
            }
        }
    };
}
pub(crate) use tables;

/// Declares a table: a struct whose fields are keys, with their meanings, defaults and ranges. Keys under `may change` may differ when a run is
/// resumed; `unread` is a method of the struct for [`Table::unread`].
macro_rules! table {
    (
        $(#[doc = $about:literal])+
        $vis:vis $name:ident {
            $( $(#[doc = $doc:literal])+ $field:ident: $type:ty = $default:expr $(, $low:literal..=$high:literal)?; )+
        }
        $( may change: $($free:ident)+; )?
        $( unread: $unread:path; )?
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq)]
        $vis struct $name {
            $( $(#[doc = $doc])+ $vis $field: $type, )+
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: $default, )+ }
            }
        }

        impl $crate::config::Table for $name {
            fn keys(&self) -> &'static [$crate::config::Key] {
                const FREE: &[&str] = &[$($( stringify!($free) ),+)?];
                const KEYS: &[$crate::config::Key] = &[
                    $( $crate::config::Key {
                        name: stringify!($field),
                        doc: &[$($doc),+],
                        may_change: $crate::config::is_among(stringify!($field), FREE),
                    }, )+
                ];
                KEYS
            }

            fn set(&mut self, key: &str, given: $crate::config::Given<'_>) -> Result<(), String> {
                match key {
                    $( stringify!($field) => {
                        let bounds: &[(f64, f64)] = &[$( ($low as f64, $high as f64) )?];
                        self.$field = $crate::config::checked(given, bounds.first().copied())?;
                    } )+
                    _ => return Err("a known key".to_owned()),
                }
                Ok(())
            }

            fn show(&self, key: &str) -> Option<String> {
                match key {
                    $( stringify!($field) => $crate::config::Setting::show(&self.$field), )+
                    _ => None,
                }
            }

            $( fn unread(&self) -> Vec<$crate::config::Unread> {
                $unread(self)
            } )?
        }
    };
}
pub(crate) use table;

/// Sets a key of a table from a JSON value, with the same range checks.
///
/// # Errors
/// A description of what is expected.
pub(crate) fn set_json(table: &mut impl Table, key: &str, json: &serde_json::Value) -> Result<(), String> {
    table.set(key, Given { value: &Value::from(json), text: None })
}

/// Whether a word is one of a list; for constants.
pub const fn is_among(word: &str, list: &[&str]) -> bool {
    let mut i = 0;
    while i < list.len() {
        if is_same(word.as_bytes(), list[i].as_bytes()) {
            return true;
        }
        i += 1;
    }
    false
}

const fn is_same(a: &[u8], b: &[u8]) -> bool {
    let mut i = 0;
    while i < a.len() && i < b.len() && a[i] == b[i] {
        i += 1;
    }
    i == a.len() && i == b.len()
}

/// Checks a value against its bounds.
///
/// # Errors
/// A description of what is expected.
pub fn checked<T: Setting>(given: Given<'_>, bounds: Option<(f64, f64)>) -> Result<T, String> {
    let range = || bounds.map_or_else(String::new, |(low, high)| format!(" from {} to {}", number(low), number(high)));
    let value = T::read(given).map_err(|expected| expected + &range())?;
    match (value.number(), bounds) {
        (Some(x), Some((low, high))) if !(low <= x && x <= high) => Err(format!("a number{}", range())),
        _ => Ok(value),
    }
}

/// A bound as people write it.
fn number(x: f64) -> String {
    if x != 0.0 && !(1e-3..1e13).contains(&x.abs()) { format!("{x:e}") } else { x.to_string() }
}

impl Setting for u64 {
    fn read(given: Given<'_>) -> Result<Self, String> {
        match given.value {
            Value::Integer { digits, radix, .. } => Self::from_str_radix(digits, *radix).map_err(|_| "an integer".to_owned()),
            _ => Err("an integer".to_owned()),
        }
    }

    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }

    fn number(&self) -> Option<f64> {
        Some(*self as f64)
    }
}

impl Setting for usize {
    fn read(given: Given<'_>) -> Result<Self, String> {
        Self::try_from(u64::read(given)?).map_err(|_| "an integer".to_owned())
    }

    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }

    fn number(&self) -> Option<f64> {
        Some(*self as f64)
    }
}

/// Sizes in a list; its bounds are those of the largest.
impl Setting for Vec<usize> {
    fn read(given: Given<'_>) -> Result<Self, String> {
        let expected = || "a list of integers such as [2, 2]".to_owned();
        let Value::List(values) = given.value else { return Err(expected()) };
        values.iter().map(|value| usize::read(Given { value, text: None }).map_err(|_| expected())).collect()
    }

    fn show(&self) -> Option<String> {
        Some(format!("{self:?}"))
    }

    fn number(&self) -> Option<f64> {
        self.iter().max().map(|&largest| largest as f64)
    }
}

impl Setting for f64 {
    fn read(given: Given<'_>) -> Result<Self, String> {
        let expected = || "a number".to_owned();
        match given.value {
            Value::Float(digits) | Value::Integer { digits, radix: 10, .. } => digits.parse().map_err(|_| expected()),
            _ => Err(expected()),
        }
    }

    fn show(&self) -> Option<String> {
        Some(toml::Value::Float(*self).to_string())
    }

    fn number(&self) -> Option<f64> {
        Some(*self)
    }
}

impl Setting for bool {
    fn read(given: Given<'_>) -> Result<Self, String> {
        match given.value {
            Value::Boolean(value) => Ok(*value),
            _ => Err("true or false".to_owned()),
        }
    }

    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Setting for String {
    fn read(given: Given<'_>) -> Result<Self, String> {
        given.as_text().map(str::to_owned).ok_or_else(|| "text in quotes".to_owned())
    }

    fn show(&self) -> Option<String> {
        Some(toml::Value::String(self.clone()).to_string())
    }
}

impl Setting for PathBuf {
    fn read(given: Given<'_>) -> Result<Self, String> {
        match String::read(given) {
            Ok(text) if !text.is_empty() => Ok(Self::from(text)),
            _ => Err("a path in quotes".to_owned()),
        }
    }

    fn show(&self) -> Option<String> {
        self.to_string_lossy().into_owned().show()
    }
}

impl<T: Setting> Setting for Option<T> {
    fn read(given: Given<'_>) -> Result<Self, String> {
        T::read(given).map(Some)
    }

    fn show(&self) -> Option<String> {
        self.as_ref().and_then(T::show)
    }

    fn number(&self) -> Option<f64> {
        self.as_ref().and_then(T::number)
    }
}

impl<T: Choice> Setting for T {
    fn read(given: Given<'_>) -> Result<Self, String> {
        let word = given.as_text().unwrap_or_default();
        let found = T::WORDS.iter().find(|(name, _)| *name == word);
        found.map(|(_, value)| *value).ok_or_else(|| {
            let words: Vec<String> = T::WORDS.iter().map(|(name, _)| format!("\"{name}\"")).collect();
            format!("one of {}", words.join(", "))
        })
    }

    fn show(&self) -> Option<String> {
        T::WORDS.iter().find(|(_, value)| value == self).map(|(name, _)| format!("\"{name}\""))
    }
}
