//! Visual prompts (Jia et al. 2022).

use samara_core::params::ParamInfo;

use super::added::{Added, PROMPTS};
use super::method::{Sizes, Tuning};
use crate::config::Invalid;

pub(super) struct VisualPrompts {
    /// Whether every block has its own.
    pub(super) deep: bool,
}

impl Tuning for VisualPrompts {
    fn keys(&self) -> &'static [&'static str] {
        &["prompts"]
    }

    fn added(&self, sizes: &Sizes, _: usize) -> Result<Added, Invalid> {
        Ok(Added { prompts: sizes.prompts, deep: self.deep, ..Added::default() })
    }

    fn trains(&self, info: &ParamInfo, _: usize) -> bool {
        info.name.to_string().starts_with(PROMPTS)
    }
}
