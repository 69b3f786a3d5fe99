//! The memory planner: places every activation, gradient and scratch buffer of a program into one arena, by lifetime.
//!
//! A slot lives from the node that writes it to the last node that reads it. Slots with longer lifetimes are placed first, each into the first gap
//! among the slots whose lifetimes overlap with its own. An output reuses the slot of an input where the operation allows it and the input has no
//! later reader.
//!
//! The planner is greedy by lifetime with first fit: long-lived slots are packed at the bottom without gaps, short-lived ones share the rest. For the
//! presets the arena is within 1 % of the peak of live memory; ordering by size gave up to 5 %. It is quadratic in the number of slots; GPT-2 1558M
//! plans in a few milliseconds.

use core::fmt;
use core::ops::Range;

use bytemuck::{Pod, Zeroable};

use crate::graph::op::InPlace;
use crate::graph::{Node, Program, Role, Tensor};
use crate::math::sort::heap_sort;
use crate::shape::UNIT;

const NEVER: u16 = u16::MAX;

/// A range of the arena with its lifetime.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Slot {
    /// Its start, in units of [`UNIT`] elements.
    pub offset: u32,
    /// Its elements; 0 if the value has no reader.
    pub len: u32,
    /// The tensor whose slot this is; its own index unless it shares another's.
    pub owner: u16,
    /// The node that first writes it.
    pub first: u16,
    /// The last node that uses it.
    pub last: u16,
    /// 0.
    pub reserved: u16,
}

impl Slot {
    /// A slot for filling storage.
    pub const EMPTY: Self = Self { offset: 0, len: 0, owner: 0, first: 0, last: 0, reserved: 0 };

    /// Its elements of the arena.
    pub fn range(&self) -> Range<usize> {
        let start = (self.offset as usize).saturating_mul(UNIT);
        start..start.saturating_add(self.len as usize)
    }

    fn units(&self) -> u32 {
        (self.len as usize).div_ceil(UNIT) as u32
    }

    fn end(&self) -> u32 {
        self.offset.saturating_add(self.units())
    }

    fn coexists(&self, other: &Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// Why planning failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlanError {
    /// The lent storage is too small; see [`storage_len`].
    Storage {
        /// The number of slots needed.
        needed: usize,
    },
    /// The arena would exceed 2³² units, or what the machine can address.
    TooLarge,
    /// Two slots that live at the same time overlap: a damaged plan.
    Overlap {
        /// One slot.
        a: usize,
        /// The other.
        b: usize,
    },
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Storage { needed } => write!(f, "the storage of the plan must hold {needed} slots"),
            Self::TooLarge => {
                f.write_str("the arena would exceed 2^32 units of 16 elements: use smaller batches, or recomputation")
            }
            Self::Overlap { a, b } => write!(f, "slots {a} and {b} overlap in memory and in lifetime"),
        }
    }
}

impl core::error::Error for PlanError {}

/// The length that the storage of a plan needs, for the slots and for the order of placement.
pub fn storage_len(program: &Program<'_>) -> usize {
    program.tensors().len().saturating_add(program.nodes().len())
}

/// A finished plan.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    slots: &'a [Slot],
    tensors: usize,
    arena_len: usize,
}

impl<'a> Plan<'a> {
    /// Plans a program. `scratch_len` gives a node's elements of scratch; `slots` and `order` hold [`storage_len`] each.
    ///
    /// # Errors
    ///
    /// Storage shorter than [`storage_len`], or an arena larger than a plan can describe or this machine can address.
    pub fn new(
        program: &Program<'_>,
        scratch_len: &dyn Fn(&Node<'_>) -> usize,
        slots: &'a mut [Slot],
        order: &mut [u16],
    ) -> Result<Self, PlanError> {
        let needed = storage_len(program);
        let tensors = program.tensors().len();
        let error = PlanError::Storage { needed };
        let slots = slots.get_mut(..needed).ok_or(error)?;
        let order = order.get_mut(..needed).ok_or(error)?;
        let (values, scratch) = slots.split_at_mut_checked(tensors).ok_or(error)?;
        lifetimes(program, values);
        share(program, values);
        for (i, slot) in scratch.iter_mut().enumerate() {
            let live = program.node(i).filter(|n| !n.record().dead);
            let len = live.map_or(0, |n| scratch_len(&n));
            let len = u32::try_from(len).map_err(|_| PlanError::TooLarge)?;
            let owner = tensors.saturating_add(i) as u16;
            *slot = Slot { len, first: i as u16, last: i as u16, owner, ..Slot::EMPTY };
        }
        let arena_len = place(slots, order)?;
        Ok(Self { slots, tensors, arena_len })
    }

    /// Assembles a plan from the parts of one plan.
    pub const fn from_parts(slots: &'a [Slot], tensors: usize, arena_len: usize) -> Self {
        Self { slots, tensors, arena_len }
    }

    /// All slots: one per tensor, then one per node for its scratch.
    pub const fn slots(&self) -> &'a [Slot] {
        self.slots
    }

