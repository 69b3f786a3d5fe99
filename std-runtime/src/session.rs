//! Programs and memory that own themselves: the heap side of core's lent storage.

use std::sync::Arc;
use std::time::Instant;

use samara_core::exec::{self, Backend, Cpu, Gradients, Kernels, Memory, WriteError};
use samara_core::graph::{Graph, GraphError, NodeRecord, Program, ProgramInfo, Tensor, TensorRecord};
use samara_core::params::{Layout, ParamInfo, Params, ParamsError, Registry};
use samara_core::plan::{Plan, PlanError, Slot, storage_len};
use thiserror::Error;

use crate::error::{Failure, Kind};
use crate::kernels::gemm::{Gemm, GemmChoice};
use crate::memory::Buffer;
use crate::threads::{Pool, PoolError};

/// Threads and kernels: everything that programs run on.
pub struct Engine {
    pool: Pool,
    kernels: Kernels<f32>,
    gemm_name: &'static str,
}

impl Engine {
    /// An engine with this many threads (0: one for each core) that multiplies matrices as `gemm` says.
    pub fn new(threads: usize, gemm: Gemm) -> Result<Arc<Self>, PoolError> {
        let threads = if threads > 0 { threads } else { std::thread::available_parallelism().map_or(1, usize::from) };
        Ok(Arc::new(Self {
            pool: Pool::new(threads)?,
            kernels: crate::kernels::cpu(gemm),
            gemm_name: GemmChoice::new(gemm).name(),
        }))
    }

    /// An engine on one thread with core's own kernels: those of a device, for which programs for it are planned.
    pub fn reference() -> Result<Self, PoolError> {
        Ok(Self { pool: Pool::new(1)?, kernels: samara_core::ops::reference(), gemm_name: "reference" })
    }

    /// How matrices are multiplied, for people.
    pub fn gemm_name(&self) -> &'static str {
        self.gemm_name
    }

    /// Threads of the pool.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// Calls `f` on a thread of the pool. From there, running a program neither allocates nor hands work from one thread to another first:
    /// a loop of many runs belongs inside.
    pub fn install<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        self.pool.install(f)
    }

    fn cpu(&self) -> Cpu<'_, f32> {
        Cpu::new(&self.kernels, &self.pool)
    }
}

