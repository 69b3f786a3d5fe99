//! Processors: threads, kernels, and memory that the host shares.

use std::ops::Range;
use std::sync::Arc;

use bytemuck::Pod;
use samara_core::exec::{self, Backend, Cpu, Gradients, Kernels, Memory, WriteError};
use samara_core::graph::{Node, Program, Tensor};

use super::program::{OwnedProgram, Planner};
use super::{Bind, Device, DeviceError, Ticket};
use crate::kernels::gemm::{Gemm, GemmChoice};
use crate::memory::{Buffer, OutOfMemory};
use crate::threads::{Pool, PoolError};

/// Threads and kernels: everything that programs run on.
pub struct Engine {
    pool: Pool,
    kernels: Kernels<f32>,
    gemm_name: &'static str,
}

impl Engine {
    /// An engine with this many threads (0: one per core) and the given GEMM backend.
    ///
    /// # Errors
    /// The operating system refuses to start the threads.
    pub fn new(threads: usize, gemm: Gemm) -> Result<Arc<Self>, PoolError> {
        let threads = if threads > 0 { threads } else { std::thread::available_parallelism().map_or(1, usize::from) };
        Ok(Arc::new(Self {
            pool: Pool::new(threads)?,
            kernels: crate::kernels::cpu(gemm),
            gemm_name: GemmChoice::new(gemm).name(),
        }))
    }

    /// An engine on one thread with core's own kernels: those of a microcontroller, for planning its programs.
    ///
    /// # Errors
    /// The operating system refuses to start the thread.
    pub fn reference() -> Result<Self, PoolError> {
        Ok(Self { pool: Pool::new(1)?, kernels: samara_core::ops::reference(), gemm_name: "reference" })
    }

    /// The GEMM backend, for people.
    pub fn gemm_name(&self) -> &'static str {
        self.gemm_name
    }

    /// Threads of the pool.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// Calls `f` on a thread of the pool. On such a thread, running a program neither allocates nor hands work to another thread first: a loop of
    /// many runs belongs inside.
    pub fn install<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        self.pool.install(f)
    }

    fn cpu(&self) -> Cpu<'_, f32> {
        Cpu::new(&self.kernels, &self.pool)
    }
}

impl Planner for Engine {
    fn unsupported(&self, program: &Program<'_>) -> Option<String> {
        self.cpu().unsupported(program).map(|node| node.to_string())
    }

    fn scratch_len(&self, node: &Node<'_>) -> usize {
        self.cpu().scratch_len(node)
    }

    fn real_bytes(&self) -> usize {
        size_of::<f32>()
    }
}

/// An engine as a device: work is done when it is queued.
pub struct CpuDevice {
    engine: Arc<Engine>,
    /// Values that were fetched in this round.
    mirror: Vec<f32>,
    round: u64,
    /// Whether a sync has ended the round: the next fetch begins another.
    ended: bool,
    /// Values between two programs.
    staging: Vec<f32>,
}

impl CpuDevice {
    /// The device of an engine.
    pub fn new(engine: Arc<Engine>) -> Self {
        Self { engine, mirror: Vec::new(), round: 0, ended: false, staging: Vec::new() }
    }

    /// The engine.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }
}

/// The values of an input or output; empty for every other tensor, whose memory is reused.
fn kept<'a>(program: &OwnedProgram, arena: &'a Buffer<f32>, t: Tensor) -> &'a [f32] {
    exec::real(&program.view(), &program.plan(), arena.get(), t).unwrap_or_default()
}

impl Planner for CpuDevice {
    fn unsupported(&self, program: &Program<'_>) -> Option<String> {
        self.engine.unsupported(program)
    }

    fn scratch_len(&self, node: &Node<'_>) -> usize {
        self.engine.scratch_len(node)
    }

    fn real_bytes(&self) -> usize {
        self.engine.real_bytes()
    }
}

impl Device for CpuDevice {
    type Mem<T: Pod + Send + Sync> = Buffer<T>;

    fn describe(&self) -> String {
        format!("{} kernels, {} threads", self.engine.gemm_name, self.engine.threads())
    }

    fn alloc<T: Pod + Send + Sync>(&self, len: usize) -> Result<Buffer<T>, OutOfMemory> {
        Buffer::new(len)
    }

    fn len<T: Pod + Send + Sync>(mem: &Buffer<T>) -> usize {
        mem.get().len()
    }

