//! What a method of tuning is.

use samara_core::params::ParamInfo;

use super::added::Added;
use crate::config::Invalid;

/// Sizes of what methods add.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    /// Prompts of a block.
    pub(super) prompts: usize,
    /// An adapter's hidden layer has the model's width divided by this.
    pub(super) reduction: usize,
    /// Rank of low-rank adapters.
    pub(super) rank: usize,
    /// Their scale is alpha / rank.
    pub(super) alpha: f64,
}

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
    fn added(&self, sizes: &Sizes, width: usize) -> Result<Added, Invalid> {
        let _ = (sizes, width);
        Ok(Added::default())
    }

    /// Whether it trains nothing below the head, so that features of images stay as they are.
    fn keeps_features(&self) -> bool {
        false
    }

    /// Whether it trains a parameter, not of the head, of a model with so many blocks.
    fn trains(&self, info: &ParamInfo, blocks: usize) -> bool;
}
