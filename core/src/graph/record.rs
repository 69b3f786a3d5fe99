//! Plain records of tensors and nodes: the same in RAM, in a mapped file, or in flash.

use bytemuck::{CheckedBitPattern, NoUninit, Pod, Zeroable};

use super::op::{MAX_ATTRIBUTES, MAX_INPUTS, MAX_OUTPUTS, Op};
use crate::dtype::DType;
use crate::shape::Shape;

/// A handle to a tensor of a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(transparent)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Tensor(pub(crate) u16);

impl Tensor {
    /// No tensor: an optional input that is absent, an output that nobody wants.
    pub const NONE: Self = Self(u16::MAX);

    /// The position in the table of tensors.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// Whether this is a tensor.
    pub const fn is_some(self) -> bool {
        self.0 != u16::MAX
    }

    /// This tensor read from a column on: a part of packed queries, keys and values.
    pub const fn from_column(self, column: usize) -> Columns {
        Columns { tensor: self, first: if column > u32::MAX as usize { u32::MAX } else { column as u32 } }
    }
}

/// A tensor read from a first column on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Columns {
    /// The tensor.
    pub tensor: Tensor,
    /// The first column.
    pub first: u32,
}

impl From<Tensor> for Columns {
    fn from(tensor: Tensor) -> Self {
        Self { tensor, first: 0 }
    }
}

/// Where a tensor lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, CheckedBitPattern, NoUninit)]
#[repr(u8)]
pub enum Role {
    /// In the arena, placed by the planner.
    #[default]
    Activation = 0,
    /// In the arena, pinned, written by the host.
    Input = 1,
    /// In the buffer of integers, written by the host.
    Ints = 2,
    /// In the state, kept from run to run.
    State = 3,
    /// A trainable parameter.
    Trainable = 4,
    /// A frozen parameter.
    Frozen = 5,
    /// The gradient of a trainable parameter.
    Grad = 6,
}

/// A tensor.
#[derive(Clone, Copy, Debug, CheckedBitPattern, NoUninit)]
#[repr(C)]
pub struct TensorRecord {
    /// Its shape.
    pub shape: Shape,
    /// The parameter's number, for parameters and gradients.
    pub index: u32,
    /// Where it begins in its buffer: bytes for frozen parameters, elements for all else that is not in the arena.
    pub offset: u32,
    /// Smallest and largest integer that the host may write.
    pub bounds: [i32; 2],
    /// The tensor whose memory it shares; itself when it has its own.
    pub root: Tensor,
    /// The node that writes it, `u16::MAX` for none.
    pub producer: u16,
    /// Its gradient while the graph is built; for a state that was overwritten, the tensor that replaced it.
    pub(crate) successor: Tensor,
    /// Its recomputed copy while the graph is built.
    pub(crate) recomputed: Tensor,
    /// Where it lives.
    pub role: Role,
    /// The type of its elements.
    pub dtype: DType,
    /// Whether its value must stand until the end of the program.
    pub pinned: bool,
    /// Whether a gradient flows through it, while the graph is built.
    pub(crate) requires_grad: bool,
    /// Whether it starts a segment of block recomputation.
    pub(crate) checkpoint: bool,
    pub(crate) reserved: [u8; 3],
}

impl TensorRecord {
    /// Elements of the state buffer that a state takes, each of at least four bytes.
    pub fn state_len(&self) -> usize {
        match self.dtype {
            DType::Real => self.shape.len(),
            other => other.bytes(self.shape.len(), size_of::<f32>()).unwrap_or(0).div_ceil(size_of::<f32>()),
        }
    }

    /// A record for filling storage.
    pub const EMPTY: Self = Self {
        shape: Shape::SCALAR,
        index: 0,
        offset: 0,
        bounds: [0, 0],
        root: Tensor::NONE,
        producer: u16::MAX,
        successor: Tensor::NONE,
        recomputed: Tensor::NONE,
        role: Role::Activation,
        dtype: DType::Real,
        pinned: false,
        requires_grad: false,
        checkpoint: false,
        reserved: [0; 3],
    };
}

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
    /// Whether nobody needs the node.
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

    /// Whether output `i` is a later contribution to a gradient: it always adds.
    pub fn is_later(&self, i: usize) -> bool {
        i < MAX_OUTPUTS && self.later & 1 << i != 0
    }

    /// Whether the node reads the gradient buffer: a norm, or an update without a gradient from the arena.
    pub fn reads_grads(&self) -> bool {
        match self.op() {
            Some(Op::GlobalNorm) => true,
            Some(Op::AdamW { .. } | Op::Sgd { .. }) => !self.input(2).is_some(),
            _ => false,
        }
    }

    /// For attention's gradient (dO in input 0, q, k, v in inputs 1 to 3): which output takes the gradient of q, of k, of v.
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
