//! Work of a token on a device.

use samara_core::cost::Cost;
use samara_core::file::{ProgramFile, ProgramKind};

/// Multiplications of a token in the middle of a sequence.
pub(super) fn multiplications(file: &ProgramFile<'_>) -> u64 {
    let Some(decode) = file.program(ProgramKind::Decode) else { return 0 };
    let half = file.header().context as usize / 2;
    let costs = (0..decode.program.nodes().len())
        .filter_map(|i| Cost::of(&decode.program, &decode.plan, i, size_of::<f32>(), Some(half)));
    costs.map(|cost| cost.flops / 2).sum()
}
