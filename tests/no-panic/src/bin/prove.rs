//! A program with one panic path, an indexing: it must not link, or else that another program links proves nothing.
#![no_std]
#![no_main]

#[path = "../handler.rs"]
mod handler;

use core::hint::black_box;

#[unsafe(no_mangle)]
extern "C" fn main() -> i32 {
    [1, 2, 3][black_box(2)]
}
