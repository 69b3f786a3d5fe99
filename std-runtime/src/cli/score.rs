//! `samara score`.

use std::path::PathBuf;

use super::args::{MachineArgs, token_ids};
use super::output;
use super::requests::{Kept, ScoreInput, ScoreOutcome, ScoreRequest};
use crate::error::Error;
use crate::score;

const EXAMPLES: &str = "\
Examples:
  samara score --model gpt2 --text 'The quick brown fox'
  samara score --model gpt2 --tokens 464,2068,7586 --logits out.npy --json";

/// Give every token the logarithm of its probability after those before it.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The model folder.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    #[command(flatten)]
    input: Input,
    #[command(flatten)]
    kept: Kept,
    /// Write the logits (T, V) of all positions.
    #[arg(long, value_name = "FILE.npy")]
    logits: Option<PathBuf>,
    /// Print {"tokens":[...],"logprobs":[...],"loss":...}.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    machine: MachineArgs,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Input {
    /// Text.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    text: Option<String>,
    /// Token ids between commas.
    #[arg(long, value_name = "IDS", allow_hyphen_values = true)]
    tokens: Option<String>,
}

impl Args {
    pub(super) fn run(&self) -> Result<(), Error> {
        let input = match (&self.input.text, &self.input.tokens) {
            (Some(text), _) => ScoreInput::Text(text.clone()),
            (None, ids) => {
                let ids = ids.as_deref().unwrap_or_default();
                ScoreInput::Tokens(token_ids(ids).map_err(|error| Error::Usage(format!("--tokens: {error}")))?)
            }
        };
        let (model, logits, machine) = (self.model.clone(), self.logits.clone(), self.machine.machine()?);
        let outcome = score::run(&ScoreRequest { model, input, logits, kept: self.kept, machine })?;
        if self.json { output::json(&outcome) } else { output::write(text(&outcome).as_bytes()) }
    }
}

fn text(outcome: &ScoreOutcome) -> String {
    let mut rows = vec![["id", "log p", "text"].map(str::to_owned).to_vec()];
    for (i, id) in outcome.tokens.iter().enumerate() {
        let logprob = i.checked_sub(1).and_then(|i| outcome.logprobs.get(i)).map_or_else(String::new, |p| format!("{p:.4}"));
        rows.push(vec![id.to_string(), logprob, outcome.texts.get(i).map_or_else(String::new, |text| format!("{text:?}"))]);
    }
    format!("{}loss {:.6}{}\n", output::table(&rows), outcome.loss, output::cost(outcome.loss, outcome.f32_loss))
}