    fn lend<T: Pod + Send + Sync>(&mut self, mem: &Buffer<T>, read: &mut dyn FnMut(&[T])) -> Result<(), DeviceError> {
        read(mem.get());
        Ok(())
    }

    fn lend_mut<T: Pod + Send + Sync>(
        &mut self,
        mem: &mut Buffer<T>,
        write: &mut dyn FnMut(&mut [T]),
    ) -> Result<(), DeviceError> {
        write(mem.get_mut());
        Ok(())
    }

    fn fill<T: Pod + Send + Sync>(&mut self, mem: &mut Buffer<T>, range: Range<usize>, value: T) {
        let end = range.end.min(mem.get().len());
        if let Some(values) = mem.get_mut().get_mut(range.start..end) {
            values.fill(value);
        }
    }

    fn copy<T: Pod + Send + Sync>(&mut self, from: &Buffer<T>, range: Range<usize>, to: &mut Buffer<T>, at: usize) {
        let from = from.get().get(range).unwrap_or(&[]);
        let to = to.get_mut().get_mut(at..).unwrap_or(&mut []);
        let len = from.len().min(to.len());
        to[..len].copy_from_slice(&from[..len]);
    }

    fn run(&mut self, program: &OwnedProgram, bind: Bind<'_, Self>, nodes: Range<usize>, gradients: Gradients) {
        let (view, plan) = (program.view(), program.plan());
        let mut memory = Memory {
            arena: bind.arena.get_mut(),
            state: bind.state.map_or(&mut [], |state| state.get_mut()),
            ints: bind.ints.get_mut(),
            trainable: bind.weights.get_mut(),
            grads: bind.grads.map_or(&mut [], |grads| grads.get_mut()),
            moments: bind.moments.map_or(&mut [], |moments| moments.get_mut()),
            frozen: bind.frozen.get(),
        };
        let cpu = self.engine.cpu();
        self.engine.pool.install(|| cpu.run(&view, &plan, &mut memory, nodes, gradients));
    }

    fn write(&mut self, program: &OwnedProgram, arena: &mut Buffer<f32>, t: Tensor, values: &[f32]) -> Result<(), WriteError> {
        exec::write_real(&program.view(), &program.plan(), arena.get_mut(), t, values)
    }

    fn write_ints(
        &mut self,
        program: &OwnedProgram,
        ints: &mut Buffer<i32>,
        t: Tensor,
        values: &[i32],
    ) -> Result<(), WriteError> {
        exec::write_ints(&program.view(), ints.get_mut(), t, values)
    }

    fn fetch(&mut self, program: &OwnedProgram, arena: &Buffer<f32>, t: Tensor) -> Ticket {
        if self.ended {
            self.mirror.clear();
            self.ended = false;
            self.round += 1;
        }
        let start = self.mirror.len();
        self.mirror.extend_from_slice(kept(program, arena, t));
        Ticket { range: start..self.mirror.len(), round: self.round }
    }

    fn sync(&mut self) -> Result<(), DeviceError> {
        self.ended = true;
        Ok(())
    }

    #[track_caller]
    fn fetched(&self, ticket: &Ticket) -> &[f32] {
        assert!(self.ended && ticket.round == self.round, "values are readable from a sync to the next fetch");
        &self.mirror[ticket.range.clone()]
    }

    fn read(&mut self, program: &OwnedProgram, arena: &Buffer<f32>, t: Tensor, into: &mut [f32]) -> Result<(), DeviceError> {
        let values = kept(program, arena, t);
        let len = values.len().min(into.len());
        into[..len].copy_from_slice(&values[..len]);
        Ok(())
    }

    fn carry(&mut self, from: &OwnedProgram, to: &OwnedProgram, arena: &mut Buffer<f32>, pairs: &[(Tensor, Tensor)]) {
        self.staging.clear();
        for &(source, _) in pairs {
            self.staging.extend_from_slice(kept(from, arena, source));
        }
        let mut rest = self.staging.as_slice();
        for &(source, input) in pairs {
            let (values, tail) = rest.split_at(kept(from, arena, source).len());
            let to = exec::real_mut(&to.view(), &to.plan(), arena.get_mut(), input).unwrap_or_default();
            to.iter_mut().zip(values).for_each(|(to, &from)| *to = from);
            rest = tail;
        }
    }

    fn enter<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        self.engine.install(f)
    }
}
