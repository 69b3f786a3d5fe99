//! Trainings over a grid of settings: the grid ([`grid`]), and what its cells have given ([`record`]).

pub mod grid;
pub mod record;
