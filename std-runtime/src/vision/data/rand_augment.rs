//! RandAugment (Cubuk et al. 2020): two operations of fourteen on the bytes of an image, all of one magnitude. The operations have Pillow's bits, and their
//! strengths are torchvision's with 31 bins.

use std::f64::consts::PI;

use samara_core::math::rng::Rng;

use crate::vision::image::{CHANNELS, grey};

/// The largest magnitude.
pub const MOST: f64 = 30.0;
/// Operations on an image.
const OPERATIONS: usize = 2;

/// An operation with its strength.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Operation {
    /// Nothing.
    Identity,
    /// Sampled at (a x + b y + c, d x + e y + f), the nearest pixel; black beyond the image.
    Affine([f64; 6]),
    /// Black (0) to the image (1) and beyond.
    Brightness(f32),
    /// Grey (0) to the image (1) and beyond.
    Colour(f32),
    /// The mean grey (0) to the image (1) and beyond.
    Contrast(f32),
    /// A smoothed image (0) to the image (1) and beyond.
    Sharpness(f32),
    /// Only so many leading bits of a value remain.
    Posterize(u32),
    /// 255 − v for values v from this on.
    Solarize(u32),
    /// Every channel is stretched to 0 … 255.
    AutoContrast,
    /// Every channel's histogram is made even.
    Equalize,
}

impl Operation {
    /// Draws one of a magnitude for an image of this size.
    pub fn draw(rng: &mut Rng, magnitude: f64, [height, width]: [usize; 2]) -> Self {
        let share = magnitude / MOST;
        let (kind, sign) = (rng.below(14), if rng.next_u32() & 1 == 1 { -1.0 } else { 1.0 });
        let signed = sign * share;
        // Of 331 pixels, the size at which the authors measured.
        let moved = |side: usize| (signed * 150.0 / 331.0 * side as f64).trunc();
        let factor = (1.0 + 0.9 * signed) as f32;
        match kind {
            0 => Self::Identity,
            1 => Self::Affine([1.0, 0.3 * signed, 0.0, 0.0, 1.0, 0.0]),
            2 => Self::Affine([1.0, 0.0, 0.0, 0.3 * signed, 1.0, 0.0]),
            3 => Self::Affine([1.0, 0.0, moved(width), 0.0, 1.0, 0.0]),
            4 => Self::Affine([1.0, 0.0, 0.0, 0.0, 1.0, moved(height)]),
            5 => Self::rotation(30.0 * signed, [height, width]),
            6 => Self::Brightness(factor),
            7 => Self::Colour(factor),
            8 => Self::Contrast(factor),
            9 => Self::Sharpness(factor),
            10 => Self::Posterize(8 - (4.0 * share).round() as u32),
            11 => Self::Solarize((255.0 * (1.0 - share)) as u32),
            12 => Self::AutoContrast,
            _ => Self::Equalize,
        }
    }

    /// A turn about the center, counter-clockwise, in degrees.
    pub fn rotation(degrees: f64, [height, width]: [usize; 2]) -> Self {
        let (sin, cos) = (-degrees * PI / 180.0).sin_cos();
        let [x, y] = [width as f64 / 2.0, height as f64 / 2.0];
        Self::Affine([cos, sin, x - cos * x - sin * y, -sin, cos, y + sin * x - cos * y])
    }

    /// Changes pixels (H, W, 3); `former` is room for a copy of them.
    pub fn apply(self, pixels: &mut [u8], width: usize, former: &mut Vec<u8>) {
        former.clear();
        former.extend_from_slice(pixels);
        let from = former.as_slice();
        match self {
            Self::Identity => {}
            Self::Affine(matrix) => affine(matrix, from, width, pixels),
            Self::Brightness(factor) => blend(factor, pixels, |_| 0),
            Self::Colour(factor) => blend(factor, pixels, |i| grey(from, i / CHANNELS)),
            Self::Contrast(factor) => {
                let count = from.len() / CHANNELS;
                let sum: u64 = (0..count).map(|i| u64::from(grey(from, i))).sum();
                let mean = (sum as f64 / count.max(1) as f64 + 0.5) as u8;
                blend(factor, pixels, |_| mean);
            }
            Self::Sharpness(factor) => blend(factor, pixels, |i| smooth(from, width, i)),
            Self::Posterize(bits) => {
                look_up(pixels, |_| std::array::from_fn(|v| v as u8 & !((1_u16 << (8 - bits.min(8))) - 1) as u8))
            }
            Self::Solarize(from) => {
                look_up(pixels, |_| std::array::from_fn(|v| if (v as u32) < from { v as u8 } else { 255 - v as u8 }));
            }
            Self::AutoContrast => look_up(pixels, stretched),
            Self::Equalize => look_up(pixels, evened),
        }
    }
}

