//! The machine that a search is compiled for.

/// Runs tasks compiled for the instructions of a machine: core's own is [`Portable`], and a runtime that knows its machine lends another.
///
/// Everything of a search is inlined into its task, so that [`Machine::run`] needs only to call the task from a function that has the machine's
/// features. The same additions and comparisons are made on every machine, so answers do not depend on it.
pub trait Machine: Copy {
    /// Runs a task, which is told how passes store on this machine.
    fn run<A>(self, task: impl FnOnce(Stores) -> A) -> A;
}

/// How a pass stores values that it has selected lane by lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stores {
    /// As compilers choose: masked stores where the machine has them. They cost nothing with AVX-512.
    Chosen,
    /// As whole vectors. Masked stores of AVX2 take a dozen cycles on some processors, and later loads wait for them.
    Whole,
}

/// Any machine: the instructions that the program is compiled for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Portable;

impl Machine for Portable {
    #[inline(always)]
    fn run<A>(self, task: impl FnOnce(Stores) -> A) -> A {
        task(Stores::Chosen)
    }
}
