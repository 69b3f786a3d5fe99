//! Element types of tensors.

use bytemuck::{CheckedBitPattern, NoUninit};

/// The storage type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, CheckedBitPattern, NoUninit)]
#[repr(u8)]
pub enum DType {
    /// The backend's floating-point type: `f32` in use, `f64` when gradients are checked.
    #[default]
    Real = 0,
    /// 32-bit integers: token ids, positions, segments, counters.
    I32 = 1,
    /// IEEE half precision, frozen parameters only.
    F16 = 2,
    /// Quantisation blocks of 32 signed bytes with one half-precision scale (ggml's `Q8_0`), frozen parameters only.
    Q8 = 3,
    /// Quantisation blocks of 32 nibbles with one half-precision scale (ggml's `Q4_0`), frozen parameters only.
    Q4 = 4,
}

impl DType {
    /// The bytes of `len` elements; `None` when `len` is not a multiple of the quantisation block. A `Real` takes `real_bytes`.
    pub fn bytes(self, len: usize, real_bytes: usize) -> Option<usize> {
        let blocks = || if len.is_multiple_of(32) { Some(len / 32) } else { None };
        match self {
            Self::Real => len.checked_mul(real_bytes),
            Self::I32 => len.checked_mul(4),
            Self::F16 => len.checked_mul(2),
            Self::Q8 => blocks()?.checked_mul(34),
            Self::Q4 => blocks()?.checked_mul(18),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_formats() {
        assert_eq!(DType::Q8.bytes(64, 4), Some(68));
        assert_eq!(DType::Q4.bytes(33, 4), None);
    }
}
