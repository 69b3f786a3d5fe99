//! The only thing that core asks of an operating system: run some tasks, perhaps at the same time.

/// Runs numbered tasks.
///
/// Work is cut into tasks by the shapes of tensors, never by the number of threads, so that results have the same bits on any machine.
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
