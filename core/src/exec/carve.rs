//! Exclusive outputs and shared inputs from the same buffers, by checked splits.
//!
//! Resolving a node's memory is optimised for size, not for speed: one buffer at a time, without generic copies of the code, for a device's stack and
//! flash. On a desktop CPU it takes about 2,700 instructions per node more than an inlined version, less than 1 % of a training step or a decoded
//! token.

use core::mem::take;
use core::ops::Range;

use super::memory::Memory;
use super::placement::{Placement, placement};
use super::{Gradients, Views};
use crate::graph::op::{MAX_OUTPUTS, Op};
use crate::graph::rules::reach;
use crate::graph::{DType, Node, Program, Reach, Role, Tensor};
use crate::math::Real;
use crate::plan::Plan;

/// Exclusive parts of one buffer that a node can use: its outputs and its scratch.
const PARTS: usize = MAX_OUTPUTS + 1;

const GLOBAL_NORM: u8 = Op::GlobalNorm.opcode();

/// A buffer split into exclusive parts and the gaps between them.
struct Carved<'a, R> {
    exclusive: [&'a mut [R]; PARTS],
    shared: heapless::Vec<(usize, &'a [R]), { PARTS + 1 }>,
}

impl<'a, R> Carved<'a, R> {
    /// Splits `ranges` off `buffer`. A range that overlaps an earlier one or is out of bounds comes out empty, and so do ranges after one that is out
    /// of bounds.
    #[inline(never)]
    fn new(buffer: &'a mut [R], ranges: &[Range<usize>; PARTS]) -> Self {
        let mut exclusive: [&'a mut [R]; PARTS] = Default::default();
        let mut shared = heapless::Vec::new();
        let (mut rest, mut position) = (buffer, 0usize);
        loop {
            let behind = ranges.iter().zip(&mut exclusive).filter(|(range, _)| range.start >= position && !range.is_empty());
            let Some((range, part)) = behind.min_by_key(|(range, _)| range.start) else { break };
            let Some((gap, tail)) = take(&mut rest).split_at_mut_checked(range.start.wrapping_sub(position)) else { break };
            // There are at most as many gaps as the list has entries.
            let _ = shared.push((position, &*gap));
            let Some((own, tail)) = tail.split_at_mut_checked(range.len()) else { break };
            *part = own;
            (rest, position) = (tail, range.end);
        }
        let _ = shared.push((position, &*rest));
        Self { exclusive, shared }
    }

    /// A range within a gap; empty if it touches an exclusive part.
    fn get(&self, range: &Range<usize>) -> &'a [R] {
        let inside = |(start, gap): &(usize, &'a [R])| {
            let from = range.start.checked_sub(*start)?;
            let to = range.end.checked_sub(*start)?;
            gap.get(from..to)
        };
        self.shared.iter().find_map(inside).unwrap_or(&[])
    }

    fn take(&mut self, i: usize) -> &'a mut [R] {
        self.exclusive.get_mut(i).map(take).unwrap_or(&mut [])
    }
}

/// A node whose views are resolved one buffer at a time, which limits the stack in use at once.
struct Carver<'p> {
    program: &'p Program<'p>,
    plan: &'p Plan<'p>,
    node: &'p Node<'p>,
    gradients: Gradients,
}

