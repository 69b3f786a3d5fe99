//! Element types in which weights, keys and values can be stored.

use samara_core::graph::DType;

/// Quantised element types for weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Quantize {
    /// Quantisation blocks of 32 signed bytes with a scale: 8.5 bits per weight.
    Q8,
    /// Quantisation blocks of 32 nibbles with a scale: 4.5 bits per weight.
    Q4,
}

impl Quantize {
    /// The element type.
    pub fn dtype(self) -> DType {
        match self {
            Self::Q8 => DType::Q8,
            Self::Q4 => DType::Q4,
        }
    }

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Q8 => "q8",
            Self::Q4 => "q4",
        }
    }
}

/// Element types for keys and values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum KvCache {
    /// f32.
    #[default]
    F32,
    /// Half precision.
    F16,
    /// Quantisation blocks of 32 signed bytes with a scale.
    Q8,
}

impl KvCache {
    /// The element type.
    pub fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::Real,
            Self::F16 => DType::F16,
            Self::Q8 => DType::Q8,
        }
    }
}
