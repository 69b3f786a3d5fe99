//! Sessions of language models.

use core::mem::take;

use super::lent::Lent;
use super::{Hyper, SessionError};
use crate::decode::{Sampling, sample};
use crate::exec::{place_mut, write_ints, write_real};
use crate::file::{FileProgram, Port, ProgramFile, ProgramKind};
use crate::math::rng::{Purpose, Rng};

/// A language model on lent memory: decoding, training, evaluation, with shared parameters.
pub struct Session<'a: 'm, 'm> {
    lent: Lent<'a, 'm>,
    decode: Option<FileProgram<'a>>,
    train: Option<FileProgram<'a>>,
    evaluate: Option<FileProgram<'a>>,
    position: usize,
    has_logits: bool,
    drawn: u64,
}

impl<'a: 'm, 'm> Session<'a, 'm> {
    /// Elements of memory (of four bytes) that a session needs.
    pub fn ram_len(file: &ProgramFile<'_>) -> usize {
        file.sizes().total_len()
    }

    /// A session on lent memory, which it clears; trainable parameters start with the values in the file.
    ///
    /// # Errors
    ///
    /// `ram` has fewer elements than [`Session::ram_len`].
    pub fn new(file: ProgramFile<'a>, ram: &'m mut [f32]) -> Result<Self, SessionError> {
        let program = |kind| file.program(kind);
        let (decode, train, evaluate) =
            (program(ProgramKind::Decode), program(ProgramKind::Train), program(ProgramKind::Evaluate));
        let lent = Lent::new(file, ram)?;
        Ok(Self { lent, decode, train, evaluate, position: 0, has_logits: false, drawn: 0 })
    }

    /// The file.
    pub const fn file(&self) -> &ProgramFile<'a> {
        &self.lent.file
    }

    /// Tokens of the sequence so far.
    pub const fn position(&self) -> usize {
        self.position
    }

    /// Starts a new sequence.
    pub const fn restart(&mut self) {
        self.position = 0;
        self.has_logits = false;
        self.drawn = 0;
    }

    /// Runs the next token of the sequence through the model and returns the logits (V) of its successor.
    ///
    /// # Errors
    ///
    /// The file has no program that decodes, the sequence has reached the context length, or the token is not in the vocabulary.
    pub fn feed(&mut self, token: u32) -> Result<&mut [f32], SessionError> {
        let program = self.decode.ok_or(SessionError::NoProgram(ProgramKind::Decode))?;
        let (at, context) = (self.position as i32, self.lent.file.header().context as usize);
        if self.position >= context {
            return Err(SessionError::ContextFull { context });
        }
        let token = i32::try_from(token).unwrap_or(i32::MAX);
        for (port, value) in
            [(Port::Tokens, token), (Port::Positions, at), (Port::Starts, at), (Port::Live, at.saturating_add(1))]
        {
            write_ints(&program.program, self.lent.memory.ints, program.port(port), &[value]).map_err(SessionError::Tokens)?;
        }
        self.run(&program);
        self.position = self.position.saturating_add(1);
        self.has_logits = true;
        Ok(place_mut(&program.plan, self.lent.memory.arena, program.port(Port::Logits)))
    }

    /// Samples a token from the logits of the last [`Session::feed`], which are overwritten; the same seed gives the same sequence as `samara
    /// generate`. `order` is scratch for [`Sampling::top_p`], one element per token of the vocabulary; it may be empty if top-p is 1.
    ///
    /// # Errors
    ///
    /// The file has no program that decodes, `order` is too short for top-p, or nothing was fed since the last choice.
    pub fn choose(&mut self, sampling: &Sampling, seed: u64, order: &mut [u32]) -> Result<u32, SessionError> {
        let program = self.decode.ok_or(SessionError::NoProgram(ProgramKind::Decode))?;
        let (found, needed) = (order.len(), if sampling.top_p < 1.0 { self.lent.file.header().vocab_size as usize } else { 0 });
        if found < needed {
            return Err(SessionError::Order { found, needed });
        }
        if !take(&mut self.has_logits) {
            return Err(SessionError::NoLogits);
        }
        let bits = Rng::new(seed, Purpose::Sampling, self.drawn).next_u64();
        self.drawn = self.drawn.wrapping_add(1);
        Ok(sample(place_mut(&program.plan, self.lent.memory.arena, program.port(Port::Logits)), order, sampling, bits) as u32)
    }

    /// A training step on as many tokens as the program takes, with the successor of each (negative: none). Returns the mean loss before the step, in
    /// nats. A sequence begun with [`Session::feed`] would continue with keys and values of the old parameters: restart it.
    ///
    /// # Errors
    ///
    /// The file has no program that trains, or tokens or targets are not as many as it takes or not in the vocabulary; nothing is changed then.
    pub fn train(&mut self, tokens: &[i32], targets: &[i32], hyper: &Hyper) -> Result<f32, SessionError> {
        let program = self.train.ok_or(SessionError::NoProgram(ProgramKind::Train))?;
        self.write_text(&program, tokens, targets)?;
        self.has_logits = false;
        Ok(self.lent.mean_step(&program, targets.iter().filter(|&&t| t >= 0).count(), hyper))
    }

    /// [`Session::train`] with the gradient of the objective with respect to each token's loss, for which the program must have been exported: token
    /// weights, advantages. Returns the losses before the step, in nats.
    ///
    /// # Errors
    ///
    /// As for [`Session::train`], and when `upstream` does not have one value per token.
    pub fn train_weighted(
        &mut self,
        tokens: &[i32],
        targets: &[i32],
        upstream: &[f32],
        hyper: &Hyper,
    ) -> Result<&[f32], SessionError> {
        let program = self.train.ok_or(SessionError::NoProgram(ProgramKind::Train))?;
        self.write_text(&program, tokens, targets)?;
        write_real(&program.program, &program.plan, self.lent.memory.arena, program.port(Port::Upstream), upstream)
            .map_err(SessionError::Tokens)?;
        self.has_logits = false;
        Ok(self.lent.step(&program, hyper))
    }

    /// The cross-entropy of every token's successor in nats, for as many tokens as the program takes; 0 where the target is negative.
    ///
    /// # Errors
    ///
    /// The file has no program that evaluates, or tokens or targets are not as many as it takes or not in the vocabulary.
    pub fn evaluate(&mut self, tokens: &[i32], targets: &[i32]) -> Result<&[f32], SessionError> {
        let program = self.evaluate.ok_or(SessionError::NoProgram(ProgramKind::Evaluate))?;
        self.write_text(&program, tokens, targets)?;
        self.run(&program);
        Ok(self.lent.values(&program, Port::Losses))
    }

    /// The number of tokens that a program takes at once, 0 without the program.
    pub fn tokens_of(&self, kind: ProgramKind) -> usize {
        let program = match kind {
            ProgramKind::Decode => self.decode,
            ProgramKind::Train => self.train,
            ProgramKind::Evaluate => self.evaluate,
        };
        program.map_or(0, |p| p.program.shape(p.port(Port::Tokens)).len())
    }

    /// The trainable parameters: what a device saves before it is switched off.
    pub fn trainable(&self) -> &[f32] {
        self.lent.memory.trainable
    }

    /// The trainable parameters, to restore them.
    pub fn trainable_mut(&mut self) -> &mut [f32] {
        self.lent.memory.trainable
    }

    /// The optimizer's moments and the number of steps, to resume training later.
    pub fn optimizer_mut(&mut self) -> (&mut [f32], &mut u32) {
        (self.lent.memory.moments, &mut self.lent.steps)
    }

    fn write_text(&mut self, program: &FileProgram<'a>, tokens: &[i32], targets: &[i32]) -> Result<(), SessionError> {
        let (view, ints) = (&program.program, &mut *self.lent.memory.ints);
        write_ints(view, ints, program.port(Port::Tokens), tokens).map_err(SessionError::Tokens)?;
        write_ints(view, ints, program.port(Port::Targets), targets).map_err(SessionError::Tokens)?;
        let positions = program.port(Port::Positions);
        let row_len = view.shape(positions).cols().max(1);
        if let Some(positions) = crate::exec::ints_mut(view, ints, positions) {
            for row in positions.chunks_mut(row_len) {
                row.iter_mut().zip(0..).for_each(|(to, i)| *to = i);
            }
        }
        Ok(())
    }

    fn run(&mut self, program: &FileProgram<'a>) {
        // Programs share the arena.
        self.has_logits = false;
        self.lent.run(program);
    }
}
