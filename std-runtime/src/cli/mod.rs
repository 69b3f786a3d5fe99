//! The command line.

pub mod requests;
