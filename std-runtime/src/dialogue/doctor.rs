//! What is wrong with a data set of dialogues, judgements or prompts, in numbers.

use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use serde::Serialize;

use super::encode::{EncodeError, Encoder};
use super::read::Rows;
use super::row::{Format, Row};
use super::turn::Turn;
use crate::data::check::Lengths;

/// How often the longer of two compared answers is the better one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct LengthBias {
    /// Comparisons.
    pub pairs: u64,
    /// Those in which the better answer is the longer one.
    pub longer_chosen: u64,
    /// Those in which it is the shorter one.
    pub shorter_chosen: u64,
    /// Those in which both have the same length.
    pub equal: u64,
}

impl LengthBias {
    fn add(&mut self, better: usize, worse: usize) {
        self.pairs += 1;
        match better.cmp(&worse) {
            std::cmp::Ordering::Greater => self.longer_chosen += 1,
            std::cmp::Ordering::Less => self.shorter_chosen += 1,
            std::cmp::Ordering::Equal => self.equal += 1,
        }
    }

    /// The accuracy of the rule "the longer one wins"; equal lengths are wrong, as equal rewards are.
    pub fn accuracy(&self) -> f64 {
        self.longer_chosen as f64 / self.pairs.max(1) as f64
    }
}

/// What the tokens of a model say of rows.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TokenCheck {
    /// Tokens that would be kept of a row.
    pub max_length: usize,
    /// Examples, each a prompt with one answer, or a prompt alone.
    pub examples: u64,
    /// Those that would be cut.
    pub truncated: u64,
    /// Their share.
    pub truncated_share: f64,
    /// Tokens of an example.
    pub lengths: Lengths,
    /// The length bias, in tokens of the answers.
    pub length_bias: Option<LengthBias>,
}

/// What another data set shares with this one.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Shared {
    /// The other file.
    pub path: String,
    /// Its rows.
    pub rows: u64,
    /// Rows of this file whose prompt is in the other.
    pub prompts: u64,
    /// Rows of this file that are in the other.
    pub whole: u64,
    /// The lines of the first rows of this file whose prompt is in the other.
    pub first_lines: Vec<u64>,
}

/// What is found in a data set.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// The version of this object.
    pub schema: u32,
    /// The file.
    pub path: String,
    /// Rows.
    pub rows: u64,
    /// Rows by format.
    pub formats: BTreeMap<&'static str, u64>,
    /// Rows that cannot be read.
    pub bad_rows: u64,
    /// What is wrong with the first of them.
    pub first_bad: Option<String>,
    /// Pairs whose two dialogues answer different prompts.
    pub other_prompts: u64,
    /// Rows that are there before.
    pub duplicates: u64,
    /// Rows whose prompt is there before.
    pub repeated_prompts: u64,
    /// Dialogues in which the assistant says nothing: prompts alone.
    pub without_answer: u64,
    /// Rows whose prompt is white space, or nothing.
    pub empty_prompts: u64,
    /// Rows with an answer of white space, or of nothing.
    pub empty_answers: u64,
    /// Comparisons of two equal answers.
    pub identical_answers: u64,
    /// Characters of the answers.
    pub lengths: Lengths,
    /// The length bias, in characters of the answers; none without comparisons.
    pub length_bias: Option<LengthBias>,
    /// The accuracy of the rule "the longer one wins".
    pub longer_wins: Option<f64>,
    /// Good and bad answers among those that are judged one by one.
    pub labels: Option<[u64; 2]>,
    /// What the tokens of a model say.
    pub tokens: Option<TokenCheck>,
    /// What another file shares with it.
    pub against: Option<Shared>,
}

