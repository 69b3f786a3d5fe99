//! A conversation with a model: a history of turns, and answers token by token.

use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use samara_core::graph::DType;

use crate::decoding::row::{Draws, Row};
use crate::decoding::slots::{Slots, SlotsShape};
use crate::dialogue::config::TemplateChoice;
use crate::dialogue::encode::Encoder;
use crate::dialogue::jinja::Day;
use crate::dialogue::row::Format;
use crate::dialogue::template::Template;
use crate::dialogue::turn::Turn;
use crate::lm::open::OpenError;
use crate::lm::sampling::SamplingParams;
use crate::lm::{Model, RunError};
use crate::model::tune::peft::Source;
use crate::model_folder::ExtraTensors;
use crate::session::Engine;
use crate::stop::Stop;
use crate::tokenizer::{FileError, Tokenizer};
use crate::train::error::TrainingError;

/// A model that answers.
pub struct Speaker {
    model: Model,
    encoder: Encoder,
    stops: Vec<i32>,
}

/// How answers are drawn.
#[derive(Clone, Copy, Debug)]
pub struct Answering {
    /// How tokens are drawn.
    pub sampling: SamplingParams,
    /// Seed of the draws.
    pub seed: u64,
    /// The most tokens of an answer.
    pub max_new_tokens: usize,
}

/// An answer, and what became of the history for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its text, without the token that ends it.
    pub text: String,
    /// Turns at the beginning of the history that were left out, for there was no room for them.
    pub forgotten: usize,
}

impl Speaker {
    /// Opens a folder of a model, or of an adapter, with its tokenizer and chat template. The base of an adapter is the one given, or the one that it names.
    ///
    /// # Errors
    /// One of them is not as it should be.
    pub fn open(
        engine: &Arc<Engine>,
        (folder, base): (&Path, Option<&Path>),
        template: &TemplateChoice,
    ) -> Result<Self, TrainingError> {
        const WAY_OUT: &str = "; give a folder that has the tokenizer of its model";
        let source = Source::of(folder, base).map_err(OpenError::from)?;
        let (base, folder) = (source.config()?, source.tokenizer(Tokenizer::is_in));
        let Some(tokenizer) = Tokenizer::of_model(folder)? else { return Err(FileError::none_in(folder, WAY_OUT).into()) };
        let today = Day::of_seconds(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()));
        let template = Template::choose(template, &tokenizer, Format::Messages, today)?;
        let vocab_size = base.model.vocab_size().unwrap_or_else(|| tokenizer.vocab_size());
        let stops = base.stops(&tokenizer).into_iter().map(|id| id as u32).filter(|&id| (id as usize) < vocab_size).collect();
        let encoder = Encoder::new(tokenizer, template, stops, vocab_size)?;
        let stops = encoder.stops().iter().map(|&id| id as i32).collect();
        Ok(Self { model: Model::open_source(Arc::clone(engine), &source, DType::Real, ExtraTensors::Refuse)?, encoder, stops })
    }

    /// Answers a history as its answer number `number`, from which its draws come. `heard` gets the bytes of every token.
    ///
    /// # Errors
    /// A last turn that has no room in the model's positions, a device that failed, what `heard` returns, or a signal.
    pub fn answer<E: From<TrainingError>>(
        &mut self,
        history: &[Turn],
        number: u32,
        how: &Answering,
        stop: &Stop,
        heard: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<Answer, E> {
        let positions = self.model.dims.n_positions;
        let (prompt, forgotten) = self.fitting(history, self.room(how))?;
        let most = how.max_new_tokens.min(positions - prompt.len());
        let mut model = self.model.bound();
        let tokens = prompt.len() + most;
        let shape = SlotsShape { slots: 1, tokens, prompt: prompt.len(), dtype: DType::Real };
        let run = |error: RunError| E::from(TrainingError::from(error));
        let mut slots = Slots::new(&mut model, &shape).map_err(run)?;
        let mut row = Row::new(&mut model, &mut slots, 0, &prompt, Draws::new(how.seed, number)).map_err(run)?;
        let (mut order, mut bytes, mut text) = (vec![0; model.dims.vocab_size], Vec::new(), Vec::new());
        for i in 0..most {
            stop.check().map_err(|error| run(error.into()))?;
            if i > 0 && !row.append(&mut model, &mut slots, 0).map_err(run)? {
                slots.step(&mut model).map_err(run)?;
            }
            let token = row.draw(slots.logits_mut(0), &mut order, &how.sampling);
            if self.stops.contains(&token) {
                break;
            }
            bytes.clear();
            self.encoder.tokenizer().push_token(token as u32, &mut bytes);
            heard(&bytes)?;
            text.extend_from_slice(&bytes);
        }
        Ok(Answer { text: String::from_utf8_lossy(&text).into_owned(), forgotten })
    }

    /// Tokens of a history at most. An answer has at least half of the positions, if it is that long.
    fn room(&self, how: &Answering) -> usize {
        let positions = self.model.dims.n_positions;
        positions - how.max_new_tokens.min(positions / 2)
    }

    /// The tokens of the last turn of a history, and those that there is room for, where it does not fit even alone.
    ///
    /// # Errors
    /// The template refuses it.
    pub fn excess(&self, history: &[Turn], how: &Answering) -> Result<Option<(usize, usize)>, TrainingError> {
        let last = history.len().saturating_sub(1);
        let (tokens, room) = (self.encoder.encode_prompt(&history[last..])?.len(), self.room(how));
        Ok((tokens > room).then_some((tokens, room)))
    }

    /// The tokens of a history, without its oldest turns where it is too long.
    fn fitting(&self, history: &[Turn], room: usize) -> Result<(Vec<i32>, usize), TrainingError> {
        let mut first = 0;
        loop {
            let ids = self.encoder.encode_prompt(&history[first..])?;
            if ids.len() <= room {
                return Ok((ids.into_iter().map(|id| id as i32).collect(), first));
            }
            if first + 1 >= history.len() {
                return Err(RunError::TooLong { found: ids.len(), positions: room }.into());
            }
            // A question goes with its answer.
            first = (first + 2).min(history.len() - 1);
        }
    }
}
