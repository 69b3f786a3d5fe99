//! Chat templates: from turns to one text, in which the parts that the model says are known.
//!
//! A template is jinja, as the folders of Hugging Face have it. The built-in ones are as well, so that other tools read a folder that was trained with
//! one. Where a template has `{% generation %}` blocks, they are what the model says; otherwise a turn of the model is what is added when the dialogue
//! is rendered with it.

use std::ops::Range;
use std::path::{Path, PathBuf};

use minijinja::value::Serde;
use minijinja::{Environment, Value};
use serde_json::{Map, Value as Json};
use thiserror::Error;

use super::config::{NAMES, TemplateChoice};
use super::jinja::{self, Day};
use super::row::Format;
use super::turn::{Role, Turn};
use crate::config::hint;
use crate::error::{Failure, Kind};
use crate::files::IoError;
use crate::tokenizer::Tokenizer;

/// The built-in templates by name. What the tokenizer puts before a text comes before each.
///
/// * `plain`: all contents one after the other.
/// * `alpaca`: that of Stanford Alpaca (Taori et al. 2023), for several turns too; what the system says stands in the place of its first sentences.
/// * `chatml`: OpenAI's ChatML; where the end of a turn is not the end-of-text token, that follows an answer.
/// * `hh`: that of Anthropic's HH-RLHF (Bai et al. 2022); what the system says stands before the first mark.
const BUILT_IN: [(&str, &str); 4] = [
    ("plain", include_str!("templates/plain.jinja")),
    ("alpaca", include_str!("templates/alpaca.jinja")),
    ("chatml", include_str!("templates/chatml.jinja")),
    ("hh", include_str!("templates/hh.jinja")),
];

/// Characters of a text that an error shows.
const SHOWN: usize = 40;

/// Why a dialogue has no text.
#[derive(Debug, Error)]
pub enum TemplateError {
    /// A file that cannot be read.
    #[error(transparent)]
    Io(#[from] IoError),
    /// No jinja.
    #[error("chat template {name}: {message}; correct it, or set dialogue.template to \"chatml\" or another built-in one")]
    Syntax {
        /// Its name.
        name: String,
        /// What the parser says.
        message: String,
    },
    /// The template refuses the dialogue, or cannot be followed.
    #[error("chat template {name}: {message}; change the rows, or set dialogue.template to another one")]
    Render {
        /// Its name.
        name: String,
        /// What it says.
        message: String,
    },
    /// What the model says cannot be found in the text.
    #[error(
        "chat template {name} writes the assistant's turn {turn} otherwise once the dialogue goes on, so that its tokens are not known; give \
         a template with {{% generation %}} blocks as dialogue.template, or rows with one answer each"
    )]
    NoAnswer {
        /// Its name.
        name: String,
        /// The turn, from 1.
        turn: usize,
    },
    /// What the assistant says is not in the text.
    #[error(
        "chat template {name} leaves out what the assistant says in turn {turn} ({said:?} is not in the text {text:?}), so that it would not be \
         learnt; mend the template, or set dialogue.template to \"{}\"",
        NAMES.join("\", \"")
    )]
    LostAnswer {
        /// Its name.
        name: String,
        /// The turn, from 1.
        turn: usize,
        /// The beginning of what is said.
        said: String,
        /// The beginning of the text in its place.
        text: String,
    },
    /// A built-in template that is none.
    #[error("dialogue.template: expected \"{}\" or a file of jinja, found {found:?}{hint}", NAMES.join("\", \""))]
    Unknown {
        /// What was given.
        found: String,
        /// The nearest name.
        hint: String,
    },
    /// A day that is none.
    #[error("dialogue.today: expected a day such as \"2026-01-31\", found {found:?}")]
    Today {
        /// What was given.
        found: String,
    },
}

impl Failure for TemplateError {
    fn kind(&self) -> Kind {
        match self {
            Self::Io(error) => error.kind(),
            Self::Today { .. } | Self::Unknown { .. } => Kind::Usage,
            Self::Syntax { .. } | Self::Render { .. } | Self::NoAnswer { .. } | Self::LostAnswer { .. } => Kind::Data,
        }
    }
}

