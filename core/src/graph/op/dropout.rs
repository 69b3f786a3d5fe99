//! Dropout. Srivastava et al. 2014.

use super::super::adjoint::Step;
use super::super::args::{Args, Outputs};
use super::super::builder::Graph;
use super::super::error::GraphErrorKind as E;
use super::super::family::{Differentiable, Operation};
use super::super::tape::Tape;
use super::super::tensor::Tensor;
use super::super::work::Work;
use super::{Op, of};

impl Graph<'_> {
    /// Inverted dropout: zeroes elements with probability p and divides the others by 1 − p. x of any shape; result in its shape. `control` (5) i32:
    /// seed (low, high), step, micro-batch, p·2²⁴. Srivastava et al. 2014.
    #[track_caller]
    pub fn dropout(&self, x: Tensor, control: Tensor) -> Tensor {
        let site = self.site();
        let [y, ..] = self.push(Op::Dropout { site }, &[x.into(), control.into()]);
        y
    }
}

impl Operation for of::Dropout {
    fn shapes<F: From<E>>(self, args: &Args<'_, F>) -> Result<Outputs, F> {
        args.control(1)?;
        Ok([Some(args.real(0)?.shape), None, None])
    }

    fn flops(self, work: &Work<'_>) -> u64 {
        work.output_len(0) as u64
    }
}

impl Differentiable for of::Dropout {
    /// The same mask on the upstream gradient.
    fn gradient(self, tape: &mut Tape<'_>, step: &Step) -> Result<(), E> {
        let dy = tape.upstream(step, 0)?;
        let dx = tape.one(Op::Dropout { site: self.site }, &[dy, step.input(1)])?;
        tape.contribute(step.input(0), dx)
    }
}
