//! Objectives, one file each.

pub mod lm;