/// A chat template.
#[derive(Debug)]
pub struct Template {
    name: String,
    source: String,
    environment: Environment<'static>,
    marks_answers: bool,
    /// The special tokens that a template may write, by name.
    named: Vec<(&'static str, String)>,
    /// Texts of special tokens, which contents may hold as text.
    specials: Vec<String>,
}

/// A dialogue as one text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rendered {
    /// The text.
    pub text: String,
    /// What the assistant says, turn by turn: bytes of the text.
    pub answers: Vec<Range<usize>>,
    /// Bytes of the text within the texts of special tokens in contents, where no such token is.
    pub walls: Vec<usize>,
}

impl Template {
    /// The template that is asked for. `format` is that of the rows, for which the choice `auto` has a template where the tokenizer's files have none.
    ///
    /// # Errors
    /// A file that cannot be read, a name that no built-in template has, or a template that is no jinja.
    pub fn choose(choice: &TemplateChoice, tokenizer: &Tokenizer, format: Format, today: Day) -> Result<Self, TemplateError> {
        let (name, source) = match (choice, tokenizer.chat_template()) {
            // A word that is no file is a name that is misspelt.
            (TemplateChoice::Path(path), _) if is_word(path) && !path.exists() => {
                return Err(unknown(&path.display().to_string()));
            }
            (TemplateChoice::Path(path), _) => (path.display().to_string(), read(path)?),
            (TemplateChoice::Auto, Some(source)) => ("of the model folder".to_owned(), source),
            (TemplateChoice::Auto, None) => built_in(usual(format, tokenizer), tokenizer)?,
            (TemplateChoice::BuiltIn(name), _) => built_in(name, tokenizer)?,
        };
        Self::new(name, source, tokenizer, today)
    }

    /// A template of one's own.
    ///
    /// # Errors
    /// The source is no jinja.
    pub fn new(name: String, source: String, tokenizer: &Tokenizer, today: Day) -> Result<Self, TemplateError> {
        let syntax = |error: minijinja::Error| TemplateError::Syntax { name: name.clone(), message: words(&error) };
        let environment = jinja::compile(&source, today).map_err(syntax)?;
        let specials = tokenizer.added().iter().filter(|token| token.special && token.text.chars().nth(1).is_some());
        let (marks_answers, named) = (jinja::has_generation(&source), tokenizer.named_tokens());
        Ok(Self { name, environment, marks_answers, named, specials: specials.map(|token| token.text.clone()).collect(), source })
    }

    /// Its name, for people.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its source.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether it asks for the day.
    pub fn reads_today(&self) -> bool {
        self.source.contains("strftime_now")
    }

    /// The text of a dialogue.
    ///
    /// # Errors
    /// The template refuses it.
    pub fn render(&self, turns: &[Turn], add_generation_prompt: bool) -> Result<String, TemplateError> {
        Ok(self.rendered(turns, add_generation_prompt, None)?.text)
    }

    /// The text of a dialogue with what is known of it. Texts of special tokens in contents stay text unless `specials` says otherwise.
    ///
    /// # Errors
    /// The template refuses it, or does not say where the assistant's turns are.
    pub fn render_marked(&self, turns: &[Turn], add_generation_prompt: bool, specials: bool) -> Result<Rendered, TemplateError> {
        let marks = Marks::without(&self.messages(turns, None).to_string(), &self.source);
        let wall = if specials { None } else { Some(marks.wall) };
        let mut rendered = self.rendered(turns, add_generation_prompt, Some((marks, wall)))?;
        let spoken: Vec<usize> = (0..turns.len()).filter(|&i| turns[i].role == Role::Assistant).collect();
        if !self.marks_answers {
            let find = |&turn: &usize| self.answer(turns, turn, &rendered.text);
            rendered.answers = spoken.iter().map(find).collect::<Result<_, _>>()?;
        } else if rendered.answers.len() != spoken.len() {
            let message =
                format!("{} blocks of {{% generation %}} for {} turns of the assistant", rendered.answers.len(), spoken.len());
            return Err(TemplateError::Render { name: self.name.clone(), message });
        }
        spoken
            .iter()
            .zip(&rendered.answers)
            .try_for_each(|(&turn, answer)| self.keeps(turns, turn, &rendered.text[answer.clone()]))?;
        Ok(rendered)
    }

    /// Refuses the text of an answer that lacks what is said in it. Templates may leave out what stands before the end of a thought.
    fn keeps(&self, turns: &[Turn], turn: usize, text: &str) -> Result<(), TemplateError> {
        let said = turns[turn].content.trim();
        let spoken = said.rsplit("</think>").next().unwrap_or(said).trim();
        if text.contains(said) || text.contains(spoken) {
            return Ok(());
        }
        let start = |text: &str| text.chars().take(SHOWN).collect::<String>();
        Err(TemplateError::LostAnswer { name: self.name.clone(), turn: turn + 1, said: start(said), text: start(text) })
    }

