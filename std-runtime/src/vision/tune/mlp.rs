//! A head of several layers.

use samara_core::params::ParamInfo;

use super::ImageTuneConfig;
use super::added::Added;
use super::method::Tuning;
use crate::config::Invalid;

/// This many layers, the linear one included.
pub(super) struct MlpHead(pub(super) u16);

impl Tuning for MlpHead {
    fn added(&self, _: &ImageTuneConfig, _: usize) -> Result<Added, Invalid> {
        Ok(Added { hidden: usize::from(self.0).saturating_sub(1), ..Added::default() })
    }

    fn trains(&self, _: &ParamInfo, _: usize) -> bool {
        false
    }
}
