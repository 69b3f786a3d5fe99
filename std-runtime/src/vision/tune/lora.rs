//! Low-rank adapters of queries, keys and values (Hu et al. 2021), merged into the weights when the model is written.

use samara_core::params::ParamInfo;

use super::added::Added;
use super::method::{Sizes, Tuning};
use crate::config::Invalid;

pub(super) struct LowRank;

impl Tuning for LowRank {
    fn keys(&self) -> &'static [&'static str] {
        &["rank", "alpha"]
    }

    fn added(&self, sizes: &Sizes, _: usize) -> Result<Added, Invalid> {
        Ok(Added { rank: sizes.rank, alpha: sizes.alpha, ..Added::default() })
    }

    fn trains(&self, info: &ParamInfo, _: usize) -> bool {
        info.adapter
    }
}
