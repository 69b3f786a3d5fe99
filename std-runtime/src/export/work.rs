//! Work of a token on a device.

use samara_core::cost::Cost;
use samara_core::file::{ProgramFile, ProgramKind};

/// Multiplications of a token in the middle of a sequence, or of an image.
pub(super) fn multiplications(file: &ProgramFile<'_>) -> u64 {
    let half = file.header().context as usize / 2;
    let (program, live) = match (file.program(ProgramKind::Decode), file.program(ProgramKind::Evaluate)) {
        (Some(decode), _) => (decode, Some(half)),
        (None, Some(evaluate)) => (evaluate, None),
        (None, None) => return 0,
    };
    let nodes = 0..program.program.nodes().len();
    let costs = nodes.filter_map(|i| Cost::of(&program.program, &program.plan, i, size_of::<f32>(), live));
    costs.map(|cost| cost.flops / 2).sum()
}
