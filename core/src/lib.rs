//! samara's engine: static graphs with gradients as ordinary nodes, a memory planner, kernels, model families, tokenizers, sampling.
//!
//! `no_std`, no allocation, no panic path in code for devices, no `unsafe`: the caller lends all memory and can query every size before. The layers,
//! each of which imports only those above it:
//!
//! | module | what it is |
//! |---|---|
//! | [`math`], [`threads`] | number types, random numbers, the interface to threads |
//! | [`shape`], [`dtype`] | extents and element types of tensors |
//! | [`quant`] | half precision and quantisation blocks |
//! | [`params`] | the registry of parameters |
//! | [`graph`] | graphs, their gradients, finished programs |
//! | [`plan`] | the placement of all buffers in one arena |
//! | [`cost`] | lower bounds of a node's operations and bytes |
//! | [`exec`] | memory, views of it, backends |
//! | [`gemm`], [`ops`] | matrix products; reference kernels |
//! | [`nn`], [`model`] | layers; builders of model families |
//! | [`tune`] | which parameters are trained, frozen, quantised |
//! | [`file`](mod@file), [`session`] | programs in a file; running them on a device |
//! | [`assignment`], [`bipartite`] | linear assignment, bipartite graphs |
//! | [`tokenizer`], [`decode`], [`schedule`], [`rl`], [`transport`] | plain functions on slices, usable without the engine |
//!
//! With an operating system, begin with `std-runtime/examples/mlp_classifier.rs`, a custom model on the trainer in 60 lines. `examples/train_step.rs`
//! shows this crate on one page: memory lent by the caller, [`exec::Memory::check`], runs.
#![no_std]
#![forbid(unsafe_code)]
#![warn(clippy::too_many_lines)]

#[cfg(test)]
extern crate std;

pub mod assignment;
pub mod bipartite;
pub mod cost;
pub mod decode;
pub mod detect;
pub mod dtype;
pub mod exec;
pub mod file;
pub mod gemm;
pub mod graph;
pub mod math;
pub mod model;
pub mod nn;
pub mod ops;
pub mod params;
pub mod plan;
pub mod quant;
pub mod rl;
mod rows;
pub mod schedule;
pub mod session;
pub mod shape;
pub mod threads;
pub mod tokenizer;
pub mod transport;
pub mod tune;
