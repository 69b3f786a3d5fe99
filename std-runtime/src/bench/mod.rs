//! Benchmarks of the building blocks of training and generation on this machine, each with its floor.
//!
//! A floor is work divided by a measured rate: that of multiply-adds in registers, or that of reading memory larger than the caches. A profile
//! computes both for every node and takes the slower one.

pub mod assign;
pub mod decode;
pub mod error;
pub mod measure;
pub mod products;
pub mod profile;
pub mod rates;
pub mod steps;
