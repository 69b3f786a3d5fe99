//! IEEE half precision as bits: five bits of exponent, ten of fraction.

/// The value of half-precision bits.
#[inline]
pub fn from_f16(bits: u16) -> f32 {
    /// 2¹¹², the difference between the exponents' biases.
    const SCALE: f32 = f32::from_bits(239 << 23);
    // The sign at the highest bit, and the rest where the fraction ends.
    let widened = (i32::from(bits.cast_signed()) << 13).cast_unsigned() & 0x8fff_e000;
    if bits & 0x7c00 == 0x7c00 {
        return f32::from_bits(widened | 0x7f80_0000);
    }
    f32::from_bits(widened) * SCALE
}

/// The bits of the nearest half-precision value, ties to even; infinity beyond 65 504.
#[inline]
pub fn to_f16(x: f32) -> u16 {
    let sign = (x.to_bits() >> 16) as u16 & 0x8000;
    let magnitude = x.to_bits() & 0x7fff_ffff;
    if magnitude > 0x7f80_0000 {
        return sign | 0x7e00;
    }
    if magnitude >= 143 << 23 {
        return sign | 0x7c00;
    }
    if magnitude < 113 << 23 {
        // The unit in the last place of f32 values near ½ is the subnormal spacing of half precision: the sum rounds there.
        let sum = f32::from_bits(magnitude) + 0.5;
        return sign | sum.to_bits().wrapping_sub(0.5f32.to_bits()) as u16;
    }
    let odd = magnitude >> 13 & 1;
    sign | ((magnitude.wrapping_add(0xfff).wrapping_add(odd) >> 13).wrapping_sub(112 << 10)) as u16
}
