//! The only service that core needs of an operating system: running tasks, possibly in parallel.

/// Runs numbered tasks.
///
/// Work is partitioned by the shapes of tensors, never by the number of threads, so that results have the same bits on any machine.
pub trait Threads: Sync {
    /// Calls `task(i)` once for every `i` in `0..tasks`, in any order, on any thread, and returns when all calls have returned.
    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync));
}

/// One task after the other on the calling thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct Serial;

impl Threads for Serial {
    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        for i in 0..tasks {
            task(i);
        }
    }
}
