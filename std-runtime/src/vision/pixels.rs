//! The order of pixels in the input of a model.

use samara_core::model::image::{ImageDims, PixelOrder};

use super::image::{CHANNELS, grey};
use super::processor::{Processor, Values};

/// Values of a pixel of models that see grey.
pub const GREY: usize = 1;

/// Puts pixels (H, W, 3) into the input of a model that sees colours, or grey, which has the first channel's mean and deviation.
pub struct Reader {
    /// The place in (H, W, channels) of every value of an image in the model's order.
    offsets: Vec<u32>,
    is_grey: bool,
    values: Values,
    /// The value of a byte is slope · byte + offset, for each channel.
    lines: [[f32; 2]; CHANNELS],
}

impl Reader {
    /// For a model of three channels or one.
    pub fn new(dims: &ImageDims, processor: &Processor) -> Self {
        let values = processor.values();
        let lines = std::array::from_fn(|channel| {
            let [black, white] = [0, 255].map(|byte| values.of(channel, byte));
            [(white - black) / 255.0, black]
        });
        Self { offsets: offsets(dims), is_grey: dims.channels == GREY, values, lines }
    }

    /// Values of an image in the model's order.
    pub fn image_len(&self) -> usize {
        self.offsets.len()
    }

    /// Reads bytes.
    pub fn bytes(&self, pixels: &[u8], to: &mut [f32]) {
        for (to, &at) in to.iter_mut().zip(&self.offsets) {
            let at = at as usize;
            *to = match self.is_grey {
                true => self.values.of(0, grey(pixels, at)),
                false => pixels.get(at).map_or(0.0, |&byte| self.values.of(at % CHANNELS, byte)),
            };
        }
    }

    /// Reads values from 0 to 255.
    pub fn reals(&self, pixels: &[f32], to: &mut [f32]) {
        for (to, &at) in to.iter_mut().zip(&self.offsets) {
            let at = at as usize;
            let (channel, value) = match (self.is_grey, pixels.get(CHANNELS * at..CHANNELS * (at + 1))) {
                (true, Some(&[r, g, b])) => (0, Some(0.299 * r + 0.587 * g + 0.114 * b)),
                (true, _) => (0, None),
                (false, _) => (at % CHANNELS, pixels.get(at).copied()),
            };
            let [slope, offset] = self.lines[channel];
            *to = value.map_or(0.0, |value| slope * value + offset);
        }
    }
}

/// Writes an image of planes (channels, H, W) in the order of a model.
pub fn from_planes(dims: &ImageDims, planes: &[f32], to: &mut [f32]) {
    let ([height, width], channels) = (dims.image, dims.channels);
    let at = |c: usize, y: usize, x: usize| planes.get((c * height + y) * width + x).copied().unwrap_or(0.0);
    for (i, to) in to.iter_mut().enumerate() {
        let (c, y, x) = place(dims.order, width, channels, i);
        *to = at(c, y, x);
    }
}

/// The place in rows of pixels (H, W, channels) of every value of an image in the order of a model.
pub fn offsets(dims: &ImageDims) -> Vec<u32> {
    let ([_, width], channels) = (dims.image, dims.channels);
    let of = |i| {
        let (c, y, x) = place(dims.order, width, channels, i);
        ((y * width + x) * channels + c) as u32
    };
    (0..dims.image_len()).map(of).collect()
}

/// Channel, row and column of value `i` of an image in a model's order.
fn place(order: PixelOrder, width: usize, channels: usize, i: usize) -> (usize, usize, usize) {
    match order {
        PixelOrder::Pixels => (i % channels, i / channels / width, i / channels % width),
        PixelOrder::Patches(side) => {
            let (patch, within) = (i / (channels * side * side), i % (channels * side * side));
            let across = width / side;
            let (c, y, x) = (within / (side * side), within / side % side, within % side);
            (c, patch / across * side + y, patch % across * side + x)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_go_row_by_row_and_channels_first() {
        let dims = ImageDims { image: [4, 6], channels: 2, order: PixelOrder::Patches(2), width: 1, classes: 1, blocks: 0 };
        let planes: Vec<f32> = (0..48).map(|i| i as f32).collect();
        let mut patches = vec![0.0; 48];
        from_planes(&dims, &planes, &mut patches);
        assert_eq!(patches[..8], [0.0, 1.0, 6.0, 7.0, 24.0, 25.0, 30.0, 31.0]);
        assert_eq!(patches[40..], [16.0, 17.0, 22.0, 23.0, 40.0, 41.0, 46.0, 47.0]);
        from_planes(&ImageDims { order: PixelOrder::Pixels, ..dims }, &planes, &mut patches);
        assert_eq!(patches[..4], [0.0, 24.0, 1.0, 25.0]);
    }
}
