//! Traits by which a family of operations defines each of them. An operation with a missing definition does not compile.

use core::ops::Range;

use super::adjoint::Step;
use super::args::{Args, Outputs};
use super::error::GraphErrorKind as E;
use super::record::NodeRecord;
use super::tape::Tape;
use super::tensor::Tensor;
use super::work::Work;
use crate::shape::UNIT;

/// Required of every operation.
pub(super) trait Operation: Sized {
    /// The shapes of its outputs, or the error in its inputs.
    fn shapes<F: From<E>>(self, args: &Args<'_, F>) -> Result<Outputs, F>;

    /// Floating-point operations; a function such as eˣ counts as one. An operation with matrix products counts only these, 2 per multiply-add: bias,
    /// softmax and activation are negligible beside them.
    fn flops(self, work: &Work<'_>) -> u64;

    /// Bytes read and written, if that is not every input and every live output once.
    fn bytes(self, work: &Work<'_>) -> u64 {
        work.all()
    }
}

/// Required of every operation whose row in the table lists differentiable inputs.
pub(super) trait Differentiable {
    /// Appends the gradient of a node and contributes it to its inputs.
    fn gradient(self, tape: &mut Tape<'_>, step: &Step) -> Result<(), E>;
}

/// Required of every operation that is cheap beside a matrix product.
pub(super) trait Cheap {
    /// Recomputes output 0 of a node from tensors that the node's gradient reads anyway; `None` where that is not cheap.
    fn again(self, tape: &mut Tape<'_>, node: &NodeRecord) -> Result<Option<Tensor>, E>;
}

/// Required of every operation that changes parameters or moments.
pub(super) trait Update {
    /// The parameters that it changes, out of `trainable_len` trainable elements.
    fn reach(self, trainable_len: usize) -> Reach;
}

/// The part of the flat buffers that an update reads and writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reach {
    /// Elements of the trainable parameters, and of each moment buffer.
    pub(crate) range: Range<usize>,
    /// The moment buffers.
    pub(crate) moments: [Option<u32>; 2],
}

impl Reach {
    /// `len` elements from unit `start` on, and these moments.
    pub(super) fn part(start: u32, len: u32, moments: [Option<u32>; 2]) -> Self {
        let start = (start as usize).saturating_mul(UNIT);
        Self { range: start..start.saturating_add(len as usize), moments }
    }
}
