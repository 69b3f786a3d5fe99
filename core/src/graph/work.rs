//! A node as the cost rules see it: its shapes, and which of its tensors are present.

use super::op::{MAX_INPUTS, MAX_OUTPUTS};
use super::program::Node;

/// A node whose work is counted.
pub(crate) struct Work<'a> {
    pub(crate) node: Node<'a>,
    /// Whether each output has a reader.
    pub(crate) wanted: [bool; MAX_OUTPUTS],
    /// Whether output 0 reuses the memory of input 0.
    pub(crate) in_place: bool,
    /// All trainable values.
    pub(crate) trainable: usize,
    /// Bytes of a `Real`.
    pub(crate) real_bytes: usize,
    /// The number of cache keys read where a program learns it at run time; `None` counts all of them.
    pub(crate) live_keys: Option<usize>,
}

impl Work<'_> {
    /// Elements of input `i`.
    pub(super) fn input_len(&self, i: usize) -> usize {
        self.node.input_shape(i).len()
    }

    /// Elements of output `i`.
    pub(super) fn output_len(&self, i: usize) -> usize {
        self.node.output_shape(i).len()
    }

    /// Whether output `i` has a reader.
    pub(super) fn wants(&self, i: usize) -> bool {
        self.wanted.get(i).copied().unwrap_or(false)
    }

    /// How many of outputs `first` and `first + 1` are wanted.
    pub(super) fn wants_of_two(&self, first: usize) -> u64 {
        u64::from(self.wants(first)) + u64::from(self.wants(first.saturating_add(1)))
    }

    /// Floating-point operations of x Wᵀ, x (M, K) being input `x` and W (N, K) input `w`: 2 M K N.
    pub(super) fn product_flops(&self, [x, w]: [usize; 2]) -> u64 {
        product(&[2, self.node.input_shape(x).rows(), self.input_len(w)])
    }

    /// Bytes of `len` elements of input `i`.
    pub(super) fn input_bytes(&self, i: usize, len: usize) -> u64 {
        self.node.input(i).and_then(|t| t.dtype.bytes(len, self.real_bytes)).unwrap_or(0) as u64
    }

    /// Bytes of input `i`, 0 when it is absent.
    pub(super) fn read(&self, i: usize) -> u64 {
        self.input_bytes(i, self.input_len(i))
    }

    /// Bytes of output `i`, 0 when it has no reader; an accumulated output is also read.
    pub(super) fn written(&self, i: usize) -> u64 {
        let adds = self.node.record().is_later(i);
        if self.wants(i) { self.reals(self.output_len(i)).saturating_mul(if adds { 2 } else { 1 }) } else { 0 }
    }

    /// Bytes of `len` `Real`s.
    pub(super) fn reals(&self, len: usize) -> u64 {
        product(&[len, self.real_bytes])
    }

    /// Every input read and every wanted output written.
    pub(super) fn all(&self) -> u64 {
        let read = (0..MAX_INPUTS).fold(0u64, |sum, i| sum.saturating_add(self.read(i)));
        (0..MAX_OUTPUTS).fold(read, |sum, i| sum.saturating_add(self.written(i)))
    }

    /// Bytes of everything except the given inputs.
    pub(super) fn all_but(&self, inputs: &[usize]) -> u64 {
        inputs.iter().fold(self.all(), |sum, &i| sum.saturating_sub(self.read(i)))
    }
}

/// The product of the factors.
pub(super) fn product(factors: &[usize]) -> u64 {
    factors.iter().fold(1u64, |all, &x| all.saturating_mul(x as u64))
}
