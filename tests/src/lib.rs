//! Shared parts of the integration tests: programs with all their memory, naive formulas, finite differences, golden files, and the suite of
//! operations that every table of kernels must pass.

pub mod binary;
pub mod desk;
pub mod device;
pub mod draw;
pub mod fd;
pub mod fixed_point;
pub mod golden;
pub mod gpt;
pub mod imports;
pub mod policies;
pub mod random;
pub mod reference;
pub mod session;
pub mod suite;
pub mod training;
pub mod world;
