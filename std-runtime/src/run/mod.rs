//! What a run leaves on disk: durable files, checkpoints, metrics, TensorBoard events, plots.

pub mod checkpoint;
pub mod durable;
pub mod events;
pub mod lock;
pub mod metrics;
pub mod plot;
