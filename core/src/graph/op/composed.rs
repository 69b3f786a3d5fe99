//! Compositions of several operations, with their gradients.

use core::panic::Location;

use super::super::attribute::{BinaryKind, Over, ReduceKind, UnaryKind};
use super::super::builder::Graph;
use super::super::error::GraphErrorKind as E;
use super::super::tape::Tape;
use super::super::tensor::Tensor;
use super::Op;
use crate::shape::Shape;

impl Graph<'_> {
    /// Softmax, exp(x − max x) / Σ exp(x − max x), over the last extent. x (…, C), result in its shape. Five nodes; attention and the loss of a
    /// language model have fused softmaxes.
    #[track_caller]
    pub fn softmax(&self, x: Tensor) -> Tensor {
        let largest = self.reduce(ReduceKind::Max, Over::Column, x); // (…)
        let shifted = self.binary(BinaryKind::Sub, Over::Column, x, largest); // (…, C)
        let powers = self.unary(UnaryKind::Exp, 0.0, 0.0, shifted); // (…, C)
        let sum = self.reduce(ReduceKind::Sum, Over::Column, powers); // (…)
        self.binary(BinaryKind::Div, Over::Column, powers, sum) // (…, C)
    }

    /// Columns first..first+count of every row. x (…, C); result (…, count). [`Graph::attention`] and [`Graph::cache_write`] read columns in place,
    /// without this copy.
    #[track_caller]
    pub fn column_slice(&self, x: Tensor, first: usize, count: usize) -> Tensor {
        self.composed(Location::caller(), |tape| {
            tape.operation = Some("column slice");
            let shape = tape.tensor(x)?.shape;
            let (first, count, cols) = (extent(first), extent(count), extent(shape.cols()));
            if first.checked_add(count).is_none_or(|end| end > cols) {
                return Err(E::Columns { first, count, cols });
            }
            let y = tape.as_tokens(x)?;
            let y = tape.one(Op::TokenSlice { first, count }, &[y])?;
            tape.reshaped(y, with_cols(shape, count as usize)?)
        })
    }

    /// Concatenates along the last extent: a (…, Ca), b (…, Cb), equal in all other extents; result (…, Ca + Cb).
    #[track_caller]
    pub fn column_concat(&self, a: Tensor, b: Tensor) -> Tensor {
        self.composed(Location::caller(), |tape| {
            tape.operation = Some("column concat");
            let [left, right] = [tape.tensor(a)?.shape, tape.tensor(b)?.shape];
            let expected = with_cols(left, right.cols())?;
            if right != expected {
                return Err(E::Shape { input: 1, found: right, expected });
            }
            let both = [tape.as_tokens(a)?, tape.as_tokens(b)?];
            let y = tape.one(Op::TokenConcat, &both)?;
            tape.reshaped(y, with_cols(left, left.cols().saturating_add(right.cols()))?)
        })
    }

    fn composed(&self, location: &'static Location<'static>, f: impl FnOnce(&mut Tape<'_>) -> Result<Tensor, E>) -> Tensor {
        self.with(location, |tape| f(tape)).unwrap_or(Tensor::NONE)
    }
}

impl Tape<'_> {
    /// A matrix (…, C) as sequences (rows, C, 1): its columns become tokens.
    fn as_tokens(&mut self, x: Tensor) -> Result<Tensor, E> {
        let shape = self.tensor(x)?.shape;
        self.reshaped(x, Shape::new(&[shape.rows(), shape.cols(), 1]).ok_or(E::ShapeTooLarge)?)
    }
}

fn with_cols(shape: Shape, cols: usize) -> Result<Shape, E> {
    shape.with_cols(cols).ok_or(E::ShapeTooLarge)
}

/// An extent as an attribute; one that does not fit saturates to a value larger than any shape.
fn extent(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
