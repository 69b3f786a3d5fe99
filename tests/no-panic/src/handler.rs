//! A panic handler that does not link.

use core::panic::PanicInfo;

#[link(name = "c")]
unsafe extern "C" {}

unsafe extern "C" {
    /// Defined nowhere.
    fn a_panic_path_is_left() -> !;
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    // SAFETY: the function does not exist, so that no program with this call links.
    unsafe { a_panic_path_is_left() }
}
