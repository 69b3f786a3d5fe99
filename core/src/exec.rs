//! Running a program: memory lent by the caller, views of it for kernels, and the backend that walks the nodes.

mod carve;
mod memory;
mod placement;

use core::ops::Range;

pub use memory::{Buffer, Memory, MemoryError, WriteError, ints, ints_mut, real, real_mut, write_ints, write_real};
pub(crate) use memory::{place, place_mut};
pub use placement::{Placement, placement};

use crate::graph::op::{MAX_INPUTS, MAX_OUTPUTS, Op};
use crate::graph::rules::{Rule, only};
use crate::graph::{DType, Node, Program, TensorRecord};
use crate::math::Real;
use crate::plan::Plan;
use crate::threads::Threads;

/// The memory of one node as its kernel sees it: every input, every output, and scratch.
///
/// An absent input is an empty slice. So is an input whose memory output 0 reuses (in place): output 0 then holds the input's value when the kernel
/// starts. An absent output is an empty slice, and so is one without a reader.
pub struct Views<'a, R> {
    /// Floating-point inputs.
    pub inputs: [&'a [R]; MAX_INPUTS],
    /// Integer inputs.
    pub ints: [&'a [i32]; MAX_INPUTS],
    /// Frozen parameters of an element type other than `R`, as bytes.
    pub bytes: [&'a [u8]; MAX_INPUTS],
    /// Outputs.
    pub outputs: [&'a mut [R]; MAX_OUTPUTS],
    /// Whether output i is accumulated instead of overwritten.
    pub accumulate: [bool; MAX_OUTPUTS],
    /// Scratch of the length that the kernel declared, with undefined content.
    pub scratch: &'a mut [R],
    /// Parameters, gradients and moments, for updates.
    pub update: Update<'a, R>,
}

impl<R> Views<'_, R> {
    /// Empty views.
    fn empty() -> Self {
        Self {
            inputs: [&[]; MAX_INPUTS],
            ints: [&[]; MAX_INPUTS],
            bytes: [&[]; MAX_INPUTS],
            outputs: Default::default(),
            accumulate: [false; MAX_OUTPUTS],
            scratch: &mut [],
            update: Update { weights: &mut [], grads: &[], moments: [&mut [], &mut []] },
        }
    }
}

/// The part of the flat buffers that an update works on.
pub struct Update<'a, R> {
    /// The parameters.
    pub weights: &'a mut [R],
    /// Their gradients in the gradient buffer; empty where updates read gradients from the arena.
    pub grads: &'a [R],
    /// Their moments, as many as the optimizer has.
    pub moments: [&'a mut [R]; 2],
}

/// The kernel of one operation.
pub struct Kernel<R> {
    /// Computes the node.
    pub run: fn(&Node<'_>, Views<'_, R>, &dyn Threads),
    /// Elements of scratch that the node needs.
    pub scratch_len: fn(&Node<'_>) -> usize,
}

impl<R> Clone for Kernel<R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R> Copy for Kernel<R> {}

/// A table of kernels, one per operation. Kernels of operations outside of the table are not linked.
pub struct Kernels<R> {
    table: [Option<Kernel<R>>; Op::COUNT],
    rules: [Option<Rule>; Op::COUNT],
}

impl<R: Real> Kernels<R> {
    /// A table without kernels.
    pub const EMPTY: Self = Self { table: [None; Op::COUNT], rules: [None; Op::COUNT] };

    /// Adds an operation: its reference kernel, and the shape rule by which stored programs are checked.
    pub(crate) const fn define<const OPCODE: u8>(self, kernel: Kernel<R>) -> Self {
        self.define_by::<OPCODE>(only::<OPCODE>, kernel)
    }

    /// As [`Self::define`] with a narrower rule, for a kernel that supports only part of the operation.
    pub(crate) const fn define_by<const OPCODE: u8>(mut self, rule: Rule, kernel: Kernel<R>) -> Self {
        // The code is an index of the table at compile time.
        self.rules[OPCODE as usize] = Some(rule);
        self.table[OPCODE as usize] = Some(kernel);
        self
    }

    /// The shape rule for an operation.
    pub(crate) fn rule(&self, opcode: u8) -> Option<Rule> {
        self.rules.get(usize::from(opcode)).copied().flatten()
    }

    /// Replaces the kernel of the operation with this code.
    pub fn with(mut self, opcode: u8, kernel: Kernel<R>) -> Self {
        if let Some(slot) = self.table.get_mut(usize::from(opcode)) {
            *slot = Some(kernel);
        }
        self
    }

    /// The kernel for an operation.
    pub fn get(&self, opcode: u8) -> Option<&Kernel<R>> {
        self.table.get(usize::from(opcode)).and_then(Option::as_ref)
    }
}

/// Whether a run overwrites gradients or accumulates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Gradients {
    /// The first contribution to a gradient overwrites it.
    #[default]
    Overwrite,
    /// The first contribution accumulates as well: for later micro-batches, and for programs that share gradients.
    Add,
}

/// Something that runs programs.
pub trait Backend {
    /// The memory that it works on.
    type Memory<'m>;

    /// Whether it has a kernel for a node.
    fn supports(&self, node: &Node<'_>) -> bool;

    /// Elements of scratch that it needs for a node, for the planner.
    fn scratch_len(&self, node: &Node<'_>) -> usize;

    /// Runs a range of nodes. Inputs are checked when they are written, so a run cannot fail in sufficient memory: call [`Memory::check`] first. With
    /// too little memory, builds with debug assertions panic and others skip the missing parts.
    fn run(
        &self,
        program: &Program<'_>,
        plan: &Plan<'_>,
        memory: &mut Self::Memory<'_>,
        nodes: Range<usize>,
        gradients: Gradients,
    );
}

/// The CPU backend: a table of kernels and threads.
pub struct Cpu<'k, R> {
    kernels: &'k Kernels<R>,
    threads: &'k dyn Threads,
}

impl<'k, R: Real> Cpu<'k, R> {
    /// A backend that calls these kernels with these threads.
    pub fn new(kernels: &'k Kernels<R>, threads: &'k dyn Threads) -> Self {
        Self { kernels, threads }
    }

    /// The first node without a kernel.
    pub fn unsupported<'p>(&self, program: &Program<'p>) -> Option<Node<'p>> {
        (0..program.nodes().len()).filter_map(|i| program.node(i)).find(|n| !n.record().dead && !self.supports(n))
    }
}

impl<R: Real> Backend for Cpu<'_, R> {
    type Memory<'m> = Memory<'m, R>;

    fn supports(&self, node: &Node<'_>) -> bool {
        let Some(op) = node.op() else { return false };
        let reads = |(i, t): (usize, &TensorRecord)| matches!(t.dtype, DType::Real | DType::I32) || op.reads_quantised(i, t.role);
        let inputs_read = (0..MAX_INPUTS).filter_map(|i| node.input(i).map(|t| (i, t))).all(reads);
        inputs_read && self.kernels.get(node.record().opcode).is_some()
    }

    fn scratch_len(&self, node: &Node<'_>) -> usize {
        self.kernels.get(node.record().opcode).map_or(0, |k| (k.scratch_len)(node))
    }

    fn run(&self, program: &Program<'_>, plan: &Plan<'_>, memory: &mut Memory<'_, R>, nodes: Range<usize>, gradients: Gradients) {
        debug_assert_eq!(memory.check(program, plan), Ok(()), "Memory::check");
        for i in nodes {
            let Some(node) = program.node(i).filter(|n| !n.record().dead) else { continue };
            if let Some(kernel) = self.kernels.get(node.record().opcode) {
                let views = carve::views(program, plan, memory, i, &node, gradients);
                (kernel.run)(&node, views, self.threads);
            }
        }
    }
}
