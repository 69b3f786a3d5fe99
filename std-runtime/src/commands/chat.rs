//! `samara chat`.

use std::fs::OpenOptions;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use samara_core::math::rng::{Purpose, Rng};
use serde_json::json;

use super::args::{EngineArgs, set_keys};
use super::tables::Config;
use super::text_writer::TextWriter;
use super::{Command, Console, Error};
use crate::align::chat::{Answer, Answering, Speaker};
use crate::config::Layers;
use crate::dialogue::turn::{Role, Turn};
use crate::files::{IoError, STDOUT};
use crate::model_folder::is_adapter_folder;
use crate::say;
use crate::stop::Stop;

const EXAMPLES: &str = "\
Lines are turns; /undo takes the last question back, /reset forgets all, /system TEXT
sets instructions, /quit ends. With --compare both models answer, in an order that is
drawn; 1, 2, = (a tie) or nothing is the vote, and the better answer goes on. Votes
are rows that samara reward and samara dpo take.

Examples:
  samara chat --model runs/sft
  samara chat --model runs/sft --temperature 0 --system 'Answer in one word.'
  samara chat --model runs/adapter --base models/gpt2
  samara chat --compare runs/sft runs/dpo --votes votes.jsonl";

/// Talk with a model, or with two and vote.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    speakers: Speakers,
    /// The base of an adapter, where it is not where the adapter says; with --compare, of every adapter of the two.
    #[arg(long, value_name = "DIR")]
    base: Option<PathBuf>,
    /// The file that votes are added to.
    #[arg(long, value_name = "FILE", default_value = "votes.jsonl", requires = "compare")]
    votes: PathBuf,
    /// Instructions at the beginning.
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// The chat template: auto (the folder's own), plain, alpaca, chatml, hh, or a file of jinja.
    #[arg(long, value_name = "NAME", default_value = "auto")]
    template: String,
    /// Tokens of an answer at most.
    #[arg(long, value_name = "N", default_value = "200", allow_hyphen_values = true)]
    max_new_tokens: String,
    /// Logits are divided by it; 0: the most probable token.
    #[arg(long, value_name = "F", default_value = "0.8", allow_hyphen_values = true)]
    temperature: String,
    /// Seed of the random samples.
    #[arg(long, value_name = "N", default_value = "0", allow_hyphen_values = true)]
    seed: String,
    /// Set a key, as in generate.top_p=0.9.
    #[arg(long, value_name = "KEY=VALUE", allow_hyphen_values = true)]
    set: Vec<String>,
    #[command(flatten)]
    engine: EngineArgs,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Speakers {
    /// The model folder, or a folder with an adapter.
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Two model folders to compare, or folders with adapters.
    #[arg(long, value_names = ["A", "B"], num_args = 2)]
    compare: Option<Vec<PathBuf>>,
}

/// The state of a conversation.
struct Talk {
    speakers: Vec<Speaker>,
    names: Vec<String>,
    history: Vec<Turn>,
    system: Option<String>,
    answering: Answering,
    /// Questions so far.
    number: u32,
    votes: PathBuf,
    is_terminal: bool,
    stop: Stop,
}

