//! Learning from rewards and preferences (`samara_core::rl`): golden values, derivatives against differences, expectations by enumeration, and the same
//! through `samara objectives`.

mod command;
mod conventions;
mod derivatives;
mod golden;
mod optimum;
mod peers;
mod tabular;
mod unbiased;
