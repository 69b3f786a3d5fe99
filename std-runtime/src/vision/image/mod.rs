//! Images in memory: reading files, resizing, cutting.

pub mod draw;
pub mod read;
pub mod resize;
pub mod write;

/// An image of three bytes a pixel: red, green, blue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    height: usize,
    width: usize,
    pixels: Vec<u8>, // (H, W, 3)
}

/// Values of a pixel.
pub const CHANNELS: usize = 3;

impl Image {
    /// An image of rows of pixels (H, W, 3); `None` for another number of values.
    pub fn new([height, width]: [usize; 2], pixels: Vec<u8>) -> Option<Self> {
        (pixels.len() == height * width * CHANNELS).then_some(Self { height, width, pixels })
    }

    /// A black image.
    pub fn black([height, width]: [usize; 2]) -> Self {
        Self { height, width, pixels: vec![0; height * width * CHANNELS] }
    }

    /// Height and width.
    pub fn size(&self) -> [usize; 2] {
        [self.height, self.width]
    }

    /// Its values, row by row (H, W, 3).
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// The same for changing.
    pub fn pixels_mut(&mut self) -> &mut [u8] {
        &mut self.pixels
    }

    /// The pixels of a row from `left` on, at most `width` of them.
    fn row(&self, y: usize, left: usize, width: usize) -> &[u8] {
        let start = (y * self.width + left.min(self.width)) * CHANNELS;
        let end = (y * self.width + (left + width).min(self.width)) * CHANNELS;
        self.pixels.get(start..end).unwrap_or_default()
    }

    /// The part of this size whose first pixel is at (top, left); what is beyond the image is black.
    pub fn part(&self, [top, left]: [usize; 2], [height, width]: [usize; 2]) -> Self {
        let mut part = Self::black([height, width]);
        for (y, to) in part.pixels.chunks_exact_mut((width * CHANNELS).max(1)).enumerate() {
            let from = self.row(top + y, left, width);
            to[..from.len()].copy_from_slice(from);
        }
        part
    }

    /// The middle of this size, as `transformers` cuts it: the offset is rounded down, and that of the image in a larger black one is rounded up.
    pub fn middle(&self, [height, width]: [usize; 2]) -> Self {
        let framed = self.framed([height.max(self.height), width.max(self.width)]);
        let offset = |all: usize, part: usize| (all - part) / 2;
        framed.part([offset(framed.height, height), offset(framed.width, width)], [height, width])
    }

    /// In the middle of a black image, which is at least as large.
    fn framed(&self, [height, width]: [usize; 2]) -> Self {
        if [height, width] == self.size() {
            return self.clone();
        }
        let mut framed = Self::black([height, width]);
        let [top, left] = [(height - self.height).div_ceil(2), (width - self.width).div_ceil(2)];
        for y in 0..self.height {
            let from = self.row(y, 0, self.width);
            let start = ((top + y) * width + left) * CHANNELS;
            framed.pixels[start..][..from.len()].copy_from_slice(from);
        }
        framed
    }

    /// Mirrored: left is right.
    pub fn flip(&mut self) {
        for row in self.pixels.chunks_exact_mut((self.width * CHANNELS).max(1)) {
            let (pixels, _) = row.as_chunks_mut::<CHANNELS>();
            pixels.reverse();
        }
    }
}

/// The grey of pixel i of rows of pixels (H, W, 3): ITU-R 601-2 in 16 bits, as Pillow computes it.
pub fn grey(pixels: &[u8], i: usize) -> u8 {
    let at = |c: usize| pixels.get(i * CHANNELS + c).copied().map_or(0, u32::from);
    ((19595 * at(0) + 38470 * at(1) + 7471 * at(2) + 0x8000) >> 16) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counting([height, width]: [usize; 2]) -> Image {
        Image::new([height, width], (0..height * width).flat_map(|i| [i as u8; 3]).collect()).unwrap()
    }

    fn reds(image: &Image) -> Vec<u8> {
        image.pixels().chunks_exact(3).map(|pixel| pixel[0]).collect()
    }

    #[test]
    fn the_middle_is_cut_rounded_down_and_framed_rounded_up() {
        let image = counting([3, 4]);
        assert_eq!(reds(&image.middle([1, 1])), [5]);
        assert_eq!(reds(&image.middle([3, 1])), [1, 5, 9]);
        assert_eq!(reds(&counting([1, 2]).middle([2, 3])), [0, 0, 0, 0, 0, 1]);
        assert_eq!(image.middle([3, 4]), image);
        assert_eq!(Image::new([2, 2], vec![0; 11]), None);
    }

    #[test]
    fn a_part_beyond_the_image_is_black() {
        let image = counting([2, 3]);
        assert_eq!(reds(&image.part([1, 1], [2, 3])), [4, 5, 0, 0, 0, 0]);
        let mut flipped = image.clone();
        flipped.flip();
        assert_eq!(reds(&flipped), [2, 1, 0, 5, 4, 3]);
    }
}
