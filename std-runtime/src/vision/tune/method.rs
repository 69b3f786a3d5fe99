//! What a method of tuning is.

use samara_core::params::ParamInfo;

use super::ImageTuneConfig;
use super::added::Added;
use crate::config::Invalid;

/// A method: what it adds to a model, and what it trains beside the head.
pub(super) trait Tuning {
    /// The keys of `[tune]` that it reads.
    fn keys(&self) -> &'static [&'static str] {
        &[]
    }

    /// What it adds to a model of a width.
    ///
    /// # Errors
    /// A key that does not fit the model.
    fn added(&self, config: &ImageTuneConfig, width: usize) -> Result<Added, Invalid> {
        let _ = (config, width);
        Ok(Added::default())
    }

    /// Whether it trains a parameter, not of the head, of a model with so many blocks.
    fn trains(&self, info: &ParamInfo, blocks: usize) -> bool;
}
