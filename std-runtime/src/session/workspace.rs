//! The workspace: the arena and the integers that all programs of a session share, one after the other.

use crate::device::{CpuDevice, Device, OwnedProgram};

/// Memory as large as the largest program needs.
pub struct Workspace<D: Device = CpuDevice> {
    /// Activations, inputs and scratch.
    pub arena: D::Mem<f32>,
    /// Integers.
    pub ints: D::Mem<i32>,
    generation: u64,
}

impl<D: Device> Workspace<D> {
    /// A workspace for no program.
    pub fn new(device: &D) -> Self {
        Self { arena: device.alloc(0), ints: device.alloc(0), generation: 0 }
    }

    /// Makes room for programs: as much as the largest takes. Returns whether memory was taken anew, and then all values in it are lost and
    /// [`Workspace::generation`] has changed.
    pub fn reserve<'p>(&mut self, device: &D, programs: impl IntoIterator<Item = &'p OwnedProgram>) -> bool {
        let (mut arena, mut ints) = (D::len(&self.arena), D::len(&self.ints));
        let before = (arena, ints);
        for program in programs {
            (arena, ints) = (arena.max(program.arena_len()), ints.max(program.ints_len()));
        }
        if arena > before.0 {
            // The old memory goes back before the new is taken.
            self.arena = device.alloc(0);
            self.arena = device.alloc(arena);
        }
        if ints > before.1 {
            self.ints = device.alloc(ints);
        }
        let grown = (arena, ints) != before;
        self.generation += u64::from(grown);
        grown
    }

    /// Changes when memory moves: what was recorded against older memory, such as a captured graph, is void.
    pub fn generation(&self) -> u64 {
        self.generation
    }
}
