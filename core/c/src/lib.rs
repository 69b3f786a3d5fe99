//! samara for C. cbindgen generates `samara.h` from these files, so the comments of public items are written for readers of C.
//!
//! This is the only part of the engine that handles raw pointers, hence the only one with `unsafe` besides the runtime's SIMD code: [`lend`](lend.rs)
//! turns pointers into slices after checking what can be checked, the rest works on slices. On a desktop system the library links only when built
//! with `--release`: other profiles need the standard library for unwinding.
#![no_std]
#![expect(clippy::missing_safety_doc, reason = "the header says it once for all functions: see cbindgen.toml")]

mod assign;
mod lend;
mod session;
mod status;
mod text;

pub use assign::{SAMARA_FREE, samara_assign_f32, samara_assign_workspace_bytes};
pub use session::{
    SAMARA_SESSION_ALIGN, SAMARA_SESSION_WORDS, SamaraHyper, SamaraInfo, SamaraSampling, SamaraSession, samara_choose,
    samara_evaluate, samara_feed, samara_info, samara_open, samara_open_training, samara_optimizer, samara_position,
    samara_ram_bytes, samara_restart, samara_session_align, samara_session_bytes, samara_start, samara_train, samara_trainable,
};
pub use status::{SamaraStatus, samara_status_text, samara_version};
pub use text::{samara_encode, samara_encode_scratch_bytes, samara_token_bytes};

/// An undefined symbol: the library links only when the compiler has proved that nothing panics.
#[cfg(not(debug_assertions))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    unsafe extern "C" {
        fn a_panic_path_is_left() -> !;
    }
    // SAFETY: no program with this call links.
    unsafe { a_panic_path_is_left() }
}

#[cfg(debug_assertions)]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {
        core::hint::spin_loop();
    }
}
