//! samara's engine.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod math;
pub mod threads;
pub mod tokenizer;