/// Looks at rows.
///
/// # Errors
/// Rows that the encoder's template or tokenizer refuses.
pub fn check(rows: &Rows, encoder: Option<(&Encoder, usize)>, against: Option<&Rows>) -> Result<Report, EncodeError> {
    let mut report = Report {
        schema: 1,
        path: rows.path.display().to_string(),
        rows: rows.rows.len() as u64,
        bad_rows: rows.skipped,
        first_bad: rows.first_skipped.as_ref().map(ToString::to_string),
        other_prompts: rows.other_prompts,
        ..Report::default()
    };
    let (mut seen, mut prompts, mut lengths) = (HashSet::new(), HashSet::new(), Vec::new());
    let (mut bias, mut labels) = (LengthBias::default(), [0; 2]);
    for placed in &rows.rows {
        let row = &placed.row;
        *report.formats.entry(placed.format.name()).or_default() += 1;
        report.duplicates += u64::from(!seen.insert(whole(row)));
        report.repeated_prompts += u64::from(!row.prompt().is_empty() && !prompts.insert(hash(row.prompt())));
        let answers: Vec<String> = row.completions().into_iter().map(said).collect();
        report.without_answer += u64::from(matches!(row, Row::Prompt { .. }) && placed.format != Format::Prompts);
        report.empty_prompts += u64::from(said(row.prompt()).trim().is_empty());
        report.empty_answers += u64::from(row.has_empty_answer());
        lengths.extend(answers.iter().map(|answer| answer.chars().count()));
        for (better, worse) in row.pairs() {
            report.identical_answers += u64::from(answers[better] == answers[worse]);
            bias.add(answers[better].chars().count(), answers[worse].chars().count());
        }
        if let Row::Unpaired { label, .. } = row {
            labels[usize::from(!label)] += 1;
        }
    }
    report.lengths = Lengths::of(lengths);
    report.length_bias = (bias.pairs > 0).then_some(bias);
    report.longer_wins = report.length_bias.map(|bias| bias.accuracy());
    report.labels = (labels != [0; 2]).then_some(labels);
    report.tokens = encoder.map(|(encoder, max_length)| tokens(rows, encoder, max_length)).transpose()?;
    report.against = against.map(|other| shared(rows, other));
    Ok(report)
}

/// What the tokens of a model say of rows, of which at most `max_length` are kept.
fn tokens(rows: &Rows, encoder: &Encoder, max_length: usize) -> Result<TokenCheck, EncodeError> {
    let (mut lengths, mut bias) = (Vec::new(), LengthBias::default());
    for placed in &rows.rows {
        let (row, mut answers) = (&placed.row, Vec::new());
        for completion in row.completions() {
            let encoded = encoder.encode_completion(row.prompt(), completion)?;
            answers.push(encoded.loss_tokens());
            lengths.push(encoded.ids.len());
        }
        if row.completions().is_empty() {
            lengths.push(encoder.encode_prompt(row.prompt())?.len());
        }
        row.pairs().into_iter().for_each(|(better, worse)| bias.add(answers[better], answers[worse]));
    }
    let (examples, truncated) = (lengths.len() as u64, lengths.iter().filter(|&&length| length > max_length).count() as u64);
    Ok(TokenCheck {
        max_length,
        examples,
        truncated,
        truncated_share: truncated as f64 / examples.max(1) as f64,
        lengths: Lengths::of(lengths),
        length_bias: (bias.pairs > 0).then_some(bias),
    })
}

/// Lines that are shown.
const SHOWN_LINES: usize = 5;

fn shared(rows: &Rows, other: &Rows) -> Shared {
    let of = |f: fn(&Row) -> u64| other.rows.iter().map(|placed| f(&placed.row)).collect::<HashSet<u64>>();
    let (others, prompts) = (of(whole), of(|row| hash(row.prompt())));
    let is_in = |row: &Row| !row.prompt().is_empty() && prompts.contains(&hash(row.prompt()));
    let lines: Vec<u64> = rows.rows.iter().filter(|placed| is_in(&placed.row)).map(|placed| placed.line).collect();
    Shared {
        path: other.path.display().to_string(),
        rows: other.rows.len() as u64,
        prompts: lines.len() as u64,
        whole: rows.rows.iter().filter(|placed| others.contains(&whole(&placed.row))).count() as u64,
        first_lines: lines.into_iter().take(SHOWN_LINES).collect(),
    }
}

