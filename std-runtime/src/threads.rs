//! A thread pool behind core's thread contract.

use samara_core::threads::Threads;

use crate::error::{Failure, Kind};

/// A work-stealing thread pool.
///
/// Run a whole step inside [`Pool::install`]: there, [`Threads::run`] neither allocates nor waits for a thread to wake for small work. From outside,
/// each call first hands the work over to the pool, which costs several times more.
#[derive(Debug)]
pub struct Pool {
    inner: rayon::ThreadPool,
}

/// Why a pool could not be created.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// The operating system refused.
    #[error("cannot start {threads} threads: {source}; use fewer threads or raise the limit of processes")]
    System {
        /// How many were to be started.
        threads: usize,
        /// The pool's error.
        source: rayon::ThreadPoolBuildError,
    },
    /// More threads than cores could ever serve.
    #[error("{threads} threads: expected at most {most} on {cores} cores, more would only compete; 0 starts one per core")]
    TooMany {
        /// The number requested.
        threads: usize,
        /// The maximum.
        most: usize,
        /// Cores that this process may use.
        cores: usize,
    },
}

impl Failure for PoolError {
    fn kind(&self) -> Kind {
        match self {
            Self::System { .. } => Kind::Failed,
            Self::TooMany { .. } => Kind::Usage,
        }
    }
}

/// Threads that a machine may have for each of its cores.
const THREADS_PER_CORE: usize = 8;
/// A number of threads that any machine may start, so that results can be compared between thread counts.
const THREADS_ANYWHERE: usize = 32;

impl Pool {
    /// Starts `threads` threads; 0 means one per core that this process may use.
    ///
    /// # Errors
    /// Too many for this machine, or the operating system refuses to start them.
    pub fn new(threads: usize) -> Result<Self, PoolError> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let most = (cores * THREADS_PER_CORE).max(THREADS_ANYWHERE);
        if threads > most {
            return Err(PoolError::TooMany { threads, most, cores });
        }
        let inner = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("samara-{i}"))
            .build()
            .map_err(|source| PoolError::System { threads, source })?;
        // After their first task, threads make no further heap allocations.
        inner.broadcast(|_| ());
        Ok(Self { inner })
    }

    /// The number of threads.
    pub fn threads(&self) -> usize {
        self.inner.current_num_threads()
    }

    /// Calls `f` on one of the pool's threads and returns its result.
    pub fn install<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        self.inner.install(f)
    }
}

impl Threads for Pool {
    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        if tasks <= 1 || self.threads() == 1 {
            (0..tasks).for_each(task);
        } else if self.inner.current_thread_index().is_some() {
            halves(0, tasks, task);
        } else {
            self.inner.install(|| halves(0, tasks, task));
        }
    }
}

/// Offers the second half to other threads and continues with the first.
fn halves(first: usize, end: usize, task: &(dyn Fn(usize) + Sync)) {
    if end - first == 1 {
        task(first);
    } else {
        let middle = first + (end - first) / 2;
        rayon::join(|| halves(first, middle, task), || halves(middle, end, task));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn every_task_runs_once_inside_and_outside() {
        for threads in [1, 2, 3, 8] {
            let pool = Pool::new(threads).expect("threads");
            assert_eq!(pool.threads(), threads);
            for tasks in [0, 1, 2, 7, 100] {
                let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                let count = |i: usize| {
                    counts[i].fetch_add(1, Ordering::Relaxed);
                };
                pool.run(tasks, &count);
                pool.install(|| pool.run(tasks, &count));
                assert!(counts.iter().all(|n| n.load(Ordering::Relaxed) == 2));
            }
        }
    }

    #[test]
    fn more_threads_than_a_machine_can_serve_are_refused() {
        let message = Pool::new(4096).expect_err("a refusal").to_string();
        assert!(message.starts_with("4096 threads: expected at most ") && message.contains("0 starts one per core"), "{message}");
    }

    #[test]
    fn a_panic_in_a_task_reaches_the_caller() {
        let pool = Pool::new(2).expect("threads");
        let fails = |i: usize| assert!(i != 5, "task five");
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| pool.run(8, &fails)));
        assert!(caught.is_err());
    }
}