/// Why a program could not be built.
#[derive(Debug, Error)]
pub enum BuildError {
    /// The registry.
    #[error("parameters: {0}")]
    Params(#[from] ParamsError),
    /// The graph.
    #[error("model: {0}")]
    Graph(#[from] GraphError),
    /// The plan.
    #[error("memory plan: {0}")]
    Plan(#[from] PlanError),
    /// A kernel is missing.
    #[error("no kernel for {0}")]
    Unsupported(String),
}

impl Failure for BuildError {
    fn kind(&self) -> Kind {
        Kind::Failed
    }
}

/// A registry that owns its records.
#[derive(Clone)]
pub struct OwnedParams {
    infos: Box<[ParamInfo]>,
    layout: Layout,
}

impl OwnedParams {
    /// Registers parameters; `capacity` is how many there may be.
    pub fn new<T>(capacity: usize, register: impl FnOnce(&mut Registry<'_>) -> T) -> Result<(Self, T), BuildError> {
        let mut infos = vec![ParamInfo::default(); capacity];
        let mut registry = Registry::new(&mut infos);
        let value = register(&mut registry);
        let params = registry.finish(size_of::<f32>())?;
        let (len, layout) = (params.infos().len(), params.layout());
        infos.truncate(len);
        Ok((Self { infos: infos.into(), layout }, value))
    }

    /// The registry.
    pub fn view(&self) -> Params<'_> {
        Params::from_parts(&self.infos, self.layout)
    }
}

/// A program and its plan that own their records.
pub struct OwnedProgram {
    params: OwnedParams,
    tensors: Box<[TensorRecord]>,
    nodes: Box<[NodeRecord]>,
    info: ProgramInfo,
    slots: Box<[Slot]>,
    arena_len: usize,
}

impl OwnedProgram {
    /// Builds and plans a program for an engine. The storage grows until the program fits.
    pub fn new<T>(engine: &Engine, params: &OwnedParams, build: impl Fn(&Graph<'_>) -> T) -> Result<(Self, T), BuildError> {
        let mut capacity = 1024;
        loop {
            match Self::with_capacity(engine, params, capacity, &build) {
                Err(BuildError::Graph(e)) if is_full(&e) && capacity < usize::from(u16::MAX) => {
                    capacity = (capacity * 4).min(u16::MAX.into())
                }
                result => return result,
            }
        }
    }

    fn with_capacity<T>(
        engine: &Engine,
        params: &OwnedParams,
        capacity: usize,
        build: &impl Fn(&Graph<'_>) -> T,
    ) -> Result<(Self, T), BuildError> {
        let mut tensors = vec![TensorRecord::EMPTY; params.infos.len() + 2 * capacity];
        let mut nodes = vec![NodeRecord::EMPTY; capacity];
        let graph = Graph::new(params.view(), &mut tensors, &mut nodes);
        let value = build(&graph);
        let info = graph.finish()?.info();
        tensors.truncate(info.tensors.into());
        nodes.truncate(info.nodes.into());
        let program = Program::from_parts(params.view(), &tensors, &nodes, info);
        let cpu = engine.cpu();
        if let Some(node) = cpu.unsupported(&program) {
            return Err(BuildError::Unsupported(node.to_string()));
        }
        let needed = storage_len(&program);
        let (mut slots, mut order) = (vec![Slot::default(); needed], vec![0; needed]);
        let arena_len = Plan::new(&program, &|node| cpu.scratch_len(node), &mut slots, &mut order)?.arena_len();
        let owned =
            Self { params: params.clone(), tensors: tensors.into(), nodes: nodes.into(), info, slots: slots.into(), arena_len };
        Ok((owned, value))
    }

    /// The program.
    pub fn view(&self) -> Program<'_> {
        Program::from_parts(self.params.view(), &self.tensors, &self.nodes, self.info)
    }

    /// Its plan.
    pub fn plan(&self) -> Plan<'_> {
        Plan::from_parts(&self.slots, self.tensors.len(), self.arena_len)
    }

    /// Elements of the arena.
    pub fn arena_len(&self) -> usize {
        self.arena_len
    }

    /// Bytes of the records of the program and its plan.
    pub fn table_bytes(&self) -> usize {
        size_of_val(&*self.tensors) + size_of_val(&*self.nodes) + size_of_val(&*self.slots)
    }
}

fn is_full(e: &GraphError) -> bool {
    use samara_core::graph::GraphErrorKind as K;
    matches!(e.kind, K::TooManyNodes | K::TooManyTensors)
}

/// The memory that programs over one registry share.
pub struct Buffers {
    arena: Buffer,
    ints: Vec<i32>,
    /// What lasts from run to run: key and value caches.
    pub state: Buffer,
    /// Trainable parameters.
    pub trainable: Buffer,
    /// Frozen parameters.
    pub frozen: Buffer<u8>,
    /// Gradients of the trainable parameters.
    pub grads: Buffer,
    /// Optimizer moments and averages, one after the other.
    pub moments: Buffer,
}

/// An engine, a registry, and memory for its programs.
pub struct Session {
    engine: Arc<Engine>,
    params: OwnedParams,
    /// The memory.
    pub buffers: Buffers,
}

impl Session {
    /// Memory for a registry; the rest grows with the programs that are [prepared](Session::prepare).
    pub fn new(engine: Arc<Engine>, params: OwnedParams) -> Self {
        let (trainable, frozen) = (Buffer::new(params.layout.trainable_len), Buffer::new(params.layout.frozen_bytes));
        let empty = || Buffer::new(0);
        let buffers =
            Buffers { arena: empty(), ints: Vec::new(), state: empty(), trainable, frozen, grads: empty(), moments: empty() };
        Self { engine, params, buffers }
    }

    /// The registry.
    pub fn params(&self) -> Params<'_> {
        self.params.view()
    }

    /// The registry and the memory.
    pub fn params_and_buffers(&mut self) -> (Params<'_>, &mut Buffers) {
        (self.params.view(), &mut self.buffers)
    }

    /// Fills the trainable parameters with initial values.
    pub fn initialise(&mut self, seed: u64) {
        self.params.view().initialise(seed, self.buffers.trainable.get_mut());
    }

    /// Exchanges the trainable parameters with a moment buffer, such as their moving average. The same call again undoes it.
    pub fn swap_with_moment(&mut self, slot: usize) {
        let trainable = self.buffers.trainable.get_mut();
        let start = slot * trainable.len();
        if let Some(moment) = self.buffers.moments.get_mut().get_mut(start..start + trainable.len()) {
            trainable.swap_with_slice(moment);
        }
    }

    /// The engine.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Builds a program and makes room for it. Values in the arena and the state are lost when they grow.
    pub fn prepare<T>(&mut self, build: impl Fn(&Graph<'_>) -> T) -> Result<(OwnedProgram, T), BuildError> {
        let (program, value) = OwnedProgram::new(&self.engine, &self.params, build)?;
        self.make_room(&program);
        Ok((program, value))
    }

    fn make_room(&mut self, program: &OwnedProgram) {
        let (info, all) = (program.info, self.params.layout.trainable_len);
        let buffers = &mut self.buffers;
        buffers.arena.grow(program.arena_len);
        buffers.state.grow(info.state_len as usize);
        if buffers.ints.len() < info.ints_len as usize {
            buffers.ints.resize(info.ints_len as usize, 0);
        }
        if info.backward < info.update {
            buffers.grads.grow(all);
        }
        buffers.moments.grow(all * info.moments as usize);
    }

    /// Runs a range of nodes inside the thread pool.
    pub fn run(&mut self, program: &OwnedProgram, nodes: std::ops::Range<usize>, gradients: Gradients) {
        self.run_inside(program, |run| run(nodes, gradients));
    }

    /// Runs a whole program node by node and tells the seconds that each one took.
    pub fn run_each(&mut self, program: &OwnedProgram, gradients: Gradients, took: &mut (dyn FnMut(usize, f64) + Send)) {
        self.run_inside(program, |run| {
            for i in 0..program.nodes.len() {
                let begun = Instant::now();
                run(i..i + 1, gradients);
                took(i, begun.elapsed().as_secs_f64());
            }
        });
    }

    /// Calls `f` inside the thread pool with what runs a range of nodes there.
    fn run_inside(&mut self, program: &OwnedProgram, f: impl FnOnce(&mut dyn FnMut(std::ops::Range<usize>, Gradients)) + Send) {
        let (view, plan) = (program.view(), program.plan());
        let buffers = &mut self.buffers;
        let mut memory = Memory {
            arena: buffers.arena.get_mut(),
            state: buffers.state.get_mut(),
            ints: &mut buffers.ints,
            trainable: buffers.trainable.get_mut(),
            grads: buffers.grads.get_mut(),
            moments: buffers.moments.get_mut(),
            frozen: buffers.frozen.get(),
        };
        let cpu = self.engine.cpu();
        self.engine.pool.install(|| f(&mut |nodes, gradients| cpu.run(&view, &plan, &mut memory, nodes, gradients)));
    }

    /// Runs a whole program.
    pub fn run_all(&mut self, program: &OwnedProgram, gradients: Gradients) {
        self.run(program, 0..program.nodes.len(), gradients);
    }

    /// Writes integers after checking their range.
    pub fn write_ints(&mut self, program: &OwnedProgram, t: Tensor, values: &[i32]) -> Result<(), WriteError> {
        exec::write_ints(&program.view(), &mut self.buffers.ints, t, values)
    }

    /// Writes an input of numbers.
    pub fn write(&mut self, program: &OwnedProgram, t: Tensor, values: &[f32]) -> Result<(), WriteError> {
        exec::write_real(&program.view(), &program.plan(), self.buffers.arena.get_mut(), t, values)
    }

    /// Reads a pinned tensor.
    pub fn read(&self, program: &OwnedProgram, t: Tensor) -> &[f32] {
        exec::real(&program.plan(), self.buffers.arena.get(), t)
    }

    /// Clears gradients that no node overwrites.
    pub fn clear_untouched(&mut self, program: &OwnedProgram) {
        let view = program.view();
        let infos = view.params().infos();
        for id in view.untouched() {
            if let Some(info) = infos.get(id.index()) {
                self.buffers.grads.get_mut()[info.range()].fill(0.0);
            }
        }
    }

    /// Runs a range node by node and names the first tensor with a value that is not finite.
    pub fn first_non_finite(&mut self, program: &OwnedProgram, nodes: std::ops::Range<usize>) -> Option<String> {
        let view = program.view();
        for info in view.params().infos().iter().filter(|p| !p.frozen) {
            if self.buffers.trainable.get()[info.range()].iter().any(|x| !x.is_finite()) {
                return Some(format!("parameter {}", info.name));
            }
        }
        for i in nodes {
            self.run(program, i..i + 1, Gradients::Overwrite);
            let Some(node) = view.node(i).filter(|n| !n.record().dead) else { continue };
            for (o, t) in node.record().outputs.iter().enumerate() {
                let values = match node.output(o).map(|r| (r.role, r.index)) {
                    Some((samara_core::graph::Role::Activation, _)) => self.read(program, *t),
                    Some((samara_core::graph::Role::Grad, id)) => view
                        .params()
                        .infos()
                        .get(id as usize)
                        .map_or(&[] as &[f32], |info| &self.buffers.grads.get()[info.range()]),
                    _ => continue,
                };
                // Attention's log-sum-exp of a row without keys is −∞ and rightly so.
                if let Some(x) = values.iter().find(|&&x| !(x.is_finite() || o > 0 && x == f32::NEG_INFINITY)) {
                    return Some(format!("output {o} of node {i} ({node}) has the value {x}"));
                }
            }
        }
        None
    }
}