/// What turns say together.
fn said(turns: &[Turn]) -> String {
    turns.iter().map(|turn| turn.content.as_str()).collect()
}

fn hash(turns: &[Turn]) -> u64 {
    let mut hasher = DefaultHasher::new();
    turns.iter().for_each(|turn| (turn.role, &turn.content).hash(&mut hasher));
    hasher.finish()
}

/// A hash of a whole row.
fn whole(row: &Row) -> u64 {
    let mut hasher = DefaultHasher::new();
    (hash(row.prompt()), row.completions().into_iter().map(hash).collect::<Vec<u64>>()).hash(&mut hasher);
    if let Row::Unpaired { label, .. } = row {
        label.hash(&mut hasher);
    }
    hasher.finish()
}

impl Report {
    /// What a person should know: counts, and a line for everything that is wrong.
    pub fn lines(&self) -> Vec<String> {
        let formats: Vec<String> = self.formats.iter().map(|(name, count)| format!("{count} {name}")).collect();
        let mut lines = vec![format!("{}: {} rows: {}", self.path, self.rows, formats.join(", "))];
        let Lengths { min, median, p90, max } = self.lengths;
        lines.push(format!("answers: {min} to {max} characters, median {median}, nine tenths at most {p90}"));
        lines.extend(self.length_bias.map(|bias| bias_line(&bias, "characters")));
        if let Some([good, bad]) = self.labels {
            lines.push(format!("labels: {good} good, {bad} bad"));
        }
        if let Some(tokens) = &self.tokens {
            let TokenCheck { max_length, truncated, examples, lengths, .. } = tokens;
            let share = 100.0 * tokens.truncated_share;
            lines.push(format!(
                "tokens: {} to {}, median {}; {truncated} of {examples} examples ({share:.1} %) are longer than {max_length}",
                lengths.min, lengths.max, lengths.median
            ));
            lines.extend(tokens.length_bias.map(|bias| bias_line(&bias, "tokens")));
        }
        for (count, what) in [
            (self.bad_rows, "cannot be read"),
            (self.other_prompts, "are pairs whose two dialogues answer different prompts"),
            (self.duplicates, "repeat a row before"),
            (self.repeated_prompts, "have the prompt of a row before"),
            (self.without_answer, "are dialogues without an answer: samara sft refuses them, others take them as prompts"),
            (self.empty_prompts, "have an empty prompt"),
            (self.empty_answers, "have an empty answer"),
        ] {
            if count > 0 {
                lines.push(format!("{count} rows {what}"));
            }
        }
        lines.extend(self.first_bad.iter().map(|first| format!("the first that cannot be read: {first}")));
        if self.identical_answers > 0 {
            lines.push(format!("{} comparisons are of equal answers", self.identical_answers));
        }
        if let Some(shared) = &self.against {
            let Shared { path, prompts, whole, first_lines, .. } = shared;
            let at: Vec<String> = first_lines.iter().map(ToString::to_string).collect();
            let at = if at.is_empty() { String::new() } else { format!(" (lines {})", at.join(", ")) };
            lines.push(format!(
                "against {path}: {prompts} rows have a prompt that is there too{at}, {whole} rows are there whole"
            ));
        }
        lines
    }
}

fn bias_line(bias: &LengthBias, unit: &str) -> String {
    let LengthBias { pairs, longer_chosen, shorter_chosen, equal } = bias;
    let accuracy = 100.0 * bias.accuracy();
    format!(
        "length bias ({unit}): of {pairs} comparisons the longer answer was chosen in {longer_chosen}, the shorter in {shorter_chosen}, equal in \
         {equal}; the rule \"longer wins\" is right in {accuracy:.1} %"
    )
}
