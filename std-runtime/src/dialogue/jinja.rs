//! Jinja as chat templates of Hugging Face use it: Python's methods, `tojson` as `transformers` writes it, `raise_exception`, `strftime_now`, and
//! `{% generation %}` blocks, whose text is marked.

use std::fmt::Write as _;
use std::sync::LazyLock;

use fancy_regex::Regex;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, Value};

/// The variable that holds the two characters around a generated part.
pub(super) const MARKS: &str = "__generation_marks";
/// The name of the template in its environment.
pub(super) const NAME: &str = "chat template";

/// The tags of a block of generated text, with what trims the space around them.
static GENERATION: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\{%([-+]?)\s*(end)?generation\s*([-+]?)%\}").expect("a pattern that is known"));

/// Whether a template says which parts the model generates.
pub(super) fn has_generation(source: &str) -> bool {
    GENERATION.is_match(source).unwrap_or(false)
}

/// An environment with a template in it; `day` is what `strftime_now` takes for now.
///
/// # Errors
/// The source is no template.
pub(super) fn compile(source: &str, day: Day) -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_filter("tojson", to_json);
    environment.add_filter("generation_marks", mark);
    environment.add_function("raise_exception", |text: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, text))
    });
    environment.add_function("strftime_now", move |format: String| day.format(&format));
    let rewritten = GENERATION.replace_all(source, |found: &fancy_regex::Captures<'_>| {
        let part = |i: usize| found.get(i).map_or("", |part| part.as_str());
        let tag = if part(2).is_empty() { "filter generation_marks" } else { "endfilter" };
        format!("{{%{} {tag} {}%}}", part(1), part(3))
    });
    environment.add_template_owned(NAME, rewritten.into_owned())?;
    Ok(environment)
}

/// Text between the marks, if the caller wants them.
fn mark(state: &State, text: String) -> String {
    let marks = state.lookup(MARKS).and_then(|marks| marks.as_str().map(str::to_owned)).unwrap_or_default();
    let mut marks = marks.chars();
    match (marks.next(), marks.next()) {
        (Some(begin), Some(end)) => format!("{begin}{text}{end}"),
        _ => text,
    }
}

/// What a template gets of Python's `json.dumps(value, ensure_ascii=False)`; other separators come by keyword.
fn to_json(value: &Value, options: Kwargs) -> Result<Value, Error> {
    let indent = options.get::<Option<usize>>("indent")?;
    let separators = options.get::<Option<Vec<String>>>("separators")?;
    let ascii = options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false);
    let sorted = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    options.assert_all_used()?;
    let between = if indent.is_some() { "," } else { ", " };
    let [item, key] = match separators.as_deref() {
        Some([item, key]) => [item.clone(), key.clone()],
        _ => [between.to_owned(), ": ".to_owned()],
    };
    let mut json = Json { text: String::new(), indent, item, key, ascii, sorted };
    json.push(value, 0)?;
    Ok(Value::from(json.text))
}

struct Json {
    text: String,
    indent: Option<usize>,
    item: String,
    key: String,
    ascii: bool,
    sorted: bool,
}

/// Deeper values are refused: writing them would use up the stack.
const DEEPEST: usize = 200;

impl Json {
    fn push(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > DEEPEST {
            return Err(Error::new(ErrorKind::InvalidOperation, "tojson: the value is nested too deeply"));
        }
        match value.kind() {
            ValueKind::Undefined => return Err(Error::new(ErrorKind::InvalidOperation, "tojson: the value is undefined")),
            ValueKind::None => self.text += "null",
            ValueKind::Bool => self.text += if value.is_true() { "true" } else { "false" },
            ValueKind::Number => {
                let _ = write!(self.text, "{value}");
            }
            ValueKind::Seq | ValueKind::Iterable => {
                self.items(value.try_iter()?, ['[', ']'], depth, |json, item| json.push(&item, depth + 1))?
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sorted {
                    keys.sort();
                }
                self.items(keys.into_iter(), ['{', '}'], depth, |json, key| {
                    json.string(&key.to_string());
                    json.text += &json.key.clone();
                    json.push(&value.get_item(&key)?, depth + 1)
                })?;
            }
            _ => self.string(&value.to_string()),
        }
        Ok(())
    }

    fn items(
        &mut self,
        items: impl Iterator<Item = Value>,
        [open, close]: [char; 2],
        depth: usize,
        mut push: impl FnMut(&mut Self, Value) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.text.push(open);
        let mut is_empty = true;
        for item in items {
            if !is_empty {
                self.text += &self.item.clone();
            }
            is_empty = false;
            self.line(depth + 1);
            push(self, item)?;
        }
        if !is_empty {
            self.line(depth);
        }
        self.text.push(close);
        Ok(())
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = self.indent {
            self.text.push('\n');
            self.text.extend(std::iter::repeat_n(' ', indent * depth));
        }
    }