impl Carver<'_> {
    /// The location of a tensor.
    fn place(&self, t: Tensor, real_bytes: usize) -> Option<Placement> {
        placement(self.program, self.plan, t, real_bytes)
    }

    /// Fills in the outputs and inputs of these roles, which share a buffer. Part [`EXTRA`] of the split is `extra`.
    #[inline(never)]
    fn carve<'v, R: Real>(
        &self,
        roles: &[Role],
        buffer: &'v mut [R],
        extra: Range<usize>,
        views: &mut Views<'v, R>,
    ) -> Carved<'v, R> {
        let record = self.node.record();
        let inside =
            |t: Tensor| self.place(t, size_of::<R>()).filter(|place| roles.contains(&place.role)).map(|place| place.range);
        let [o0, o1, o2] = record.outputs.map(|t| inside(t).unwrap_or(0..0));
        let mut carved = Carved::new(buffer, &[o0, o1, o2, extra]);
        for (o, out) in views.outputs.iter_mut().enumerate() {
            let part = carved.take(o);
            if !part.is_empty() {
                *out = part;
            }
        }
        for (&t, real) in record.inputs.iter().zip(&mut views.inputs) {
            if let Some(range) = inside(t) {
                *real = carved.get(&range);
            }
        }
        carved
    }

    /// Fills in integers and frozen parameters, which are read-only.
    fn borrow<'v, R: Real>(&self, ints: &'v [i32], frozen: &'v [u8], views: &mut Views<'v, R>) {
        let inputs = self.node.record().inputs.iter().zip(&mut views.inputs);
        for (((&t, real), to_ints), bytes) in inputs.zip(&mut views.ints).zip(&mut views.bytes) {
            match self.place(t, size_of::<R>()) {
                Some(Placement { role: Role::Ints, range }) => *to_ints = ints.get(range).unwrap_or(&[]),
                Some(Placement { role: Role::Frozen, range }) => {
                    let raw = frozen.get(range).unwrap_or(&[]);
                    if self.program.tensor(t).is_some_and(|r| r.dtype == DType::Real) {
                        *real = bytemuck::try_cast_slice(raw).unwrap_or(&[]);
                    } else {
                        *bytes = raw;
                    }
                }
                _ => {}
            }
        }
    }

    /// Whether every output is accumulated.
    fn accumulate(&self) -> [bool; MAX_OUTPUTS] {
        let mut adds = [false; MAX_OUTPUTS];
        for (o, adds) in adds.iter_mut().enumerate() {
            let is_grad = self.node.output(o).is_some_and(|r| r.role == Role::Grad);
            *adds = is_grad && (self.node.record().is_later(o) || self.gradients == Gradients::Add);
        }
        adds
    }
}

/// The index of the part of a [`Carved`] buffer that is not an output.
const EXTRA: usize = MAX_OUTPUTS;

/// The views of node `i`. Not inlined, so that its stack frame is gone when the kernel runs.
#[inline(never)]
pub(super) fn views<'v, R: Real>(
    program: &Program<'_>,
    plan: &Plan<'_>,
    memory: &'v mut Memory<'_, R>,
    i: usize,
    node: &Node<'_>,
    gradients: Gradients,
) -> Views<'v, R> {
    let carver = Carver { program, plan, node, gradients };
    let mut views = Views::empty();
    views.accumulate = carver.accumulate();
    carver.borrow(memory.ints, memory.frozen, &mut views);
    views.scratch = carver.carve(&[Role::Activation, Role::Input], memory.arena, plan.scratch(i), &mut views).take(EXTRA);
    carver.carve(&[Role::State], memory.state, 0..0, &mut views);
    let (weights, [m0, m1]) = update_ranges(program, node);
    let read = if node.record().opcode == GLOBAL_NORM { 0..program.params().trainable_len() } else { weights.clone() };
    views.update.grads = carver.carve(&[Role::Grad], memory.grads, 0..0, &mut views).get(&read);
    views.update.weights = carver.carve(&[Role::Trainable], memory.trainable, weights, &mut views).take(EXTRA);
    let mut moments = Carved::new(memory.moments, &[m0, m1, 0..0, 0..0]);
    views.update.moments = [moments.take(0), moments.take(1)];
    views
}

/// The range of parameters that an update changes, and its ranges of the moments.
fn update_ranges(program: &Program<'_>, node: &Node<'_>) -> (Range<usize>, [Range<usize>; 2]) {
    let all = program.params().trainable_len();
    // Updates have no outputs, so operations with outputs need not be decoded.
    let has_outputs = node.record().outputs.iter().any(|t| t.is_some());
    let op = if has_outputs { None } else { node.op() };
    let Some(Reach { range, moments }) = op.and_then(|op| reach(&op, all)) else { return (0..0, [0..0, 0..0]) };
    let shifted = |slot: Option<u32>| match slot {
        Some(slot) => {
            let base = all.saturating_mul(slot as usize);
            base.saturating_add(range.start)..base.saturating_add(range.end)
        }
        None => 0..0,
    };
    let moments = moments.map(shifted);
    (range, moments)
}
