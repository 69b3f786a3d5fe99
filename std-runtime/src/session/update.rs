//! The update of a trained set: the norm of its gradient, the host's check of it, the optimizer, and the averages that follow the set.
//!
//! It is a separate program, so that the programs that compute the gradient may run any number of times before it, and so that the host can reject a
//! gradient that is not finite before any weight changes.

use std::sync::Arc;

use samara_core::exec::Gradients;
use samara_core::graph::{Graph, HYPER_LEN, HyperInput, Momentum, Rule, Tensor};
use samara_core::params::GroupId;

use super::{On, Session, SetId};
use crate::device::{BuildError, Device, OwnedParams, OwnedProgram, Planner, Ticket};

/// The hyper-parameters of one update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UpdateNumbers {
    /// The index of this update of the set, from 1.
    pub count: u64,
    /// Learning rate.
    pub lr: f64,
    /// β₁, or SGD's momentum.
    pub beta1: f64,
    /// β₂.
    pub beta2: f64,
    /// ε.
    pub eps: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Largest gradient norm, 0 for no clipping.
    pub grad_clip: f64,
    /// Decay of the averages that follow the set.
    pub ema_decay: f64,
    /// Updates after which the averages are copies of the set: 1 where they have no values before.
    pub ema_copies: u64,
}

impl UpdateNumbers {
    /// The hyper-parameters as [`samara_core::graph::Graph::adamw`] takes them, with a scaled learning rate.
    fn hyper(&self, lr_scale: f64) -> [f32; HYPER_LEN] {
        let t = self.count as i32;
        let correction = |beta: f64| 1.0 - beta.powi(t);
        [
            self.lr * lr_scale,
            self.beta1,
            self.beta2,
            self.eps,
            self.weight_decay,
            correction(self.beta1),
            correction(self.beta2),
            self.grad_clip,
        ]
        .map(|x| x as f32)
    }
}

/// The names of the optimizer's moments, in order, as in PyTorch's optimizers.
pub fn moment_names(rule: Rule) -> &'static [&'static str] {
    match rule {
        Rule::AdamW(_) => &["exp_avg", "exp_avg_sq"],
        Rule::Sgd(Momentum::Classical | Momentum::Nesterov) => &["momentum_buffer"],
        Rule::Sgd(Momentum::None) => &[],
    }
}

/// The inputs and the output of an update program.
struct Io {
    /// Hyper-parameter inputs (8), each with its factor of the learning rate: that of all groups, then those of groups with their own factor.
    hypers: Vec<(Tensor, f64)>,
    /// The norm that clips, (1).
    clip: Tensor,
    /// The norm that is computed, (1).
    norm: Tensor,
}

/// Appends norm and optimizer to a graph.
fn append(g: &Graph<'_>, rule: Rule, lr_scales: &[(GroupId, f64)]) -> Io {
    let (hyper, clip) = (g.input(&[HYPER_LEN]), g.input(&[1]));
    let (mut hypers, mut by_group) = (vec![(hyper, 1.0)], HyperInput::from(hyper));
    for &(group, scale) in lr_scales {
        let hyper = g.input(&[HYPER_LEN]);
        hypers.push((hyper, scale));
        by_group = by_group.with(group, hyper);
    }
    let norm = g.output(g.global_norm());
    match rule {
        Rule::AdamW(epsilon) => g.adamw(by_group, Some(clip), epsilon),
        Rule::Sgd(momentum) => g.sgd(by_group, Some(clip), momentum),
    }
    Io { hypers, clip, norm }
}

/// The update program without memory, for planning.
///
/// # Errors
/// The program cannot be planned.
pub fn program(planner: &impl Planner, registry: &Arc<OwnedParams>, rule: Rule) -> Result<OwnedProgram, BuildError> {
    Ok(OwnedProgram::new(planner, registry, |g| append(g, rule, &[]))?.0)
}

/// A moving average of a set: a set of the same registry.
struct Average {
    on: On,
    program: OwnedProgram,
    decay: Tensor, // (1)
}

/// The update program of a trained set.
pub struct Update {
    on: On,
    program: OwnedProgram,
    io: Io,
    averages: Vec<Average>,
}

impl Update {
    /// The update of a set by an optimizer, followed by its averages: sets of the same registry. Groups may have factors of the learning rate.
    /// Allocates gradients and moments.
    ///
    /// # Errors
    /// A program cannot be planned.
    pub fn new<D: Device>(
        session: &mut Session<D>,
        set: SetId,
        rule: Rule,
        lr_scales: &[(GroupId, f64)],
        averages: &[SetId],
    ) -> Result<Self, BuildError> {
        let on = On::set(set);
        let (program, io) = session.prepare(on, |g| append(g, rule, lr_scales))?;
        let average = |&of: &SetId| {
            let on = On::set(of).following(set);
            let (program, decay) = session.prepare(on, |g| {
                let decay = g.input(&[1]);
                g.ema(decay, 0);
                decay
            })?;
            Ok(Average { on, program, decay })
        };
        let averages = averages.iter().map(average).collect::<Result<_, BuildError>>()?;
        Ok(Self { on, program, io, averages })
    }

    /// The set that it updates.
    pub fn set(&self) -> SetId {
        self.on.set
    }

    /// The program: the norm, then the optimizer.
    pub fn program(&self) -> &OwnedProgram {
        &self.program
    }

    /// Queues the norm of the gradient, (1). The host checks it before [`Update::apply`].
    pub fn norm<D: Device>(&self, session: &mut Session<D>) -> Ticket {
        session.run(&self.program, self.on, self.program.view().forward(), Gradients::Overwrite);
        session.fetch(&self.program, self.io.norm)
    }

    /// Queues the update of the weights, and then of the averages. `norm` is the result of [`Update::norm`].
    pub fn apply<D: Device>(&self, session: &mut Session<D>, numbers: &UpdateNumbers, norm: f32) {
        let mut hypers = self.io.hypers.iter();
        let written = hypers
            .try_for_each(|&(hyper, lr_scale)| session.write(&self.program, hyper, &numbers.hyper(lr_scale)))
            .and_then(|()| session.write(&self.program, self.io.clip, &[norm]));
        debug_assert_eq!(written, Ok(()), "all are inputs of these lengths");
        session.run(&self.program, self.on, self.program.view().update(), Gradients::Overwrite);
        let decay = if numbers.count <= numbers.ema_copies { 0.0 } else { numbers.ema_decay };
        for average in &self.averages {
            let written = session.write(&average.program, average.decay, &[decay as f32]);
            debug_assert_eq!(written, Ok(()), "an input of one value");
            session.run_all(&average.program, average.on, Gradients::Overwrite);
        }
    }
}
