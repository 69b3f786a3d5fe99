//! What a device does with a program file: ask how much memory it takes, lend that, run.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn core::error::Error>> {
//! use samara_core::{decode::Sampling, file::ProgramFile, ops, session::Session};
//! # static MODEL: &[u8] = &[];
//! # let mut ram = [0.0; 0]; let mut order = [0; 0]; let prompt = [1];
//! let kernels = ops::inference();
//! let file = ProgramFile::open(MODEL, &kernels)?;
//! assert!(Session::ram_len(&file) <= ram.len());
//! let mut session = Session::new(file, &mut ram)?;
//! for token in prompt {
//!     session.feed(token)?;
//! }
//! let next = session.choose(&Sampling::GREEDY, 0, &mut order)?;
//! # Ok(()) }
//! ```

use core::fmt;
use core::mem::take;
use core::ops::Range;

use crate::decode::{Sampling, sample};
use crate::exec::{Backend, Cpu, Gradients, Memory, WriteError, place, place_mut, write_ints, write_real};
use crate::file::{FileProgram, Port, ProgramFile, ProgramKind};
use crate::graph::HYPER_LEN;
use crate::math::rng::{Purpose, Rng};
use crate::threads::Serial;

/// Programs of a file on lent memory: decoding, training, evaluation, with shared parameters.
pub struct Session<'a: 'm, 'm> {
    file: ProgramFile<'a>,
    decode: Option<FileProgram<'a>>,
    train: Option<FileProgram<'a>>,
    evaluate: Option<FileProgram<'a>>,
    memory: Memory<'m, f32>,
    position: usize,
    has_logits: bool,
    drawn: u64,
    steps: u32,
}

/// The hyper-parameters of a training step, named as in PyTorch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hyper {
    /// Learning rate.
    pub lr: f32,
    /// β₁; the momentum of SGD.
    pub beta1: f32,
    /// β₂.
    pub beta2: f32,
    /// ε.
    pub eps: f32,
    /// Weight decay.
    pub weight_decay: f32,
}

impl Hyper {
    /// PyTorch's defaults for AdamW at a learning rate, without weight decay.
    pub const fn adamw(lr: f32) -> Self {
        Self { lr, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0 }
    }

    /// Plain SGD.
    pub const fn sgd(lr: f32) -> Self {
        Self { lr, beta1: 0.0, beta2: 0.0, eps: 0.0, weight_decay: 0.0 }
    }
}

/// Why a session refused a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum SessionError {
    /// The lent memory is too small.
    Ram {
        /// Elements lent.
        found: usize,
        /// Elements needed.
        needed: usize,
    },
    /// The file has no such program.
    NoProgram(ProgramKind),
    /// Tokens or targets that do not fit the program.
    Tokens(WriteError),
    /// The sequence has reached the model's context length: [`Session::restart`] it.
    ContextFull {
        /// The positions.
        context: usize,
    },
    /// Too little scratch for top-p.
    Order {
        /// Elements lent.
        found: usize,
        /// Elements needed: one for each token.
        needed: usize,
    },
    /// There are no logits to sample from: call [`Session::feed`] before every [`Session::choose`].
    NoLogits,
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ram { found, needed } => {
                write!(f, "{found} elements of four bytes were lent, {needed} are needed: see Session::ram_len")
            }
            Self::NoProgram(kind) => write!(f, "the file has no program {kind:?}: export it with one"),
            Self::Tokens(error) => write!(f, "tokens: {error}"),
            Self::Order { found, needed } => write!(f, "top-p needs scratch for {needed} tokens, {found} were lent"),
            Self::NoLogits => f.write_str("no logits to sample from: feed a token before every choice"),
            Self::ContextFull { context } => {
                write!(f, "the sequence has {context} tokens, as many as the model has positions: restart it")
            }
        }
    }
}

