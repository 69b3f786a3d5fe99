//! A program with all the memory that it needs, for tests. Tables of records are leaked, since tests are short.

use std::ops::Range;

use samara_core::exec::{Backend, Cpu, Gradients, Kernels, Memory, real, write_ints, write_real};
use samara_core::graph::{Graph, GraphError, NodeRecord, Program, Tensor, TensorRecord};
use samara_core::math::Real;
use samara_core::params::{ParamId, ParamInfo, Params, Registry};
use samara_core::plan::{Plan, Slot, storage_len};
use samara_core::shape::UNIT;
use samara_core::threads::{Serial, Threads};

/// The kernels and threads under test.
#[derive(Clone, Copy)]
pub struct Table<'k, R> {
    /// The kernels.
    pub kernels: &'k Kernels<R>,
    /// The threads.
    pub threads: &'k dyn Threads,
}

impl<'k, R: Real> Table<'k, R> {
    /// These kernels on the calling thread.
    pub fn serial(kernels: &'k Kernels<R>) -> Self {
        Self { kernels, threads: &Serial }
    }

    fn cpu(&self) -> Cpu<'k, R> {
        Cpu::new(self.kernels, self.threads)
    }
}

/// A registry with capacity `capacity`, filled by `fill`.
pub fn registry<R: Real, T>(capacity: usize, fill: impl FnOnce(&mut Registry<'_>) -> T) -> (Params<'static>, T) {
    let mut registry = Registry::new(vec![ParamInfo::default(); capacity].leak());
    let result = fill(&mut registry);
    (registry.finish(size_of::<R>()).expect("registry"), result)
}

/// An empty graph with capacity for `capacity` nodes.
pub fn graph(params: Params<'static>, capacity: usize) -> Graph<'static> {
    let tensors = vec![TensorRecord::EMPTY; params.infos().len() + 3 * capacity].leak();
    Graph::new(params, tensors, vec![NodeRecord::EMPTY; capacity].leak())
}

/// A program, its plan and its memory.
pub struct Session<'k, R> {
    table: Table<'k, R>,
    /// The program.
    pub program: Program<'static>,
    /// Its plan.
    pub plan: Plan<'static>,
    /// Activations, inputs and scratch: NaN before every run.
    pub arena: Vec<R>,
    /// Values that persist between runs.
    pub state: Vec<R>,
    /// Integers.
    pub ints: Vec<i32>,
    /// Frozen parameters.
    pub frozen: Vec<u8>,
    /// Trainable parameters.
    pub trainable: Vec<R>,
    /// Their gradients.
    pub grads: Vec<R>,
    /// Moments.
    pub moments: Vec<R>,
    inputs: Vec<(Tensor, Vec<R>)>,
}

impl<'k, R: Real> Session<'k, R> {
    /// Builds a program in storage for `capacity` nodes, plans it, checks the plan, and allocates its memory.
    ///
    /// # Errors
    /// The program is wrong, or does not fit its storage.
    pub fn build<T>(
        table: Table<'k, R>,
        params: Params<'static>,
        capacity: usize,
        build: impl FnOnce(&Graph<'static>) -> T,
    ) -> Result<(Self, T), GraphError> {
        let g = graph(params, capacity);
        let result = build(&g);
        Ok((Self::new(table, g.finish()?), result))
    }

    /// Plans a program, checks the plan, and allocates its memory.
    pub fn new(table: Table<'k, R>, program: Program<'static>) -> Self {
        let cpu = table.cpu();
        assert!(cpu.unsupported(&program).is_none(), "no kernel for {}", cpu.unsupported(&program).unwrap());
        let n = storage_len(&program);
        let slots = vec![Slot::default(); n].leak();
        let plan = Plan::new(&program, &|node| cpu.scratch_len(node), slots, &mut vec![0; n]).expect("plan");
        plan.check().expect("check");
        Self::with_plan(table, program, plan)
    }

    /// Allocates the memory of a planned program.
    pub fn with_plan(table: Table<'k, R>, program: Program<'static>, plan: Plan<'static>) -> Self {
        let (info, trainable) = (program.info(), program.params().trainable_len());
        Self {
            table,
            program,
            plan,
            arena: vec![R::ZERO; plan.arena_len()],
            state: vec![R::ZERO; info.state_len()],
            ints: vec![0; info.ints_len as usize],
            frozen: vec![0; program.params().frozen_bytes()],
            trainable: vec![R::ZERO; trainable],
            grads: vec![R::ZERO; trainable],
            moments: vec![R::ZERO; trainable * info.moments as usize],
            inputs: Vec::new(),
        }
    }

    /// Sets an input for all later runs.
    pub fn set(&mut self, t: Tensor, values: &[f64]) {
        self.inputs.retain(|(other, _)| *other != t);
        self.inputs.push((t, values.iter().map(|&x| R::from_f64(x)).collect()));
    }

    /// Sets an input of integers.
    pub fn set_ints(&mut self, t: Tensor, values: &[i32]) {
        write_ints(&self.program, &mut self.ints, t, values).expect("integers");
    }

    /// Sets a trainable parameter.
    pub fn set_param(&mut self, id: ParamId, values: &[f64]) {
        let range = self.program.params().infos()[id.index()].range();
        assert_eq!(range.len(), values.len(), "length of {}", self.program.params().infos()[id.index()].name);
        self.trainable[range].iter_mut().zip(values).for_each(|(to, &x)| *to = R::from_f64(x));
    }

    /// Runs the whole program on an arena that contains only the inputs.
    pub fn run(&mut self, gradients: Gradients) {
        self.poison();
        self.run_range(0..self.program.nodes().len(), gradients);
    }

    /// Fills the arena with NaN and writes the inputs.
    pub fn poison(&mut self) {
        self.arena.fill(R::from_f64(f64::NAN));
        for (t, values) in &self.inputs {
            write_real(&self.program, &self.plan, &mut self.arena, *t, values).expect("input");
        }
    }

    /// Runs some nodes on the current content of the arena.
    pub fn run_range(&mut self, nodes: Range<usize>, gradients: Gradients) {
        let mut memory = Memory {
            arena: &mut self.arena,
            state: &mut self.state,
            ints: &mut self.ints,
            trainable: &mut self.trainable,
            grads: &mut self.grads,
            moments: &mut self.moments,
            frozen: &self.frozen,
        };
        self.table.cpu().run(&self.program, &self.plan, &mut memory, nodes, gradients);
    }

    /// An input or output.
    pub fn get(&self, t: Tensor) -> Vec<f64> {
        real(&self.program, &self.plan, &self.arena, t).expect("an input or output").iter().map(|x| x.to_f64()).collect()
    }

    /// The gradient of a parameter.
    pub fn grad(&self, id: ParamId) -> Vec<f64> {
        self.grads[self.program.params().infos()[id.index()].range()].iter().map(|x| x.to_f64()).collect()
    }

    /// A parameter.
    pub fn param(&self, id: ParamId) -> Vec<f64> {
        self.trainable[self.program.params().infos()[id.index()].range()].iter().map(|x| x.to_f64()).collect()
    }
}

/// The same plan without reuse of memory: a separate place for every tensor that is not a view of another.
pub fn without_sharing(program: &Program<'static>, plan: &Plan<'_>) -> Plan<'static> {
    let tensors = program.tensors().len();
    let mut offset = 0;
    let place = |i: usize, slot: &Slot| -> Slot {
        let root = program.tensors().get(i).map_or(i, |t| t.root.index());
        let slot = Slot { owner: root as u16, offset, ..*slot };
        offset += (slot.len as usize).div_ceil(UNIT) as u32;
        Slot { owner: if i < tensors { slot.owner } else { i as u16 }, ..slot }
    };
    let mut place = place;
    let slots: Vec<Slot> = plan.slots().iter().enumerate().map(|(i, slot)| place(i, slot)).collect();
    let arena_len = slots.iter().map(|s| s.offset as usize * UNIT + s.len as usize).max().unwrap_or(0);
    Plan::from_parts(slots.leak(), tensors, arena_len)
}
