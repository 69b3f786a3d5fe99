//! The machinery of configurations. The module that a table configures owns it: `[model]` is in `model`, `[data]` in `data`, `[train]` in `train`,
//! `[generate]` in `lm`.
//!
//! A table is a struct written with `table!`: every key once, with its meaning, default and range. A configuration is a struct of tables, written
//! with `tables!`: the list by which keys are found, printed and compared. Values come from a preset, then a file, then `--set key=value`, then flags
//! ([`Layers`]); errors name the source of the value.

mod error;
mod invalid;
mod merge;
mod show;
mod table;
#[cfg(test)]
mod tests;
mod value;

pub use error::{ConfigError, Place, hint};
pub use invalid::Invalid;
pub use merge::{Layers, Preset};
pub use show::{Difference, command_of, conflicts, differences, to_toml, to_toml_of, to_toml_without};
pub use table::{Choice, Given, Key, Setting, Table, Tables, Unread, checked, is_among};
pub(crate) use table::{set_json, table, tables};
pub use value::Value;
