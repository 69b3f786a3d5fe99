//! A session: parameter sets and state sets on a device, and the workspace that their programs share.

pub mod params;
pub mod state;
pub mod update;
pub mod workspace;

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use samara_core::exec::{self, Gradients, WriteError};
use samara_core::graph::{Graph, Role, Tensor};
use samara_core::params::ParamInfo;

pub use crate::device::{Bind, BuildError, CpuDevice, Device, DeviceError, Engine, OwnedParams, OwnedProgram, Ticket};
pub use params::ParamSet;
pub use state::StateSet;
pub use workspace::Workspace;

/// The index of a parameter set in its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetId(usize);

/// The index of a state set in its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateId(usize);

/// The sets that a run works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct On {
    /// The parameter set.
    pub set: SetId,
    /// The set that `set` follows: the program then reads the weights of the source, and updates those of the set as moment 0. For averages.
    pub source: Option<SetId>,
    /// Which gradient buffer of the set.
    pub grads: usize,
    /// The state set, for programs with states.
    pub state: Option<StateId>,
}

impl On {
    /// A parameter set with its first gradient buffer, without states.
    pub fn set(set: SetId) -> Self {
        Self { set, source: None, grads: 0, state: None }
    }

    /// The same with a state set.
    pub fn with_state(self, state: StateId) -> Self {
        Self { state: Some(state), ..self }
    }

    /// The same with another gradient buffer.
    pub fn with_gradients(self, grads: usize) -> Self {
        Self { grads, ..self }
    }

    /// The same as an average of another set.
    pub fn following(self, source: SetId) -> Self {
        Self { source: Some(source), ..self }
    }
}

/// Sets of parameters and states on a device, and the workspace of their programs.
pub struct Session<D: Device = CpuDevice> {
    device: D,
    sets: Vec<ParamSet<D>>,
    /// The set whose frozen parameters each set reads: its own, or another's.
    frozen_of: Vec<SetId>,
    states: Vec<StateSet<D>>,
    workspace: Workspace<D>,
    /// The first run that could not be bound; it counts as a device failure.
    fault: Option<DeviceError>,
}

impl<D: Device> Session<D> {
    /// A session without sets.
    pub fn new(device: D) -> Self {
        Self { device, sets: Vec::new(), frozen_of: Vec::new(), states: Vec::new(), workspace: Workspace::new(), fault: None }
    }

    /// Adds a parameter set with all weights 0.
    ///
    /// # Errors
    /// The memory is not available.
    pub fn add_set(&mut self, name: &str, registry: &Arc<OwnedParams>) -> Result<SetId, BuildError> {
        self.sets.push(ParamSet::new(&self.device, name, registry)?);
        self.frozen_of.push(SetId(self.frozen_of.len()));
        Ok(SetId(self.sets.len() - 1))
    }

    /// Adds a set of the registry of another, whose frozen parameters it reads in place of a copy: an average, or a reference.
    ///
    /// # Errors
    /// The memory cannot be had.
    pub fn add_set_beside(&mut self, name: &str, other: SetId) -> Result<SetId, BuildError> {
        self.sets.push(ParamSet::without_frozen(&self.device, name, self.set(other).registry())?);
        self.frozen_of.push(self.frozen_of(other));
        Ok(SetId(self.sets.len() - 1))
    }

    /// The set that holds the frozen parameters which a set reads.
    pub fn frozen_of(&self, id: SetId) -> SetId {
        self.frozen_of[id.0]
    }

    /// Adds an empty state set that checkpoints leave out, such as a cache.
    pub fn add_state(&mut self, name: &str) -> StateId {
        self.states.push(StateSet::new(name, false));
        StateId(self.states.len() - 1)
    }

    /// Adds an empty state set that is part of checkpoints, such as a queue.
    pub fn add_lasting_state(&mut self, name: &str) -> StateId {
        self.states.push(StateSet::new(name, true));
        StateId(self.states.len() - 1)
    }

    /// The state sets that are part of checkpoints.
    pub fn lasting_states(&self) -> Vec<StateId> {
        (0..self.states.len()).filter(|&i| self.states[i].is_lasting()).map(StateId).collect()
    }

    /// A parameter set of this session.
    pub fn set(&self, id: SetId) -> &ParamSet<D> {
        &self.sets[id.0]
    }

    /// A parameter set of this session, and its device.
    pub fn set_mut(&mut self, id: SetId) -> (&mut ParamSet<D>, &mut D) {
        (&mut self.sets[id.0], &mut self.device)
    }

