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

/// A buffer cut into exclusive parts and what lies between them.
struct Carved<'a, R> {
    exclusive: [&'a mut [R]; PARTS],
    shared: heapless::Vec<(usize, &'a [R]), { PARTS + 1 }>,
}

impl<'a, R> Carved<'a, R> {
    /// Cuts `ranges` out of `buffer`. A range that is out of bounds or overlaps an earlier one comes out empty.
    fn new(buffer: &'a mut [R], ranges: &[Range<usize>; PARTS]) -> Self {
        let mut order: [usize; PARTS] = [0, 1, 2, 3];
        let start = |i: usize| ranges.get(i).map_or(0, |r| r.start);
        // Insertion sort of four numbers.
        for pass in 0..PARTS {
            for (a, b) in (0..PARTS.saturating_sub(pass)).zip(1..PARTS) {
                if let (Some(&x), Some(&y)) = (order.get(a), order.get(b))
                    && start(x) > start(y)
                {
                    if let Some(to) = order.get_mut(a) {
                        *to = y;
                    }
                    if let Some(to) = order.get_mut(b) {
                        *to = x;
                    }
                }
            }
        }
        let mut exclusive: [&'a mut [R]; PARTS] = Default::default();
        let mut shared = heapless::Vec::new();
        let (mut rest, mut position) = (buffer, 0usize);
        for i in order {
            let Some(range) = ranges.get(i).filter(|r| !r.is_empty()) else { continue };
            let Some(skip) = range.start.checked_sub(position) else { continue };
            if skip.saturating_add(range.len()) > rest.len() {
                continue;
            }
            let Some((gap, tail)) = take(&mut rest).split_at_mut_checked(skip) else { continue };
            let Some((part, tail)) = tail.split_at_mut_checked(range.len()) else { continue };
            // There are at most as many gaps as the list holds.
            let _ = shared.push((position, &*gap));
            if let Some(slot) = exclusive.get_mut(i) {
                *slot = part;
            }
            rest = tail;
            position = range.end;
        }
        let _ = shared.push((position, &*rest));
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
    let wanted = |role: Role| -> [Range<usize>; PARTS] {
        let range =
            |o: usize| outputs.get(o).and_then(Option::as_ref).filter(|p| p.role == role).map_or(0..0, |p| p.range.clone());
        [range(0), range(1), range(2), 0..0]
    };
    let [a0, a1, a2, _] = wanted(Role::Activation);
    let mut arena = Carved::new(memory.arena, &[a0, a1, a2, plan.scratch(i)]);
    let mut state = Carved::new(memory.state, &wanted(Role::State));
    let mut grads = Carved::new(memory.grads, &wanted(Role::Grad));
    let (weights, moments) = update_ranges(program, node.op());
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
            grads: if matches!(node.op(), Some(Op::GlobalNorm)) {
                grads.get(&(0..program.params().trainable_len()))
            } else {
                grads.get(&weights)
            },
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
fn update_ranges(program: &Program<'_>, op: Option<Op>) -> (Range<usize>, [Range<usize>; 2]) {
    let all = program.params().trainable_len();
    let part = |start: u32, len: u32| {
        let start = start as usize;
        start..start.saturating_add(len as usize)
    };
    let shifted = |r: &Range<usize>, slot: usize| {
        let base = all.saturating_mul(slot);
        base.saturating_add(r.start)..base.saturating_add(r.end)
    };
    match op {
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
