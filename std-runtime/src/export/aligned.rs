//! Bytes aligned for the values of a program file.

/// Bytes aligned for the values of a program file.
pub(crate) struct Aligned(Vec<u64>, usize);

impl Aligned {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        let mut words = vec![0u64; bytes.len().div_ceil(size_of::<u64>())];
        bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(bytes);
        Self(words, bytes.len())
    }

    pub(crate) fn get(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.0)[..self.1]
    }
}
