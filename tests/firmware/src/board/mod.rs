//! What a program asks of the board it runs on; one module per board has the same functions.
//!
//! `start` begins counting; `print` shows text; `instructions` are those counted since, the same on every run; `stack_used` is how many bytes of
//! the stack were ever written to; `exit` ends the program, or returns the code to who started it.

#[cfg(all(target_arch = "arm", target_os = "none"))]
#[path = "arm.rs"]
mod this;
#[cfg(not(any(target_os = "none", target_family = "wasm")))]
#[path = "host.rs"]
mod this;
#[cfg(target_arch = "riscv32")]
#[path = "riscv.rs"]
mod this;
#[cfg(target_family = "wasm")]
#[path = "wasm.rs"]
mod this;

pub use this::{exit, instructions, print, stack_used, start};

/// Bytes of the painted stack that something was written over: the stack grows down from `top`.
#[cfg(target_os = "none")]
fn written(bottom: *const u32, top: *const u32) -> usize {
    const PAINT: u32 = 0xcccc_cccc;
    let mut word = bottom;
    // SAFETY: the words from bottom to top are the stack, which is memory; a word may change while it is read only by a call's own frame.
    while word < top && unsafe { word.read_volatile() } == PAINT {
        word = word.wrapping_add(1);
    }
    (top as usize).wrapping_sub(word as usize)
}
