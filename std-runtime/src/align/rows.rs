//! Rows of dialogues as the completions that objectives keep.

use std::path::Path;

use super::completion::Completion;
use super::pairs::Pair;
use super::reward::Ranking;
use super::unpaired::Labelled;
use crate::data::options::BadRow;
use crate::dialogue::encode::{Encoded, Encoder};
use crate::dialogue::examples::ExampleError;
use crate::dialogue::read::Rows;
use crate::dialogue::row::Row;
use crate::dialogue::turn::Turn;
use crate::say;

/// Rows with what became of them.
pub struct Kept<T> {
    /// The rows that are used.
    pub rows: Vec<T>,
    /// The number in the file's rows of each: those that are left out count.
    pub numbers: Vec<usize>,
    /// Rows of which something was cut.
    pub truncated: usize,
    /// Rows with an answer of white space, or of nothing.
    pub empty: usize,
    /// Rows that are left out, and what is wrong with the first.
    pub skipped: Option<(u64, String)>,
}

impl<T> Kept<T> {
    /// What a person should know of them.
    pub fn lines(&self, name: &str, max_length: usize) -> Vec<String> {
        let mut lines = vec![format!("{name}: {} rows, {} cut to {max_length} tokens", self.rows.len(), self.truncated)];
        if let Some((skipped, first)) = &self.skipped {
            lines.push(format!("{name}: {skipped} rows left out, the first: {first}"));
        }
        if self.empty > 0 {
            let (empty, count) = (self.empty, self.rows.len());
            lines.push(format!(
                "warning: {name}: {empty} of {count} rows have an empty answer: nothing is learnt of it but to stop"
            ));
        }
        lines
    }
}

impl Kept<Pair> {
    /// A warning where both completions of some pairs are the same tokens, so that nothing is learnt from them.
    ///
    /// # Errors
    /// All are.
    pub fn differing(&self, path: &Path) -> Result<Option<String>, ExampleError> {
        let equal = self.rows.iter().filter(|[better, worse]| better == worse).count();
        equal_of(equal, self.rows.len(), path)
    }
}

impl Kept<Ranking> {
    /// The same of rankings whose completions are all the same tokens.
    ///
    /// # Errors
    /// All are.
    pub fn differing(&self, path: &Path) -> Result<Option<String>, ExampleError> {
        let is_one = |ranking: &&Ranking| ranking.completions.windows(2).all(|two| two[0] == two[1]);
        equal_of(self.rows.iter().filter(is_one).count(), self.rows.len(), path)
    }
}

impl Kept<Labelled> {
    /// What a person should know of the labels: how many are good, and a warning where all are alike.
    pub fn labels(&self) -> String {
        let (good, count) = (self.rows.iter().filter(|row| row.desirable).count(), self.rows.len());
        let counts = format!("{good} of {count} completions are desirable");
        if good > 0 && good < count {
            return counts;
        }
        let all = if good == 0 { "undesirable" } else { "desirable" };
        format!(
            "warning: {counts}: all are {all}, so that no answer is learnt to be better than another; give rows with both labels"
        )
    }
}

/// A warning where so many of the comparisons are of equal completions.
fn equal_of(equal: usize, count: usize, path: &Path) -> Result<Option<String>, ExampleError> {
    match equal {
        0 => Ok(None),
        _ if equal == count => Err(ExampleError::AllEqual { path: path.display().to_string(), rows: count }),
        _ => Ok(Some(format!(
            "warning: in {equal} of {count} comparisons the answers are the same tokens (as they are, or cut to dialogue.max_length): nothing is learnt \
             from them"
        ))),
    }
}

/// How rows become completions.
pub struct RowEncoder<'e> {
    /// From turns to tokens.
    pub encoder: &'e Encoder,
    /// Tokens that are kept of a row.
    pub max_length: usize,
    /// Rows that cannot be used.
    pub bad_row: BadRow,
}

