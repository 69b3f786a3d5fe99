//! A WebAssembly engine, with `wasm.mjs` around it.

#[link(wasm_import_module = "board")]
unsafe extern "C" {
    #[link_name = "print"]
    fn print_bytes(start: *const u8, len: usize);
}

/// Nothing to start.
pub fn start() {}

/// Shows bytes of text.
pub fn print(text: &[u8]) {
    // SAFETY: the function reads as many bytes as the text has.
    unsafe { print_bytes(text.as_ptr(), text.len()) }
}

/// Not counted here.
pub fn instructions() -> Option<u64> {
    None
}

/// Not known here.
pub fn stack_used() -> Option<usize> {
    None
}

/// Returns the code.
pub fn exit(code: i32) -> i32 {
    code
}
