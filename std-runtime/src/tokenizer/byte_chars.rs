//! The characters by which GPT-2's files represent bytes (openai/gpt-2, `bytes_to_unicode`): printable Latin-1 bytes represent themselves, the other
//! 68 are U+0100 and on.

/// The character of a byte.
pub(super) fn char_of(byte: u8) -> char {
    match byte {
        b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => char::from(byte),
        // Ranges of the bytes that are not printable, in order: 0..=32, 127..=160, 173.
        0..=b' ' => shifted(u32::from(byte)),
        0x7f..=0xa0 => shifted(u32::from(byte) - 0x7f + 33),
        0xad => shifted(67),
    }
}

/// The byte that a character represents, if any.
pub(super) fn byte_of(char: char) -> Option<u8> {
    let byte = match u32::from(char) {
        code @ (0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff) => code,
        code @ 0x100..=0x120 => code - 0x100,
        code @ 0x121..=0x142 => code - 0x100 - 33 + 0x7f,
        0x143 => 0xad,
        _ => return None,
    };
    Some(byte as u8)
}

/// How a token is written.
pub(super) fn write(token: &[u8]) -> String {
    token.iter().map(|&byte| char_of(byte)).collect()
}

/// The bytes of a token as written in a file, if every character represents one.
pub(super) fn read(token: &str) -> Option<Vec<u8>> {
    token.chars().map(byte_of).collect()
}

/// All bytes in the order of their characters, which is the order of their ids in GPT-2's vocabulary.
pub(super) fn in_order() -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..=255).collect();
    bytes.sort_by_key(|&byte| char_of(byte));
    bytes
}

fn shifted(place: u32) -> char {
    char::from_u32(0x100 + place).unwrap_or(char::REPLACEMENT_CHARACTER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_a_bijection_with_known_values() {
        for byte in 0..=255 {
            assert_eq!(byte_of(char_of(byte)), Some(byte));
        }
        assert_eq!(write(b" \n\t\xad\x7f\xa0a\xe9"), "ĠĊĉŃġłaé");
        assert_eq!(read("ĠĊé").as_deref(), Some(&b" \n\xe9"[..]));
        assert_eq!(read("<|a b|>"), None);
        assert_eq!((in_order()[0], in_order()[188], in_order()[255]), (b'!', 0, 0xad));
    }
}
