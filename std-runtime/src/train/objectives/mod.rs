//! Objectives, one file each.

pub mod classify;
pub mod lm;
pub mod supervised;
