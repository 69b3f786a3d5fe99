//! Rows of data for alignment: what each kind holds, whatever file it came from.

use serde_json::{Map, Value};

use super::turn::{Role, Turn};

/// A row.
#[derive(Clone, Debug, PartialEq)]
pub enum Row {
    /// A dialogue to imitate, with at least one turn of the assistant.
    Dialogue {
        /// Its turns.
        turns: Vec<Turn>,
    },
    /// Completions of one prompt, compared with each other.
    Preference {
        /// What they complete.
        prompt: Vec<Turn>,
        /// The best first.
        ranked: Vec<Ranked>,
        /// By how much the first is better than the second, where the row says so.
        margin: Option<f64>,
    },
    /// A completion that is good or bad.
    Unpaired {
        /// What it completes.
        prompt: Vec<Turn>,
        /// The completion.
        completion: Vec<Turn>,
        /// Whether it is good.
        label: bool,
    },
    /// A prompt alone.
    Prompt {
        /// Its turns.
        prompt: Vec<Turn>,
        /// Other keys of the row, such as the right answer, for whoever judges completions.
        others: Map<String, Value>,
    },
}

/// A completion with its rank.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranked {
    /// Smaller is better; completions of one rank are not compared.
    pub rank: u64,
    /// Its turns.
    pub completion: Vec<Turn>,
}

/// The kinds of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// [`Row::Dialogue`].
    Dialogue,
    /// [`Row::Preference`].
    Preference,
    /// [`Row::Unpaired`].
    Unpaired,
    /// [`Row::Prompt`].
    Prompt,
}

impl Kind {
    /// Which keys rows of this kind have.
    pub fn keys(self) -> &'static str {
        match self {
            Self::Dialogue => "\"messages\", \"conversations\", \"prompt\" and \"completion\", or \"instruction\" and \"output\"",
            Self::Preference => "\"chosen\" and \"rejected\", or \"prompt\" and \"completions\" (best first)",
            Self::Unpaired => "\"prompt\", \"completion\" and \"label\" (true or false)",
            Self::Prompt => "\"prompt\"",
        }
    }

    /// What a row of this kind is.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dialogue => "a dialogue",
            Self::Preference => "a preference",
            Self::Unpaired => "a judged answer",
            Self::Prompt => "a prompt alone",
        }
    }

    /// The commands that take rows of this kind.
    pub fn commands(self) -> &'static str {
        match self {
            Self::Dialogue => "samara sft",
            Self::Preference => "samara reward, samara dpo",
            Self::Unpaired => "samara kto",
            Self::Prompt => "samara rollout, samara ppo, samara grpo",
        }
    }
}

/// How a row was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Format {
    /// `instruction`, `input`, `output`.
    Alpaca,
    /// `conversations` of `from` and `value`.
    ShareGpt,
    /// `messages` of `role` and `content`.
    Messages,
    /// `prompt` and `completion`.
    PromptCompletion,
    /// `chosen` and `rejected` as whole dialogues in one text each.
    HhRlhf,
    /// `prompt`, `chosen`, `rejected`.
    Preference,
    /// `chosen` and `rejected` that begin alike.
    ImplicitPreference,
    /// `chosen` and `rejected` that answer different prompts.
    OtherPrompts,
    /// `prompt` and `completions`, the best first.
    Ranked,
    /// `prompt`, `completion`, `label`.
    Unpaired,
    /// `prompt`.
    Prompts,
}

impl Format {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Alpaca => "alpaca",
            Self::ShareGpt => "sharegpt",
            Self::Messages => "messages",
            Self::PromptCompletion => "prompt-completion",
            Self::HhRlhf => "hh-rlhf",
            Self::Preference => "preference",
            Self::ImplicitPreference => "preference with implicit prompt",
            Self::OtherPrompts => "pairs of different prompts",
            Self::Ranked => "ranked",
            Self::Unpaired => "unpaired",
            Self::Prompts => "prompts",
        }
    }
}

/// A row and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Placed {
    /// The row.
    pub row: Row,
    /// How it was written.
    pub format: Format,
    /// The line of its file that it begins on, from 1.
    pub line: u64,
}

impl Row {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Dialogue { .. } => Kind::Dialogue,
            Self::Preference { .. } => Kind::Preference,
            Self::Unpaired { .. } => Kind::Unpaired,
            Self::Prompt { .. } => Kind::Prompt,
        }
    }

    /// All comparisons that it makes: places in `ranked`, that of the better one first. Completions of one rank are not compared.
    pub fn pairs(&self) -> Vec<(usize, usize)> {
        let Self::Preference { ranked, .. } = self else { return Vec::new() };
        let worse = |better: usize, rank: u64| (better + 1..ranked.len()).filter(move |&i| ranked[i].rank > rank);
        ranked.iter().enumerate().flat_map(|(i, completion)| worse(i, completion.rank).map(move |j| (i, j))).collect()
    }

    /// What is completed: of a dialogue, all that comes before the last turn of the assistant.
    pub fn prompt(&self) -> &[Turn] {
        match self {
            Self::Dialogue { turns } => {
                let last = turns.iter().rposition(|turn| turn.role == Role::Assistant);
                turns.get(..last.unwrap_or(turns.len())).unwrap_or_default()
            }
            Self::Preference { prompt, .. } | Self::Unpaired { prompt, .. } | Self::Prompt { prompt, .. } => prompt,
        }
    }

    /// Whether one of its answers is white space, or nothing. What only calls a tool is an answer.
    pub fn has_empty_answer(&self) -> bool {
        let is_empty =
            |turns: &&[Turn]| turns.iter().all(|turn| turn.content.trim().is_empty() && !turn.others.contains_key("tool_calls"));
        self.completions().iter().any(is_empty)
    }

    /// The answers in it, in order: of a dialogue, its last turns from that of the assistant on.
    pub fn completions(&self) -> Vec<&[Turn]> {
        match self {
            Self::Dialogue { turns } => vec![turns.get(self.prompt().len()..).unwrap_or_default()],
            Self::Preference { ranked, .. } => ranked.iter().map(|ranked| ranked.completion.as_slice()).collect(),
            Self::Unpaired { completion, .. } => vec![completion],
            Self::Prompt { .. } => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_are_not_compared() {
        let ranked = [0, 1, 1, 5].map(|rank| Ranked { rank, completion: vec![Turn::assistant("x")] }).to_vec();
        let row = Row::Preference { prompt: Vec::new(), ranked, margin: None };
        assert_eq!(row.pairs(), [(0, 1), (0, 2), (0, 3), (1, 3), (2, 3)]);
        let dialogue =
            Row::Dialogue { turns: ["a", "b"].into_iter().flat_map(|t| [Turn::user(t), Turn::assistant(t)]).collect() };
        assert_eq!((dialogue.pairs().len(), dialogue.prompt().len(), dialogue.completions()[0].len()), (0, 3, 1));
    }
}