/// Two operations on pixels of values from 0 to 255 (H, W, 3), which are rounded to bytes.
pub fn rand_augment(rng: &mut Rng, magnitude: f64, size: [usize; 2], pixels: &mut [f32], [bytes, former]: &mut [Vec<u8>; 2]) {
    bytes.clear();
    bytes.extend(pixels.iter().map(|value| value.round().clamp(0.0, 255.0) as u8));
    for _ in 0..OPERATIONS {
        Operation::draw(rng, magnitude, size).apply(bytes, size[1], former);
    }
    pixels.iter_mut().zip(bytes.iter()).for_each(|(to, &byte)| *to = f32::from(byte));
}

/// other + factor (v − other) for every value, in Pillow's precision.
fn blend(factor: f32, pixels: &mut [u8], other: impl Fn(usize) -> u8) {
    for (i, value) in pixels.iter_mut().enumerate() {
        let other = f32::from(other(i));
        *value = (other + factor * (f32::from(*value) - other)).clamp(0.0, 255.0) as u8;
    }
}

/// Value i of the image whose pixels are (5 v + their eight neighbours) / 13; those at the edges stay.
fn smooth(pixels: &[u8], width: usize, i: usize) -> u8 {
    let row = width * CHANNELS;
    let (y, x) = (i / row.max(1), i % row.max(1) / CHANNELS);
    let at = |i: usize| pixels.get(i).copied().map_or(0, u32::from);
    if y == 0 || x == 0 || x + 1 == width || (y + 2) * row > pixels.len() {
        return at(i) as u8;
    }
    let line = |i: usize| at(i - CHANNELS) + at(i) + at(i + CHANNELS);
    let sum = line(i - row) + line(i) + line(i + row) + 4 * at(i);
    ((2 * sum + 13) / 26) as u8
}

/// Nearest pixels at the places of an affine map, in Pillow's 16 bits after the point.
fn affine([a, b, c, d, e, f]: [f64; 6], from: &[u8], width: usize, to: &mut [u8]) {
    let fixed = |x: f64| (x * 65536.0 + 0.5).floor() as i64;
    let height = from.len() / (width * CHANNELS).max(1);
    let [x0, y0] = [fixed(c + 0.5 * (a + b)), fixed(f + 0.5 * (d + e))];
    let [a, b, d, e] = [a, b, d, e].map(fixed);
    for (i, pixel) in to.chunks_exact_mut(CHANNELS).enumerate() {
        let (y, x) = ((i / width) as i64, (i % width) as i64);
        let [x, y] = [(x0 + a * x + b * y) >> 16, (y0 + d * x + e * y) >> 16];
        let inside = (0..width as i64).contains(&x) && (0..height as i64).contains(&y);
        let source = inside.then(|| (y as usize * width + x as usize) * CHANNELS);
        let source = source.and_then(|at| from.get(at..at + CHANNELS));
        pixel.copy_from_slice(source.unwrap_or(&[0; CHANNELS]));
    }
}

/// Replaces every value by that of a table made from its channel's histogram.
fn look_up(pixels: &mut [u8], table: impl Fn(&[u32; 256]) -> [u8; 256]) {
    for channel in 0..CHANNELS {
        let mut counts = [0; 256];
        pixels.iter().skip(channel).step_by(CHANNELS).for_each(|&v| counts[usize::from(v)] += 1);
        let table = table(&counts);
        pixels.iter_mut().skip(channel).step_by(CHANNELS).for_each(|v| *v = table[usize::from(*v)]);
    }
}

fn stretched(counts: &[u32; 256]) -> [u8; 256] {
    let low = counts.iter().position(|&count| count > 0).unwrap_or(0);
    let high = counts.iter().rposition(|&count| count > 0).unwrap_or(0);
    let scale = 255.0 / high.saturating_sub(low).max(1) as f64;
    let offset = -(low as f64) * scale;
    std::array::from_fn(|v| if high <= low { v as u8 } else { (v as f64 * scale + offset).clamp(0.0, 255.0) as u8 })
}

fn evened(counts: &[u32; 256]) -> [u8; 256] {
    let last = counts.iter().rev().find(|&&count| count > 0).copied().unwrap_or(0);
    let kinds = counts.iter().filter(|&&count| count > 0).count();
    let step = (counts.iter().sum::<u32>() - last) / 255;
    let mut below = step / 2;
    std::array::from_fn(|v| {
        let value = if kinds <= 1 || step == 0 { v as u8 } else { (below / step).min(255) as u8 };
        below += counts[v];
        value
    })
}
