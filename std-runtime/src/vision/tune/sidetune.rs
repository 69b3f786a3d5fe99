//! A side network, whose features are mixed with those of the model (Zhang et al. 2020).

use samara_core::params::ParamInfo;

use super::added::{Added, SIDE};
use super::method::{Sizes, Tuning};
use crate::config::Invalid;

pub(super) struct SideTune;

impl Tuning for SideTune {
    fn added(&self, _: &Sizes, _: usize) -> Result<Added, Invalid> {
        Ok(Added { side: true, ..Added::default() })
    }

    fn trains(&self, info: &ParamInfo, _: usize) -> bool {
        info.name.to_string().starts_with(SIDE)
    }
}