    /// Elements of the arena.
    pub const fn arena_len(&self) -> usize {
        self.arena_len
    }

    /// The arena range of an activation or input; empty if it has no reader.
    pub fn value(&self, t: Tensor) -> Range<usize> {
        let slot = self.slots.get(..self.tensors).and_then(|s| s.get(t.index()));
        match slot {
            Some(slot) if slot.len > 0 => {
                let owner = self.slots.get(usize::from(slot.owner)).unwrap_or(slot);
                let start = owner.range().start;
                start..start.saturating_add(slot.len as usize)
            }
            _ => 0..0,
        }
    }

    /// The arena range of the scratch of node `i`.
    pub fn scratch(&self, i: usize) -> Range<usize> {
        self.slots.get(self.tensors.saturating_add(i)).map_or(0..0, Slot::range)
    }

    /// The node at the memory peak; the first of several.
    pub fn peak(&self) -> usize {
        let nodes = self.slots.len().saturating_sub(self.tensors);
        let taken = |node: usize| -> u64 { self.taken_at(node).map(|slot| u64::from(slot.len)).sum() };
        // The last of equal maxima wins, hence from the end.
        (0..nodes).rev().max_by_key(|&node| taken(node)).unwrap_or(0)
    }

    /// The slots that are live while a node runs. [`Slot::owner`] is the first tensor of the slot, or, from the number of tensors on, that number
    /// plus the index of the node whose scratch it is.
    pub fn taken_at(&self, node: usize) -> impl Iterator<Item = &'a Slot> {
        let owns = |(i, slot): &(usize, &Slot)| slot.len > 0 && usize::from(slot.owner) == *i;
        let taken = move |slot: &&Slot| usize::from(slot.first) <= node && node <= usize::from(slot.last);
        self.slots.iter().enumerate().filter(owns).map(|(_, slot)| slot).filter(taken)
    }

    /// Checks that no two slots overlap both in memory and in lifetime, and that all are inside the arena.
    ///
    /// # Errors
    ///
    /// Two overlapping slots, or one beyond the end of the arena.
    pub fn check(&self) -> Result<(), PlanError> {
        let owners = || self.slots.iter().enumerate().filter(|(i, s)| s.len > 0 && usize::from(s.owner) == *i);
        for (a, x) in owners() {
            if x.range().end > self.arena_len {
                return Err(PlanError::TooLarge);
            }
            for (b, y) in owners().take_while(|(b, _)| *b < a) {
                if x.coexists(y) && x.offset < y.end() && y.offset < x.end() {
                    return Err(PlanError::Overlap { a, b });
                }
            }
        }
        Ok(())
    }
}

/// Whether a tensor has memory in the arena.
fn in_arena(role: Role) -> bool {
    matches!(role, Role::Activation | Role::Input)
}

/// First and last use of every tensor with its own memory; tensors that share it extend its lifetime.
fn lifetimes(program: &Program<'_>, slots: &mut [Slot]) {
    let root_of = |t: Tensor| program.tensor(t).map_or(usize::MAX, |r| r.root.index());
    let end = program.nodes().len() as u16;
    for ((i, slot), t) in slots.iter_mut().enumerate().zip(program.tensors()) {
        *slot = Slot { first: NEVER, owner: i as u16, ..Slot::EMPTY };
        if t.role == Role::Input {
            *slot = Slot { first: 0, last: end, len: t.shape.len() as u32, ..*slot };
        }
    }
    for (n, node) in program.nodes().iter().enumerate().filter(|(_, node)| !node.dead) {
        let n = n as u16;
        for &t in &node.outputs {
            if let Some(slot) = slots.get_mut(root_of(t)) {
                slot.first = slot.first.min(n);
                slot.last = slot.last.max(n);
            }
        }
        let alias = node.op().is_some_and(|op| matches!(op.in_place(), InPlace::Alias(_)));
        for &t in &node.inputs {
            let Some(record) = program.tensor(t).filter(|r| in_arena(r.role)) else { continue };
            if let Some(slot) = slots.get_mut(record.root.index()) {
                slot.last = slot.last.max(n);
                // A reshape alone is no use of the value.
                if !alias {
                    slot.len = record.shape.len() as u32;
                }
            }
        }
    }
    for t in program.tensors().iter().filter(|t| t.pinned && in_arena(t.role)) {
        if let Some(slot) = slots.get_mut(t.root.index()).filter(|s| s.first != NEVER) {
            slot.last = end;
            slot.len = t.shape.len() as u32;
        }
    }
    for (i, t) in program.tensors().iter().enumerate().filter(|(i, t)| in_arena(t.role) && t.root.index() != *i) {
        let Some(root) = slots.get(t.root.index()).copied() else { continue };
        if let Some(slot) = slots.get_mut(i) {
            *slot = Slot { owner: t.root.index() as u16, ..root };
        }
    }
}

