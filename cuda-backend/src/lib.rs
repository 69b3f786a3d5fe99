//! samara on CUDA. There are no CUDA kernels yet: [`open`] says so when it is called, on any machine, and nothing here pretends otherwise.

use core::convert::Infallible;
use core::fmt;

/// A CUDA device that programs run on. None can exist yet.
#[derive(Debug)]
pub struct Device {
    none: Infallible,
}

impl Device {
    /// The device's name.
    pub fn name(&self) -> &str {
        match self.none {}
    }
}

/// Why there is no CUDA device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CudaUnavailable {
    /// This build has no CUDA backend.
    NotBuiltIn,
}

impl fmt::Display for CudaUnavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotBuiltIn if cfg!(feature = "cuda") => {
                f.write_str("the feature `cuda` is on, but this version of samara has no CUDA backend yet; use the CPU backend")
            }
            Self::NotBuiltIn => f.write_str("no CUDA backend is built in; use the CPU backend"),
        }
    }
}

impl core::error::Error for CudaUnavailable {}

/// Opens the device of that number.
///
/// # Errors
/// Always: see [`CudaUnavailable`].
pub fn open(_ordinal: usize) -> Result<Device, CudaUnavailable> {
    Err(CudaUnavailable::NotBuiltIn)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_that_there_is_none() {
        let error = open(0).expect_err("no device");
        assert!(error.to_string().contains("no CUDA backend"));
    }
}
