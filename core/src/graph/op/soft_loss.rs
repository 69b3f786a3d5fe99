//! Cross-entropy against a distribution over the classes: mixed labels, distillation, several positives.

use super::super::adjoint::Step;
use super::super::args::{Args, Outputs};
use super::super::attribute::{BinaryKind, Over};
use super::super::builder::Graph;
use super::super::error::GraphErrorKind as E;
use super::super::family::{Differentiable, Operation};
use super::super::tape::Tape;
use super::super::tensor::Tensor;
use super::super::work::{Work, product};
use super::{Op, of};
use crate::shape::Shape;

impl Graph<'_> {
    /// Cross-entropy −Σ t ln softmax(z) per row, in nats, with the target t = q; or, with a class, t = (1 − mix)·one-hot(class) + mix·q, where a negative
    /// class has no one-hot part. t need not sum to 1. z and q (…, V), classes (…) i32, mix (1); result (…). The gradient is that of z alone.
    #[track_caller]
    pub fn soft_loss(&self, z: Tensor, q: Tensor, classes_and_mix: Option<[Tensor; 2]>) -> Tensor {
        let [classes, mix] = classes_and_mix.unwrap_or([Tensor::NONE; 2]);
        let [losses, ..] = self.push(Op::SoftLoss, &[z, q, classes, mix].map(Into::into));
        losses
    }
}

impl Operation for of::SoftLoss {
    fn shapes<F: From<E>>(self, args: &Args<'_, F>) -> Result<Outputs, F> {
        let z = args.real(0)?.shape;
        args.expect(1, args.real(1)?, z)?;
        let rows = z.without_cols();
        if args.get(2).is_some() {
            args.expect(2, args.selectors(2, z.cols(), true)?, rows)?;
            args.expect(3, args.real(3)?, Shape::SCALAR)?;
        }
        Ok([Some(rows), Some(z), None])
    }

    fn flops(self, work: &Work<'_>) -> u64 {
        product(&[4, work.input_len(0)])
    }
}

impl Differentiable for of::SoftLoss {
    fn gradient(self, tape: &mut Tape<'_>, step: &Step) -> Result<(), E> {
        let dy = tape.upstream(step, 0)?;
        let slope = tape.saved(step.output(1))?;
        let dz = tape.one(Op::Binary { kind: BinaryKind::Mul, over: Over::Column }, &[slope, dy])?;
        tape.contribute(step.input(0), dz)
    }
}
