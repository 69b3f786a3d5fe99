//! The head alone.

use samara_core::params::ParamInfo;

use super::method::Tuning;

pub(super) struct Linear;

impl Tuning for Linear {
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
