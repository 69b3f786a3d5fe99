//! Many problems on the threads of a pool.

use std::sync::Mutex;

use rayon::prelude::*;
use samara_core::assignment::{Assignment, Cost, Costs, Error, Options};

use super::Solver;
use crate::threads::Pool;

/// The least number of costs per task: handing over a task takes as long as solving a few small problems.
const GRAIN: usize = 1 << 12;

/// One solver per thread of a pool, reused from batch to batch.
#[derive(Debug)]
pub struct Batch<'p, T: Cost> {
    pool: &'p Pool,
    solvers: Vec<Own<T>>,
}

/// A thread's solver, on cache lines of its own: every problem locks it.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Own<T: Cost>(Mutex<Solver<T>>);

impl<'p, T: Cost> Batch<'p, T> {
    /// Solvers for the threads of `pool`.
    pub fn new(pool: &'p Pool) -> Self {
        Self { pool, solvers: (0..pool.threads()).map(|_| Own::default()).collect() }
    }

    /// Solves independent problems and passes each answer to `read` with the index of its problem. The results do not depend on the number of
    /// threads.
    ///
    /// # Errors
    /// Each problem has its own: those of [`samara_core::assignment::linear_sum_assignment`].
    pub fn solve_with<R: Send>(
        &self,
        problems: &[Costs<'_, T>],
        options: &Options<T>,
        read: impl Fn(usize, Assignment<'_, T>) -> R + Sync,
    ) -> Vec<Result<R, Error<T>>> {
        let costs: usize = problems.iter().map(|costs| costs.rows() * costs.columns()).sum();
        let least = (GRAIN * problems.len()).div_ceil(costs.max(1)).max(1);
        let solve = |(k, &costs): (usize, &Costs<'_, T>)| {
            let own =
                rayon::current_thread_index().and_then(|thread| self.solvers.get(thread)).and_then(|own| own.0.try_lock().ok());
            match own {
                Some(mut solver) => solver.solve_with(costs, options, |answer| read(k, answer)),
                // `read` has started a batch of its own.
                None => Solver::default().solve_with(costs, options, |answer| read(k, answer)),
            }
        };
        self.pool.install(|| problems.par_iter().enumerate().with_min_len(least).map(solve).collect())
    }
}