    /// Where a turn of the assistant stands in the text of its dialogue: what is added when it is rendered with it.
    fn answer(&self, turns: &[Turn], turn: usize, text: &str) -> Result<Range<usize>, TemplateError> {
        let until = self.render(&turns[..=turn], false)?;
        let asked = self.render(&turns[..turn], true)?;
        let begin = if text.starts_with(&asked) {
            asked.len()
        } else {
            common(&asked, text).max(self.render(&turns[..turn], false)?.len())
        };
        if text.starts_with(&until) && begin <= until.len() && text.is_char_boundary(begin) {
            Ok(begin..until.len())
        } else {
            Err(TemplateError::NoAnswer { name: self.name.clone(), turn: turn + 1 })
        }
    }

    fn rendered(
        &self,
        turns: &[Turn],
        add_generation_prompt: bool,
        marks: Option<(Marks, Option<char>)>,
    ) -> Result<Rendered, TemplateError> {
        let wall = marks.and_then(|(_, wall)| wall);
        let mut context: Vec<(&str, Value)> = self.named.iter().map(|(name, text)| (*name, Value::from(text.as_str()))).collect();
        context.push(("messages", Value::from(Serde(self.messages(turns, wall)))));
        context.push(("add_generation_prompt", add_generation_prompt.into()));
        if let Some((marks, _)) = marks {
            context.push((jinja::MARKS, String::from_iter([marks.begin, marks.end]).into()));
        }
        let template = self.environment.get_template(jinja::NAME);
        let text = template.and_then(|template| template.render(Value::from_pairs(context)));
        let text = text.map_err(|error| TemplateError::Render { name: self.name.clone(), message: words(&error) })?;
        Ok(marks.map_or_else(|| Rendered { text: text.clone(), ..Rendered::default() }, |(marks, _)| marks.read(&text)))
    }

    /// The turns as the objects that a template reads; a wall stands within the texts of special tokens.
    fn messages(&self, turns: &[Turn], wall: Option<char>) -> Json {
        let text = |text: &str| wall.map_or_else(|| text.to_owned(), |wall| walled(text, &self.specials, wall));
        let message = |turn: &Turn| {
            let mut message = Map::new();
            message.insert("role".to_owned(), turn.role.name().into());
            message.insert("content".to_owned(), text(&turn.content).into());
            for (key, value) in &turn.others {
                message.insert(key.clone(), value.as_str().map_or_else(|| value.clone(), |value| text(value).into()));
            }
            Json::Object(message)
        };
        turns.iter().map(message).collect()
    }
}

/// The name and source of a built-in template.
fn built_in(name: &str, tokenizer: &Tokenizer) -> Result<(String, String), TemplateError> {
    let (_, source) = BUILT_IN.iter().find(|(known, _)| *known == name).ok_or_else(|| unknown(name))?;
    let before: Vec<u8> = tokenizer.ids_before().iter().flat_map(|&id| tokenizer.token_bytes(id)).collect();
    let before =
        if before.is_empty() { String::new() } else { format!("{{{{ {} }}}}", Json::from(String::from_utf8_lossy(&before))) };
    Ok((name.to_owned(), format!("{before}{source}")))
}

/// Whether a path is one word, as names of templates are.
fn is_word(path: &Path) -> bool {
    path.components().nth(1).is_none() && path.extension().is_none()
}

fn unknown(name: &str) -> TemplateError {
    TemplateError::Unknown { found: name.to_owned(), hint: hint(name, ["auto"].into_iter().chain(NAMES)) }
}

/// The template for rows of a format where a folder has none. Marks of turns that are no tokens of the tokenizer would be spelled out.
fn usual(format: Format, tokenizer: &Tokenizer) -> &'static str {
    match for_format(format) {
        "chatml" if tokenizer.added_id("<|im_start|>").is_none() => "plain",
        name => name,
    }
}

/// The built-in template for rows of a format.
fn for_format(format: Format) -> &'static str {
    match format {
        Format::Alpaca => "alpaca",
        Format::HhRlhf => "hh",
        Format::ShareGpt | Format::Messages => "chatml",
        Format::PromptCompletion
        | Format::Preference
        | Format::ImplicitPreference
        | Format::OtherPrompts
        | Format::Ranked
        | Format::Unpaired
        | Format::Prompts => "plain",
    }
}

