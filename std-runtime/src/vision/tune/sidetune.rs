//! A side network, whose features are mixed with those of the model (Zhang et al. 2020).

use samara_core::params::ParamInfo;

use super::ImageTuneConfig;
use super::added::{Added, SIDE};
use super::method::Tuning;
use crate::config::Invalid;

pub(super) struct SideTune;

impl Tuning for SideTune {
    fn added(&self, _: &ImageTuneConfig, _: usize) -> Result<Added, Invalid> {
        Ok(Added { side: true, ..Added::default() })
    }

    fn trains(&self, info: &ParamInfo, _: usize) -> bool {
        info.name.to_string().starts_with(SIDE)
    }
}
