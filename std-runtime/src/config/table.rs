//! Tables of a configuration: each key is written down once, with its meaning, default and range.

use std::path::PathBuf;

use toml::de::DeValue;

/// A key of a table.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// Its meaning: lines of text.
    pub doc: &'static [&'static str],
}

/// A value as somebody wrote it.
#[derive(Clone, Copy)]
pub(super) struct Given<'v> {
    /// The TOML value.
    pub(super) value: &'v DeValue<'v>,
    /// The bare text of a command line, which needs no quotes.
    pub(super) text: Option<&'v str>,
}

/// A type that a key can have.
pub(super) trait Setting: Sized {
    /// The value, or what was expected.
    fn read(given: Given<'_>) -> Result<Self, String>;
    /// The value in TOML; `None` when there is none.
    fn show(&self) -> Option<String>;
    /// The number to hold against the bounds.
    fn number(&self) -> Option<f64> {
        None
    }
}

/// A choice among words.
pub(super) trait Choice: Sized + Copy + PartialEq + 'static {
    /// All words; the first of several with one meaning is the one that is written.
    const WORDS: &'static [(&'static str, Self)];
}

/// A table: a struct whose fields are keys.
pub(super) trait Table {
    /// All keys.
    fn keys(&self) -> &'static [Key];
    /// Sets a key that exists; an error says what was expected.
    fn set(&mut self, key: &str, given: Given<'_>) -> Result<(), String>;
    /// The value of a key in TOML.
    fn show(&self, key: &str) -> Option<String>;
}

macro_rules! table {
    (
        $(#[doc = $about:literal])+
        $name:ident {
            $( $(#[doc = $doc:literal])+ $field:ident: $type:ty = $default:expr $(, $low:literal..=$high:literal)?; )+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            $( $(#[doc = $doc])+ pub $field: $type, )+
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: $default, )+ }
            }
        }

        impl $crate::config::table::Table for $name {
            fn keys(&self) -> &'static [$crate::config::table::Key] {
                const KEYS: &[$crate::config::table::Key] = &[
                    $( $crate::config::table::Key { name: stringify!($field), doc: &[$($doc),+] }, )+
                ];
                KEYS
            }

            fn set(&mut self, key: &str, given: $crate::config::table::Given<'_>) -> Result<(), String> {
                match key {
                    $( stringify!($field) => {
                        let bounds: &[(f64, f64)] = &[$( ($low as f64, $high as f64) )?];
                        self.$field = $crate::config::table::checked(given, bounds.first().copied())?;
                    } )+
                    _ => return Err("a known key".to_owned()),
                }
                Ok(())
            }

            fn show(&self, key: &str) -> Option<String> {
                match key {
                    $( stringify!($field) => $crate::config::table::Setting::show(&self.$field), )+
                    _ => None,
                }
            }
        }
    };
}
pub(super) use table;

/// A value within its bounds, or what was expected.
pub(super) fn checked<T: Setting>(given: Given<'_>, bounds: Option<(f64, f64)>) -> Result<T, String> {
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
        let integer = given.value.as_integer().ok_or("an integer")?;
        Self::from_str_radix(integer.as_str(), integer.radix()).map_err(|_| "an integer".to_owned())
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

impl Setting for f64 {
    fn read(given: Given<'_>) -> Result<Self, String> {
        let expected = || "a number".to_owned();
        match given.value {
            DeValue::Float(float) => float.as_str().parse().map_err(|_| expected()),
            DeValue::Integer(integer) if integer.radix() == 10 => integer.as_str().parse().map_err(|_| expected()),
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
        given.value.as_bool().ok_or_else(|| "true or false".to_owned())
    }

    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Setting for String {
    fn read(given: Given<'_>) -> Result<Self, String> {
        let text = given.value.as_str().or(given.text);
        text.map(str::to_owned).ok_or_else(|| "text in quotes".to_owned())
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
        let word = given.value.as_str().or(given.text).unwrap_or_default();
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