fn read(path: &Path) -> Result<String, TemplateError> {
    let source = std::fs::read(path).map_err(IoError::at(path, "read"))?;
    String::from_utf8(source)
        .map_err(|_| TemplateError::Syntax { name: PathBuf::from(path).display().to_string(), message: "not UTF-8".to_owned() })
}

/// What an error of a template says.
fn words(error: &minijinja::Error) -> String {
    let line = error.line().map_or_else(String::new, |line| format!(" (line {line})"));
    format!("{}{line}", error.detail().map_or_else(|| error.kind().to_string(), str::to_owned))
}

/// Bytes that two texts share at their beginning.
fn common(a: &str, b: &str) -> usize {
    a.char_indices().zip(b.chars()).take_while(|((_, a), b)| a == b).last().map_or(0, |((at, c), _)| at + c.len_utf8())
}

/// A text with a wall behind the first character of every special token's text in it.
fn walled(text: &str, specials: &[String], wall: char) -> String {
    let mut walled = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        walled.push(c);
        if specials.iter().any(|special| text[at..].starts_with(special.as_str())) {
            walled.push(wall);
        }
    }
    walled
}

/// Characters that a text lacks: around what the model says, and within what is no special token.
#[derive(Clone, Copy, Debug)]
struct Marks {
    begin: char,
    end: char,
    wall: char,
}

impl Marks {
    /// Three of Unicode's noncharacters that occur neither in the messages nor in the template. A text that holds nearly all of them gets the first ones.
    fn without(messages: &str, source: &str) -> Self {
        let mut free = ('\u{fdd0}'..='\u{fdef}').filter(|&c| !messages.contains(c) && !source.contains(c));
        let mut next = |otherwise| free.next().unwrap_or(otherwise);
        Self { begin: next('\u{fdd0}'), end: next('\u{fdd1}'), wall: next('\u{fdd2}') }
    }

