//! The workspace: the arena and the integers that all programs of a session share, one at a time.

use crate::device::{CpuDevice, Device, OwnedProgram};
use crate::memory::OutOfMemory;

/// Memory as large as the largest program needs.
pub struct Workspace<D: Device = CpuDevice> {
    /// Activations, inputs and scratch.
    pub arena: D::Mem<f32>,
    /// Integers.
    pub ints: D::Mem<i32>,
    generation: u64,
}

impl<D: Device> Default for Workspace<D> {
    fn default() -> Self {
        Self::new()
    }
}

impl<D: Device> Workspace<D> {
    /// A workspace for no program.
    pub fn new() -> Self {
        Self { arena: Default::default(), ints: Default::default(), generation: 0 }
    }

    /// Grows to the needs of the largest program. Returns whether memory was reallocated; then all values are lost and [`Workspace::generation`] has
    /// changed.
    ///
    /// # Errors
    /// The memory is not available.
    pub fn reserve<'p>(&mut self, device: &D, programs: impl IntoIterator<Item = &'p OwnedProgram>) -> Result<bool, OutOfMemory> {
        let (mut arena, mut ints) = (D::len(&self.arena), D::len(&self.ints));
        let before = (arena, ints);
        for program in programs {
            (arena, ints) = (arena.max(program.arena_len()), ints.max(program.ints_len()));
        }
        if arena > before.0 {
            // The old memory is freed before the new is allocated.
            self.arena = D::Mem::default();
            self.arena = device.alloc(arena)?;
        }
        if ints > before.1 {
            self.ints = device.alloc(ints)?;
        }
        let grown = (arena, ints) != before;
        self.generation += u64::from(grown);
        Ok(grown)
    }

    /// Changes when memory moves: anything recorded against older memory, such as a captured graph, is invalid.
    pub fn generation(&self) -> u64 {
        self.generation
    }
}
