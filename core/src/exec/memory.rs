//! The memory of a program: separate borrows by element type and role, all lent by the caller.

use core::fmt;
use core::ops::Range;

use crate::graph::{Program, Role, Tensor};
use crate::math::Real;
use crate::plan::Plan;

/// Everything that a run touches.
pub struct Memory<'m, R> {
    /// Activations, inputs and scratch, [`Plan::arena_len`] elements.
    pub arena: &'m mut [R],
    /// What lasts from run to run, `info().state_len()` elements.
    pub state: &'m mut [R],
    /// Integers, `info().ints_len` elements.
    pub ints: &'m mut [i32],
    /// Trainable parameters.
    pub trainable: &'m mut [R],
    /// Their gradients, [`Program::grads_len`] elements: none for programs without a backward pass, or with updates in it. Zero before the first
    /// run.
    pub grads: &'m mut [R],
    /// `info().moments` buffers as long as the trainable parameters; empty for programs without updates, or with updates that need none.
    pub moments: &'m mut [R],
    /// Frozen parameters; numbers must be aligned.
    pub frozen: &'m [u8],
}

/// Why a tensor could not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum WriteError {
    /// The tensor is not one that the host writes.
    NotAnInput,
    /// The number of values is wrong.
    Length {
        /// Values given.
        found: usize,
        /// Elements of the tensor.
        expected: usize,
    },
    /// An integer is out of the tensor's range.
    Range {
        /// Its position.
        position: usize,
        /// Its value.
        value: i32,
        /// The smallest value allowed.
        low: i32,
        /// The largest value allowed.
        high: i32,
    },
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnInput => f.write_str("not a tensor that the host writes"),
            Self::Length { found, expected } => write!(f, "{found} values for a tensor of {expected}"),
            Self::Range { position, value, low, high } => {
                write!(f, "value {value} at position {position} is not in {low}..={high}")
            }
        }
    }
}

impl core::error::Error for WriteError {}

/// Checks integers against the tensor's range and writes them.
pub fn write_ints(program: &Program<'_>, buffer: &mut [i32], t: Tensor, values: &[i32]) -> Result<(), WriteError> {
    let to = ints_mut(program, buffer, t).ok_or(WriteError::NotAnInput)?;
    if to.len() != values.len() {
        return Err(WriteError::Length { found: values.len(), expected: to.len() });
    }
    let [low, high] = program.tensor(t).map_or([0, 0], |r| r.bounds);
    if let Some((position, &value)) = values.iter().enumerate().find(|(_, v)| !(low..=high).contains(v)) {
        return Err(WriteError::Range { position, value, low, high });
    }
    for (to, &from) in to.iter_mut().zip(values) {
        *to = from;
    }
    Ok(())
}

/// Writes an input of numbers.
pub fn write_real<R: Real>(
    program: &Program<'_>,
    plan: &Plan<'_>,
    arena: &mut [R],
    t: Tensor,
    values: &[R],
) -> Result<(), WriteError> {
    let record = program.tensor(t).filter(|r| r.role == Role::Input).ok_or(WriteError::NotAnInput)?;
    if values.len() != record.shape.len() {
        return Err(WriteError::Length { found: values.len(), expected: record.shape.len() });
    }
    for (to, &from) in real_mut(plan, arena, t).iter_mut().zip(values) {
        *to = from;
    }
    Ok(())
}

/// A tensor of integers; `None` for another tensor. Unchecked values never make a kernel fail: they only make its results meaningless.
pub fn ints_mut<'m>(program: &Program<'_>, buffer: &'m mut [i32], t: Tensor) -> Option<&'m mut [i32]> {
    buffer.get_mut(ints_range(program, t)?)
}

/// A tensor of integers; `None` for another tensor.
pub fn ints<'m>(program: &Program<'_>, buffer: &'m [i32], t: Tensor) -> Option<&'m [i32]> {
    buffer.get(ints_range(program, t)?)
}

/// An input or a pinned activation; empty for other tensors.
pub fn real<'m, R>(plan: &Plan<'_>, arena: &'m [R], t: Tensor) -> &'m [R] {
    arena.get(plan.value(t)).unwrap_or(&[])
}

/// An input or a pinned activation; empty for other tensors.
pub fn real_mut<'m, R>(plan: &Plan<'_>, arena: &'m mut [R], t: Tensor) -> &'m mut [R] {
    arena.get_mut(plan.value(t)).unwrap_or(&mut [])
}

fn ints_range(program: &Program<'_>, t: Tensor) -> Option<Range<usize>> {
    let record = program.tensor(t).filter(|r| r.role == Role::Ints)?;
    let start = record.start();
    Some(start..start.saturating_add(record.shape.len()))
}
