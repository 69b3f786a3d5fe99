//! The device interface: memory, kernels, and a queue of work for which the host waits once per step.
//!
//! The host writes inputs, queues runs, requests results with [`Device::fetch`], and waits in [`Device::sync`]; nothing else waits. The next `sync`
//! reports failed work, and so does every one after it.

pub mod cpu;
pub mod program;

use std::ops::Range;

use bytemuck::Pod;
use samara_core::exec::{Gradients, WriteError};
use samara_core::graph::Tensor;
use thiserror::Error;

use crate::error::{Failure, Kind};
use crate::memory::OutOfMemory;

pub use cpu::{CpuDevice, Engine};
pub use program::{BuildError, OwnedParams, OwnedProgram, Planner};

/// The memory of one run, each buffer lent for its time.
pub struct Bind<'a, D: Device> {
    /// Activations, inputs and scratch.
    pub arena: &'a mut D::Mem<f32>,
    /// Integers.
    pub ints: &'a mut D::Mem<i32>,
    /// Persistent state; `None` for programs without states.
    pub state: Option<&'a mut D::Mem<f32>>,
    /// Trainable parameters.
    pub weights: &'a mut D::Mem<f32>,
    /// Frozen parameters.
    pub frozen: &'a D::Mem<u8>,
    /// Gradients; `None` for programs that neither read nor write them.
    pub grads: Option<&'a mut D::Mem<f32>>,
    /// Moments, concatenated; `None` for programs without updates.
    pub moments: Option<&'a mut D::Mem<f32>>,
}

/// Why work on a device failed. The first failure is kept: later work is not run.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DeviceError {
    /// The program was built over another registry than the set.
    #[error("parameter set {set:?}: the program was built over another registry of parameters; build it over the set's own")]
    Registry {
        /// The name of the set.
        set: String,
    },
    /// A buffer that the program needs is too small or missing.
    #[error("{what} of {owner:?} has {found} elements, and the program needs {needed}: make room for it before it runs")]
    Room {
        /// Which buffer.
        what: &'static str,
        /// The name of its set.
        owner: String,
        /// Its elements.
        found: usize,
        /// The elements that the program needs.
        needed: usize,
    },
    /// A set that follows itself, or an invalid set index.
    #[error("the run names a parameter set that does not exist, or one set twice")]
    Sets,
    /// Memory that cannot be had.
    #[error(transparent)]
    Memory(#[from] OutOfMemory),
    /// The device itself, in its own words.
    #[error("{0}")]
    Failed(String),
}

impl Failure for DeviceError {
    fn kind(&self) -> Kind {
        Kind::Failed
    }
}

/// Values of a tensor in transfer to the host: readable from the next [`Device::sync`] on, until the first [`Device::fetch`] after it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ticket {
    /// The range of the values in the device's mirror.
    pub range: Range<usize>,
    /// Which round of fetches they belong to.
    pub round: u64,
}

/// Something that runs programs on memory of its own.
pub trait Device: Planner + Send + Sized {
    /// Memory for elements of a type.
    type Mem<T: Pod + Send + Sync>: Send + Default;

    /// The kernels and threads, for people.
    fn describe(&self) -> String;

    /// `len` zeros.
    ///
    /// # Errors
    /// The memory cannot be had.
    fn alloc<T: Pod + Send + Sync>(&self, len: usize) -> Result<Self::Mem<T>, OutOfMemory>;

    /// Elements of a memory.
    fn len<T: Pod + Send + Sync>(mem: &Self::Mem<T>) -> usize;

    /// Lends values to the host: in place if host and device share memory, otherwise as a copy.
    ///
    /// # Errors
    /// The device failed before.
    fn lend<T: Pod + Send + Sync>(&mut self, mem: &Self::Mem<T>, read: &mut dyn FnMut(&[T])) -> Result<(), DeviceError>;

    /// Lends values for writing: a copy is transferred in both directions.
    ///
    /// # Errors
    /// The device failed before.
    fn lend_mut<T: Pod + Send + Sync>(
        &mut self,
        mem: &mut Self::Mem<T>,
        write: &mut dyn FnMut(&mut [T]),
    ) -> Result<(), DeviceError>;

    /// Sets elements. A range beyond the memory is cut.
    fn fill<T: Pod + Send + Sync>(&mut self, mem: &mut Self::Mem<T>, range: Range<usize>, value: T);

    /// Copies elements from one memory to position `at` of another, up to the shorter length.
    fn copy<T: Pod + Send + Sync>(&mut self, from: &Self::Mem<T>, range: Range<usize>, to: &mut Self::Mem<T>, at: usize);

    /// Queues a range of nodes. Sizes and registry have been checked.
    fn run(&mut self, program: &OwnedProgram, bind: Bind<'_, Self>, nodes: Range<usize>, gradients: Gradients);

    /// Queues a write to an input.
    ///
    /// # Errors
    /// The tensor is not an input, or has another number of elements.
    fn write(&mut self, program: &OwnedProgram, arena: &mut Self::Mem<f32>, t: Tensor, values: &[f32]) -> Result<(), WriteError>;

    /// Queues a write of integers after checking their range.
    ///
    /// # Errors
    /// As [`Device::write`], or an integer is out of its range.
    fn write_ints(
        &mut self,
        program: &OwnedProgram,
        ints: &mut Self::Mem<i32>,
        t: Tensor,
        values: &[i32],
    ) -> Result<(), WriteError>;

    /// Queues a transfer of a pinned tensor to the host, with its values after the work queued before.
    fn fetch(&mut self, program: &OwnedProgram, arena: &Self::Mem<f32>, t: Tensor) -> Ticket;

    /// Waits for all work.
    ///
    /// # Errors
    /// The first failure since the device was opened.
    fn sync(&mut self) -> Result<(), DeviceError>;

    /// Values that were fetched before the last [`Device::sync`].
    ///
    /// # Panics
    /// The ticket is not from that round: its values are not available.
    fn fetched(&self, ticket: &Ticket) -> &[f32];

    /// Waits for all work and copies the values of a pinned tensor, up to the length of `into`.
    ///
    /// # Errors
    /// As [`Device::sync`].
    fn read(&mut self, program: &OwnedProgram, arena: &Self::Mem<f32>, t: Tensor, into: &mut [f32]) -> Result<(), DeviceError> {
        let ticket = self.fetch(program, arena, t);
        self.sync()?;
        into.iter_mut().zip(self.fetched(&ticket)).for_each(|(to, &from)| *to = from);
        Ok(())
    }

    /// Queues copies of pinned tensors of one program into inputs of another that shares its arena. All are read before the first is written: write
    /// other inputs of `to` afterwards.
    fn carry(&mut self, from: &OwnedProgram, to: &OwnedProgram, arena: &mut Self::Mem<f32>, pairs: &[(Tensor, Tensor)]);

    /// Calls `f` where runs are cheapest: a loop of many runs belongs inside.
    fn enter<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T;
}
