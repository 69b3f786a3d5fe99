//! The memory of a program: separate borrows by element type and role, all lent by the caller.

use core::fmt;
use core::ops::Range;

use crate::graph::{DType, Program, Role, Tensor};
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

impl<R> Memory<'_, R> {
    /// Whether every buffer is as long as a run of the whole program needs. A run does not say so itself: kernels see nothing of what is not there.
    ///
    /// # Errors
    ///
    /// The first buffer that is too short, with its elements and those that it needs, or frozen numbers that are not aligned.
    pub fn check(&self, program: &Program<'_>, plan: &Plan<'_>) -> Result<(), MemoryError> {
        let (info, params) = (program.info(), program.params());
        let moments = params.trainable_len().saturating_mul(info.moments as usize);
        // Up to the end of the last one: the rest of its unit may be missing.
        let frozen = program.tensors().iter().filter(|r| r.role == Role::Frozen);
        let ends = frozen.map(|r| r.start().saturating_add(r.dtype.bytes(r.shape.len(), size_of::<R>()).unwrap_or(0)));
        let lengths = [
            (Buffer::Arena, self.arena.len(), plan.arena_len()),
            (Buffer::State, self.state.len(), info.state_len()),
            (Buffer::Ints, self.ints.len(), info.ints_len as usize),
            (Buffer::Trainable, self.trainable.len(), params.trainable_len()),
            (Buffer::Grads, self.grads.len(), program.grads_len()),
            (Buffer::Moments, self.moments.len(), moments),
            (Buffer::Frozen, self.frozen.len(), ends.max().unwrap_or(0)),
        ];
        if let Some(&(buffer, found, needed)) = lengths.iter().find(|(_, found, needed)| found < needed) {
            return Err(MemoryError::Short { buffer, found, needed });
        }
        let has_numbers = program.tensors().iter().any(|r| r.role == Role::Frozen && r.dtype == DType::Real);
        let needed = align_of::<R>();
        if has_numbers && !self.frozen.as_ptr().cast::<R>().is_aligned() {
            return Err(MemoryError::Unaligned { needed });
        }
        Ok(())
    }
}

/// A buffer of [`Memory`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Buffer {
    /// [`Memory::arena`].
    Arena,
    /// [`Memory::state`].
    State,
    /// [`Memory::ints`].
    Ints,
    /// [`Memory::trainable`].
    Trainable,
    /// [`Memory::grads`].
    Grads,
    /// [`Memory::moments`].
    Moments,
    /// [`Memory::frozen`], in bytes.
    Frozen,
}

impl Buffer {
    /// Its name as a field, the unit of its length, who needs it, and where the length that it needs comes from.
    const fn words(self) -> [&'static str; 4] {
        match self {
            Self::Arena => ["arena", "elements", "plan", "Plan::arena_len"],
            Self::State => ["state", "elements", "program", "ProgramInfo::state_len"],
            Self::Ints => ["ints", "elements", "program", "ProgramInfo::ints_len"],
            Self::Trainable => ["trainable", "elements", "program", "Params::trainable_len"],
            Self::Grads => ["grads", "elements", "program", "Program::grads_len"],
            Self::Moments => ["moments", "elements", "program", "ProgramInfo::moments times Params::trainable_len"],
            Self::Frozen => ["frozen", "bytes", "program", "Params::frozen_bytes"],
        }
    }
}

/// What is wrong with the memory that was lent for a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum MemoryError {
    /// A buffer is too short.
    Short {
        /// Which.
        buffer: Buffer,
        /// Its elements; bytes of [`Buffer::Frozen`].
        found: usize,
        /// The least that a run needs.
        needed: usize,
    },
    /// The frozen parameters hold numbers and do not begin where a number can.
    Unaligned {
        /// The alignment of a number, in bytes.
        needed: usize,
    },
}

impl fmt::Display for MemoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short { buffer, found, needed } => {
                let [name, unit, who, source] = buffer.words();
                write!(f, "{name} has {found} {unit}, the {who} needs {needed}: {source}")
            }
            Self::Unaligned { needed } => {
                write!(f, "frozen holds numbers and is not aligned to {needed} bytes: lend bytes of a slice of numbers")
            }
        }
    }
}

impl core::error::Error for MemoryError {}

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
///
/// # Errors
///
/// `t` is no tensor of integers or `buffer` is shorter than [`Program::info`]'s `ints_len`, there are more or fewer values than elements, or a value
/// is out of the range that [`crate::graph::Graph::ints`] was given. Nothing is written then.
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
///
/// # Errors
///
/// `t` is not from [`crate::graph::Graph::input`], or there are more or fewer values than elements. Nothing is written then.
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
    for (to, &from) in place_mut(plan, arena, t).iter_mut().zip(values) {
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

/// The values of an input, or of an activation that [`crate::graph::Graph::output`] keeps; `None` for every other tensor, whose place in the arena
/// other values take over during the run, and where the arena is shorter than the plan.
pub fn real<'m, R>(program: &Program<'_>, plan: &Plan<'_>, arena: &'m [R], t: Tensor) -> Option<&'m [R]> {
    arena.get(plan.value(kept(program, t)?))
}

/// The same to change; see [`real`].
pub fn real_mut<'m, R>(program: &Program<'_>, plan: &Plan<'_>, arena: &'m mut [R], t: Tensor) -> Option<&'m mut [R]> {
    arena.get_mut(plan.value(kept(program, t)?))
}

/// The place of a tensor that is known to be an input or a kept activation; otherwise what lies there means nothing.
pub(crate) fn place<'m, R>(plan: &Plan<'_>, arena: &'m [R], t: Tensor) -> &'m [R] {
    arena.get(plan.value(t)).unwrap_or(&[])
}

/// The same to change.
pub(crate) fn place_mut<'m, R>(plan: &Plan<'_>, arena: &'m mut [R], t: Tensor) -> &'m mut [R] {
    arena.get_mut(plan.value(t)).unwrap_or(&mut [])
}

/// `t` if it stands in the arena from the run to the next.
fn kept(program: &Program<'_>, t: Tensor) -> Option<Tensor> {
    program.tensor(t).filter(|r| r.pinned && matches!(r.role, Role::Activation | Role::Input)).map(|_| t)
}

fn ints_range(program: &Program<'_>, t: Tensor) -> Option<Range<usize>> {
    let record = program.tensor(t).filter(|r| r.role == Role::Ints)?;
    let start = record.start();
    Some(start..start.saturating_add(record.shape.len()))
}
