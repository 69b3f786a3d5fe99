//! What a family of operations says of each of them. An operation for which something is missing does not compile.

use core::ops::Range;

use super::adjoint::Step;
use super::args::{Args, Outputs};
use super::error::GraphErrorKind as E;
use super::record::NodeRecord;
use super::tape::Tape;
use super::tensor::Tensor;
use super::work::Work;
use crate::shape::UNIT;

/// Said of every operation.
pub(super) trait Operation: Sized {
    /// The shapes of its outputs, or what is wrong with its inputs.
    fn shapes<F: From<E>>(self, args: &Args<'_, F>) -> Result<Outputs, F>;

    /// Floating-point operations, of which a function such as eˣ is one. An operation with matrix products counts these, 2 for each multiplication
    /// with its addition; bias, softmax and activation vanish beside them.
    fn flops(self, work: &Work<'_>) -> u64;

    /// Bytes read and written, if not every input once and every wanted output once.
    fn bytes(self, work: &Work<'_>) -> u64 {
        work.all()
    }
}

/// Said of every operation whose row names inputs into which a gradient flows.
pub(super) trait Differentiable {
    /// Appends the gradient of a node and contributes it to its inputs.
    fn gradient(self, tape: &mut Tape<'_>, step: &Step) -> Result<(), E>;
}

/// Said of every operation that is cheap beside a product.
pub(super) trait Cheap {
    /// Computes output 0 of a node again from what the node's gradient reads anyway; `None` where that is not cheap after all.
    fn again(self, tape: &mut Tape<'_>, node: &NodeRecord) -> Result<Option<Tensor>, E>;
}

/// Said of every operation that changes parameters or moments.
pub(super) trait Update {
    /// What it changes, all trainable parameters being `trainable_len` elements.
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
