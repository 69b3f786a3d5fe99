//! The last blocks and the final norm.

use samara_core::params::{ParamInfo, Part};

use super::method::Tuning;

/// This many blocks.
pub(super) struct Partial(pub(super) u16);

impl Tuning for Partial {
    fn trains(&self, info: &ParamInfo, blocks: usize) -> bool {
        let first = blocks.saturating_sub(usize::from(self.0));
        info.part == Part::Final || matches!(info.part, Part::Block(i) if usize::from(i) >= first)
    }
}
