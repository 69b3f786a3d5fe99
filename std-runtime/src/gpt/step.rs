//! One optimizer step: micro-batches forward and backward, then the update.

use samara_core::exec::Gradients;
use samara_core::graph::{DROPOUT_CONTROL_LEN, Epsilon, Graph, HYPER_LEN, Recompute, Tensor, Wrt};
use samara_core::model::gpt::{GptConfig, GptInputs, GptParams, hidden};
use samara_core::ops::dropout;

use super::{Gpt, RunError, positions, write, write_ints};
use crate::data::batches::Sampler;
use crate::data::shards::Tokens;
use crate::session::{BuildError, Engine, OwnedParams, OwnedProgram};

/// The shape of a training program.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepShape {
    /// Sequences of a micro-batch.
    pub batch: usize,
    /// Tokens of a sequence.
    pub block: usize,
    /// Micro-batches of a step.
    pub accumulation: usize,
    /// Whether dropout nodes are there at all.
    pub dropout: bool,
    /// Whether a moving average of the weights is kept.
    pub ema: bool,
    /// What is computed twice.
    pub recompute: Recompute,
}

impl StepShape {
    /// Tokens of a step.
    pub fn tokens(&self) -> u64 {
        (self.batch * self.block * self.accumulation) as u64
    }
}

/// The numbers of one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepNumbers {
    /// The step, from 0.
    pub step: u64,
    /// Learning rate.
    pub lr: f64,
    /// β₁.
    pub beta1: f64,
    /// β₂.
    pub beta2: f64,
    /// ε.
    pub eps: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Largest gradient norm, 0 for no clipping.
    pub grad_clip: f64,
    /// Dropout probability.
    pub dropout: f64,
    /// Seed of dropout.
    pub seed: u64,
    /// Decay of the moving average.
    pub ema_decay: f64,
}

/// What a step says of itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepResult {
    /// Mean loss over the step's tokens.
    pub loss: f64,
    /// Norm of the gradient before clipping.
    pub grad_norm: f64,
}

/// Moment buffer of the moving average; AdamW has 0 and 1.
pub const EMA_SLOT: usize = 2;

struct Io {
    inputs: GptInputs,
    targets: Tensor,
    upstream: Tensor,
    hyper: Tensor,
    ema_decay: Option<Tensor>,
    losses: Tensor,
    norm: Tensor,
}

/// Appends a whole training step to a graph.
fn append(g: &Graph<'_>, config: &GptConfig, params: &GptParams, shape: &StepShape) -> Io {
    let mut inputs = GptInputs::new(g, config, shape.batch, shape.block);
    inputs.dropout = shape.dropout.then(|| g.ints(&[DROPOUT_CONTROL_LEN], i32::MIN, i32::MAX));
    let targets = g.ints(&[shape.batch, shape.block], i32::MIN, config.vocab_size as i32 - 1);
    let upstream = g.input(&[1]);
    let hyper = g.input(&[HYPER_LEN]);
    let ema_decay = shape.ema.then(|| g.input(&[1]));
    let h = hidden(g, config, params, &inputs, None);
    let losses = g.output(g.head_loss(h, g.param(params.head()), None, targets, 0.0));
    g.backward(&[(losses, upstream)], Wrt::Trainable, shape.recompute);
    let norm = g.output(g.global_norm());
    g.adamw(hyper, Some(norm), Epsilon::AfterCorrection);
    if let Some(decay) = ema_decay {
        g.ema(decay, EMA_SLOT);
    }
    Io { inputs, targets, upstream, hyper, ema_decay, losses, norm }
}

/// The training program alone, without memory for it: for plans.
pub fn program(
    engine: &Engine,
    owned: &OwnedParams,
    config: &GptConfig,
    params: &GptParams,
    shape: &StepShape,
) -> Result<OwnedProgram, BuildError> {
    Ok(OwnedProgram::new(engine, owned, |g| append(g, config, params, shape))?.0)
}

/// A training program with its host buffers: a step allocates nothing.
pub struct Step {
    shape: StepShape,
    program: OwnedProgram,
    io: Io,
    tokens: Vec<i32>,    // (B, T)
    targets: Vec<i32>,   // (B, T)
    positions: Vec<i32>, // (B, T)
}

