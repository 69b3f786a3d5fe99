//! Exclusive outputs and shared inputs out of the same buffers, by checked splits.

use core::mem::take;
use core::ops::Range;

use super::memory::Memory;
use super::{Gradients, Update, Views};
use crate::graph::op::{MAX_INPUTS, MAX_OUTPUTS, Op};
use crate::graph::{DType, Momentum, Node, Program, Role, Tensor};
use crate::math::Real;
use crate::plan::Plan;

/// Exclusive parts of one buffer that a node can ask for: its outputs and its scratch.
const PARTS: usize = MAX_OUTPUTS + 1;

const GLOBAL_NORM: u8 = Op::GlobalNorm.opcode();

/// A buffer cut into exclusive parts and what lies between them.
struct Carved<'a, R> {
    exclusive: [&'a mut [R]; PARTS],
    /// Where each begins, and its elements.
    shared: [(usize, &'a [R]); PARTS + 1],
}

impl<'a, R> Carved<'a, R> {
    /// Cuts `ranges` out of `buffer`. A range that overlaps an earlier one comes out empty, and so do those that are out of bounds or behind such a one.
    #[inline(never)]
    fn new(buffer: &'a mut [R], ranges: &[Range<usize>; PARTS]) -> Self {
        let mut exclusive: [&'a mut [R]; PARTS] = Default::default();
        let mut shared: [(usize, &'a [R]); PARTS + 1] = Default::default();
        let (mut rest, mut position) = (buffer, 0usize);
        for gap in &mut shared {
            let behind = ranges.iter().zip(&mut exclusive).filter(|(range, _)| range.start >= position && !range.is_empty());
            let Some((range, part)) = behind.min_by_key(|(range, _)| range.start) else {
                *gap = (position, rest);
                break;
            };
            let Some((before, tail)) = rest.split_at_mut_checked(range.start.wrapping_sub(position)) else { break };
            *gap = (position, before);
            let Some((own, tail)) = tail.split_at_mut_checked(range.len()) else { break };
            *part = own;
            (rest, position) = (tail, range.end);
        }
        Self { exclusive, shared }
    }

    /// A range that touches no exclusive part; empty otherwise.
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

/// Where a tensor lies.
struct Place {
    role: Role,
    range: Range<usize>,
}

/// The ranges of the outputs with a role, and of scratch.
#[inline(never)]
fn wanted(outputs: &[Option<Place>; MAX_OUTPUTS], role: Role, scratch: Range<usize>) -> [Range<usize>; PARTS] {
    let mut ranges = [0..0, 0..0, 0..0, scratch];
    for (range, output) in ranges.iter_mut().zip(outputs) {
        if let Some(place) = output.as_ref().filter(|place| place.role == role) {
            *range = place.range.clone();
        }
    }
    ranges
}

/// `real_bytes` is the size of a number.
fn place(program: &Program<'_>, plan: &Plan<'_>, t: Tensor, real_bytes: usize) -> Option<Place> {
    let record = program.tensor(t)?;
    let (start, len) = (record.offset as usize, record.shape.len());
    let range = match record.role {
        Role::Activation | Role::Input => plan.value(t),
        Role::Ints | Role::Trainable | Role::Grad => start..start.saturating_add(len),
        Role::State => start..start.saturating_add(record.state_len()),
        Role::Frozen => start..start.saturating_add(record.dtype.bytes(len, real_bytes).unwrap_or(0)),
    };
    Some(Place { role: record.role, range })
}

/// Everything that node `i` may touch. Not inlined: what it takes to find that is off the stack again when the kernel runs.
#[inline(never)]
pub(super) fn views<'v, R: Real>(
    program: &Program<'_>,
    plan: &Plan<'_>,
    memory: &'v mut Memory<'_, R>,
    i: usize,
    node: &Node<'_>,
    gradients: Gradients,
) -> Views<'v, R> {
    let record = node.record();
    let outputs = record.outputs.map(|t| place(program, plan, t, size_of::<R>()));
    let mut arena = Carved::new(memory.arena, &wanted(&outputs, Role::Activation, plan.scratch(i)));
    let mut state = Carved::new(memory.state, &wanted(&outputs, Role::State, 0..0));
    let mut grads = Carved::new(memory.grads, &wanted(&outputs, Role::Grad, 0..0));
    let (weights, moments) = update_ranges(program, node);
    let mut trainable = Carved::new(memory.trainable, &[weights.clone(), 0..0, 0..0, 0..0]);
    let [m0, m1] = moments;
    let mut moments = Carved::new(memory.moments, &[m0, m1, 0..0, 0..0]);
    let frozen = memory.frozen;

    let mut views = Views {
        inputs: [&[]; MAX_INPUTS],
        ints: [&[]; MAX_INPUTS],
        bytes: [&[]; MAX_INPUTS],
        outputs: Default::default(),
        accumulate: [false; MAX_OUTPUTS],
        scratch: arena.take(MAX_OUTPUTS),
        update: Update {
            weights: trainable.take(0),
            grads: grads.get(&if record.opcode == GLOBAL_NORM { 0..program.params().trainable_len() } else { weights }),
            moments: [moments.take(0), moments.take(1)],
        },
    };
    for (o, (out, accumulate)) in views.outputs.iter_mut().zip(&mut views.accumulate).enumerate() {
        match outputs.get(o).and_then(Option::as_ref).map(|p| p.role) {
            Some(Role::Activation) => *out = arena.take(o),
            Some(Role::State) => *out = state.take(o),
            Some(Role::Grad) => {
                *out = grads.take(o);
                *accumulate = record.is_later(o) || gradients == Gradients::Add;
            }
            Some(Role::Input | Role::Ints | Role::Trainable | Role::Frozen) | None => {}
        }
    }
    for (((&t, real), ints), bytes) in record.inputs.iter().zip(&mut views.inputs).zip(&mut views.ints).zip(&mut views.bytes) {
        let Some(Place { role, range }) = place(program, plan, t, size_of::<R>()) else { continue };
        match role {
            Role::Activation | Role::Input => *real = arena.get(&range),
            Role::State => *real = state.get(&range),
            Role::Trainable => *real = trainable.get(&range),
            Role::Grad => *real = grads.get(&range),
            Role::Ints => *ints = memory.ints.get(range).unwrap_or(&[]),
            Role::Frozen => {
                let raw = frozen.get(range).unwrap_or(&[]);
                if program.tensor(t).is_some_and(|r| r.dtype == DType::Real) {
                    *real = bytemuck::try_cast_slice(raw).unwrap_or(&[]);
                } else {
                    *bytes = raw;
                }
            }
        }
    }
    views
}

/// The range of parameters that an update changes, and its ranges of the moments.
fn update_ranges(program: &Program<'_>, node: &Node<'_>) -> (Range<usize>, [Range<usize>; 2]) {
    let all = program.params().trainable_len();
    let part = |start: u32, len: u32| {
        let start = start as usize;
        start..start.saturating_add(len as usize)
    };
    let shifted = |r: &Range<usize>, slot: usize| {
        let base = all.saturating_mul(slot);
        base.saturating_add(r.start)..base.saturating_add(r.end)
    };
    // Updates have no outputs: other operations need not be decoded.
    let has_outputs = node.record().outputs.iter().any(|t| t.is_some());
    match if has_outputs { None } else { node.op() } {
        Some(Op::AdamW { start, len, .. }) => {
            let r = part(start, len);
            (r.clone(), [shifted(&r, 0), shifted(&r, 1)])
        }
        Some(Op::Sgd { start, len, momentum, .. }) => {
            let r = part(start, len);
            let moment = if momentum == Momentum::None { 0..0 } else { shifted(&r, 0) };
            (r, [moment, 0..0])
        }
        Some(Op::Ema { slot }) => (0..all, [shifted(&(0..all), slot as usize), 0..0]),
        _ => (0..0, [0..0, 0..0]),
    }
}