/// Lets outputs reuse the slots of inputs whose lifetime ends there.
fn share(program: &Program<'_>, slots: &mut [Slot]) {
    let owner_of = |slots: &[Slot], t: Tensor| -> Option<usize> {
        let record = program.tensor(t).filter(|r| in_arena(r.role))?;
        slots.get(record.root.index()).map(|s| usize::from(s.owner))
    };
    for (n, node) in program.nodes().iter().enumerate().filter(|(_, node)| !node.dead) {
        let Some(InPlace::Inputs(inputs)) = node.op().map(|op| op.in_place()) else { continue };
        let Some(to) = owner_of(slots, node.output(0)) else { continue };
        let Some(&target) = slots.get(to).filter(|target| target.len > 0) else { continue };
        let ends_here = |&from: &usize| {
            let fits = slots.get(from).is_some_and(|source| usize::from(source.last) == n && source.len == target.len);
            let once = node.inputs.iter().filter(|&&t| owner_of(slots, t) == Some(from)).count() == 1;
            fits && once && from != to
        };
        let Some(from) = inputs.iter().filter_map(|&i| owner_of(slots, node.input(i.into()))).find(ends_here) else { continue };
        if let Some(slot) = slots.get_mut(from) {
            slot.last = target.last;
        }
        if let Some(slot) = slots.get_mut(to) {
            slot.owner = from as u16;
        }
    }
    // Tensors that share memory by reshaping follow their root to its new owner.
    for (i, t) in program.tensors().iter().enumerate().filter(|(i, t)| in_arena(t.role) && t.root.index() != *i) {
        let owner = slots.get(t.root.index()).map_or(i as u16, |s| s.owner);
        if let Some(slot) = slots.get_mut(i) {
            slot.owner = owner;
        }
    }
}

/// Places all slots that own their memory; returns the elements of the arena.
fn place(slots: &mut [Slot], order: &mut [u16]) -> Result<usize, PlanError> {
    let mut count = 0;
    for (i, _) in slots.iter().enumerate().filter(|(i, s)| s.len > 0 && usize::from(s.owner) == *i) {
        if let Some(to) = order.get_mut(count) {
            *to = i as u16;
            count += 1;
        }
    }
    let order = order.get_mut(..count).unwrap_or(&mut []);
    let slot_of = |slots: &[Slot], i: u16| slots.get(usize::from(i)).copied().unwrap_or_default();
    // Longest lifetime first: these are packed at the bottom without gaps, and the rest is free for short-lived slots. Ties by size, large first.
    heap_sort(order, &|i| {
        let slot = slot_of(slots, i);
        (u32::from(NEVER.wrapping_sub(slot.last.saturating_sub(slot.first))), u32::MAX.wrapping_sub(slot.len), i)
    });
    let mut arena_units = 0u32;
    // The first `k` entries of `order` are placed, and sorted by offset.
    for k in 0..count {
        let Some(&current) = order.get(k) else { break };
        let slot = slot_of(slots, current);
        let mut offset = 0u32;
        for &other in order.iter().take(k) {
            let other = slot_of(slots, other);
            if !slot.coexists(&other) {
                continue;
            }
            if other.offset >= offset.saturating_add(slot.units()) {
                break;
            }
            offset = offset.max(other.end());
        }
        let placed = Slot { offset, ..slot };
        arena_units = arena_units.max(placed.end());
        if let Some(to) = slots.get_mut(usize::from(current)) {
            *to = placed;
        }
        let at = order.iter().take(k).position(|&other| slot_of(slots, other).offset > offset).unwrap_or(k);
        // An empty slice cannot rotate.
        if let Some(part) = order.get_mut(at..k.saturating_add(1)).filter(|part| !part.is_empty()) {
            part.rotate_right(1);
        }
    }
    // Ends saturate, so this value represents anything beyond it.
    if arena_units == u32::MAX {
        return Err(PlanError::TooLarge);
    }
    (arena_units as usize).checked_mul(UNIT).ok_or(PlanError::TooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checker_finds_an_overlap() {
        let slot = |i: u16, offset, first, last| Slot { offset, len: 20, owner: i, first, last, ..Slot::EMPTY };
        let bad = [slot(0, 0, 0, 3), slot(1, 1, 3, 4)];
        assert_eq!(Plan::from_parts(&bad, 2, 64).check(), Err(PlanError::Overlap { a: 1, b: 0 }));
        let good = [slot(0, 0, 0, 2), slot(1, 1, 3, 4)];
        assert_eq!(Plan::from_parts(&good, 2, 64).check(), Ok(()));
    }
}
