//! Accumulation into the gradient buffer, the global gradient norm, and parameter updates.
//!
//! `GlobalNorm` reads the whole gradient buffer, alignment padding included. The padding must be 0, so gradient buffers start zeroed.

use core::ops::Range;

use super::super::args::{Args, Outputs};
use super::super::attribute::{Epsilon, Momentum};
use super::super::builder::Graph;
use super::super::choice::{HyperInput, Rule};
use super::super::error::GraphErrorKind as E;
use super::super::family::{Operation, Reach, Update};
use super::super::tensor::Tensor;
use super::super::work::{Work, product};
use super::{MAX_OUTPUTS, Op, of};
use crate::params::GroupId;
use crate::shape::{Shape, UNIT};

/// Length of a hyper-parameter tensor: learning rate, β₁, β₂, ε, weight decay, 1 − β₁ᵗ, 1 − β₂ᵗ, largest gradient norm (0 = no clipping).
pub const HYPER_LEN: usize = 8;

/// The most elements that one update changes, a whole number of units.
const MAX_UPDATE: usize = 1 << 31;

impl Rule {
    /// Moment buffers that it needs, each as long as the trainable parameters.
    pub const fn moments(self) -> usize {
        match self {
            Self::AdamW(_) => 2,
            Self::Sgd(Momentum::Classical | Momentum::Nesterov) => 1,
            Self::Sgd(Momentum::None) => 0,
        }
    }

    /// The operation on a range of the trainable parameters, all in this group; it begins at a unit and has less than 2³² elements.
    pub(in super::super) fn op(self, range: Range<usize>, group: GroupId) -> Op {
        let (start, len, decay) = ((range.start / UNIT) as u32, range.len() as u32, group.decay());
        match self {
            Self::AdamW(epsilon) => Op::AdamW { start, len, decay, epsilon },
            Self::Sgd(momentum) => Op::Sgd { start, len, decay, momentum },
        }
    }
}

impl Graph<'_> {
    /// ‖all gradients‖₂, (1).
    #[track_caller]
    pub fn global_norm(&self) -> Tensor {
        let [y, ..] = self.push(Op::GlobalNorm, &[]);
        y
    }

    /// AdamW: Adam with decoupled weight decay on every trainable parameter; decay applies to the groups that have it. Loshchilov and Hutter 2019.
    ///
    /// `hyper` (8): learning rate, β₁, β₂, ε, weight decay, 1 − β₁ᵗ, 1 − β₂ᵗ, largest norm (0 = no clipping). `norm` (1), if given, clips gradients
    /// as PyTorch's `clip_grad_norm_` does. Each group may read a tensor of its own, see [`HyperInput`].
    #[track_caller]
    pub fn adamw(&self, hyper: impl Into<HyperInput>, norm: Option<Tensor>, epsilon: Epsilon) {
        self.update_groups(Rule::AdamW(epsilon), hyper.into(), norm);
    }

    /// Stochastic gradient descent with momentum β₁ on every trainable parameter, as PyTorch's `SGD`. `hyper` as for [`Graph::adamw`].
    #[track_caller]
    pub fn sgd(&self, hyper: impl Into<HyperInput>, norm: Option<Tensor>, momentum: Momentum) {
        self.update_groups(Rule::Sgd(momentum), hyper.into(), norm);
    }

    /// One update node per group; several for a group longer than one node's range.
    #[track_caller]
    fn update_groups(&self, rule: Rule, hyper: HyperInput, norm: Option<Tensor>) {
        self.needs_moments(rule.moments());
        for (group, range) in self.params().groups() {
            let mut rest = range;
            loop {
                let end = rest.end.min(rest.start.saturating_add(MAX_UPDATE));
                self.push(rule.op(rest.start..end, group), &[hyper.of(group).into(), norm.into()]);
                rest.start = end;
                if rest.is_empty() {
                    break;
                }
            }
        }
    }

    /// Exponential moving average of all trainable parameters in moment buffer `slot`: e = d e + (1 − d) w with d = `decay` (1).
    #[track_caller]
    pub fn ema(&self, decay: Tensor, slot: usize) {
        self.needs_moments(slot.saturating_add(1));
        self.push(Op::Ema { slot: slot as u32 }, &[decay.into()]);
    }
}

