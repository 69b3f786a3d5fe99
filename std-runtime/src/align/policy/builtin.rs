//! Scorers that read text: functions of it, and other programs.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;

use fancy_regex::Regex;
use serde_json::{Map, Value, json};

use super::episodes::Episode;
use super::scorer::Scorer;
use crate::lm::RunError;
use crate::tokenizer::Tokenizer;

/// What text scorers read beside completions.
pub struct Texts {
    /// The tokenizer, whose special tokens are no part of a completion's text.
    pub tokenizer: Arc<Tokenizer>,
    /// The keys of every prompt's row, such as its answer.
    pub rows: Vec<Map<String, Value>>,
    /// Tokens that end a completion.
    pub stops: Vec<i32>,
}

impl Texts {
    /// The text of some tokens without a stop token.
    pub fn text(&self, tokens: &[i32]) -> String {
        let mut bytes = Vec::new();
        for &token in tokens.iter().filter(|token| !self.stops.contains(token)) {
            self.tokenizer.push_token(token as u32, &mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// A function of text.
#[derive(Clone, Debug)]
pub enum TextScore {
    /// 1 where the completion is the row's answer, white space at both ends left out; unscorable without an answer.
    ExactMatch,
    /// Pleasant less unpleasant words of a small list, at most 1 in size, as a share of the words that are in it.
    Sentiment,
    /// Tokens.
    Length,
    /// 1 where an expression matches.
    Matches(Regex),
}

/// A function of text as a scorer.
pub struct TextScorer {
    texts: Arc<Texts>,
    score: TextScore,
}

impl TextScorer {
    /// A scorer.
    pub fn new(texts: &Arc<Texts>, score: TextScore) -> Self {
        Self { texts: Arc::clone(texts), score }
    }

    fn of(&self, episode: &Episode) -> f32 {
        let text = || self.texts.text(episode.completion());
        match &self.score {
            TextScore::Length => episode.completion().len() as f32,
            TextScore::Sentiment => sentiment(&text()),
            TextScore::Matches(regex) => f32::from(u8::from(regex.is_match(&text()).unwrap_or(false))),
            TextScore::ExactMatch => {
                let answer = self.texts.rows.get(episode.row).and_then(|row| row.get("answer")).and_then(Value::as_str);
                answer.map_or(f32::NAN, |answer| f32::from(u8::from(text().trim() == answer.trim())))
            }
        }
    }
}

impl Scorer for TextScorer {
    fn name(&self) -> String {
        match &self.score {
            TextScore::ExactMatch => "exact match".to_owned(),
            TextScore::Sentiment => "sentiment".to_owned(),
            TextScore::Length => "length".to_owned(),
            TextScore::Matches(regex) => format!("matches of {}", regex.as_str()),
        }
    }

    fn score(&mut self, episodes: &[Episode]) -> Result<Vec<f32>, RunError> {
        Ok(episodes.iter().map(|episode| self.of(episode)).collect())
    }
}

const PLEASANT: [&str; 24] = [
    "good",
    "great",
    "happy",
    "kind",
    "love",
    "loved",
    "nice",
    "smile",
    "smiled",
    "laugh",
    "laughed",
    "friend",
    "friends",
    "fun",
    "glad",
    "joy",
    "warm",
    "gentle",
    "brave",
    "bright",
    "beautiful",
    "wonderful",
    "best",
    "thank",
];
const UNPLEASANT: [&str; 24] = [
    "bad", "sad", "angry", "hate", "hated", "cry", "cried", "afraid", "fear", "hurt", "pain", "cold", "dark", "ugly", "mean",
    "lost", "alone", "sick", "wrong", "worst", "terrible", "scared", "broken", "tired",
];

/// Pleasant less unpleasant words, as a share of both; 0 without any.
fn sentiment(text: &str) -> f32 {
    let words = text.split(|c: char| !c.is_alphanumeric()).map(str::to_lowercase);
    let (mut sum, mut count) = (0.0, 0.0);
    for word in words {
        let value = f32::from(i8::from(PLEASANT.contains(&word.as_str())) - i8::from(UNPLEASANT.contains(&word.as_str())));
        (sum, count) = (sum + value, count + value.abs());
    }
    if count == 0.0 { 0.0 } else { sum / count }
}

/// Another program that scores: a line of JSON in (`prompt`, `completion`, and the row's keys), a number out, or `null` for what cannot be scored.
pub struct Process {
    texts: Arc<Texts>,
    command: String,
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Process {
    /// Starts a command of the shell.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(texts: &Arc<Texts>, command: &str) -> Result<Self, RunError> {
        let failed = |error: &dyn std::fmt::Display| RunError::Guard(format!("rewards.command {command:?}: {error}"));
        let mut child = Command::new("sh")
            .args(["-c", command])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| failed(&error))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(failed(&"it has no standard input or output"));
        };
        Ok(Self { texts: Arc::clone(texts), command: command.to_owned(), child, input, output: BufReader::new(output) })
    }

    fn ask(&mut self, episode: &Episode) -> Result<f32, String> {
        let mut row = self.texts.rows.get(episode.row).cloned().unwrap_or_default();
        row.insert("prompt".to_owned(), json!(self.texts.text(&episode.tokens[..episode.prompt])));
        row.insert("completion".to_owned(), json!(self.texts.text(episode.completion())));
        let line = format!("{}\n", Value::Object(row));
        self.input
            .write_all(line.as_bytes())
            .and_then(|()| self.input.flush())
            .map_err(|error| format!("it does not read: {error}"))?;
        let mut answer = String::new();
        let read = self.output.read_line(&mut answer).map_err(|error| format!("its answer cannot be read: {error}"))?;
        if read == 0 {
            return Err("it ended without an answer; expected a line with a number or null for every line".to_owned());
        }
        match answer.trim() {
            "null" => Ok(f32::NAN),
            text => match text.parse::<f32>() {
                Ok(score) if score.is_finite() => Ok(score),
                _ => Err(format!("expected a number or null, found {text:?}")),
            },
        }
    }
}

impl Scorer for Process {
    fn name(&self) -> String {
        self.command.clone()
    }

    fn score(&mut self, episodes: &[Episode]) -> Result<Vec<f32>, RunError> {
        let all: Result<Vec<f32>, String> = episodes.iter().map(|episode| self.ask(episode)).collect();
        all.map_err(|error| RunError::Guard(format!("rewards.command {:?}: {error}", self.command)))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may wait for another line.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentiment_counts_words_of_the_list() {
        assert_eq!(sentiment("A good, kind dog was SAD."), 1.0 / 3.0);
        assert_eq!((sentiment("nothing here"), sentiment("bad bad")), (0.0, -1.0));
    }
}