impl RowEncoder<'_> {
    /// Every pair of completions of which one is preferred: (the better, the worse).
    ///
    /// # Errors
    /// A row that cannot be used, unless such rows are left out; no row that can.
    pub fn pairs(&self, rows: &Rows) -> Result<Kept<Pair>, ExampleError> {
        self.each(rows, |at, row| {
            let (all, is_cut) = self.completions_of(at, row)?;
            let pairs = row.pairs().into_iter().map(|(better, worse)| [all[better].clone(), all[worse].clone()]).collect();
            Ok((pairs, is_cut))
        })
    }

    /// Completions of every prompt in the order of preference.
    ///
    /// # Errors
    /// As [`Self::pairs`].
    pub fn rankings(&self, rows: &Rows) -> Result<Kept<Ranking>, ExampleError> {
        self.each(rows, |at, row| {
            let Row::Preference { ranked, margin, .. } = row else { return Ok((Vec::new(), false)) };
            let (completions, is_cut) = self.completions_of(at, row)?;
            let ranks = ranked.iter().map(|ranked| ranked.rank as u32).collect();
            Ok((vec![Ranking { completions, ranks, margin: margin.unwrap_or(0.0) as f32 }], is_cut))
        })
    }

    /// Every row with all its completions.
    ///
    /// # Errors
    /// As [`Self::pairs`].
    pub fn completions<'r>(&self, rows: &'r Rows) -> Result<Kept<(&'r Row, Vec<Completion>)>, ExampleError> {
        self.each(rows, |at, row| {
            let (completions, is_cut) = self.completions_of(at, row)?;
            Ok((vec![(row, completions)], is_cut))
        })
    }

    /// Completions with their labels.
    ///
    /// # Errors
    /// As [`Self::pairs`].
    pub fn labelled(&self, rows: &Rows) -> Result<Kept<Labelled>, ExampleError> {
        self.each(rows, |at, row| {
            let Row::Unpaired { label, .. } = row else { return Ok((Vec::new(), false)) };
            let (completions, is_cut) = self.completions_of(at, row)?;
            Ok((completions.into_iter().map(|completion| Labelled { completion, desirable: *label }).collect(), is_cut))
        })
    }

    /// Prompts, of which the last tokens are kept.
    ///
    /// # Errors
    /// As [`Self::pairs`].
    pub fn prompts(&self, rows: &Rows) -> Result<Kept<Vec<i32>>, ExampleError> {
        self.each(rows, |at, row| {
            let mut ids = self.encoder.encode_prompt(row.prompt()).map_err(|source| ExampleError::Encode { at: at(), source })?;
            let cut = ids.len().saturating_sub(self.max_length);
            ids.drain(..cut);
            Ok((vec![ids.into_iter().map(|id| id as i32).collect()], cut > 0))
        })
    }

    /// The completions of a row, and whether one was cut.
    fn completions_of(&self, at: &dyn Fn() -> String, row: &Row) -> Result<(Vec<Completion>, bool), ExampleError> {
        let mut is_cut = false;
        let all = row.completions().into_iter().map(|turns| self.completion(at, row.prompt(), turns, &mut is_cut));
        Ok((all.collect::<Result<_, _>>()?, is_cut))
    }

    /// A completion with its prompt as the model reads it, what is learnt of it between ‹ and ›. `name` is what the example is called.
    pub fn show(&self, name: &str, completion: &Completion) -> Vec<String> {
        let learnt = completion.picks.len();
        let marked = completion.picks.iter().map(|&pick| pick + 1);
        self.example(name, &completion.tokens, marked, &format!("{learnt} to learn between ‹ and ›"))
    }

    /// A completion with its prompt as a reward model reads it, the token whose score counts between ‹ and ›.
    pub fn show_scored(&self, name: &str, completion: &Completion) -> Vec<String> {
        let last = completion.tokens.len().checked_sub(1);
        self.example(name, &completion.tokens, last.into_iter(), "the score is that of the token between ‹ and ›")
    }

    /// A prompt as the policy reads it: none of it is learnt.
    pub fn show_prompt(&self, prompt: &[i32]) -> Vec<String> {
        self.example("first prompt", prompt, std::iter::empty(), "the completion, which is learnt, comes behind it")
    }

    fn example(&self, name: &str, tokens: &[i32], marked: impl Iterator<Item = usize>, what: &str) -> Vec<String> {
        let mut encoded = Encoded { ids: tokens.iter().map(|&id| id as u32).collect(), mask: vec![false; tokens.len()] };
        for i in marked.filter(|&i| i < tokens.len()) {
            encoded.mask[i] = true;
        }
        let title = format!("--- {name}: {} tokens, {what} ---", tokens.len());
        vec![title, say::printable(&self.encoder.show(&encoded)).into_owned(), "---".to_owned()]
    }

    fn completion(
        &self,
        at: &dyn Fn() -> String,
        prompt: &[Turn],
        completion: &[Turn],
        is_cut: &mut bool,
    ) -> Result<Completion, ExampleError> {
        let encoded = self.encoder.encode_completion(prompt, completion);
        let mut encoded: Encoded = encoded.map_err(|source| ExampleError::Encode { at: at(), source })?;
        let (tokens, first) = (encoded.ids.len(), encoded.completion_start() + 1);
        if first > tokens {
            return Err(ExampleError::LeftOut { at: at() });
        }
        *is_cut |= encoded.truncate(self.max_length);
        if encoded.loss_tokens() == 0 {
            return Err(ExampleError::NothingToLearn { at: at(), first, tokens, max_length: self.max_length });
        }
        Ok(Completion::new(&encoded.ids, &encoded.mask))
    }

    fn each<'r, T>(
        &self,
        rows: &'r Rows,
        of: impl Fn(&dyn Fn() -> String, &'r Row) -> Result<(Vec<T>, bool), ExampleError>,
    ) -> Result<Kept<T>, ExampleError> {
        let mut kept = Kept { rows: Vec::new(), numbers: Vec::new(), truncated: 0, empty: 0, skipped: None };
        for (i, placed) in rows.rows.iter().enumerate() {
            match of(&|| rows.at(i), &placed.row) {
                Ok((found, is_cut)) => {
                    kept.numbers.extend(found.iter().map(|_| i));
                    kept.rows.extend(found);
                    kept.truncated += usize::from(is_cut);
                    kept.empty += usize::from(placed.row.has_empty_answer());
                }
                Err(error) if self.bad_row == BadRow::Skip => {
                    kept.skipped.get_or_insert_with(|| (0, error.to_string())).0 += 1;
                }
                Err(error) => return Err(error),
            }
        }
        if kept.rows.is_empty() && !rows.rows.is_empty() {
            let (skipped, first) = kept.skipped.unwrap_or_default();
            return Err(ExampleError::None { path: rows.path.display().to_string(), skipped, first });
        }
        Ok(kept)
    }
}
