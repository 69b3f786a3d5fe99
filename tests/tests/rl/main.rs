//! Learning from rewards and preferences (`samara_core::rl`): golden values, derivatives against differences, expectations by enumeration.

mod golden;