/// The command in a line of input.
enum Line<'l> {
    Quit,
    Reset,
    Undo,
    System(&'l str),
    Unknown(&'l str),
    Nothing,
    Question(&'l str),
}

impl Command for Args {
    fn run(&self, console: &Console) -> Result<(), Error> {
        let mut layers = Layers::<Config>::new();
        set_keys(&mut layers, &self.set, "generate")?;
        layers.flag("--template", "dialogue.template", &toml::Value::String(self.template.clone()).to_string());
        layers.flag("--max-new-tokens", "generate.max_new_tokens", &self.max_new_tokens);
        layers.flag("--temperature", "generate.temperature", &self.temperature);
        layers.flag("--seed", "generate.seed", &self.seed);
        let config = layers.values()?;
        let engine = self.engine.engine()?;
        let stop = Stop::install(console.quiet).map_err(IoError::at(Path::new("signals"), "listen to"))?;
        let folders: Vec<PathBuf> = self.speakers.model.iter().chain(self.speakers.compare.iter().flatten()).cloned().collect();
        let has_adapter = folders.iter().any(|folder| is_adapter_folder(folder));
        let open = |folder: &PathBuf| {
            // Of two models one may be whole: a base is refused where nothing needs it.
            let base = self.base.as_deref().filter(|_| is_adapter_folder(folder) || !has_adapter);
            Speaker::open(&engine, (folder, base), &config.dialogue.template)
        };
        let speakers = folders.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        let generate = &config.generate;
        let answering = Answering { sampling: generate.sampling(), seed: generate.seed, max_new_tokens: generate.max_new_tokens };
        let mut talk = Talk {
            speakers,
            names: folders.iter().map(|folder| folder.display().to_string()).collect(),
            history: Vec::new(),
            system: self.system.clone(),
            answering,
            number: 0,
            votes: self.votes.clone(),
            is_terminal: io::stdin().is_terminal(),
            stop,
        };
        talk.reset();
        talk.run()
    }
}

impl Talk {
    fn run(&mut self) -> Result<(), Error> {
        while let Some(line) = self.ask("> ")? {
            match Line::read(&line) {
                Line::Quit => break,
                Line::Nothing => {}
                Line::Reset => self.reset(),
                Line::Undo => self.undo(),
                Line::System(text) => {
                    self.system = Some(text.to_owned());
                    self.reset();
                }
                Line::Unknown(command) => {
                    say::line(&format!(
                        "unknown command {command}: /undo, /reset, /system TEXT, /quit; anything else is a question"
                    ));
                }
                Line::Question(text) => self.answer(text)?,
            }
        }
        Ok(())
    }

    /// A line of standard input; `None` at its end.
    fn ask(&self, prompt: &str) -> Result<Option<String>, Error> {
        if self.is_terminal {
            print(prompt)?;
        }
        loop {
            let mut line = Vec::new();
            let read =
                io::stdin().lock().read_until(b'\n', &mut line).map_err(IoError::at(Path::new("standard input"), "read"))?;
            match String::from_utf8(line) {
                _ if read == 0 => return Ok(None),
                Ok(line) => return Ok(Some(line.trim_end_matches(['\n', '\r']).to_owned())),
                Err(error) => say::line(&format!(
                    "a line that is not UTF-8 (byte {} of it) is left out: set the terminal to UTF-8, or convert the input with iconv",
                    error.utf8_error().valid_up_to() + 1
                )),
            }
        }
    }

    fn reset(&mut self) {
        self.history = self.system.iter().map(|text| Turn::system(text.as_str())).collect();
    }

    /// Takes the last question and its answer back.
    fn undo(&mut self) {
        let last = self.history.iter().rposition(|turn| turn.role == Role::User);
        self.history.truncate(last.unwrap_or(self.history.len()));
    }

    fn answer(&mut self, question: &str) -> Result<(), Error> {
        self.history.push(Turn::user(question));
        self.number += 1;
        let order = self.order();
        let mut answers = Vec::new();
        for (place, &speaker) in order.iter().enumerate() {
            if let Some((tokens, room)) = self.speakers[speaker].excess(&self.history, &self.answering)? {
                self.history.pop();
                say::line(&format!(
                    "the question alone has {tokens} tokens with its template, and {room} fit beside an answer: it is left out; shorten it, or lower \
                     --max-new-tokens"
                ));
                return Ok(());
            }
            if order.len() > 1 {
                print(&format!("[{}] ", place + 1))?;
            }
            let Answer { text, forgotten } = self.hear(speaker)?;
            if forgotten > 0 {
                say::line(&format!("note: the first {forgotten} turns do not fit the context and were left out"));
            }
            answers.push(text);
        }
        let better = if answers.len() > 1 { self.vote(question, &order, &answers)? } else { 0 };
        let text = answers.swap_remove(better);
        self.history.push(Turn::assistant(text));
        Ok(())
    }

    /// The models in random order: the voter does not know which answer comes from which.
    fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.speakers.len()).collect();
        if Rng::new(self.answering.seed, Purpose::User, u64::from(self.number)).next_u64() & 1 == 1 {
            order.reverse();
        }
        order
    }

    /// Prints an answer while it is generated.
    fn hear(&mut self, speaker: usize) -> Result<Answer, Error> {
        let mut out = io::stdout().lock();
        let mut writer = TextWriter::new(&mut out);
        let (history, number) = (&self.history, self.number);
        let heard = &mut |bytes: &[u8]| -> Result<(), Error> { Ok(writer.push(bytes)?) };
        let answer = self.speakers[speaker].answer(history, number, &self.answering, &self.stop, heard)?;
        writer.finish()?;
        Ok(answer)
    }

    /// Asks which answer is better and records the vote; returns the answer that continues the conversation.
    fn vote(&self, question: &str, order: &[usize], answers: &[String]) -> Result<usize, Error> {
        if answers[0] == answers[1] {
            say::line("both answers are the same: there is nothing to vote on");
            return Ok(0);
        }
        loop {
            let Some(vote) = self.ask("1, 2 or = ? ")? else { return Ok(0) };
            let better = match vote.trim() {
                "1" => 0,
                "2" => 1,
                "=" | "" => return Ok(0),
                other => {
                    say::line(&format!("{other:?} is not a vote: expected 1, 2, = for a tie, or an empty line to skip"));
                    continue;
                }
            };
            let answer = |at: usize| Turn::messages(&[Turn::assistant(answers[at].as_str())]);
            let row = json!({
                "prompt": Turn::messages(&self.history),
                "chosen": answer(better),
                "rejected": answer(1 - better),
                "chosen_model": self.names[order[better]],
                "rejected_model": self.names[order[1 - better]],
            });
            let file = OpenOptions::new().create(true).append(true).open(&self.votes);
            let written = file.and_then(|mut file| writeln!(file, "{row}"));
            written.map_err(IoError::at(&self.votes, "write"))?;
            say::line(&format!("{} is better on {question:?}", self.names[order[better]]));
            return Ok(better);
        }
    }
}

impl<'l> Line<'l> {
    fn read(line: &'l str) -> Self {
        let text = line.trim();
        match text.split_once(' ').unwrap_or((text, "")) {
            ("", _) => Self::Nothing,
            ("/quit" | "/exit", _) => Self::Quit,
            ("/reset", _) => Self::Reset,
            ("/undo", _) => Self::Undo,
            ("/system", text) => Self::System(text),
            (command, _) if command.starts_with('/') => Self::Unknown(command),
            _ => Self::Question(text),
        }
    }
}

fn print(text: &str) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    Ok(out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(IoError::at(Path::new(STDOUT), "write"))?)
}
