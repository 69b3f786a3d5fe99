//! How fast this machine does what training and generating are made of, beside what it could do.
//!
//! The floors are work divided by a measured rate: that of multiply-adds in registers, or that of reading more memory than the caches hold.
//! A profile knows both for every node and takes the slower one.

pub mod assign;
pub mod decode;
pub mod error;
pub mod measure;
pub mod products;
pub mod profile;
pub mod rates;
pub mod steps;
