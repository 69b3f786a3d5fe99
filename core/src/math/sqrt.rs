//! The square root for targets without an instruction for it: correctly rounded like libm's, and a sixth of its size.

/// √x, digit by digit: NaN below 0, and −0 at −0.
pub(super) fn sqrt(x: f32) -> f32 {
    const SCALE: f32 = (1 << 24) as f32;
    const ROOT_OF_SCALE: f32 = (1 << 12) as f32;
    if x < f32::MIN_POSITIVE && x > 0.0 {
        return normal(x * SCALE) / ROOT_OF_SCALE;
    }
    if x > 0.0 && x < f32::INFINITY {
        normal(x)
    } else if x < 0.0 {
        f32::NAN
    } else {
        x
    }
}

/// The root of a positive, finite, normal value.
fn normal(x: f32) -> f32 {
    // Splits into an even exponent and a significand in 1..4, as an integer with 23 fractional bits.
    let exponent = (x.to_bits() >> 23).wrapping_sub(127).cast_signed();
    let significand = x.to_bits() & 0x007f_ffff | 0x0080_0000;
    let mut rest = significand << (exponent & 1) << 1;
    // `root` grows by `digit` if the square of the sum does not exceed the significand: the root's 24 bits, and one more for rounding.
    let (mut root, mut twice) = (0u32, 0u32);
    let mut digit = 1u32 << 24;
    while digit != 0 {
        let next = twice | digit;
        if next <= rest {
            rest = rest.wrapping_sub(next);
            twice = next.wrapping_add(digit);
            root |= digit;
        }
        rest <<= 1;
        digit >>= 1;
    }
    // A root is never halfway between two floats.
    let rounded = (root >> 1).wrapping_add(root & 1);
    f32::from_bits(rounded.wrapping_add((exponent >> 1).wrapping_add(126).cast_unsigned() << 23))
}

#[cfg(test)]
mod tests {
    use super::sqrt;

    #[test]
    fn has_the_bits_of_libm() {
        for bits in (0..=u32::MAX).step_by(1009).chain(0..4096).chain([0x8000_0000, 0x7f7f_ffff, 0x7f80_0000, 0xff80_0000]) {
            let x = f32::from_bits(bits);
            let (found, expected) = (sqrt(x), libm::sqrtf(x));
            assert!(
                found.to_bits() == expected.to_bits() || (found.is_nan() && expected.is_nan()),
                "{x:e}: {found:e}, {expected:e}"
            );
        }
        // Two binades hold every significand with both parities of the exponent.
        for bits in 1f32.to_bits()..=4f32.to_bits() {
            let x = f32::from_bits(bits);
            assert_eq!(sqrt(x).to_bits(), libm::sqrtf(x).to_bits(), "{x:e}");
        }
    }
}
