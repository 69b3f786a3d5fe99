//! samara's engine.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod decode;
pub mod exec;
pub mod gemm;
pub mod graph;
pub mod math;
pub mod model;
pub mod ops;
pub mod params;
pub mod plan;
pub mod schedule;
pub mod threads;
pub mod tokenizer;
