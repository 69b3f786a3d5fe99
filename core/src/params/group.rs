//! Optimizer groups: parameters that are updated alike.

/// Groups that a registry can have.
pub const MAX_GROUPS: usize = 8;

/// The properties that the parameters of a group share. The learning rate is not among them: hyper-parameters are inputs of a run, and a program may
/// read a separate tensor of them for each group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// Whether weight decay applies.
    pub decay: bool,
}

/// A group of a registry: one contiguous range of the flat trainable buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupId {
    number: u8,
    group: Group,
}

impl GroupId {
    /// The default group of matrices and embeddings: weight decay applies.
    pub const DECAY: Self = Self { number: 0, group: Group { decay: true } };
    /// The default group of vectors (biases and gains): no weight decay.
    pub const NO_DECAY: Self = Self { number: 1, group: Group { decay: false } };

    pub(super) const fn new(number: u8, group: Group) -> Self {
        Self { number, group }
    }

    /// Its index; ranges are in the order of indices.
    pub const fn index(self) -> usize {
        self.number as usize
    }

    /// Whether weight decay applies.
    pub const fn decay(self) -> bool {
        self.group.decay
    }
}

impl Default for GroupId {
    fn default() -> Self {
        Self::DECAY
    }
}