    /// Takes the marks out of a text.
    fn read(self, marked: &str) -> Rendered {
        let mut rendered = Rendered { text: String::with_capacity(marked.len()), ..Rendered::default() };
        let mut begun = None;
        for c in marked.chars() {
            let at = rendered.text.len();
            match c {
                c if c == self.begin => begun = Some(at),
                c if c == self.end => rendered.answers.extend(begun.take().map(|begin| begin..at)),
                c if c == self.wall => rendered.walls.push(at),
                c => rendered.text.push(c),
            }
        }
        rendered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokenizer() -> Tokenizer {
        Tokenizer::bytes(&["<|endoftext|>", "<|im_start|>", "<|im_end|>"]).unwrap()
    }

    fn of(choice: &TemplateChoice, format: Format) -> Template {
        Template::choose(choice, &tokenizer(), format, Day::of_seconds(0)).unwrap()
    }

    fn dialogue() -> Vec<Turn> {
        vec![Turn::user("Hi"), Turn::assistant("Hello"), Turn::user("Bye"), Turn::assistant("See you")]
    }

    fn said(rendered: &Rendered) -> Vec<&str> {
        rendered.answers.iter().map(|answer| &rendered.text[answer.clone()]).collect()
    }

    #[test]
    fn built_in_templates() {
        for (name, text, answers) in [
            ("plain", "HiHello<|endoftext|>ByeSee you<|endoftext|>", ["Hello<|endoftext|>", "See you<|endoftext|>"]),
            (
                "hh",
                "\n\nHuman: Hi\n\nAssistant: Hello<|endoftext|>\n\nHuman: Bye\n\nAssistant: See you<|endoftext|>",
                [" Hello<|endoftext|>", " See you<|endoftext|>"],
            ),
            (
                "chatml",
                "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|><|endoftext|>\n\
                 <|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\nSee you<|im_end|><|endoftext|>\n",
                ["Hello<|im_end|><|endoftext|>", "See you<|im_end|><|endoftext|>"],
            ),
            (
                "alpaca",
                "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n\
                 ### Instruction:\nHi\n\n### Response:\nHello<|endoftext|>\n\n### Instruction:\nBye\n\n### Response:\nSee you<|endoftext|>",
                ["Hello<|endoftext|>", "See you<|endoftext|>"],
            ),
        ] {
            let template = of(&TemplateChoice::BuiltIn(name), Format::Messages);
            let rendered = template.render_marked(&dialogue(), false, false).unwrap();
            assert_eq!((rendered.text.as_str(), said(&rendered)), (text, answers.to_vec()), "{name}");
            let asked = template.render(&dialogue()[..3], true).unwrap();
            assert!(text.starts_with(&asked) && rendered.answers[1].start == asked.len(), "{name}: {asked}");
        }
        for (format, name) in [
            (Format::Alpaca, "alpaca"),
            (Format::HhRlhf, "hh"),
            (Format::ShareGpt, "chatml"),
            (Format::PromptCompletion, "plain"),
        ] {
            assert_eq!(of(&TemplateChoice::Auto, format).name(), name);
        }
    }

    #[test]
    fn answers_are_found_by_what_a_turn_adds() {
        let new = |source: &str| Template::new("own".to_owned(), source.to_owned(), &tokenizer(), Day::of_seconds(0)).unwrap();
        let source = "{% for m in messages %}[{{ m.role }}]{{ m.content }}.{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}";
        let rendered = new(source).render_marked(&dialogue(), false, false).unwrap();
        assert_eq!(said(&rendered), ["Hello.", "See you."]);
        // The prompt of a generation begins otherwise than the answers in a dialogue.
        let thinking = source.replace("[assistant]{% endif", "[assistant]<think>{% endif");
        assert_eq!(said(&new(&thinking).render_marked(&dialogue(), false, false).unwrap()), ["Hello.", "See you."]);
        let forgetful = source.replace("{{ m.content }}", "{% if loop.last or m.role == 'user' %}{{ m.content }}{% endif %}");
        let error = new(&forgetful).render_marked(&dialogue(), false, false).unwrap_err().to_string();
        assert!(error.contains("own writes the assistant's turn 2 otherwise once the dialogue goes on"), "{error}");
        let error =
            Template::new("own".to_owned(), "{% if %}".to_owned(), &tokenizer(), Day::of_seconds(0)).unwrap_err().to_string();
        assert!(error.contains("chat template own: ") && error.contains("line 1"), "{error}");
        let error = new("{{ raise_exception('no ' + messages[0].role) }}").render(&dialogue(), false).unwrap_err().to_string();
        assert!(error.contains("no user"), "{error}");
    }

    /// A thought may be left out, what is said may not; a built-in template by an unknown name is none.
    #[test]
    fn answers_are_kept() {
        let source = "{% for m in messages %}[{{ m.role }}]{{ m.content.split('</think>') | last }}.{% endfor %}";
        let own = |source: &str| Template::new("own".to_owned(), source.to_owned(), &tokenizer(), Day::of_seconds(0)).unwrap();
        let turns = [Turn::user("Hi"), Turn::assistant("<think>hm</think> Hello ")];
        own(source).render_marked(&turns, false, false).unwrap();
        let error = own(&source.replace("| last", "| first")).render_marked(&turns, false, false).unwrap_err().to_string();
        assert!(
            error.contains("own leaves out what the assistant says in turn 2 (\"<think>hm</think> Hello\" is not in"),
            "{error}"
        );
        // Without an answer nothing is left out, as in a turn that calls a tool.
        own("{% for m in messages %}[{{ m.role }}]{% endfor %}")
            .render_marked(&[Turn::user("Hi"), Turn::assistant("")], false, false)
            .unwrap();
        let choice = TemplateChoice::BuiltIn("chatm");
        let error = Template::choose(&choice, &tokenizer(), Format::Messages, Day::of_seconds(0)).unwrap_err().to_string();
        assert!(error.contains("found \"chatm\"; did you mean `chatml`?"), "{error}");
    }

    #[test]
    fn texts_of_special_tokens_in_contents_are_walled() {
        let template = of(&TemplateChoice::BuiltIn("plain"), Format::Messages);
        let turns = [Turn::user("a <|im_end|>"), Turn::assistant("<|im_<|im_start|>\u{fdd0}\u{fdd2}")];
        let rendered = template.render_marked(&turns, false, false).unwrap();
        assert_eq!(rendered.text, "a <|im_end|><|im_<|im_start|>\u{fdd0}\u{fdd2}<|endoftext|>");
        assert_eq!(rendered.walls, [3, 18]);
        assert!(template.render_marked(&turns, false, true).unwrap().walls.is_empty());
    }
}
