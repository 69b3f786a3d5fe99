//! Assignments of the size of a detector's loss: 100 queries and 7 objects, in memory of fixed size. The hash is over pairs and duals.

use core::hint::black_box;

use samara_core::assignment::{Costs, Fixed, Options, linear_sum_assignment};

use super::Draw;
use crate::{Hash, Program, figure};

const QUERIES: usize = 100;
const OBJECTS: usize = 7;
const PROBLEMS: u64 = 8;

type Workspace = Fixed<QUERIES, OBJECTS, f32, u16>;

/// The costs of one problem, and the memory to solve it in.
pub struct Assignment {
    costs: [f32; QUERIES * OBJECTS],
    workspace: Workspace,
}

impl Program for Assignment {
    const NEW: Self = Self { costs: [0.0; QUERIES * OBJECTS], workspace: Fixed::new(0.0, 0) };

    fn run(&mut self) -> Option<Hash> {
        let mut hash = Hash::default();
        for seed in 0..black_box(PROBLEMS) {
            Draw::new(seed).fill(&mut self.costs);
            self.solve(&mut hash)?;
        }
        figure("workspace", size_of::<Workspace>() as u64);
        Some(hash)
    }
}

impl Assignment {
    fn solve(&mut self, hash: &mut Hash) -> Option<()> {
        let costs = Costs::new(&self.costs, QUERIES, OBJECTS).ok()?;
        let mut workspace = self.workspace.workspace(QUERIES, OBJECTS).ok()?;
        let answer = linear_sum_assignment(costs, &Options::default(), &mut workspace).ok()?;
        let mut pairs = 0;
        for (query, object) in answer.pairs() {
            hash.bytes(&[query as u8, object as u8]);
            pairs += 1;
        }
        hash.reals(answer.row_duals());
        hash.reals(answer.column_duals());
        (pairs == OBJECTS).then_some(())
    }
}
