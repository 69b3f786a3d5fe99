//! The memory of a program: separate slices by element type and role, all lent by the caller.

use core::fmt;
use core::ops::Range;

use crate::graph::{DType, Program, Role, Tensor};
use crate::math::Real;
use crate::plan::Plan;

/// The buffers of a run.
pub struct Memory<'m, R> {
    /// Activations, inputs and scratch, [`Plan::arena_len`] elements.
    pub arena: &'m mut [R],
    /// Values that persist between runs, `info().state_len()` elements.
    pub state: &'m mut [R],
    /// Integers, `info().ints_len` elements.
    pub ints: &'m mut [i32],
    /// Trainable parameters.
    pub trainable: &'m mut [R],
    /// Their gradients, [`Program::grads_len`] elements: 0 for programs without a backward pass, or with updates in it. Zero them before the first
    /// run.
    pub grads: &'m mut [R],
    /// `info().moments` buffers, each as long as the trainable parameters; empty for programs without updates, or whose optimizer has no moments.
    pub moments: &'m mut [R],
    /// Frozen parameters; must be aligned for `R` if they hold values of type `R`.
    pub frozen: &'m [u8],
}

impl<R> Memory<'_, R> {
    /// Checks that every buffer is long enough for a run of the whole program. A run itself does not report this: its kernels get empty slices for
    /// what is missing.
    ///
    /// # Errors
    ///
    /// The first buffer that is too short, with its length and the length needed, or misaligned frozen parameters of type `R`.
    pub fn check(&self, program: &Program<'_>, plan: &Plan<'_>) -> Result<(), MemoryError> {
        let (info, params) = (program.info(), program.params());
        let moments = params.trainable_len().saturating_mul(info.moments as usize);
        // Up to the end of the last parameter: the padding of its unit may be missing.
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
    /// Field name, unit of length, owner of the requirement (program or plan), and the source of the required length.
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

/// What is wrong with the memory lent for a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum MemoryError {
    /// A buffer is too short.
    Short {
        /// Which.
        buffer: Buffer,
        /// Its length in elements; in bytes for [`Buffer::Frozen`].
        found: usize,
        /// The length that a run needs.
        needed: usize,
    },
    /// The frozen parameters hold values of the backend's type and are not aligned for it.
    Unaligned {
        /// The alignment of that type, in bytes.
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
                write!(
                    f,
                    "frozen holds floating-point values and is not aligned to {needed} bytes: lend the bytes of a slice of that type"
                )
            }
        }
    }
}

impl core::error::Error for MemoryError {}

/// Why a tensor could not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum WriteError {
    /// The tensor is not written by the host: it is neither an input nor integers.
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
            Self::NotAnInput => {
                f.write_str("not an input of the program: only tensors of Graph::input and Graph::ints can be written")
            }
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
/// `t` is not an integer tensor or `buffer` is shorter than [`Program::info`]'s `ints_len`, the number of values differs from the number of elements,
/// or a value is out of the range given to [`crate::graph::Graph::ints`]. Nothing is written then.
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

/// Writes a floating-point input.
///
/// # Errors
///
/// `t` is not from [`crate::graph::Graph::input`], or the number of values differs from the number of elements. Nothing is written then.
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

/// The values of an integer tensor, writable and unchecked; `None` for another tensor. Values out of range never make a kernel fail, but make its
/// results meaningless.
pub fn ints_mut<'m>(program: &Program<'_>, buffer: &'m mut [i32], t: Tensor) -> Option<&'m mut [i32]> {
    buffer.get_mut(ints_range(program, t)?)
}

/// The values of an integer tensor; `None` for another tensor.
pub fn ints<'m>(program: &Program<'_>, buffer: &'m [i32], t: Tensor) -> Option<&'m [i32]> {
    buffer.get(ints_range(program, t)?)
}

/// The values of an input, or of an activation kept by [`crate::graph::Graph::output`]. `None` for every other tensor, whose memory is reused during
/// the run, and where the arena is shorter than the plan.
pub fn real<'m, R>(program: &Program<'_>, plan: &Plan<'_>, arena: &'m [R], t: Tensor) -> Option<&'m [R]> {
    arena.get(plan.value(kept(program, t)?))
}

/// As [`real`], writable.
pub fn real_mut<'m, R>(program: &Program<'_>, plan: &Plan<'_>, arena: &'m mut [R], t: Tensor) -> Option<&'m mut [R]> {
    arena.get_mut(plan.value(kept(program, t)?))
}

/// The memory of an input or a kept activation; for any other tensor the content is meaningless.
pub(crate) fn place<'m, R>(plan: &Plan<'_>, arena: &'m [R], t: Tensor) -> &'m [R] {
    arena.get(plan.value(t)).unwrap_or(&[])
}

/// As [`place`], writable.
pub(crate) fn place_mut<'m, R>(plan: &Plan<'_>, arena: &'m mut [R], t: Tensor) -> &'m mut [R] {
    arena.get_mut(plan.value(t)).unwrap_or(&mut [])
}

/// `t` if its arena memory persists between runs.
fn kept(program: &Program<'_>, t: Tensor) -> Option<Tensor> {
    program.tensor(t).filter(|r| r.pinned && matches!(r.role, Role::Activation | Role::Input)).map(|_| t)
}

fn ints_range(program: &Program<'_>, t: Tensor) -> Option<Range<usize>> {
    let record = program.tensor(t).filter(|r| r.role == Role::Ints)?;
    let start = record.start();
    Some(start..start.saturating_add(record.shape.len()))
}
