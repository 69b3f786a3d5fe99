//! CRC-32C (Castagnoli), the checksum of iSCSI and ext4: it finds every change of up to three bits and every burst of up to 32 in files of this size.

use super::layout::CHECKSUM;

/// The checksum of a file: over all bytes except those of the checksum field.
pub fn checksum(file: &[u8]) -> u32 {
    let before = file.get(..CHECKSUM.start).unwrap_or(file);
    let after = file.get(CHECKSUM.end..).unwrap_or(&[]);
    !update(update(u32::MAX, before), after)
}

/// Processes 4 bits at a time: a table of 64 bytes, and about 10 instructions per byte.
fn update(crc: u32, bytes: &[u8]) -> u32 {
    let half = |crc: u32| TABLE.get((crc & 15) as usize).map_or(0, |entry| entry ^ crc >> 4);
    bytes.iter().fold(crc, |crc, &byte| half(half(crc ^ u32::from(byte))))
}

/// The contribution of each low nibble, for the reflected polynomial 0x82F63B78.
const TABLE: [u32; 16] = [
    0x0000_0000,
    0x105e_c76f,
    0x20bd_8ede,
    0x30e3_49b1,
    0x417b_1dbc,
    0x5125_dad3,
    0x61c6_9362,
    0x7198_540d,
    0x82f6_3b78,
    0x92a8_fc17,
    0xa24b_b5a6,
    0xb215_72c9,
    0xc38d_26c4,
    0xd3d3_e1ab,
    0xe330_a81a,
    0xf36e_6f75,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_crc_32c() {
        // The check value of the catalogue of parametrised CRC algorithms (CRC-32/ISCSI).
        assert_eq!(!update(u32::MAX, b"123456789"), 0xe306_9283);
    }

    #[test]
    fn does_not_see_itself() {
        let mut file = [7u8; 100];
        let sum = checksum(&file);
        file[CHECKSUM].fill(9);
        assert_eq!(checksum(&file), sum);
        file[20] ^= 1;
        assert_ne!(checksum(&file), sum);
        assert_eq!(checksum(&[]), !u32::MAX);
    }
}
