//! Objectives, one file each.

pub mod classify;
pub mod contrast;
pub mod detect;
pub mod lm;
pub mod masked;
pub mod supervised;
pub mod vilt;
pub mod vilt_passes;
