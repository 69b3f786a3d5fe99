//! FNV-1a, 64 bits (Fowler, Noll, Vo): one number for all the bits of a program's results.

/// A hash that is being computed.
#[derive(Clone, Copy)]
pub struct Hash(u64);

impl Default for Hash {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hash {
    /// Adds bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// Adds the bits of numbers.
    pub fn reals(&mut self, numbers: &[f32]) {
        numbers.iter().for_each(|x| self.bytes(&x.to_le_bytes()));
    }

    /// The hash of what was added.
    pub fn value(self) -> u64 {
        self.0
    }
}
