//! Text from a model: the prompt in one program, then a token at a time with the keys and values of what came before.

use std::sync::Arc;

use samara_core::decode::{Sampling, sample};
use samara_core::exec::Gradients;
use samara_core::graph::DType;
use samara_core::math::rng::{Purpose, Rng};
use samara_core::model::lm::{DecodeShape, DecodeStep, decode_step};

use super::{Bound, RunError, write_ints};
use crate::session::{BuildError, Device, On, OwnedProgram};

/// A program that appends `len` tokens to the cache and gives the logits after the last one.
struct Append {
    program: OwnedProgram,
    io: DecodeStep,
    len: usize,
}

impl Append {
    fn new<D: Device>(model: &mut Bound<'_, D>, len: usize, dtype: DType) -> Result<Self, BuildError> {
        let layers = Arc::clone(&model.layers);
        let shape = DecodeShape { batch: 1, len, capacity: model.dims.n_positions, dtype, read_in_place: false };
        let (program, io) = model.prepare(model.on().with_state(model.cache), |g| decode_step(g, &*layers, &shape))?;
        Ok(Self { program, io, len })
    }

    /// Runs with the first token at `start`, and reads the logits (V).
    fn run<D: Device>(&self, model: &mut Bound<'_, D>, tokens: &[i32], start: usize, logits: &mut [f32]) -> Result<(), RunError> {
        let on = model.on().with_state(model.cache);
        let (session, program) = (&mut *model.session, &self.program);
        let (start, end) = (start as i32, (start + self.len) as i32);
        write_ints(session, program, "prompt token", self.io.inputs.tokens, tokens)?;
        if self.len == 1 {
            write_ints(session, program, "position", self.io.inputs.positions, &[start])?;
        } else {
            write_ints(session, program, "position", self.io.inputs.positions, &(start..end).collect::<Vec<_>>())?;
        }
        write_ints(session, program, "cache start", self.io.cache.starts, &[start])?;
        write_ints(session, program, "live keys", self.io.cache.live, &[end])?;
        session.run_all(program, on, Gradients::Overwrite);
        Ok(session.read_into(program, self.io.logits, logits)?)
    }
}

/// Tokens after a prompt, one at a time.
///
/// When the model's positions are used up, the last half of them becomes the new beginning, as if it were the prompt.
pub struct Generator {
    decode: Append,
    on: On,
    sampling: Sampling,
    seed: u64,
    /// Everything so far: the prompt and what came after.
    tokens: Vec<i32>,
    /// How many tokens at the end of `tokens` are in the cache.
    cached: usize,
    /// Tokens drawn so far.
    drawn: u64,
    logits: Vec<f32>,
    order: Vec<u32>,
}

impl Generator {
    /// Starts after a prompt of at least one token. A prompt longer than the model's positions loses its beginning.
    pub fn new<D: Device>(model: &mut Bound<'_, D>, prompt: &[i32], sampling: Sampling, seed: u64) -> Result<Self, RunError> {
        Self::with_cache(model, prompt, sampling, seed, DType::Real)
    }

    /// The same with keys and values kept in another element type.
    pub fn with_cache<D: Device>(
        model: &mut Bound<'_, D>,
        prompt: &[i32],
        sampling: Sampling,
        seed: u64,
        cache: DType,
    ) -> Result<Self, RunError> {
        if prompt.is_empty() {
            return Err(RunError::TooShort { found: 0, expected: 1 });
        }
        // A cache of another element type may have been there.
        model.session.state_mut(model.cache).0.forget();
        let keep = prompt.len().min(model.dims.n_positions);
        let prefill = Append::new(model, keep, cache)?;
        let decode = Append::new(model, 1, cache)?;
        let order = vec![0; model.dims.vocab_size];
        let mut logits = vec![0.0; model.dims.vocab_size];
        prefill.run(model, &prompt[prompt.len() - keep..], 0, &mut logits)?;
        Ok(Self {
            decode,
            on: model.on().with_state(model.cache),
            sampling,
            seed,
            tokens: prompt.to_vec(),
            cached: keep,
            drawn: 0,
            logits,
            order,
        })
    }

    /// The program that appends one token, for a profile of it.
    pub fn token_program(&self) -> &OwnedProgram {
        &self.decode.program
    }

    /// What that program runs on.
    pub fn on(&self) -> On {
        self.on
    }

    /// The prompt and what came after it.
    pub fn tokens(&self) -> &[i32] {
        &self.tokens
    }

    /// The logits (V) that the next token is drawn from; after drawing, what the draw left of them.
    pub fn logits(&self) -> &[f32] {
        &self.logits
    }

    /// Draws the next token.
    pub fn next<D: Device>(&mut self, model: &mut Bound<'_, D>) -> Result<i32, RunError> {
        if self.drawn > 0 {
            self.append_last(model)?;
        }
        let bits = Rng::new(self.seed, Purpose::Sampling, self.drawn).next_u64();
        let token = sample(&mut self.logits, &mut self.order, &self.sampling, bits) as i32;
        self.tokens.push(token);
        self.drawn += 1;
        Ok(token)
    }

    /// Feeds the last drawn token to the model.
    fn append_last<D: Device>(&mut self, model: &mut Bound<'_, D>) -> Result<(), RunError> {
        let n = self.tokens.len();
        if self.cached == model.dims.n_positions {
            let keep = model.dims.n_positions.div_ceil(2).min(n);
            let prefill = Append::new(model, keep, self.decode.io.cache.dtype)?;
            prefill.run(model, &self.tokens[n - keep..], 0, &mut self.logits)?;
            self.cached = keep;
            return Ok(());
        }
        self.decode.run(model, &self.tokens[n - 1..], self.cached, &mut self.logits)?;
        self.cached += 1;
        Ok(())
    }
}
