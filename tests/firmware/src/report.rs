//! Lines of a key and a value. Numbers are written here, because formatting in the standard library takes more flash than some programs.

use crate::Hash;
use crate::board::print;

/// Prints a whole number.
pub fn figure(key: &str, value: u64) {
    print(key.as_bytes());
    print(b" ");
    digits(value, 10, 1);
    print(b"\n");
}

/// Prints `numerator / denominator` with two decimals, rounded down.
pub fn decimals(key: &str, numerator: u64, denominator: u64) {
    let hundredths = numerator.saturating_mul(100).checked_div(denominator).unwrap_or(0);
    print(key.as_bytes());
    print(b" ");
    digits(hundredths / 100, 10, 1);
    print(b".");
    digits(hundredths % 100, 10, 2);
    print(b"\n");
}

/// Prints a hash.
pub(crate) fn hash(hash: Hash) {
    print(b"hash ");
    digits(hash.value(), 16, 16);
    print(b"\n");
}

/// Prints at least `least` digits.
fn digits(mut value: u64, base: u64, least: usize) {
    let mut text = [b'0'; 20];
    let mut len = 0usize;
    for to in text.iter_mut().rev() {
        if value == 0 && len >= least {
            break;
        }
        let digit = value.checked_rem(base).unwrap_or(0) as u8;
        value = value.checked_div(base).unwrap_or(0);
        *to = if digit < 10 { b'0' + digit } else { b'a' + (digit - 10) };
        len += 1;
    }
    let text = text.get(20 - len..).unwrap_or(&[]);
    print(text);
}