impl Step {
    /// Builds the program and makes room for it.
    pub fn new(gpt: &mut Gpt, shape: StepShape) -> Result<Self, BuildError> {
        let (config, params) = (gpt.config, gpt.params);
        let (program, io) = gpt.session.prepare(|g| append(g, &config, &params, &shape))?;
        let len = shape.batch * shape.block;
        let positions = positions(shape.batch, shape.block);
        Ok(Self { shape, program, io, tokens: vec![0; len], targets: vec![0; len], positions })
    }

    /// The shape.
    pub fn shape(&self) -> &StepShape {
        &self.shape
    }

    /// The program.
    pub fn program(&self) -> &OwnedProgram {
        &self.program
    }

    /// Trains on the rows that the sampler gives this step. Weights are unchanged when the loss or the gradient is not finite.
    pub fn run(
        &mut self,
        gpt: &mut Gpt,
        sampler: &Sampler,
        source: &(impl Tokens + ?Sized),
        numbers: &StepNumbers,
    ) -> Result<StepResult, RunError> {
        let view = self.program.view();
        let (gradient_range, update) = (0..view.backward().end, view.update());
        let scale = 1.0 / self.shape.tokens() as f64;
        let mut loss = 0.0;
        gpt.session.clear_untouched(&self.program);
        for micro in 0..self.shape.accumulation {
            let row = (numbers.step * self.shape.accumulation as u64 + micro as u64) * self.shape.batch as u64;
            sampler.fill(source, row, &mut self.tokens, &mut self.targets)?;
            self.write_inputs(gpt, numbers, micro, scale)?;
            let gradients = if micro == 0 { Gradients::Overwrite } else { Gradients::Add };
            gpt.session.run(&self.program, gradient_range.clone(), gradients);
            loss += gpt.session.read(&self.program, self.io.losses).iter().map(|&x| f64::from(x)).sum::<f64>() * scale;
        }
        let grad_norm = gpt.session.read(&self.program, self.io.norm).first().map_or(0.0, |&x| f64::from(x));
        if !loss.is_finite() || !grad_norm.is_finite() {
            let what = gpt.session.first_non_finite(&self.program, gradient_range);
            let what = what.unwrap_or_else(|| format!("loss {loss}, gradient norm {grad_norm}"));
            return Err(RunError::Diverged { step: numbers.step + 1, what });
        }
        gpt.session.run(&self.program, update, Gradients::Overwrite);
        Ok(StepResult { loss, grad_norm })
    }

    fn write_inputs(&self, gpt: &mut Gpt, numbers: &StepNumbers, micro: usize, scale: f64) -> Result<(), RunError> {
        let (session, program, io) = (&mut gpt.session, &self.program, &self.io);
        write_ints(session, program, "training token", io.inputs.tokens, &self.tokens)?;
        write_ints(session, program, "training target", io.targets, &self.targets)?;
        write_ints(session, program, "position", io.inputs.positions, &self.positions)?;
        if let Some(control) = io.inputs.dropout {
            let values = dropout::control(numbers.seed, numbers.step as u32, micro as u32, numbers.dropout);
            write_ints(session, program, "dropout control", control, &values)?;
        }
        write(session, program, "upstream gradient", io.upstream, &[scale as f32])?;
        let t = (numbers.step + 1) as i32;
        let correction = |beta: f64| 1.0 - beta.powi(t);
        let hyper = [
            numbers.lr,
            numbers.beta1,
            numbers.beta2,
            numbers.eps,
            numbers.weight_decay,
            correction(numbers.beta1),
            correction(numbers.beta2),
            numbers.grad_clip,
        ];
        write(session, program, "hyper-parameters", io.hyper, &hyper.map(|x| x as f32))?;
        if let Some(decay) = io.ema_decay {
            // The average starts as the weights themselves: at step 0 all of it comes from them.
            let d = if numbers.step == 0 { 0.0 } else { numbers.ema_decay };
            write(session, program, "decay of the average", decay, &[d as f32])?;
        }
        Ok(())
    }
}
