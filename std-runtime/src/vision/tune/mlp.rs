//! A head of several layers.

use samara_core::params::ParamInfo;

use super::added::Added;
use super::method::{Sizes, Tuning};
use crate::config::Invalid;

/// This many layers, the linear one included.
pub(super) struct MlpHead(pub(super) u16);

impl Tuning for MlpHead {
    fn added(&self, _: &Sizes, _: usize) -> Result<Added, Invalid> {
        Ok(Added { hidden: usize::from(self.0).saturating_sub(1), ..Added::default() })
    }

    fn keys(&self) -> &'static [&'static str] {
        &["cache"]
    }

    fn keeps_features(&self) -> bool {
        true
    }

    fn trains(&self, _: &ParamInfo, _: usize) -> bool {
        false
    }
}
