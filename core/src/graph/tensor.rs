//! Tensors of a graph: handles, and plain records with the same layout in RAM, in a mapped file, and in flash.

use bytemuck::{CheckedBitPattern, NoUninit, Pod, Zeroable};

use crate::dtype::DType;
use crate::shape::{Shape, UNIT, UNIT_BYTES};

/// A handle to a tensor of a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(transparent)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Tensor(pub(crate) u16);

impl Tensor {
    /// No tensor: an absent optional input, or an unused output.
    pub const NONE: Self = Self(u16::MAX);

    /// The position in the table of tensors.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// Whether this is a tensor.
    pub const fn is_some(self) -> bool {
        self.0 != u16::MAX
    }

    /// This tensor read from a first column on: one part of packed queries, keys and values.
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

impl From<Option<Tensor>> for Columns {
    fn from(tensor: Option<Tensor>) -> Self {
        tensor.unwrap_or(Tensor::NONE).into()
    }
}

/// The buffer of a tensor.
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
    /// In the state buffer, which persists between runs.
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
    /// The parameter's index, for parameters and gradients.
    pub index: u32,
    /// Start in its buffer if that is not the arena: in units ([`UNIT`]), for integers in elements; see [`TensorRecord::start`].
    pub offset: u32,
    /// Smallest and largest integer that the host may write.
    pub bounds: [i32; 2],
    /// The tensor whose memory it shares; itself when it has its own.
    pub root: Tensor,
    /// The node that writes it, `u16::MAX` for none.
    pub producer: u16,
    /// During construction: its gradient; for an overwritten state, the tensor that replaced it.
    pub(crate) successor: Tensor,
    /// Its recomputed copy while the graph is built.
    pub(crate) recomputed: Tensor,
    /// Its location.
    pub role: Role,
    /// The type of its elements.
    pub dtype: DType,
    /// Whether its value must last until the end of the program.
    pub pinned: bool,
    /// Whether a gradient flows through it, while the graph is built.
    pub(crate) requires_grad: bool,
    /// Whether it starts a segment of block recomputation.
    pub(crate) checkpoint: bool,
    /// Whether something needs the value, while the graph is finished.
    pub(crate) needed: bool,
    /// During construction: whether a node contributed to this parameter's gradient.
    pub(crate) contributed: bool,
    /// During construction: whether the host writes this upstream gradient after the forward range.
    pub(crate) late: bool,
}

impl TensorRecord {
    /// Start in its buffer: in bytes for frozen parameters, in elements for all others outside of the arena.
    pub fn start(&self) -> usize {
        let unit = match self.role {
            Role::Ints => 1,
            Role::Frozen => UNIT_BYTES,
            Role::Activation | Role::Input | Role::State | Role::Trainable | Role::Grad => UNIT,
        };
        // It is in a buffer that this machine can address: registries, graphs and files are checked for that.
        (self.offset as usize).wrapping_mul(unit)
    }

    /// Elements of the state buffer that a state takes, each of at least four bytes.
    pub fn state_len(&self) -> usize {
        match self.dtype {
            DType::Real => self.shape.len(),
            other => other.bytes(self.shape.len(), size_of::<f32>()).unwrap_or(0).div_ceil(size_of::<f32>()),
        }
    }

    /// This record as stored in a file: without construction data, so that a parameter's record is the same in every program.
    pub fn stored(self) -> Self {
        let pinned = self.pinned && matches!(self.role, Role::Activation | Role::Input);
        Self {
            successor: Tensor::NONE,
            recomputed: Tensor::NONE,
            pinned,
            requires_grad: false,
            checkpoint: false,
            needed: false,
            contributed: false,
            late: false,
            ..self
        }
    }

    /// This record with the memory of `source`: another view of the same elements.
    pub(super) const fn sharing(self, source: &Self) -> Self {
        Self {
            root: source.root,
            role: source.role,
            dtype: source.dtype,
            index: source.index,
            offset: source.offset,
            bounds: source.bounds,
            ..self
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
        needed: false,
        contributed: false,
        late: false,
    };
}
