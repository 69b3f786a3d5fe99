//! The contents of the arena of a training step at its peak.

use samara_core::graph::Program;
use serde::Serialize;

use super::register;
use super::step::{self, StepShape};
use crate::device::Planner;
use crate::model::architecture::Architecture;
use crate::session::BuildError;

/// Tensors of one kind in the arena at its peak.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PeakRow {
    /// The operation that writes them, with `*` for the index of the block.
    pub what: String,
    /// How many.
    pub count: usize,
    /// Their bytes together.
    pub bytes: u64,
}

/// The arena at its peak.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Peak {
    /// The operation that runs then.
    pub node: String,
    /// Its contents, the largest first.
    pub rows: Vec<PeakRow>,
}

impl Peak {
    /// The memory peak of a training step; nothing is run.
    ///
    /// # Errors
    /// The program cannot be built.
    pub fn of_step(planner: &impl Planner, architecture: &dyn Architecture, shape: &StepShape) -> Result<Self, BuildError> {
        let (owned, layers) = register(architecture, 0, |_, _| ())?;
        let program = step::program(planner, &owned, &*layers, shape)?;
        let (view, plan) = (program.view(), program.plan());
        let node = plan.peak();
        let mut rows: Vec<PeakRow> = Vec::new();
        for slot in plan.taken_at(node) {
            let (what, bytes) = (kind(&view, slot.owner), u64::from(slot.len) * planner.real_bytes() as u64);
            match rows.iter_mut().find(|row| row.what == what) {
                Some(row) => (row.count, row.bytes) = (row.count + 1, row.bytes + bytes),
                None => rows.push(PeakRow { what, count: 1, bytes }),
            }
        }
        rows.sort_by_key(|row| std::cmp::Reverse(row.bytes));
        Ok(Self { node: view.node(node).map_or_else(String::new, |node| node.to_string()), rows })
    }
}

/// The kind of the tensors in a slot with this owner: the operation that writes them, without the index of its block.
fn kind(program: &Program<'_>, owner: u16) -> String {
    let Some(tensor) = program.tensors().get(usize::from(owner)) else { return "scratch".to_owned() };
    let Some(node) = program.node(tensor.producer.into()) else { return "input".to_owned() };
    let any_block = |part: &str| if part.parse::<usize>().is_ok() { "*".to_owned() } else { part.to_owned() };
    let name: Vec<String> = node.to_string().split('.').map(any_block).collect();
    let pass = if usize::from(tensor.producer) < program.forward().end { "forward" } else { "backward" };
    match node.record().outputs.iter().position(|t| t.index() == usize::from(owner)) {
        Some(output @ 1..) => format!("{pass}: {}, output {output}", name.join(".")),
        _ => format!("{pass}: {}", name.join(".")),
    }
}