impl Operation for of::AccumulateGrad {
    fn shapes<F: From<E>>(self, args: &Args<'_, F>) -> Result<Outputs, F> {
        Ok([Some(args.real(0)?.shape), None, None])
    }

    fn flops(self, work: &Work<'_>) -> u64 {
        if work.node.record().is_later(0) { work.output_len(0) as u64 } else { 0 }
    }
}

impl Operation for of::GlobalNorm {
    fn shapes<F: From<E>>(self, _: &Args<'_, F>) -> Result<Outputs, F> {
        Ok([Some(Shape::SCALAR), None, None])
    }

    fn flops(self, work: &Work<'_>) -> u64 {
        product(&[2, work.trainable])
    }

    fn bytes(self, work: &Work<'_>) -> u64 {
        work.reals(work.trainable)
    }
}

/// The shape rule of an update of `len` parameters.
fn update<F: From<E>>(args: &Args<'_, F>, len: u32) -> Result<Outputs, F> {
    args.expect(0, args.real(0)?, Shape::new(&[HYPER_LEN]).ok_or(F::from(E::ShapeTooLarge))?)?;
    args.optional_shape(1, Shape::SCALAR)?;
    if let Some(gradient) = args.optional(2)?
        && gradient.shape.len() != len as usize
    {
        let expected = Shape::new(&[len as usize]).ok_or(F::from(E::ShapeTooLarge))?;
        return Err(F::from(E::Shape { input: 2, found: gradient.shape, expected }));
    }
    Ok([None; MAX_OUTPUTS])
}

impl Operation for of::AdamW {
    fn shapes<F: From<E>>(self, args: &Args<'_, F>) -> Result<Outputs, F> {
        update(args, self.len)
    }

    fn flops(self, _: &Work<'_>) -> u64 {
        product(&[15, self.len as usize])
    }

    fn bytes(self, work: &Work<'_>) -> u64 {
        // Weights and two moments read and written, gradients read.
        product(&[7, self.len as usize, work.real_bytes])
    }
}

impl Update for of::AdamW {
    fn reach(self, _: usize) -> Reach {
        Reach::part(self.start, self.len, [Some(0), Some(1)])
    }
}

impl Operation for of::Sgd {
    fn shapes<F: From<E>>(self, args: &Args<'_, F>) -> Result<Outputs, F> {
        update(args, self.len)
    }

    fn flops(self, _: &Work<'_>) -> u64 {
        let of_an_element = match self.momentum {
            Momentum::None => 5,
            Momentum::Classical => 7,
            Momentum::Nesterov => 9,
        };
        product(&[of_an_element, self.len as usize])
    }

    fn bytes(self, work: &Work<'_>) -> u64 {
        // Weights and perhaps a moment read and written, gradients read.
        product(&[if self.momentum == Momentum::None { 3 } else { 5 }, self.len as usize, work.real_bytes])
    }
}

impl Update for of::Sgd {
    fn reach(self, _: usize) -> Reach {
        let moment = if self.momentum == Momentum::None { None } else { Some(0) };
        Reach::part(self.start, self.len, [moment, None])
    }
}

impl Operation for of::Ema {
    fn shapes<F: From<E>>(self, args: &Args<'_, F>) -> Result<Outputs, F> {
        args.expect(0, args.real(0)?, Shape::SCALAR)?;
        Ok([None; MAX_OUTPUTS])
    }

    fn flops(self, work: &Work<'_>) -> u64 {
        product(&[3, work.trainable])
    }

    fn bytes(self, work: &Work<'_>) -> u64 {
        // The average read and written, weights read.
        product(&[3, work.trainable, work.real_bytes])
    }
}

impl Update for of::Ema {
    fn reach(self, trainable_len: usize) -> Reach {
        Reach { range: 0..trainable_len, moments: [Some(self.slot), None] }
    }
}
