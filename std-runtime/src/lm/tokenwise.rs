//! A scalar for each of some tokens of every row, and the gradient of a host function of these scalars: log-probs of a policy, scores of a value
//! function or a reward model. The host computes between the forward and the backward range of the program.

use std::sync::Arc;

use samara_core::exec::Gradients;
use samara_core::graph::{DROPOUT_CONTROL_LEN, Graph, Recompute, Tensor, Upstream, Wrt};
use samara_core::model::lm::{self, LanguageModel, LmInputs};
use samara_core::ops::dropout;
use samara_core::params::ParamId;

use super::step::DropoutNumbers;
use super::{RunError, positions, write, write_ints};
use crate::data::dataset::IGNORE;
use crate::session::{BuildError, Device, On, OwnedProgram, Session, SetId};

/// The shape of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokensShape {
    /// Rows, B.
    pub rows: usize,
    /// Tokens of a row, T.
    pub len: usize,
    /// The most picked tokens per row, R.
    pub picks: usize,
}

/// The scalar of a picked token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// ln p(the next token | all up to this one), from logits divided by the temperature, and the entropy of that distribution, in nats; no gradient
    /// flows through the entropy.
    Logprob {
        /// The temperature.
        temperature: f64,
    },
    /// The same, with a gradient through both.
    LogprobAndEntropy {
        /// The temperature.
        temperature: f64,
    },
    /// The last hidden state times a parameter (1, C).
    Score(ParamId),
}

/// How a program is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trained {
    /// What its backward pass recomputes.
    pub recompute: Recompute,
    /// Whether inputs of low-rank adapters are dropped, by [`Tokenwise::set_dropout`].
    pub adapter_dropout: bool,
}

impl Trained {
    /// Nothing is recomputed, nothing is dropped.
    pub const PLAIN: Self = Self { recompute: Recompute::None, adapter_dropout: false };
}

/// Right-padded rows of tokens with their picked positions.
#[derive(Clone, Debug)]
pub struct TokenBatch {
    shape: TokensShape,
    rows: usize,
    tokens: Vec<i32>,  // (B, T)
    picked: Vec<i32>,  // (B, R), rows of (B·T)
    targets: Vec<i32>, // (B, R)
    mask: Vec<bool>,   // (B, R)
}

impl TokenBatch {
    /// An empty batch.
    pub fn new(shape: TokensShape) -> Self {
        let (tokens, picks) = (shape.rows * shape.len, shape.rows * shape.picks);
        Self {
            shape,
            rows: 0,
            tokens: vec![0; tokens],
            picked: vec![0; picks],
            targets: vec![IGNORE; picks],
            mask: vec![false; picks],
        }
    }

    /// Its shape.
    pub fn shape(&self) -> TokensShape {
        self.shape
    }

    /// Rows in the batch.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The mask of valid picks (B, R).
    pub fn mask(&self) -> &[bool] {
        &self.mask
    }

    /// CRC-32C of the rows and of what is wanted of them, begun with that of others.
    pub fn checksum(&self, mut checksum: u32) -> u32 {
        for ints in [&self.tokens, &self.picked, &self.targets] {
            checksum = crc32c::crc32c_append(checksum, bytemuck::cast_slice(ints));
        }
        checksum
    }

    /// Forgets all rows.
    pub fn clear(&mut self) {
        self.rows = 0;
        self.tokens.fill(0);
        self.picked.fill(0);
        self.targets.fill(IGNORE);
        self.mask.fill(false);
    }

    /// Adds a row: its tokens, and the positions to pick. Tokens beyond T and positions beyond R are dropped; a full batch is unchanged.
    pub fn push(&mut self, tokens: &[i32], picks: impl IntoIterator<Item = usize>) {
        let TokensShape { rows, len, picks: most } = self.shape;
        if self.rows == rows {
            return;
        }
        let (first, first_pick) = (self.rows * len, self.rows * most);
        self.rows += 1;
        self.tokens[first..].iter_mut().zip(tokens).take(len).for_each(|(to, &token)| *to = token);
        for (i, at) in picks.into_iter().filter(|&at| at < tokens.len().min(len)).take(most).enumerate() {
            self.picked[first_pick + i] = (first + at) as i32;
            self.targets[first_pick + i] = tokens.get(at + 1).copied().unwrap_or(IGNORE);
            self.mask[first_pick + i] = true;
        }
    }
}

