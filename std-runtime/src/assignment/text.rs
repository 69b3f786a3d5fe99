//! Cost matrices in text: one line per row; values separated by commas, semicolons, tabs or spaces, as in the first row.

use super::costs::{CostValues, is_exact};

/// Rows of values.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Text {
    /// Row after row.
    pub(super) values: CostValues,
    /// The line of every row, from 1.
    pub(super) lines: Vec<u32>,
    /// Columns.
    pub(super) columns: usize,
}

/// Reads rows of values. `#` begins a comment. The first `skip` lines, blank lines, quotes around values and a separator at the end of a line are
/// ignored.
///
/// # Errors
/// What is wrong, with line and column, from 1.
pub(super) fn parse(text: &str, skip: usize) -> Result<Text, String> {
    let (mut numbers, mut separator, mut columns) = (Numbers::with_room(most(text, skip)), None, 0);
    let mut lines = Vec::new();
    for (line, row) in rows_of(text, skip) {
        let between = *separator.get_or_insert_with(|| Separator::of(row));
        let mut cells = between.cells(row);
        // Some tools end every line with a separator.
        let ends_empty = cells.len() > 1 && cells.last().is_some_and(|(_, word)| word.is_empty());
        if ends_empty && (lines.is_empty() || cells.len() == columns + 1) {
            cells.pop();
        }
        if lines.is_empty() {
            refuse_headings(line, &cells)?;
            columns = cells.len();
        }
        for &(at, word) in &cells {
            let place = (line, at);
            numbers.push(word, place).ok_or_else(|| format!("{line}:{at}: {}", not_a_number(word, between)))?;
        }
        if cells.len() != columns {
            let found = cells.len();
            return Err(format!(
                "{line}:1: expected {columns} numbers as in the first row, found {found}; write inf where a pair is forbidden"
            ));
        }
        lines.push(line);
    }
    if lines.is_empty() {
        return Err(" expected rows of numbers, found none; write one line per row".to_owned());
    }
    Ok(Text { values: numbers.finish()?, lines, columns })
}

/// Rows with their lines, from 1, without comments.
fn rows_of(text: &str, skip: usize) -> impl Iterator<Item = (u32, &str)> {
    // Old spreadsheets end lines with a carriage return alone.
    let lone = text.contains('\r') && !text.contains('\n');
    let lines = text.trim_start_matches('\u{feff}').split(if lone { '\r' } else { '\n' });
    let rows = (1..).zip(lines).skip(skip).map(|(line, row)| (line, row.split('#').next().unwrap_or_default()));
    rows.filter(|(_, row)| !row.trim().is_empty())
}

/// An upper bound on the number of values: as many in every line as in the first row, each with a separator after it.
fn most(text: &str, skip: usize) -> usize {
    let lines = 1 + text.bytes().filter(|byte| matches!(byte, b'\n' | b'\r')).count();
    let columns = rows_of(text, skip).next().map_or(0, |(_, row)| Separator::of(row).cells(row).len());
    lines.saturating_mul(columns).min(text.len() / 2 + 1)
}

/// The most bytes that the values of a text take while they are read.
pub(super) fn bytes(text: &str, skip: usize) -> u64 {
    most(text, skip) as u64 * (size_of::<f64>() + size_of::<i64>()) as u64
}

/// The separator between values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Separator {
    Commas,
    Semicolons,
    Tabs,
    Spaces,
}

