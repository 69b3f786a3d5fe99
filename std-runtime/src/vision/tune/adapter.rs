//! A bottleneck behind the feed-forward part of every block (Pfeiffer et al. 2021).

use samara_core::params::ParamInfo;

use super::added::{ADAPTER, Added};
use super::method::{Sizes, Tuning};
use crate::config::Invalid;

pub(super) struct Bottleneck;

impl Tuning for Bottleneck {
    fn keys(&self) -> &'static [&'static str] {
        &["reduction", "adapter_init"]
    }

    fn added(&self, sizes: &Sizes, width: usize) -> Result<Added, Invalid> {
        match width.checked_div(sizes.reduction) {
            None | Some(0) => {
                Err(Invalid::new("tune.reduction", format!("at most model.hidden_size = {width}"), sizes.reduction))
            }
            Some(adapter) => Ok(Added { adapter, ..Added::default() }),
        }
    }

    fn trains(&self, info: &ParamInfo, _: usize) -> bool {
        info.name.to_string().contains(ADAPTER)
    }
}