/// The tensors of a program.
struct Io {
    inputs: LmInputs,
    picked: Tensor,             // (B, R)
    targets: Option<Tensor>,    // (B, R)
    upstream: Option<Tensor>,   // (B, R)
    of_entropy: Option<Tensor>, // (B, R)
    numbers: Tensor,            // (B, R)
    entropies: Option<Tensor>,  // (B, R)
}

fn append(g: &Graph<'_>, model: &dyn LanguageModel, shape: TokensShape, number: Number, trained: Option<Trained>) -> Io {
    let TokensShape { rows, len, picks } = shape;
    let mut inputs = LmInputs::new(g, model, rows, len);
    let drops = trained.is_some_and(|trained| trained.adapter_dropout);
    inputs.adapter_dropout = drops.then(|| g.ints(&[DROPOUT_CONTROL_LEN], i32::MIN, i32::MAX));
    let columns = model.dims().n_embd;
    let picked = g.ints(&[rows, picks], 0, (rows * len).saturating_sub(1) as i32); // (B, R)
    let hidden = model.hidden(g, &inputs, None); // (B, T, C)
    let table = g.reshape(hidden, &[rows * len, columns]); // (B·T, C)
    let x = g.embedding(picked, table, None); // (B, R, C)
    let (targets, numbers, entropies) = match number {
        Number::Logprob { temperature } | Number::LogprobAndEntropy { temperature } => {
            let targets = lm::targets(g, model, rows, picks); // (B, R)
            let x = if temperature == 1.0 { x } else { g.scale(x, 1.0 / temperature) }; // (B, R, C)
            let [losses, entropies] = g.head_loss_and_entropy(x, g.param(model.head()), None, targets); // (B, R)
            (Some(targets), losses, Some(g.output(entropies)))
        }
        Number::Score(weight) => (None, g.linear(x, g.param(weight), None), None), // (B, R, 1)
    };
    let numbers = g.output(numbers);
    let through = entropies.filter(|_| trained.is_some() && matches!(number, Number::LogprobAndEntropy { .. }));
    let upstream = trained.map(|_| match number {
        Number::Logprob { .. } | Number::LogprobAndEntropy { .. } => g.input(&[rows, picks]), // (B, R)
        Number::Score(_) => g.input(&[rows, picks, 1]),                                       // (B, R, 1)
    });
    let of_entropy = through.map(|_| g.input(&[rows, picks])); // (B, R)
    if let (Some(Trained { recompute, .. }), Some(upstream)) = (trained, upstream) {
        let of_entropy = through.zip(of_entropy).map(|(entropies, upstream)| (entropies, Upstream::After(upstream)));
        let pairs: Vec<_> = [(numbers, Upstream::After(upstream))].into_iter().chain(of_entropy).collect();
        g.backward(&pairs, Wrt::Trainable, recompute);
    }
    Io { inputs, picked, targets, upstream, of_entropy, numbers, entropies }
}

/// A program with its host buffers.
pub struct Tokenwise {
    program: OwnedProgram,
    io: Io,
    shape: TokensShape,
    /// −1 where the program computes −ln p.
    sign: f32,
    positions: Vec<i32>, // (B, T)
    numbers: Vec<f32>,   // (B, R)
    entropies: Vec<f32>, // (B, R)
    upstream: Vec<f32>,  // (B, R)
    dropout: [i32; DROPOUT_CONTROL_LEN],
}

impl Tokenwise {
    /// Builds the program for a set and allocates its memory; without `trained` there is no gradient, and no memory for one.
    ///
    /// # Errors
    /// The model cannot be planned.
    pub fn new<D: Device>(
        session: &mut Session<D>,
        set: SetId,
        layers: &Arc<dyn LanguageModel>,
        shape: TokensShape,
        (number, trained): (Number, Option<Trained>),
    ) -> Result<Self, BuildError> {
        let (program, io) = session.prepare(On::set(set), |g| append(g, &**layers, shape, number, trained))?;
        Ok(Self::of(program, io, shape, number))
    }

