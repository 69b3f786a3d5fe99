//! The instruction set that a search is compiled for.

/// Runs tasks compiled for an instruction set. Core has [`Portable`]; a runtime that detects the CPU's features passes its own.
///
/// A search is inlined into its task whole, so [`Machine::run`] only has to call the task from a function with the target features enabled. Every
/// machine performs the same additions and comparisons, so the answer does not depend on it.
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

/// The instruction set that the program is compiled for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Portable;

impl Machine for Portable {
    #[inline(always)]
    fn run<A>(self, task: impl FnOnce(Stores) -> A) -> A {
        task(Stores::Chosen)
    }
}
