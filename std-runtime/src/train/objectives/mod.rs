//! Objectives, one file each.

pub mod lm;
pub mod supervised;
