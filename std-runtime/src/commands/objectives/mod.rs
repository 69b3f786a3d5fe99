//! `samara objectives`: the alignment objectives, and their evaluation on arrays in a file.

mod arrays;
mod entry;
mod groups;
mod list;
mod pairs;
mod policy;
mod scores;
mod settings;
mod tokens;

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::{Value, json};

use self::arrays::Arrays;
use self::entry::Entry;
use self::list::{OBJECTIVES, find};
use self::settings::Settings;
use super::{Command, Console, Error, output};
use crate::compressed;
use crate::files::FileError;

const EXAMPLES: &str = "\
Each reads its log-probs in nats. A (B, T) array is a list of rows. Losses are not
weighted; gradients are those of the loss, by the input that they are named after.

Examples:
  samara objectives
  samara objectives eval dpo --input pairs.json --set beta=0.1 --json
  samara objectives eval ppo --input batch.json --set clip_high=0.28 --json";

/// List the alignment objectives; evaluate one on arrays in a file.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    /// Print {"objectives":[{"name","about","command","arrays","keys"}]}.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Action {
    Eval(Eval),
}

/// Evaluate an objective in f64 on arrays of a JSON file.
#[derive(Debug, clap::Args)]
struct Eval {
    /// The objective, as `samara objectives` lists it.
    #[arg(value_name = "NAME")]
    name: String,
    /// An object of arrays; also .gz or .zst.
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// Set a key, as in beta=0.1.
    #[arg(long, value_name = "KEY=VALUE", allow_hyphen_values = true)]
    set: Vec<String>,
    /// Print {"loss","losses","gradients",...} as they apply.
    #[arg(long)]
    json: bool,
}

impl Command for Args {
    fn run(&self, _: &Console) -> Result<(), Error> {
        match &self.action {
            Some(Action::Eval(eval)) => {
                let found = eval.evaluate()?;
                output::show(eval.json || self.json, &found, || lines(&found))
            }
            None => {
                let all: Vec<Value> = OBJECTIVES.iter().map(|objective| objective.entry.json()).collect();
                output::show(self.json, &json!({ "schema": 1, "objectives": all }), table)
            }
        }
    }
}

impl Eval {
    fn evaluate(&self) -> Result<Value, Error> {
        let objective = find(&self.name)?;
        let entry = &objective.entry;
        let settings = Settings::read(entry, &self.set)?;
        let arrays = Arrays::read(entry, read(&self.input)?).map_err(|error| self.refused(&error))?;
        let mut found = json!({ "schema": 1, "objective": entry.name });
        let results = (objective.evaluate)(entry, &arrays, &settings).map_err(|error| match error {
            Refused::Input(text) => self.refused(&text),
            Refused::Setting(text) => Error::usage(format!("--set {text}")),
        })?;
        if let Some(place) = missing(&results, "").filter(|_| !arrays.has_missing()) {
            return Err(self.refused(&format!("{place} is not finite: its inputs are too large or too far apart for f64")));
        }
        if let (Some(found), Value::Object(results)) = (found.as_object_mut(), results) {
            found.extend(results);
        }
        Ok(found)
    }

    fn refused(&self, text: &str) -> Error {
        Error::data(format!("{}: {}: {text}", self.input.display(), self.name))
    }
}

/// Which input is at fault when an objective cannot be evaluated.
pub(super) enum Refused {
    /// An array.
    Input(String),
    /// A key.
    Setting(String),
}

impl From<samara_core::rl::Error> for Refused {
    fn from(error: samara_core::rl::Error) -> Self {
        match error {
            samara_core::rl::Error::Parameter { name, .. } if list::is_key(name) => Self::Setting(error.to_string()),
            error => Self::Input(error.to_string()),
        }
    }
}

impl From<String> for Refused {
    fn from(text: String) -> Self {
        Self::Input(text)
    }
}

/// The place of the first null in results, such as `losses of element 3 (from 0)`; of lists before single numbers, whose rows say more.
fn missing(results: &Value, name: &str) -> Option<String> {
    match results {
        Value::Null => Some(name.to_owned()),
        Value::Array(values) => {
            values.iter().enumerate().find_map(|(i, value)| missing(value, &format!("{name} of element {i} (from 0)")))
        }
        Value::Object(inner) => {
            let of = |lists: bool| inner.iter().filter(move |(_, value)| (value.is_array() || value.is_object()) == lists);
            let path = |key: &str| if name.is_empty() { key.to_owned() } else { format!("{name}.{key}") };
            of(true).chain(of(false)).find_map(|(key, value)| missing(value, &path(key)))
        }
        Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

fn read(path: &Path) -> Result<Value, Error> {
    let bytes = compressed::read(path, "give a smaller file", || Ok::<(), Error>(()))?;
    serde_json::from_slice(&bytes).map_err(|error| FileError::format(path, "a JSON object of arrays", error.to_string()).into())
}

/// The list for people.
fn table() -> String {
    let columns = |of: fn(&Entry) -> &str| -> Vec<Vec<String>> {
        OBJECTIVES.iter().map(|objective| vec![format!("{:<20}  {}", objective.entry.name, of(&objective.entry))]).collect()
    };
    let (about, commands) = (output::table(&columns(|entry| entry.about)), output::table(&columns(|entry| entry.command)));
    format!("{about}\nTrained by:\n{commands}\nTry one: samara objectives eval NAME --input FILE.json --json\n")
}

/// An evaluation for people: a line for each result.
fn lines(found: &Value) -> String {
    let mut text = String::new();
    let Some(found) = found.as_object() else { return text };
    for (key, value) in found.iter().filter(|(key, _)| key.as_str() != "schema") {
        match value {
            Value::Object(inner) => inner.iter().for_each(|(name, value)| text += &format!("{key}.{name}: {value}\n")),
            Value::String(word) => text += &format!("{key}: {word}\n"),
            value => text += &format!("{key}: {value}\n"),
        }
    }
    text
}
