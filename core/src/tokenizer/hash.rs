//! Hash tables of pairs and words: keys, hashes, free slots.

pub(super) const ID_BITS: u32 = 21;
pub(super) const RANK_BITS: u32 = 22;
/// A free slot of a hash table.
pub(super) const EMPTY: u64 = u64::MAX;

/// Left and right id in 42 bits.
#[inline]
pub(super) fn pair_key(left: u32, right: u32) -> u64 {
    u64::from(left) << ID_BITS | u64::from(right)
}

/// Odd multiplier of both hashes: 2^64 divided by the golden ratio.
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// Hash of [`pair_key`]; its low bits choose the slot.
#[inline]
pub(super) fn hash_pair(key: u64) -> u64 {
    let product = key.wrapping_mul(MULTIPLIER);
    product ^ product >> 32
}

/// Hash of a word, eight bytes (little endian) at a time; its low bits select the slot, its high half is stored in the entry.
#[inline]
pub(super) fn hash_bytes(word: &[u8]) -> u64 {
    let mut hash = word.len() as u64;
    let mut rest = word;
    while let Some((eight, more)) = rest.split_first_chunk::<8>() {
        hash = mix(hash ^ u64::from_le_bytes(*eight));
        rest = more;
    }
    let tail = rest.iter().rev().fold(0, |tail, &byte| tail << 8 | u64::from(byte));
    mix(mix(hash ^ tail))
}

#[inline]
fn mix(value: u64) -> u64 {
    let product = value.wrapping_mul(MULTIPLIER);
    product ^ product >> 29
}
