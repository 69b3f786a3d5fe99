//! What programs for microcontrollers share: the boards they run on and how they report. A program prints lines of a key and a value; the last
//! ones are a hash of the bits of all its results, the most stack that it used, and the instructions that it took.

#![cfg_attr(any(target_os = "none", target_family = "wasm"), no_std)]

pub mod board;
mod hash;
pub mod programs;
mod report;

pub use hash::Hash;
pub use report::{decimals, figure};

/// A program with all its memory. It lives in a static, so that what it needs is known when it is linked.
pub trait Program: 'static {
    /// The memory as the program finds it; zeros cost no flash.
    const NEW: Self;

    /// Computes, reports figures of its own, and gives the hash of its results, or nothing when something went wrong.
    fn run(&mut self) -> Option<Hash>;
}

/// Runs a program and reports; the result is a process's exit code, 0 for success.
pub fn run(program: &mut impl Program) -> i32 {
    board::start();
    let before = board::instructions();
    let hash = program.run();
    let after = board::instructions();
    if let Some(hash) = hash {
        report::hash(hash);
    }
    if let Some(used) = board::stack_used() {
        figure("stack", used as u64);
    }
    if let (Some(before), Some(after)) = (before, after) {
        figure("instructions", after.saturating_sub(before));
    }
    board::exit(if hash.is_some() { 0 } else { 1 })
}

/// The entry point of a program of a type.
#[macro_export]
macro_rules! program {
    ($program:ty) => {
        static mut PROGRAM: $program = <$program as $crate::Program>::NEW;

        /// What the board's start-up code calls, once.
        #[cfg(any(target_os = "none", target_family = "wasm"))]
        #[unsafe(no_mangle)]
        extern "C" fn main() -> i32 {
            // SAFETY: nothing else names the static, and this is called once.
            $crate::run(unsafe { &mut *(&raw mut PROGRAM) })
        }

        #[cfg(not(any(target_os = "none", target_family = "wasm")))]
        fn main() {
            // SAFETY: nothing else names the static, and this is called once.
            std::process::exit($crate::run(unsafe { &mut *(&raw mut PROGRAM) }))
        }
    };
}

/// Links only when the compiler proved that nothing panics: the function is defined nowhere.
#[cfg(target_os = "none")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    unsafe extern "C" {
        fn a_panic_path_is_left() -> !;
    }
    // SAFETY: no program with this call links.
    unsafe { a_panic_path_is_left() }
}

#[cfg(target_family = "wasm")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}
