//! samara's engine: static graphs with gradients as ordinary nodes, a memory planner, kernels, the GPT family, tokenizers, sampling.
//!
//! `no_std`, no allocation, no panic path in what a device runs, no `unsafe`: every byte is lent by the caller, and every size can be asked for
//! before it is needed. The layers, each of which knows only those above it:
//!
//! | module | what it is |
//! |---|---|
//! | [`math`], [`threads`] | number types, random numbers, the contract with threads |
//! | [`shape`], [`dtype`] | extents and element types of tensors |
//! | [`quant`] | half precision and quantised blocks |
//! | [`params`] | the registry of parameters |
//! | [`graph`] | graphs, their gradients, finished programs |
//! | [`plan`] | where everything lies in one arena |
//! | [`cost`] | what a node costs at least: operations and bytes |
//! | [`exec`] | memory, views of it, backends |
//! | [`gemm`], [`ops`] | matrix products; reference kernels |
//! | [`nn`], [`model`] | layers; builders of model families |
//! | [`tune`] | what of a model is trained, frozen, quantised |
//! | [`file`](mod@file), [`session`] | programs in a file; running them on a device |
//! | [`assignment`], [`bipartite`] | linear assignment, graphs with two sides |
//! | [`tokenizer`], [`decode`], [`schedule`], [`rl`] | plain functions on slices, usable without the engine |
//!
//! With an operating system, begin with `std-runtime/examples/mlp_classifier.rs`, a model of one's own on the trainer in 60 lines.
//! `examples/train_step.rs` shows all of this crate in a page: memory that its caller lends, [`exec::Memory::check`], runs.
#![no_std]
#![forbid(unsafe_code)]
#![warn(clippy::too_many_lines)]

#[cfg(test)]
extern crate std;

pub mod assignment;
pub mod bipartite;
pub mod cost;
pub mod decode;
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
pub mod tune;