impl Separator {
    /// The separator of a row. With semicolons or tabs a comma is a decimal comma, unless blanks follow every comma.
    fn of(row: &str) -> Self {
        let bare: String = row.split('"').step_by(2).collect();
        let spaced =
            |(i, _): (usize, &str)| bare.get(i + 1..).is_none_or(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace));
        match () {
            () if bare.contains(';') => Self::Semicolons,
            () if bare.contains('\t') && !(bare.contains(',') && bare.match_indices(',').all(spaced)) => Self::Tabs,
            () if bare.contains(',') => Self::Commas,
            () => Self::Spaces,
        }
    }

    fn separates(self, c: char) -> bool {
        match self {
            Self::Commas => c == ',',
            Self::Semicolons => c == ';',
            Self::Tabs => c == '\t',
            Self::Spaces => c.is_whitespace(),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Commas => "commas",
            Self::Semicolons => "semicolons",
            Self::Tabs => "tabs",
            Self::Spaces => "spaces",
        }
    }

    /// The cells of a row without blanks and quotes, each with its column in the line.
    fn cells(self, row: &str) -> Vec<(usize, &str)> {
        let (mut quoted, mut at, mut cells) = (false, 1, Vec::new());
        let ends = |c: char| {
            quoted ^= c == '"';
            !quoted && self.separates(c)
        };
        for cell in row.split(ends) {
            let word = cell.trim();
            if self != Self::Spaces || !word.is_empty() {
                let bare = word.strip_prefix('"').and_then(|word| word.strip_suffix('"'));
                cells.push((at, bare.map_or(word, str::trim)));
            }
            at += cell.chars().count() + 1;
        }
        cells
    }
}

/// Refuses a first row without any value, and one of column indices, as data frames write.
fn refuse_headings(line: u32, cells: &[(usize, &str)]) -> Result<(), String> {
    let is_number = |word: &str| word.parse::<f64>().is_ok();
    let Some(&(at, first)) = cells.first() else { return Ok(()) };
    if cells.len() > 1 && first.is_empty() {
        return Err(format!(
            "{line}:{at}: expected a number, found an empty cell; costs have neither headings nor a column of row names: \
             write the table without them (pandas: header=False, index=False)"
        ));
    }
    // A comma within a value, and brackets, are reported as such.
    let is_name = |word: &str| word.starts_with(|c: char| c.is_alphabetic() || c == '_') && !is_number(word);
    if cells.iter().all(|(_, word)| is_name(word)) {
        let found: String = first.chars().take(40).collect();
        return Err(format!("{line}:{at}: expected a number, found {found:?}; skip a header line with --skip-rows {line}"));
    }
    Ok(())
}

/// Values during reading: integers stay exact.
#[derive(Default)]
struct Numbers {
    floats: Vec<f64>,
    /// As many as `floats` as long as all values are integers, or infinite.
    integers: Vec<i64>,
    /// Line and column of the first integer beyond 64 bits, and whether f64 represents all of them exactly.
    wide: Option<((u32, usize), bool)>,
}

impl Numbers {
    /// Empty, with reserved capacity: a growing vector takes up to three times its length.
    fn with_room(cells: usize) -> Self {
        let mut numbers = Self::default();
        // Callers have checked that this fits.
        let _ = numbers.floats.try_reserve_exact(cells);
        let _ = numbers.integers.try_reserve_exact(cells);
        numbers
    }

    fn push(&mut self, word: &str, place: (u32, usize)) -> Option<()> {
        let float: f64 = word.parse().ok()?;
        let all = self.integers.len() == self.floats.len();
        self.floats.push(float);
        let digits = word.strip_prefix(['-', '+']).unwrap_or(word);
        if !all {
            return Some(());
        }
        if let Ok(integer) = word.parse() {
            self.integers.push(integer);
        } else if float.is_infinite() && digits.starts_with(['i', 'I']) {
            self.integers.push(if float > 0.0 { i64::MAX } else { i64::MIN });
        } else if digits.bytes().all(|c| c.is_ascii_digit()) {
            let exact = word.parse::<i128>().is_ok_and(|integer| float as i128 == integer);
            let before = self.wide.map_or((place, true), |before| before);
            self.wide = Some((before.0, before.1 && exact));
            self.integers.push(0);
        }
        Some(())
    }

