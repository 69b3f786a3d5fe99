//! Names of programs and formats, for people.

use samara_core::file::ProgramKind;
use samara_core::graph::DType;

/// All programs that a file can have, with their names.
pub(crate) const PROGRAM_NAMES: [(ProgramKind, &str); 3] =
    [(ProgramKind::Decode, "decode"), (ProgramKind::Train, "train"), (ProgramKind::Evaluate, "evaluate")];

/// The name of a format on the command line.
pub(crate) fn dtype_name(dtype: DType) -> &'static str {
    match dtype {
        DType::Real => "f32",
        DType::F16 => "f16",
        DType::Q8 => "q8",
        DType::Q4 => "q4",
        DType::I32 => "i32",
    }
}