    fn string(&mut self, text: &str) {
        self.text.push('"');
        for c in text.chars() {
            match c {
                '"' => self.text += "\\\"",
                '\\' => self.text += "\\\\",
                '\n' => self.text += "\\n",
                '\r' => self.text += "\\r",
                '\t' => self.text += "\\t",
                '\u{8}' => self.text += "\\b",
                '\u{c}' => self.text += "\\f",
                c if c < ' ' || self.ascii && !c.is_ascii() => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        let _ = write!(self.text, "\\u{unit:04x}");
                    }
                }
                c => self.text.push(c),
            }
        }
        self.text.push('"');
    }
}

/// A day of the Gregorian calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Day {
    year: i64,
    month: usize,
    day: u64,
    /// Days since a Monday, modulo 7.
    weekday: usize,
}

const MONTHS: [&str; 12] =
    ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"];
const WEEKDAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

impl Day {
    /// The day so many seconds after the beginning of 1970, in UTC (Hinnant, "chrono-compatible low-level date algorithms", 2014: days count from
    /// 1 March of year 0, in eras of 400 years).
    pub fn of_seconds(seconds: u64) -> Self {
        let days = seconds / 86_400;
        let weekday = ((days + 3) % 7) as usize;
        let from_era = days + 719_468;
        let (era, of_era) = (from_era / 146_097, from_era % 146_097);
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * of_year + 2) / 153;
        let day = of_year - (153 * shifted + 2) / 5 + 1;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        let year = (year_of_era + era * 400) as i64 + i64::from(month <= 2);
        Self { year, month: month as usize, day, weekday }
    }

    /// The day that is written as `2026-01-31`.
    pub fn read(text: &str) -> Option<Self> {
        let parts: Vec<u64> = text.split('-').map(|part| part.parse().ok()).collect::<Option<_>>()?;
        let &[year, month, day] = parts.as_slice() else { return None };
        let years = year.checked_sub(1970).filter(|years| *years < 10_000)?;
        // Leap days come on top of these.
        let earliest = years * 365;
        let mut days = (earliest..earliest + years / 4 + 367).map(|days| Self::of_seconds(days * 86_400));
        days.find(|found| (found.year, found.month as u64, found.day) == (year as i64, month, day))
    }

    /// Python's `strftime`, as far as it concerns days; the time of day is midnight.
    fn format(self, format: &str) -> String {
        let (month, weekday) = (MONTHS[self.month - 1], WEEKDAYS[self.weekday]);
        let mut text = String::new();
        let mut chars = format.chars();
        while let Some(c) = chars.next() {
            if c != '%' {
                text.push(c);
                continue;
            }
            let code = chars.next();
            match code {
                Some('Y') => text += &self.year.to_string(),
                Some('y') => text += &format!("{:02}", self.year.rem_euclid(100)),
                Some('m') => text += &format!("{:02}", self.month),
                Some('d') => text += &format!("{:02}", self.day),
                Some('e') => text += &format!("{:2}", self.day),
                Some('B') => text += month,
                Some('b' | 'h') => text += &month[..3],
                Some('A') => text += weekday,
                Some('a') => text += &weekday[..3],
                Some('H' | 'M' | 'S') => text += "00",
                Some('F') => text += &self.format("%Y-%m-%d"),
                Some('T') => text += "00:00:00",
                Some('%') => text.push('%'),
                other => {
                    text.push('%');
                    text.extend(other);
                }
            }
        }
        text
    }
}

impl std::fmt::Display for Day {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.format("%F"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str) -> Result<String, String> {
        let environment = compile(source, Day::of_seconds(0)).map_err(|error| error.to_string())?;
        let context = minijinja::context! { __generation_marks => "<>" };
        environment.get_template(NAME).unwrap().render(context).map_err(|error| error.to_string())
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01 Thursday 01 Jan"),
            (951_782_400, "2000-02-29 Tuesday 29 Feb"),
            (1_735_689_599, "2024-12-31 Tuesday 31 Dec"),
            (4_107_542_400, "2100-03-01 Monday 01 Mar"),
        ] {
            assert_eq!(Day::of_seconds(seconds).format("%F %A %d %b"), expected);
        }
        assert_eq!(Day::read("2024-02-29"), Some(Day::of_seconds(1_709_164_800)));
        assert_eq!(["2023-02-29", "2024-13-01", "today", "1969-12-31"].map(Day::read), [None; 4]);
        assert_eq!(render("{{ strftime_now('%d %B %Y, 100%%') }}").unwrap(), "01 January 1970, 100%");
    }

    #[test]
    fn generated_parts_are_marked_and_exceptions_are_errors() {
        assert_eq!(render("a\n{% generation %}\nb{%- endgeneration -%}\n c").unwrap(), "a\n<b>c");
        assert!(has_generation("{%- generation -%}x{% endgeneration %}") && !has_generation("{% if generation %}"));
        assert!(render("{{ raise_exception('roles must alternate') }}").unwrap_err().contains("roles must alternate"));
        assert!(render("{% if %}").is_err());
    }
}
