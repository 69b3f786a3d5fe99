//! Resizing with Pillow's filters and its fixed-point arithmetic, so that results are those of `Image.resize`, to the bit.
//!
//! A filter of support s is stretched by the scale where an image shrinks, which is antialiasing. Weights are rounded to 22 bits. An image is resized along
//! one axis and then along the other, with 8 bits between the two: rows are shortened first, unless the height loses more than twice as many pixels as the
//! width (measured on Pillow 13.0 with random sizes; Pillow 12 always shortens rows first). Source of the rest: Pillow, src/libImaging/Resample.c.

use std::ops::Range;

use super::{CHANNELS, Image};

/// A filter, by the number that `PIL.Image.Resampling` gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// The pixel below the centre (0).
    Nearest,
    /// Lanczos with three lobes (1).
    Lanczos,
    /// A triangle (2).
    Bilinear,
    /// Keys' cubic with a = −1/2 (3).
    Bicubic,
    /// The mean of pixels (4).
    Box,
    /// Hamming's window of a sinc (5).
    Hamming,
}

impl Filter {
    /// The filter of a number.
    pub fn of_number(number: u64) -> Option<Self> {
        [Self::Nearest, Self::Lanczos, Self::Bilinear, Self::Bicubic, Self::Box, Self::Hamming]
            .into_iter()
            .find(|filter| filter.number() == number)
    }

    /// Its number.
    pub const fn number(self) -> u64 {
        match self {
            Self::Nearest => 0,
            Self::Lanczos => 1,
            Self::Bilinear => 2,
            Self::Bicubic => 3,
            Self::Box => 4,
            Self::Hamming => 5,
        }
    }

    /// Half of its width in pixels.
    fn support(self) -> f64 {
        match self {
            Self::Nearest => 0.0,
            Self::Box => 0.5,
            Self::Bilinear | Self::Hamming => 1.0,
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    fn at(self, x: f64) -> f64 {
        match self {
            Self::Nearest => 0.0,
            Self::Box => f64::from(u8::from(x > -0.5 && x <= 0.5)),
            Self::Bilinear => (1.0 - x.abs()).max(0.0),
            Self::Hamming => hamming(x.abs()),
            Self::Bicubic => cubic(x.abs(), -0.5),
            Self::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            Self::Lanczos => 0.0,
        }
    }
}

/// Keys' cubic convolution (1981) at a distance x ≥ 0; a is its slope at 1.
pub fn cubic(x: f64, a: f64) -> f64 {
    if x < 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * a
    } else {
        0.0
    }
}

fn sinc(x: f64) -> f64 {
    let x = x * std::f64::consts::PI;
    if x == 0.0 { 1.0 } else { x.sin() / x }
}

fn hamming(x: f64) -> f64 {
    if x == 0.0 {
        return 1.0;
    }
    if x >= 1.0 {
        return 0.0;
    }
    let x = x * std::f64::consts::PI;
    x.sin() / x * (0.54 + 0.46 * x.cos())
}

/// Bits of a weight behind the point.
const BITS: u32 = 32 - 8 - 2;

/// The inputs of an output value: the first, and their weights.
struct Taps {
    first: Vec<usize>,
    /// `each` weights for every output, zeros behind the last.
    weights: Vec<i32>,
    each: usize,
}

impl Taps {
    /// The inputs of these outputs of so many in all.
    fn new(filter: Filter, inputs: usize, outputs: usize, part: Range<usize>) -> Self {
        let scale = inputs as f64 / outputs as f64;
        let stretch = scale.max(1.0);
        let support = filter.support() * stretch;
        let each = support.ceil() as usize * 2 + 1;
        let (mut first, mut weights) = (Vec::with_capacity(part.len()), Vec::with_capacity(part.len() * each));
        let mut own = Vec::with_capacity(each);
        for output in part {
            let centre = (output as f64 + 0.5) * scale;
            let from = (centre - support + 0.5).max(0.0) as usize;
            let to = ((centre + support + 0.5) as usize).min(inputs);
            own.clear();
            own.extend((from..to).map(|i| filter.at((i as f64 - centre + 0.5) * (1.0 / stretch))));
            let sum: f64 = own.iter().sum();
            if sum != 0.0 {
                own.iter_mut().for_each(|weight| *weight /= sum);
            }
            own.resize(each, 0.0);
            first.push(from);
            weights.extend(own.iter().map(|&weight| fixed(weight)));
        }
        Self { first, weights, each }
    }

