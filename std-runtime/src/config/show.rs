//! Configurations as TOML, and differences between two configurations.

use super::table::{Key, Tables, shown};

/// A key whose value differs between two configurations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The key with its table, as in `train.lr`.
    pub key: String,
    /// Its value in the first, in TOML; `None` when it has none.
    pub first: Option<String>,
    /// Its value in the second.
    pub second: Option<String>,
}

/// The line of a run's configuration that names its command.
const COMMAND: &str = "# Command: ";

/// [`to_toml`] for a run of a command such as `samara train`, whose name becomes its first line.
pub fn to_toml_of(command: &str, config: &impl Tables) -> String {
    format!("{COMMAND}{command}\n{}", to_toml(config))
}

/// The command whose run has this configuration, if it is recorded.
pub fn command_of(toml: &str) -> Option<&str> {
    toml.lines().next().and_then(|line| line.strip_prefix(COMMAND)).map(str::trim)
}

/// A configuration as TOML with the meaning of every key; keys without effect (because of other values) get no value.
pub fn to_toml(config: &impl Tables) -> String {
    to_toml_without(config, &[])
}

/// The same without some keys, each a table and a key.
pub fn to_toml_without(config: &impl Tables, left_out: &[(&str, &str)]) -> String {
    let mut text = String::from("# The whole configuration of a run. Read again with --config FILE.\n");
    for (name, table) in config.tables() {
        text += &format!("\n[{name}]\n");
        for key in table.keys().iter().filter(|key| !left_out.contains(&(name, key.name))) {
            for line in key.doc {
                text += &format!("#{line}\n");
            }
            match shown(table, key.name) {
                Some(value) => text += &format!("{} = {value}\n", key.name),
                None => text += &format!("# {} =\n", key.name),
            }
        }
    }
    text
}

/// All keys whose values differ: those of the first, then those that only the second has.
pub fn differences<C: Tables>(first: &C, second: &C) -> Vec<Difference> {
    compared(first, second, |_| true)
}

/// The differences that prevent resuming: they would have changed the steps so far.
pub fn conflicts<C: Tables>(first: &C, second: &C) -> Vec<Difference> {
    compared(first, second, |key| !key.may_change)
}

fn compared<C: Tables>(first: &C, second: &C, counts: impl Fn(&Key) -> bool) -> Vec<Difference> {
    let mut differences = Vec::new();
    for ((name, a), (_, b)) in first.tables().into_iter().zip(second.tables()) {
        // Two families of models have different keys.
        let only_second = b.keys().iter().filter(|key| !a.keys().iter().any(|known| known.name == key.name));
        for key in a.keys().iter().chain(only_second).filter(|key| counts(key)) {
            let (first, second) = (shown(a, key.name), shown(b, key.name));
            if first != second {
                differences.push(Difference { key: format!("{name}.{}", key.name), first, second });
            }
        }
    }
    differences
}
