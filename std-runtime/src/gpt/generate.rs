//! Text from a model: the prompt in one program, then a token at a time with the keys and values of what came before.

use samara_core::decode::{Sampling, sample};
use samara_core::exec::Gradients;
use samara_core::graph::DType;
use samara_core::math::rng::{Purpose, Rng};
use samara_core::model::lm::{DecodeShape, DecodeStep, decode_step};

use super::{Gpt, RunError, write_ints};
use crate::session::{BuildError, OwnedProgram};

/// A program that appends `len` tokens to the cache and gives the logits after the last one.
struct Append {
    program: OwnedProgram,
    io: DecodeStep,
    len: usize,
}

impl Append {
    fn new(gpt: &mut Gpt, len: usize, dtype: DType) -> Result<Self, BuildError> {
        let model = gpt.model;
        let shape = DecodeShape { batch: 1, len, capacity: gpt.config.n_positions, dtype, read_in_place: false };
        let (program, io) = gpt.session.prepare(|g| decode_step(g, &model, &shape))?;
        Ok(Self { program, io, len })
    }

    /// Runs with the first token at `start`.
    fn run<'g>(&self, gpt: &'g mut Gpt, tokens: &[i32], start: usize) -> Result<&'g [f32], RunError> {
        let (session, program) = (&mut gpt.session, &self.program);
        let (start, end) = (start as i32, (start + self.len) as i32);
        write_ints(session, program, "prompt token", self.io.inputs.tokens, tokens)?;
        if self.len == 1 {
            write_ints(session, program, "position", self.io.inputs.positions, &[start])?;
        } else {
            write_ints(session, program, "position", self.io.inputs.positions, &(start..end).collect::<Vec<_>>())?;
        }
        write_ints(session, program, "cache start", self.io.cache.starts, &[start])?;
        write_ints(session, program, "live keys", self.io.cache.live, &[end])?;
        session.run_all(program, Gradients::Overwrite);
        Ok(session.read(program, self.io.logits))
    }
}

/// Tokens after a prompt, one at a time.
///
/// When the model's positions are used up, the last half of them becomes the new beginning, as if it were the prompt.
pub struct Generator {
    decode: Append,
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
    pub fn new(gpt: &mut Gpt, prompt: &[i32], sampling: Sampling, seed: u64) -> Result<Self, RunError> {
        Self::with_cache(gpt, prompt, sampling, seed, DType::Real)
    }

    /// The same with keys and values kept in another element type.
    pub fn with_cache(gpt: &mut Gpt, prompt: &[i32], sampling: Sampling, seed: u64, cache: DType) -> Result<Self, RunError> {
        if prompt.is_empty() {
            return Err(RunError::TooShort { found: 0, expected: 1 });
        }
        // The longest program comes first, so that the cache is not lost by growing memory.
        let keep = prompt.len().min(gpt.config.n_positions);
        let prefill = Append::new(gpt, keep, cache)?;
        let decode = Append::new(gpt, 1, cache)?;
        let order = vec![0; gpt.config.vocab_size];
        let logits = prefill.run(gpt, &prompt[prompt.len() - keep..], 0)?.to_vec();
        Ok(Self { decode, sampling, seed, tokens: prompt.to_vec(), cached: keep, drawn: 0, logits, order })
    }

    /// The program that appends one token, for a profile of it.
    pub fn token_program(&self) -> &OwnedProgram {
        &self.decode.program
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
    pub fn next(&mut self, gpt: &mut Gpt) -> Result<i32, RunError> {
        if self.drawn > 0 {
            self.append_last(gpt)?;
        }
        let bits = Rng::new(self.seed, Purpose::Sampling, self.drawn).next_u64();
        let token = sample(&mut self.logits, &mut self.order, &self.sampling, bits) as i32;
        self.tokens.push(token);
        self.drawn += 1;
        Ok(token)
    }

    /// Feeds the last drawn token to the model.
    fn append_last(&mut self, gpt: &mut Gpt) -> Result<(), RunError> {
        let n = self.tokens.len();
        if self.cached == gpt.config.n_positions {
            let keep = gpt.config.n_positions.div_ceil(2).min(n);
            let prefill = Append::new(gpt, keep, self.decode.io.cache.dtype)?;
            let logits = prefill.run(gpt, &self.tokens[n - keep..], 0)?;
            self.logits.copy_from_slice(logits);
            self.cached = keep;
            return Ok(());
        }
        let logits = self.decode.run(gpt, &self.tokens[n - 1..], self.cached)?;
        self.logits.copy_from_slice(logits);
        self.cached += 1;
        Ok(())
    }
}