    /// Integers if floats would round one.
    fn finish(self) -> Result<CostValues, String> {
        let Self { floats, integers, wide } = self;
        let whole = integers.len() == floats.len();
        let fits = integers.iter().zip(&floats).all(|(&integer, float)| float.is_infinite() || is_exact(integer));
        match wide {
            Some((_, true)) if whole && fits => Ok(CostValues::Floats(floats)),
            Some(((line, at), _)) if whole => Err(format!(
                "{line}:{at}: expected integers of 64 bits (-2^63 to 2^63 - 1), found a larger one; divide all costs by a common factor, \
                 or let costs be rounded: write one with a decimal point"
            )),
            _ if whole && !fits => Ok(CostValues::Integers(integers)),
            _ => Ok(CostValues::Floats(floats)),
        }
    }
}

/// The error for an invalid cell.
fn not_a_number(word: &str, between: Separator) -> String {
    let found: String = word.chars().take(40).collect();
    if found.is_empty() {
        return "expected a number, found an empty cell; write inf where a pair is forbidden".to_owned();
    }
    let parts: Vec<&str> = word.split(char::is_whitespace).filter(|part| !part.is_empty()).collect();
    let are_numbers = |parts: &[&str]| parts.iter().all(|part| part.parse::<f64>().is_ok());
    if word.contains(',') && are_numbers(&word.split(',').collect::<Vec<_>>()) {
        return format!(
            "expected a number with a decimal point, found a decimal comma in {found:?}; replace decimal commas by points"
        );
    }
    if parts.len() > 1 && are_numbers(&parts) {
        let found = if word.contains('\t') { "tabs" } else { "spaces" };
        return format!(
            "expected numbers between {} as in the first row, found {found} in {word:?}; write one separator everywhere, and points in \
             place of decimal commas",
            between.name()
        );
    }
    for other in [Separator::Semicolons, Separator::Tabs] {
        if other != between && word.contains(|c| other.separates(c)) {
            return format!(
                "expected numbers between {} as in the first row, found {} in {found:?}; use one separator everywhere",
                between.name(),
                other.name()
            );
        }
    }
    let lower = word.to_ascii_lowercase();
    if lower.trim_start_matches(['-', '+']).starts_with("0x") {
        return format!("expected a number, found {found:?}; write it in decimal");
    }
    if ["na", "n/a", "null", "none", "-", "?"].contains(&lower.as_str()) {
        return format!("expected a number, found {found:?}; write inf where a pair is forbidden, or nan with --dirty forbid");
    }
    format!("expected a number, found {found:?}; costs are numbers, inf, -inf or nan; remove row names")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(text: &str) -> (Vec<f64>, usize) {
        match parse(text, 0) {
            Ok(Text { values: CostValues::Floats(floats), columns, .. }) => (floats, columns),
            other => panic!("{text:?}: {other:?}"),
        }
    }

    #[test]
    fn separators_are_found_in_the_first_row() {
        let expected = (vec![4.5, 1.0, 2.0, 0.0], 2);
        for text in [
            "4.5,1\n2,0\n",
            "4.5 , 1\r\n\r\n2,0",
            "4.5;1;\n2;0;\n",
            "4.5\t1\n2\t0\n",
            "4.500e+00 1.000e+00\n  2.000e+00   0.000e+00\n",
            "4.5,\t1\n2,\t0\n",
            "\u{feff}# costs of a day; in hours\n4.5,1 # the first\n2,0,\n",
            "\"4.5\",\"1\"\n\"2\", \"0\"\n",
            "4.5,1\r2,0\r",
        ] {
            assert_eq!(floats(text), expected, "{text:?}");
        }
        let text = parse("1, 2.5,inf\n\n# no row\n-3,4e2,-Infinity\n", 0).expect("a matrix");
        assert_eq!(text.lines, [1, 4]);
        assert_eq!(text.values, CostValues::Floats(vec![1.0, 2.5, f64::INFINITY, -3.0, 400.0, f64::NEG_INFINITY]));
        assert_eq!(parse("a;b\n1;2\n", 1).map(|text| (text.lines, text.columns)), Ok((vec![2], 2)));
        assert_eq!(floats("7\n8\n"), (vec![7.0, 8.0], 1));
    }

    #[test]
    fn what_is_no_matrix_is_named_with_its_place() {
        for (text, begin) in [
            ("", " expected rows of numbers, found none"),
            ("# nothing\n\n", " expected rows of numbers, found none"),
            ("1,2\n3,x4\n", "2:3: expected a number, found \"x4\"; "),
            ("1,2\n3\n", "2:1: expected 2 numbers as in the first row, found 1; "),
            ("1;2\n3\n", "2:1: expected 2 numbers as in the first row, found 1; "),
            ("1,2\n1\t2\n", "2:1: expected numbers between commas as in the first row, found tabs in "),
            ("1,2\n1;2\n", "2:1: expected numbers between commas as in the first row, found semicolons in "),
            ("1 2\n1;2\n", "2:1: expected numbers between spaces as in the first row, found semicolons in "),
            ("1,,3\n", "1:3: expected a number, found an empty cell; write inf"),
            ("1,2,3\n4,5,\n", "2:5: expected a number, found an empty cell; write inf"),
            ("1,2,3,\n4,5,6\n7,8,,\n", "3:5: expected a number, found an empty cell; write inf"),
            ("1,2\n0x10,3\n", "2:1: expected a number, found \"0x10\"; write it in decimal"),
            ("1,NA\n2,3\n", "1:3: expected a number, found \"NA\"; write inf where a pair is forbidden"),
            ("4,5;1,2\n2,0;0,1\n", "1:1: expected a number with a decimal point, found a decimal comma in \"4,5\"; "),
            ("\"4,5\",\"1,0\"\n", "1:1: expected a number with a decimal point, found a decimal comma in \"4,5\"; "),
            ("4,5\t1,2\n", "1:1: expected a number with a decimal point, found a decimal comma in \"4,5\"; "),
            ("4,5 1,2\n", "1:3: expected numbers between commas as in the first row, found spaces in \"5 1\"; "),
            ("# a\nann,bob\n1,2\n", "2:1: expected a number, found \"ann\"; skip a header line with --skip-rows 2"),
            (",ann,bob\nx,1,2\n", "1:1: expected a number, found an empty cell; costs have neither headings nor"),
            ("ann,1,2\n", "1:1: expected a number, found \"ann\"; costs are numbers, inf, -inf or nan; remove row names"),
            ("[[1, 2],\n", "1:1: expected a number, found \"[[1\"; "),
        ] {
            let error = parse(text, 0).expect_err(text);
            assert!(error.starts_with(begin), "{text:?}: {error}");
        }
    }

    #[test]
    fn integers_that_floats_would_round_stay_integers() {
        let values = |text: &str| parse(text, 0).map(|text| text.values);
        assert_eq!(values("9007199254740993,-1\n"), Ok(CostValues::Integers(vec![9_007_199_254_740_993, -1])));
        assert_eq!(values("9007199254740993,inf\n"), Ok(CostValues::Integers(vec![9_007_199_254_740_993, i64::MAX])));
        assert_eq!(values("9007199254740992,-1\n"), Ok(CostValues::Floats(vec![9_007_199_254_740_992.0, -1.0])));
        assert_eq!(values("9007199254740993,0.5\n"), Ok(CostValues::Floats(vec![9_007_199_254_740_992.0, 0.5])));
        assert_eq!(values("18446744073709551616,7\n"), Ok(CostValues::Floats(vec![18_446_744_073_709_551_616.0, 7.0])));
        for text in ["7,18446744073709551615\n", "9007199254740993,18446744073709551616\n"] {
            let error = values(text).expect_err("beyond 64 bits");
            assert!(error.contains("expected integers of 64 bits"), "{error}");
        }
    }
}
