//! Scorers that read text: functions of it, and other programs.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use fancy_regex::Regex;
use serde_json::{Map, Value, json};

use super::episodes::Episode;
use super::scorer::Scorer;
use crate::lm::RunError;
use crate::say;
use crate::stop::Stop;
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

/// The answer of a row: a text, or a number as it is written.
pub fn answer_of(row: &Map<String, Value>) -> Option<String> {
    match row.get("answer")? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
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
                let answer = self.texts.rows.get(episode.row).and_then(answer_of);
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
    /// The lines that it writes, read by a thread of its own.
    answers: Receiver<io::Result<String>>,
    stop: Stop,
}

/// Between two looks for a signal while an answer is awaited.
const PATIENCE: Duration = Duration::from_millis(200);
/// Looks after which a person is told what is awaited.
const LOOKS: u32 = 50;

impl Process {
    /// Starts a command of the shell.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(texts: &Arc<Texts>, command: &str, stop: &Stop) -> Result<Self, RunError> {
        let failed = |error: &dyn std::fmt::Display| RunError::Guard(format!("rewards.command {command:?}: {error}"));
        let mut child = Command::new("sh")
            .args(["-c", command])
            // A program in Python would else keep its answers back until its input ends.
            .env("PYTHONUNBUFFERED", "1")
            // A signal for the training is none for the program: the last scores are still needed.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| failed(&error))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(failed(&"it has no standard input or output"));
        };
        let (sender, answers) = channel();
        thread::spawn(move || BufReader::new(output).lines().try_for_each(|line| sender.send(line)));
        Ok(Self { texts: Arc::clone(texts), command: command.to_owned(), child, input, answers, stop: stop.clone() })
    }

    fn failed(&self, what: impl std::fmt::Display) -> RunError {
        RunError::Guard(format!("rewards.command {:?}: {what}", self.command))
    }

    /// Why it answers no more.
    fn ended(&mut self) -> RunError {
        for _ in 0..10 {
            if let Ok(Some(status)) = self.child.try_wait() {
                let hint = if status.code() == Some(127) { " (no such command)" } else { "" };
                return self.failed(format!(
                    "it ended ({status}{hint}) before every line had an answer; expected a line with a number or null for every line"
                ));
            }
            thread::sleep(PATIENCE / 2);
        }
        self.failed("it closed its output; expected a line with a number or null for every line")
    }

    /// The next line of the program, unless a signal comes before.
    fn answer(&mut self) -> Result<String, RunError> {
        for look in 1.. {
            match self.answers.recv_timeout(PATIENCE) {
                Ok(Ok(line)) => return Ok(line),
                Ok(Err(error)) => return Err(self.failed(format!("its answer cannot be read: {error}"))),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => self.stop.check()?,
            }
            if look == LOOKS {
                say::line(&format!(
                    "note: waiting for an answer of rewards.command {:?}: it must flush its output after every line",
                    self.command
                ));
            }
        }
        Err(self.ended())
    }

    fn ask(&mut self, episode: &Episode) -> Result<f32, RunError> {
        let mut row = self.texts.rows.get(episode.row).cloned().unwrap_or_default();
        row.insert("prompt".to_owned(), json!(self.texts.text(&episode.tokens[..episode.prompt])));
        row.insert("completion".to_owned(), json!(self.texts.text(episode.completion())));
        let line = format!("{}\n", Value::Object(row));
        if self.input.write_all(line.as_bytes()).and_then(|()| self.input.flush()).is_err() {
            return Err(self.ended());
        }
        let answer = self.answer()?;
        match answer.trim() {
            "null" => Ok(f32::NAN),
            text => match text.parse::<f32>() {
                Ok(score) if score.is_finite() => Ok(score),
                _ => Err(self.failed(format!("expected a number or null, found {text:?}"))),
            },
        }
    }
}

impl Scorer for Process {
    fn name(&self) -> String {
        self.command.clone()
    }

    fn score(&mut self, episodes: &[Episode]) -> Result<Vec<f32>, RunError> {
        episodes.iter().map(|episode| self.ask(episode)).collect()
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
