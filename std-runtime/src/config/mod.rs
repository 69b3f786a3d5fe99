//! The machinery of configurations. A table is owned by what it configures: `[model]` by `model`, `[data]` by `data`, `[train]` by `train`,
//! `[generate]` by `gpt`.
//!
//! A table is a struct written with `table!`: every key once, with its meaning, default and range. A configuration is a struct of tables,
//! written with `tables!`: the list from which keys are found, printed and compared. Values come from a preset, then a file, then
//! `--set key=value`, then flags ([`Layers`]); an error says where the value came from.

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
pub use show::{Difference, conflicts, differences, to_toml};
pub use table::{Choice, Given, Key, Setting, Table, Tables, Unread, checked, is_among};
pub(crate) use table::{set_json, table, tables};
pub use value::Value;
