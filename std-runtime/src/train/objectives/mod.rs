//! Objectives, one file each.

pub mod albef;
pub mod classify;
pub mod contrast;
pub mod contrast_graphs;
pub mod detect;
pub mod held_out;
pub mod lm;
pub mod masked;
pub mod supervised;
pub mod vilt;
pub mod vilt_passes;