    fn of(program: OwnedProgram, io: Io, shape: TokensShape, number: Number) -> Self {
        let numbers = shape.rows * shape.picks;
        let entropies = if io.entropies.is_some() { numbers } else { 0 };
        let trained = if io.upstream.is_some() { numbers } else { 0 };
        Self {
            program,
            io,
            shape,
            sign: if matches!(number, Number::Score(_)) { 1.0 } else { -1.0 },
            positions: positions(shape.rows, shape.len),
            numbers: vec![0.0; numbers],
            entropies: vec![0.0; entropies],
            upstream: vec![0.0; trained],
            dropout: [0; DROPOUT_CONTROL_LEN],
        }
    }

    /// The shape.
    pub fn shape(&self) -> TokensShape {
        self.shape
    }

    /// The program.
    pub fn program(&self) -> &OwnedProgram {
        &self.program
    }

    /// Chooses what is dropped of the batches from now on: a function of seed, step and micro-batch. Without effect on a program that drops nothing.
    pub fn set_dropout(&mut self, numbers: &DropoutNumbers, micro: usize) {
        self.dropout = dropout::control(numbers.seed, numbers.step as u32, micro as u32, numbers.of_adapters);
    }

    /// Computes the scalars of a batch with the weights of a set, and waits for them.
    ///
    /// # Errors
    /// A token beyond the vocabulary, or a device failure.
    pub fn forward<D: Device>(&mut self, session: &mut Session<D>, set: SetId, batch: &TokenBatch) -> Result<&[f32], RunError> {
        let (program, io) = (&self.program, &self.io);
        write_ints(session, program, "token", io.inputs.tokens, &batch.tokens)?;
        write_ints(session, program, "position", io.inputs.positions, &self.positions)?;
        write_ints(session, program, "picked token", io.picked, &batch.picked)?;
        if let Some(targets) = io.targets {
            write_ints(session, program, "target", targets, &batch.targets)?;
        }
        if let Some(control) = io.inputs.adapter_dropout {
            write_ints(session, program, "dropout control", control, &self.dropout)?;
        }
        session.run(program, On::set(set), program.view().forward(), Gradients::Overwrite);
        session.read_into(program, io.numbers, &mut self.numbers)?;
        if let Some(entropies) = io.entropies {
            session.read_into(program, entropies, &mut self.entropies)?;
        }
        self.numbers.iter_mut().for_each(|x| *x *= self.sign);
        Ok(&self.numbers)
    }

    /// The scalars (B, R) of the last batch.
    pub fn numbers(&self) -> &[f32] {
        &self.numbers
    }

    /// The entropies (B, R) of the last batch, in nats; empty for scores.
    pub fn entropies(&self) -> &[f32] {
        &self.entropies
    }

    /// Queues the gradient of the last batch, given the derivatives of a loss with respect to its scalars (B, R). The program must have been built to
    /// train.
    ///
    /// # Errors
    /// Another number of values.
    pub fn backward<D: Device>(
        &mut self,
        session: &mut Session<D>,
        set: SetId,
        upstream: &[f32],
        gradients: Gradients,
    ) -> Result<(), RunError> {
        self.backward_of(session, set, [upstream, &[]], gradients)
    }

    /// The same with the derivatives by its entropies (B, R) besides, for [`Number::LogprobAndEntropy`].
    ///
    /// # Errors
    /// As [`Self::backward`].
    pub fn backward_of<D: Device>(
        &mut self,
        session: &mut Session<D>,
        set: SetId,
        [upstream, of_entropy]: [&[f32]; 2],
        gradients: Gradients,
    ) -> Result<(), RunError> {
        let Some(t) = self.io.upstream else { return Ok(()) };
        if let Some(t) = self.io.of_entropy {
            write(session, &self.program, "upstream gradient of the entropy", t, of_entropy)?;
        }
        self.upstream.iter_mut().zip(upstream).for_each(|(to, &x)| *to = self.sign * x);
        write(session, &self.program, "upstream gradient", t, &self.upstream)?;
        if gradients == Gradients::Overwrite {
            session.clear_untouched(&self.program, On::set(set));
        }
        session.run(&self.program, On::set(set), self.program.view().backward(), gradients);
        Ok(())
    }
}
