//! What of a model is trained: everything, a part, or low-rank adapters beside frozen weights; adapters in folders as PEFT lays them out.

pub mod config;
pub mod merge;
pub mod peft;
pub mod tuned;
