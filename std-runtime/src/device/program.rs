//! Registries and programs that own their records: the heap-allocated counterpart of core's lent storage.

use std::sync::Arc;

use samara_core::graph::{Graph, GraphError, GraphErrorKind, Node, NodeRecord, Program, ProgramInfo, TensorRecord};
use samara_core::params::{Layout, ParamInfo, Params, ParamsError, Registry, Scope};
use samara_core::plan::{Plan, PlanError, Slot, storage_len};
use thiserror::Error;

use crate::error::{Failure, Kind};
use crate::memory::OutOfMemory;

/// The kernels' properties that a planner needs.
pub trait Planner {
    /// The first node without a kernel, in words.
    fn unsupported(&self, program: &Program<'_>) -> Option<String>;

    /// Elements of scratch that a node needs.
    fn scratch_len(&self, node: &Node<'_>) -> usize;

    /// Bytes of an element of the arena, of weights, gradients and moments.
    fn real_bytes(&self) -> usize;
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
    /// Memory that cannot be had.
    #[error(transparent)]
    Memory(#[from] OutOfMemory),
    /// Two programs declare different states in one state set.
    #[error(
        "state set {set:?}: state {index} is {found}, expected {expected} as in the programs before; declare the same states in the same \
         order, or give the program a state set of its own"
    )]
    State {
        /// The name of the state set.
        set: String,
        /// The index of the state in its program.
        index: usize,
        /// What the program declares.
        found: String,
        /// What an earlier program declared.
        expected: String,
    },
}

impl Failure for BuildError {
    fn kind(&self) -> Kind {
        Kind::Failed
    }
}

/// A registry that owns its records. Sets and programs share it by [`Arc`]: a set only runs programs of its own registry.
#[derive(Clone)]
pub struct OwnedParams {
    infos: Box<[ParamInfo]>,
    layout: Layout,
}

impl OwnedParams {
    /// Registers parameters, at most `capacity` of them.
    ///
    /// # Errors
    /// More parameters than `capacity`, or shapes that a registry refuses.
    pub fn new<T>(capacity: usize, register: impl FnOnce(&mut Registry<'_>) -> T) -> Result<(Arc<Self>, T), BuildError> {
        let mut infos = vec![ParamInfo::default(); capacity];
        let mut registry = Registry::new(&mut infos);
        let value = register(&mut registry);
        let params = registry.finish(size_of::<f32>())?;
        let (len, layout) = (params.infos().len(), params.layout());
        infos.truncate(len);
        Ok((Arc::new(Self { infos: infos.into(), layout }), value))
    }

    /// Registers the parameters of a model of any size: `register` is called twice, first to count them.
    ///
    /// # Errors
    /// Names or shapes that a registry refuses.
    pub fn of<T>(register: impl Fn(&mut Scope<'_>) -> T) -> Result<(Arc<Self>, T), BuildError> {
        Self::new(Registry::count(&register), |registry| register(&mut registry.scope()))
    }

    /// The registry.
    pub fn view(&self) -> Params<'_> {
        Params::from_parts(&self.infos, self.layout)
    }
}

/// A program and its plan that own their records.
pub struct OwnedProgram {
    registry: Arc<OwnedParams>,
    tensors: Box<[TensorRecord]>,
    nodes: Box<[NodeRecord]>,
    info: ProgramInfo,
    slots: Box<[Slot]>,
    arena_len: usize,
    grads_len: usize,
}

impl OwnedProgram {
    /// Builds and plans a program for the kernels of `planner`. The storage grows until the program fits.
    ///
    /// # Errors
    /// The graph or its plan is invalid, or an operation has no kernel.
    pub fn new<T>(
        planner: &impl Planner,
        registry: &Arc<OwnedParams>,
        build: impl Fn(&Graph<'_>) -> T,
    ) -> Result<(Self, T), BuildError> {
        let mut capacity = 1024;
        loop {
            match Self::with_capacity(planner, registry, capacity, &build) {
                Err(BuildError::Graph(e)) if is_full(&e) && capacity < usize::from(u16::MAX) => {
                    capacity = (capacity * 4).min(u16::MAX.into())
                }
                result => return result,
            }
        }
    }

    fn with_capacity<T>(
        planner: &impl Planner,
        registry: &Arc<OwnedParams>,
        capacity: usize,
        build: &impl Fn(&Graph<'_>) -> T,
    ) -> Result<(Self, T), BuildError> {
        let mut tensors = vec![TensorRecord::EMPTY; registry.infos.len() + 2 * capacity];
        let mut nodes = vec![NodeRecord::EMPTY; capacity];
        let graph = Graph::new(registry.view(), &mut tensors, &mut nodes);
        let value = build(&graph);
        let info = graph.finish()?.info();
        tensors.truncate(info.tensors.into());
        nodes.truncate(info.nodes.into());
        let program = Program::from_parts(registry.view(), &tensors, &nodes, info);
        if let Some(node) = planner.unsupported(&program) {
            return Err(BuildError::Unsupported(node));
        }
        let needed = storage_len(&program);
        let (mut slots, mut order) = (vec![Slot::default(); needed], vec![0; needed]);
        let arena_len = Plan::new(&program, &|node| planner.scratch_len(node), &mut slots, &mut order)?.arena_len();
        let (grads_len, registry) = (program.grads_len(), Arc::clone(registry));
        let owned =
            Self { registry, tensors: tensors.into(), nodes: nodes.into(), info, slots: slots.into(), arena_len, grads_len };
        Ok((owned, value))
    }

    /// The program.
    pub fn view(&self) -> Program<'_> {
        Program::from_parts(self.registry.view(), &self.tensors, &self.nodes, self.info)
    }

    /// Its plan.
    pub fn plan(&self) -> Plan<'_> {
        Plan::from_parts(&self.slots, self.tensors.len(), self.arena_len)
    }

    /// The registry that it was built over.
    pub fn registry(&self) -> &Arc<OwnedParams> {
        &self.registry
    }

    /// Elements of the arena.
    pub fn arena_len(&self) -> usize {
        self.arena_len
    }

    /// Elements of the buffer of integers.
    pub fn ints_len(&self) -> usize {
        self.info.ints_len as usize
    }

    /// Elements of the state.
    pub fn state_len(&self) -> usize {
        self.info.state_len()
    }

    /// Elements of the gradient buffer: 0 when no node reads or writes gradients there.
    pub fn grads_len(&self) -> usize {
        self.grads_len
    }

    /// Elements of the moments.
    pub fn moments_len(&self) -> usize {
        self.info.moments as usize * self.registry.layout.trainable_len
    }

    /// Bytes of the records of the program and its plan.
    pub fn table_bytes(&self) -> usize {
        size_of_val(&*self.tensors) + size_of_val(&*self.nodes) + size_of_val(&*self.slots)
    }
}

fn is_full(e: &GraphError) -> bool {
    matches!(e.kind, GraphErrorKind::TooManyNodes | GraphErrorKind::TooManyTensors)
}