    fn of(&self, output: usize) -> (usize, &[i32]) {
        let first = self.first.get(output).copied().unwrap_or(0);
        (first, self.weights.get(output * self.each..(output + 1) * self.each).unwrap_or_default())
    }
}

/// A weight with [`BITS`] bits behind the point, rounded away from zero.
fn fixed(weight: f64) -> i32 {
    let scaled = weight * f64::from(1 << BITS);
    (if weight < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i32
}

/// The byte of a sum of weighted bytes.
fn byte(sum: i32) -> u8 {
    ((sum + (1 << (BITS - 1))) >> BITS).clamp(0, 255) as u8
}

/// The image in another size [height, width].
pub fn resize(image: &Image, size: [usize; 2], filter: Filter) -> Image {
    resize_part(image, size, size.map(|side| 0..side), filter)
}

/// These rows and columns of the image in another size [height, width]: nothing else of it is computed or stored.
pub fn resize_part(image: &Image, [height, width]: [usize; 2], [ys, xs]: [Range<usize>; 2], filter: Filter) -> Image {
    if [height, width] == image.size() {
        return image.part([ys.start, xs.start], [ys.len(), xs.len()]);
    }
    if filter == Filter::Nearest {
        return nearest(image, [height, width], [ys, xs]);
    }
    let [from_height, from_width] = image.size();
    let to_width = |image: &Image| {
        if width == from_width {
            return image.part([0, xs.start], [image.size()[0], xs.len()]);
        }
        columns(image, &Taps::new(filter, from_width, width, xs.clone()), xs.len())
    };
    let to_height = |image: &Image| {
        if height == from_height {
            return image.part([ys.start, 0], [ys.len(), image.size()[1]]);
        }
        rows(image, &Taps::new(filter, from_height, height, ys.clone()), ys.len())
    };
    // Bytes are rounded between the two passes, so their order shows.
    let lost = |from: usize, to: usize| from as i128 - to as i128;
    let rows_first = from_height > height && lost(from_height, height) > 2 * lost(from_width, width);
    if rows_first { to_width(&to_height(image)) } else { to_height(&to_width(image)) }
}

/// Resizes every row.
fn columns(image: &Image, taps: &Taps, width: usize) -> Image {
    let [height, from] = image.size();
    let mut out = Image::black([height, width]);
    let lines = image.pixels().chunks_exact((from * CHANNELS).max(1));
    for (to, line) in out.pixels_mut().chunks_exact_mut((width * CHANNELS).max(1)).zip(lines) {
        let (pixels, _) = line.as_chunks::<CHANNELS>();
        for (x, to) in to.as_chunks_mut::<CHANNELS>().0.iter_mut().enumerate() {
            let (first, weights) = taps.of(x);
            let mut sums = [0_i32; CHANNELS];
            for (pixel, &weight) in pixels.iter().skip(first).zip(weights) {
                sums.iter_mut().zip(pixel).for_each(|(sum, &value)| *sum += i32::from(value) * weight);
            }
            *to = sums.map(byte);
        }
    }
    out
}

/// Resizes every column.
fn rows(image: &Image, taps: &Taps, height: usize) -> Image {
    let [_, width] = image.size();
    let len = (width * CHANNELS).max(1);
    let mut out = Image::black([height, width]);
    let mut sums = vec![0_i32; len];
    for (y, to) in out.pixels_mut().chunks_exact_mut(len).enumerate() {
        let (first, weights) = taps.of(y);
        sums.fill(0);
        for (line, &weight) in image.pixels().chunks_exact(len).skip(first).zip(weights) {
            sums.iter_mut().zip(line).for_each(|(sum, &value)| *sum += i32::from(value) * weight);
        }
        to.iter_mut().zip(&sums).for_each(|(to, &sum)| *to = byte(sum));
    }
    out
}

/// The pixels at the centres; positions are summed step by step, as Pillow does.
fn nearest(image: &Image, [height, width]: [usize; 2], [ys, xs]: [Range<usize>; 2]) -> Image {
    let ([from_height, from_width], size) = (image.size(), [ys.len(), xs.len()]);
    let positions = |from: usize, to: usize, part: Range<usize>| -> Vec<usize> {
        let step = from as f64 / to as f64;
        let sums = std::iter::successors(Some(step * 0.5), |at| Some(at + step));
        sums.skip(part.start).take(part.len()).map(|at| (at as usize).min(from.saturating_sub(1))).collect()
    };
    let (ys, xs) = (positions(from_height, height, ys), positions(from_width, width, xs));
    let (pixels, _) = image.pixels().as_chunks::<CHANNELS>();
    let picked = ys.iter().flat_map(|y| xs.iter().map(move |x| pixels[y * from_width + x]));
    Image::new(size, picked.flatten().collect()).unwrap_or_else(|| Image::black(size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_that_of_the_whole() {
        let image = Image::new([7, 11], (0..7 * 11 * 3).map(|i| (i * 37 % 251) as u8).collect()).unwrap();
        for filter in (0..6).filter_map(Filter::of_number) {
            for size in [[5, 30], [21, 11], [7, 4], [7, 11], [3, 3]] {
                let part = size.map(|side| side / 3..side - side / 4);
                let [ys, xs] = part.clone();
                let whole = resize(&image, size, filter).part([ys.start, xs.start], [ys.len(), xs.len()]);
                assert_eq!(resize_part(&image, size, part, filter), whole, "{filter:?} {size:?}");
            }
        }
    }
}
