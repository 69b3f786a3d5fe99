//! Every bias, those of norms included (Ben Zaken et al. 2022).

use samara_core::params::ParamInfo;

use super::method::Tuning;

pub(super) struct Bias;

impl Tuning for Bias {
    fn trains(&self, info: &ParamInfo, _: usize) -> bool {
        info.name.to_string().ends_with(".bias")
    }
}
