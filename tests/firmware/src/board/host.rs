//! This machine: the reference that others are compared with.

use std::io::Write;

/// Nothing to start.
pub fn start() {}

/// Shows bytes of text.
pub fn print(text: &[u8]) {
    // There is nobody to tell when nobody listens.
    let _ = std::io::stdout().write_all(text);
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
