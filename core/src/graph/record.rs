//! Nodes of a graph: plain records with the same layout in RAM, in a mapped file, and in flash.

use bytemuck::{CheckedBitPattern, NoUninit};

use super::attribute::MAX_ATTRIBUTES;
use super::op::{MAX_INPUTS, MAX_OUTPUTS, Op, ReadsGradients};
use super::tensor::Tensor;

/// A node.
#[derive(Clone, Copy, Debug, CheckedBitPattern, NoUninit)]
#[repr(C)]
pub struct NodeRecord {
    /// Attributes, see [`Op::attributes`].
    pub attributes: [f64; MAX_ATTRIBUTES],
    /// First column of every input.
    pub columns: [u32; MAX_INPUTS],
    /// Inputs.
    pub inputs: [Tensor; MAX_INPUTS],
    /// Outputs.
    pub outputs: [Tensor; MAX_OUTPUTS],
    /// The operation, see [`Op::opcode`].
    pub opcode: u8,
    /// Whether the node is dead: its outputs have no readers.
    pub dead: bool,
    pub(crate) later: u8,
    pub(crate) reserved: [u8; 3],
}

impl NodeRecord {
    /// A record for filling storage.
    pub const EMPTY: Self = Self {
        attributes: [0.0; MAX_ATTRIBUTES],
        columns: [0; MAX_INPUTS],
        inputs: [Tensor::NONE; MAX_INPUTS],
        outputs: [Tensor::NONE; MAX_OUTPUTS],
        opcode: u8::MAX,
        dead: true,
        later: 0,
        reserved: [0; 3],
    };

    /// The operation.
    pub fn op(&self) -> Option<Op> {
        Op::decode(self.opcode, &self.attributes)
    }

    /// Input `i`.
    pub fn input(&self, i: usize) -> Tensor {
        self.inputs.get(i).copied().unwrap_or(Tensor::NONE)
    }

    /// Output `i`.
    pub fn output(&self, i: usize) -> Tensor {
        self.outputs.get(i).copied().unwrap_or(Tensor::NONE)
    }

    /// Whether output `i` is a later contribution to a gradient, which always accumulates.
    pub fn is_later(&self, i: usize) -> bool {
        i < MAX_OUTPUTS && self.later & 1 << i != 0
    }

    /// Whether the node reads the gradient buffer: a norm, or an update without a gradient input.
    pub fn reads_grads(&self) -> bool {
        match self.op().map_or(ReadsGradients::Never, |op| op.reads_gradients()) {
            ReadsGradients::Never => false,
            ReadsGradients::Always => true,
            ReadsGradients::UnlessInput(i) => !self.input(i.into()).is_some(),
        }
    }

    /// For attention's gradient (dO in input 0; q, k, v in inputs 1 to 3): the outputs that receive the gradients of q, of k, of v.
    ///
    /// Parts of one packed tensor share its gradient.
    pub fn attention_grad_outputs(&self) -> [usize; 3] {
        attention_grad_outputs(self.input(1), self.input(2), self.input(3))
    }
}

/// See [`NodeRecord::attention_grad_outputs`].
pub(crate) fn attention_grad_outputs(q: Tensor, k: Tensor, v: Tensor) -> [usize; 3] {
    let k_output = usize::from(k != q);
    let v_output = if v == q {
        0
    } else if v == k {
        k_output
    } else {
        k_output + 1
    };
    [0, k_output, v_output]
}
