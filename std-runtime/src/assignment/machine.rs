//! Core's assignment search compiled for the CPU features of this machine; the compiler vectorises it.
//!
//! `Machine::run` calls the search from a function with the target features enabled, and everything is inlined there, so that a pass over a row of
//! seven has no call overhead. An earlier table of function pointers cost as much as the passes themselves on small problems. Without vector
//! instructions (`kernel::VECTORS`) the variants that only pay with them are compiled out: a device links half the code. Three details of the passes
//! are chosen by measurement: a row whose length is not a multiple of the vector ends with an overlapping vector; the minima of a tile are kept per
//! lane, not reduced to one; and distances are stored after the path.

use samara_core::assignment::{Machine, Stores};

/// The machine that this program runs on. Answers are equal on every machine: minima and sums of two values do not depend on vector width.
#[derive(Clone, Copy, Debug)]
pub struct ThisMachine(Features);

#[derive(Clone, Copy, Debug)]
enum Features {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Portable,
}

impl ThisMachine {
    /// Core's passes as they are compiled for any machine.
    pub const PORTABLE: Self = Self(Features::Portable);

    /// Detects the machine's features.
    pub fn new() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512bw")
            {
                return Self(Features::Avx512);
            }
            if is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("bmi1")
                && is_x86_feature_detected!("bmi2")
                && is_x86_feature_detected!("lzcnt")
                && is_x86_feature_detected!("popcnt")
            {
                return Self(Features::Avx2);
            }
        }
        Self::PORTABLE
    }
}

impl Default for ThisMachine {
    fn default() -> Self {
        Self::new()
    }
}

impl Machine for ThisMachine {
    #[inline(always)]
    fn run<A>(self, task: impl FnOnce(Stores) -> A) -> A {
        match self.0 {
            // SAFETY: `new` alone makes these, on machines with their features.
            #[cfg(target_arch = "x86_64")]
            Features::Avx512 => unsafe { with_avx512(task) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Features::Avx2 => unsafe { with_avx2(task) },
            Features::Portable => portable(task),
        }
    }
}

/// Never inlined: callers of one search share its code, which takes seconds to compile.
#[inline(never)]
fn portable<A>(task: impl FnOnce(Stores) -> A) -> A {
    task(Stores::Chosen)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt,avx512f,avx512vl,avx512dq,avx512bw")]
fn with_avx512<A>(task: impl FnOnce(Stores) -> A) -> A {
    task(Stores::Chosen)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt")]
fn with_avx2<A>(task: impl FnOnce(Stores) -> A) -> A {
    task(Stores::Whole)
}
