//! Training: the loop, its requests, and the state of a run.

pub mod albef;
pub mod albef_config;
pub mod box_data;
pub mod card;
pub mod config;
pub mod contrast;
pub mod contrast_config;
pub mod detection;
pub mod dialogues;
pub mod error;
pub mod folder;
pub mod image_data;
pub mod image_plan;
pub mod images;
pub mod launch;
mod live;
pub mod masked;
pub mod masked_config;
pub mod objective;
pub mod objectives;
pub mod pair_data;
pub mod pairs;
pub mod presets;
pub mod progress;
pub mod recompute;
pub mod request;
pub mod run;
pub mod scalars;
pub mod sft;
pub mod shape;
pub mod state;
pub mod step;
#[cfg(test)]
mod tests;
pub mod tokenizer;
pub mod trainer;
pub mod vilt;
pub mod vilt_config;

pub use run::run;