impl core::error::Error for SessionError {}

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
    #[inline(never)]
    pub fn new(file: ProgramFile<'a>, ram: &'m mut [f32]) -> Result<Self, SessionError> {
        let sizes = file.sizes();
        let (found, needed) = (ram.len(), sizes.total_len());
        let mut rest = ram.get_mut(..needed).ok_or(SessionError::Ram { found, needed })?;
        rest.fill(0.0);
        let mut part = |len: usize| split(&mut rest, len);
        let arena = part(sizes.arena_len);
        let state = part(sizes.state_len);
        let ints = bytemuck::try_cast_slice_mut(part(sizes.ints_len)).unwrap_or_default();
        let trainable = part(sizes.trainable_len);
        let (grads, moments) = (part(sizes.grads_len), part(sizes.moments_len));
        copy(trainable, file.trainable());
        let memory = Memory { arena, state, ints, trainable, grads, moments, frozen: file.frozen() };
        let program = |kind| file.program(kind);
        let (decode, train, evaluate) =
            (program(ProgramKind::Decode), program(ProgramKind::Train), program(ProgramKind::Evaluate));
        Ok(Self { file, decode, train, evaluate, memory, position: 0, has_logits: false, drawn: 0, steps: 0 })
    }

    /// The file.
    pub const fn file(&self) -> &ProgramFile<'a> {
        &self.file
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
        let (at, context) = (self.position as i32, self.file.header().context as usize);
        if self.position >= context {
            return Err(SessionError::ContextFull { context });
        }
        let token = i32::try_from(token).unwrap_or(i32::MAX);
        for (port, value) in
            [(Port::Tokens, token), (Port::Positions, at), (Port::Starts, at), (Port::Live, at.saturating_add(1))]
        {
            write_ints(&program.program, self.memory.ints, program.port(port), &[value]).map_err(SessionError::Tokens)?;
        }
        self.run(&program);
        self.position = self.position.saturating_add(1);
        self.has_logits = true;
        Ok(place_mut(&program.plan, self.memory.arena, program.port(Port::Logits)))
    }

    /// Samples a token from the logits of the last [`Session::feed`], which are overwritten; the same seed gives the same sequence as `samara
    /// generate`. `order` is scratch for [`Sampling::top_p`], one element per token of the vocabulary; it may be empty if top-p is 1.
    ///
    /// # Errors
    ///
    /// The file has no program that decodes, `order` is too short for top-p, or nothing was fed since the last choice.
    pub fn choose(&mut self, sampling: &Sampling, seed: u64, order: &mut [u32]) -> Result<u32, SessionError> {
        let program = self.decode.ok_or(SessionError::NoProgram(ProgramKind::Decode))?;
        let (found, needed) = (order.len(), if sampling.top_p < 1.0 { self.file.header().vocab_size as usize } else { 0 });
        if found < needed {
            return Err(SessionError::Order { found, needed });
        }
        if !take(&mut self.has_logits) {
            return Err(SessionError::NoLogits);
        }
        let bits = Rng::new(seed, Purpose::Sampling, self.drawn).next_u64();
        self.drawn = self.drawn.wrapping_add(1);
        Ok(sample(place_mut(&program.plan, self.memory.arena, program.port(Port::Logits)), order, sampling, bits) as u32)
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
        let counted = targets.iter().filter(|&&t| t >= 0).count().max(1);
        place_mut(&program.plan, self.memory.arena, program.port(Port::Upstream)).fill(1.0 / counted as f32);
        Ok(self.step(&program, hyper).iter().sum::<f32>() / counted as f32)
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
        write_real(&program.program, &program.plan, self.memory.arena, program.port(Port::Upstream), upstream)
            .map_err(SessionError::Tokens)?;
        Ok(self.step(&program, hyper))
    }

    /// Writes the hyper-parameters of every group, runs, and returns the losses.
    fn step(&mut self, program: &FileProgram<'a>, hyper: &Hyper) -> &[f32] {
        self.steps = self.steps.saturating_add(1);
        let correction = |beta: f32| 1.0 - power(beta, self.steps);
        let Hyper { lr, beta1, beta2, eps, weight_decay } = *hyper;
        let mut numbers: [f32; HYPER_LEN] = [lr, beta1, beta2, eps, weight_decay, correction(beta1), correction(beta2), 0.0];
        for port in program.ports().iter().filter(|port| port.kind == Port::Hyper as u16) {
            let [first, ..] = &mut numbers;
            *first = self.file.groups().get(usize::from(port.index)).map_or(lr, |group| lr * group.lr_scale);
            copy(place_mut(&program.plan, self.memory.arena, port.tensor), &numbers);
        }
        self.run(program);
        self.losses(program)
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
        Ok(self.losses(&program))
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
        self.memory.trainable
    }

    /// The trainable parameters, to restore them.
    pub fn trainable_mut(&mut self) -> &mut [f32] {
        self.memory.trainable
    }

    /// The optimizer's moments and the number of steps, to resume training later.
    pub fn optimizer_mut(&mut self) -> (&mut [f32], &mut u32) {
        (self.memory.moments, &mut self.steps)
    }

    fn write_text(&mut self, program: &FileProgram<'a>, tokens: &[i32], targets: &[i32]) -> Result<(), SessionError> {
        let (view, ints) = (&program.program, &mut *self.memory.ints);
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
        let nodes: Range<usize> = 0..program.program.nodes().len();
        Cpu::new(self.file.kernels(), &Serial).run(
            &program.program,
            &program.plan,
            &mut self.memory,
            nodes,
            Gradients::Overwrite,
        );
    }

    fn losses(&self, program: &FileProgram<'a>) -> &[f32] {
        place(&program.plan, self.memory.arena, program.port(Port::Losses))
    }
}

/// Takes the first `len` elements off the rest.
#[inline(never)]
fn split<'m>(rest: &mut &'m mut [f32], len: usize) -> &'m mut [f32] {
    let (part, tail) = take(rest).split_at_mut_checked(len).unwrap_or_default();
    *rest = tail;
    part
}

/// Copies values between slices that do not alias.
#[inline(never)]
fn copy(to: &mut [f32], from: &[f32]) {
    to.iter_mut().zip(from).for_each(|(to, &from)| *to = from);
}

/// xⁿ by squaring.
fn power(mut x: f32, mut n: u32) -> f32 {
    let mut power = 1.0;
    while n > 0 {
        if n & 1 != 0 {
            power *= x;
        }
        x *= x;
        n >>= 1;
    }
    power
}
