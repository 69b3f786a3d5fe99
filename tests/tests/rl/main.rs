//! Learning from rewards and preferences (`samara_core::rl`): golden values, derivatives against differences, expectations by enumeration.

mod conventions;
mod derivatives;
mod golden;
mod optimum;
mod tabular;
mod unbiased;