    /// A state set of this session, and its device.
    pub fn state_mut(&mut self, id: StateId) -> (&mut StateSet<D>, &mut D) {
        (&mut self.states[id.0], &mut self.device)
    }

    /// The device.
    pub fn device(&self) -> &D {
        &self.device
    }

    /// The workspace.
    pub fn workspace(&self) -> &Workspace<D> {
        &self.workspace
    }

    /// Builds a program over a registry for this device, without memory.
    ///
    /// # Errors
    /// The graph or its plan is invalid, or an operation has no kernel.
    pub fn build<T>(
        &self,
        registry: &Arc<OwnedParams>,
        build: impl Fn(&Graph<'_>) -> T,
    ) -> Result<(OwnedProgram, T), BuildError> {
        OwnedProgram::new(&self.device, registry, build)
    }

    /// Allocates memory for a program: workspace, states, gradients and moments. Returns whether the workspace grew, and so lost its values.
    ///
    /// # Errors
    /// The program's states differ from those of the state set, or the memory is not available.
    pub fn make_room(&mut self, program: &OwnedProgram, on: On) -> Result<bool, BuildError> {
        if let Some(StateId(state)) = on.state {
            self.states[state].admit(&mut self.device, program)?;
        }
        let set = &mut self.sets[on.set.0];
        if program.grads_len() > 0 {
            set.make_gradients(&self.device, on.grads + 1)?;
        }
        if on.source.is_none() {
            set.make_moments(&self.device, program.moments_len())?;
        }
        Ok(self.workspace.reserve(&self.device, [program])?)
    }

    /// Builds a program for a set and allocates its memory. Values in the workspace are lost when it grows.
    ///
    /// # Errors
    /// As [`Session::build`] and [`Session::make_room`].
    pub fn prepare<T>(&mut self, on: On, build: impl Fn(&Graph<'_>) -> T) -> Result<(OwnedProgram, T), BuildError> {
        let registry = Arc::clone(self.set(on.set).registry());
        let (program, value) = self.build(&registry, build)?;
        self.make_room(&program, on)?;
        Ok((program, value))
    }

    /// Queues a range of nodes. A run whose set has another registry, or too little memory, is skipped, and [`Session::sync`] reports it.
    pub fn run(&mut self, program: &OwnedProgram, on: On, nodes: Range<usize>, gradients: Gradients) {
        if self.fault.is_some() {
            return;
        }
        match bind((&mut self.sets, &self.frozen_of), &mut self.states, &mut self.workspace, program, on) {
            Ok(bind) => self.device.run(program, bind, nodes, gradients),
            Err(fault) => self.fault = Some(fault),
        }
    }

    /// Queues a whole program.
    pub fn run_all(&mut self, program: &OwnedProgram, on: On, gradients: Gradients) {
        self.run(program, on, 0..program.view().nodes().len(), gradients);
    }

    /// Writes integers after checking their range.
    ///
    /// # Errors
    /// The tensor is not an integer input, has another number of elements, or an integer is out of its range.
    pub fn write_ints(&mut self, program: &OwnedProgram, t: Tensor, values: &[i32]) -> Result<(), WriteError> {
        self.device.write_ints(program, &mut self.workspace.ints, t, values)
    }

    /// Writes an input of f32 values.
    ///
    /// # Errors
    /// The tensor is not an input, or has another number of elements.
    pub fn write(&mut self, program: &OwnedProgram, t: Tensor, values: &[f32]) -> Result<(), WriteError> {
        self.device.write(program, &mut self.workspace.arena, t, values)
    }

    /// Queues a transfer of the current values of a pinned tensor, readable after [`Session::sync`].
    pub fn fetch(&mut self, program: &OwnedProgram, t: Tensor) -> Ticket {
        self.device.fetch(program, &self.workspace.arena, t)
    }

    /// Waits for all work.
    ///
    /// # Errors
    /// The first failure of a run since the session began.
    pub fn sync(&mut self) -> Result<(), DeviceError> {
        self.device.sync()?;
        self.fault.clone().map_or(Ok(()), Err)
    }

    /// Values that were fetched before the last [`Session::sync`].
    ///
    /// # Panics
    /// A fetch came after that sync, or no sync has come yet.
    pub fn fetched(&self, ticket: &Ticket) -> &[f32] {
        self.device.fetched(ticket)
    }

    /// Waits for all work and copies the values of a pinned tensor.
    ///
    /// # Errors
    /// As [`Session::sync`].
    pub fn read_into(&mut self, program: &OwnedProgram, t: Tensor, into: &mut [f32]) -> Result<(), DeviceError> {
        self.device.read(program, &self.workspace.arena, t, into)?;
        self.fault.clone().map_or(Ok(()), Err)
    }

    /// Queues copies of pinned tensors of one program into inputs of another; write its other inputs afterwards.
    pub fn carry(&mut self, from: &OwnedProgram, to: &OwnedProgram, pairs: &[(Tensor, Tensor)]) {
        self.device.carry(from, to, &mut self.workspace.arena, pairs);
    }

    /// Copies a row of every state of one state set into a row of another.
    ///
    /// # Errors
    /// The sets are the same, have different states, or a row does not exist.
    pub fn copy_state_row(&mut self, from: (StateId, usize), to: (StateId, usize)) -> Result<(), DeviceError> {
        let [a, b] = self.states.get_disjoint_mut([from.0.0, to.0.0]).map_err(|_| DeviceError::Sets)?;
        a.copy_row(&mut self.device, from.1, b, to.1)
    }

    /// Copies the weights of one set into another of the same registry, and the frozen ones unless both read the same.
    ///
    /// # Errors
    /// The sets are one, have different registries, or one of them alone reads the frozen weights of a third.
    pub fn copy_weights(&mut self, from: SetId, to: SetId) -> Result<(), DeviceError> {
        let (source, target) = (self.frozen_of(from), self.frozen_of(to));
        if source != target && (source, target) != (from, to) {
            return Err(DeviceError::Sets);
        }
        let [from, to] = self.sets.get_disjoint_mut([from.0, to.0]).map_err(|_| DeviceError::Sets)?;
        if !Arc::ptr_eq(from.registry(), to.registry()) {
            return Err(DeviceError::Registry { set: to.name().to_owned() });
        }
        self.device.copy(&from.weights, 0..D::len(&from.weights), &mut to.weights, 0);
        if source != target {
            self.device.copy(&from.frozen, 0..D::len(&from.frozen), &mut to.frozen, 0);
        }
        Ok(())
    }

    /// Clears gradients that no node of a program overwrites.
    pub fn clear_untouched(&mut self, program: &OwnedProgram, on: On) {
        let view = program.view();
        let Some(grads) = self.sets[on.set.0].grads.get_mut(on.grads) else { return };
        for info in view.untouched().filter_map(|id| view.params().infos().get(id.index())) {
            self.device.fill(grads, info.range(), 0.0);
        }
    }

    /// Runs a range node by node and names the first tensor with a value that is not finite. Inputs must have been written.
    ///
    /// # Errors
    /// The device failed before.
    pub fn first_non_finite(
        &mut self,
        program: &OwnedProgram,
        on: On,
        nodes: Range<usize>,
    ) -> Result<Option<String>, DeviceError> {
        let view = program.view();
        let infos = view.params().infos();
        let mut found = None;
        self.device.lend(&self.sets[on.set.0].weights, &mut |weights| {
            let is_broken = |info: &&ParamInfo| weights.get(info.range()).is_some_and(not_finite);
            found = infos.iter().filter(|p| !p.frozen).find(is_broken).map(|info| format!("parameter {}", info.name));
        })?;
        for i in nodes {
            if found.is_some() {
                break;
            }
            self.run(program, on, i..i + 1, Gradients::Overwrite);
            let Some(node) = view.node(i).filter(|n| !n.record().dead) else { continue };
            for (o, t) in node.record().outputs.iter().enumerate() {
                // Attention's log-sum-exp of a row without keys is −∞ and rightly so.
                let broken = |x: &&f32| !(x.is_finite() || o > 0 && **x == f32::NEG_INFINITY);
                let mut check = |values: &[f32]| {
                    if let (None, Some(x)) = (&found, values.iter().find(broken)) {
                        found = Some(format!("output {o} of node {i} ({node}) has the value {x}"));
                    }
                };
                match node.output(o).map(|r| (r.role, r.index)) {
                    Some((Role::Activation, _)) => {
                        let range = program.plan().value(*t);
                        self.device.lend(&self.workspace.arena, &mut |arena| check(arena.get(range.clone()).unwrap_or(&[])))?;
                    }
                    Some((Role::Grad, id)) => {
                        let grads = self.sets[on.set.0].grads.get(on.grads);
                        if let (Some(info), Some(grads)) = (infos.get(id as usize), grads) {
                            self.device.lend(grads, &mut |values| check(values.get(info.range()).unwrap_or(&[])))?;
                        }
                    }
                    _ => {}
                }
            }
        }
        Ok(found)
    }
}

fn not_finite(values: &[f32]) -> bool {
    values.iter().any(|x| !x.is_finite())
}

impl Session {
    /// The engine.
    pub fn engine(&self) -> &Arc<Engine> {
        self.device.engine()
    }

    /// The memory of an input or output; empty for every other tensor, whose memory is reused.
    pub fn read(&self, program: &OwnedProgram, t: Tensor) -> &[f32] {
        exec::real(&program.view(), &program.plan(), self.workspace.arena.get(), t).unwrap_or_default()
    }

    /// The memory of any activation: its value between the node that writes it and its last reader.
    pub fn peek(&self, program: &OwnedProgram, t: Tensor) -> &[f32] {
        self.workspace.arena.get().get(program.plan().value(t)).unwrap_or_default()
    }

    /// Runs a whole program node by node inside the thread pool and returns the seconds of each node.
    pub fn run_each(&mut self, program: &OwnedProgram, on: On, gradients: Gradients, took: &mut (dyn FnMut(usize, f64) + Send)) {
        let engine = Arc::clone(self.engine());
        engine.install(|| {
            for i in 0..program.view().nodes().len() {
                let begun = Instant::now();
                self.run(program, on, i..i + 1, gradients);
                took(i, begun.elapsed().as_secs_f64());
            }
        });
    }
}

/// The memory of a run, after checking that it is sufficient and that set and program share a registry.
fn bind<'a, D: Device>(
    (sets, frozen_of): (&'a mut [ParamSet<D>], &[SetId]),
    states: &'a mut [StateSet<D>],
    workspace: &'a mut Workspace<D>,
    program: &OwnedProgram,
    on: On,
) -> Result<Bind<'a, D>, DeviceError> {
    let enough = |what, owner: &str, found: usize, needed: usize| {
        if found >= needed { Ok(()) } else { Err(DeviceError::Room { what, owner: owner.to_owned(), found, needed }) }
    };
    enough("the arena", "workspace", D::len(&workspace.arena), program.arena_len())?;
    enough("the buffer of integers", "workspace", D::len(&workspace.ints), program.ints_len())?;
    let state = on.state.and_then(|StateId(state)| states.get_mut(state));
    let (owner, found) = state.as_ref().map_or(("none", 0), |state| (state.name(), D::len(&state.mem)));
    enough("the state", owner, found, program.state_len())?;
    // An average reads the frozen weights of the set that it follows.
    let owner = frozen_of.get(on.set.0).copied().filter(|&owner| owner != on.set);
    let other = match (on.source, owner) {
        (Some(source), Some(owner)) if source != owner => return Err(DeviceError::Sets),
        (source, owner) => source.or(owner),
    };
    let (set, other) = match other {
        None => (sets.get_mut(on.set.0).ok_or(DeviceError::Sets)?, None),
        Some(other) => {
            let [set, other] = sets.get_disjoint_mut([on.set.0, other.0]).map_err(|_| DeviceError::Sets)?;
            (set, Some(other))
        }
    };
    for one in [Some(&*set), other.as_deref()].into_iter().flatten() {
        if !Arc::ptr_eq(one.registry(), program.registry()) {
            return Err(DeviceError::Registry { set: one.name().to_owned() });
        }
    }
    let moments_len = D::len(if on.source.is_none() { &set.moments } else { &set.weights });
    enough("the gradient buffer", set.name(), set.grads.get(on.grads).map_or(0, D::len), program.grads_len())?;
    enough("the buffer of moments", set.name(), moments_len, program.moments_len())?;
    let ParamSet { weights, frozen, grads, moments, .. } = set;
    let (weights, moments, frozen) = match (other, on.source, owner) {
        (Some(other), Some(_), None) => (&mut other.weights, weights, frozen),
        (Some(other), Some(_), Some(_)) => (&mut other.weights, weights, &mut other.frozen),
        (Some(other), None, _) => (weights, moments, &mut other.frozen),
        (None, _, _) => (weights, moments, frozen),
    };
    Ok(Bind {
        arena: &mut workspace.arena,
        ints: &mut workspace.ints,
        state: state.map(|state| &mut state.mem),
        weights,
        frozen,
        grads: grads.get_mut(on.grads),
        moments: Some(moments),
    })
}
