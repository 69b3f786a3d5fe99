//! The files of a run: atomic writes, checkpoints, metrics, TensorBoard events, plots.

pub mod checkpoint;
pub mod durable;
pub mod events;
pub mod lock;
pub mod metrics;
pub mod plot;
