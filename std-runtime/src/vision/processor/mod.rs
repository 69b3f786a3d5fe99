//! From an image to the pixels of a model, as the image processors of `transformers` do it with Pillow: resize, cut the middle, rescale, normalise.

mod detr;
pub mod file;
mod sizes;
mod vilt;

use super::image::resize::{Filter, resize, resize_part};
use super::image::{CHANNELS, Image};

/// The class in `transformers`; it decides defaults, and how a shorter side is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `ViTImageProcessor`.
    Vit,
    /// `DeiTImageProcessor`.
    Deit,
    /// `CLIPImageProcessor`.
    Clip,
    /// `ConvNextImageProcessor`, which ResNets use as well.
    ConvNext,
    /// `DetrImageProcessor`, of detectors.
    Detr,
    /// `ViltImageProcessor`.
    Vilt,
}

/// The size that an image is resized to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Resize {
    /// Height and width, whatever the image's.
    To([usize; 2]),
    /// The shorter side; the other in proportion, rounded down.
    Shorter(usize),
    /// The shorter side is `side` / `cropped`, and the middle square of `side` remains; from 384 pixels on, the square of the whole image.
    Cropped {
        /// The side of the result.
        side: usize,
        /// The share of the shorter side that remains.
        cropped: f64,
    },
    /// The shorter side, unless the longer one would be above its limit, which it has then; the other in proportion.
    Between {
        /// The shorter side.
        shorter: usize,
        /// The largest longer side.
        longer: usize,
    },
    /// In proportion, as large as fits into this height and width.
    Within([usize; 2]),
    /// The shorter side, unless the longer one would be above 1333/800 of it, which it has then; both rounded down to multiples.
    Multiples {
        /// The shorter side.
        shorter: usize,
        /// What both sides are multiples of.
        divisor: usize,
    },
}

/// How images become the input of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Processor {
    /// Its class.
    pub kind: Kind,
    /// The resizing, if there is one.
    pub resize: Option<Resize>,
    /// The filter of resizing.
    pub filter: Filter,
    /// Height and width of the middle that remains.
    pub crop: Option<[usize; 2]>,
    /// The factor of bytes.
    pub rescale: Option<f64>,
    /// Mean and standard deviation of the channels, after rescaling.
    pub normalize: Option<[[f64; CHANNELS]; 2]>,
    /// Height and width that images of [`Kind::Detr`] are padded to, below and to the right; `None`: those of the largest image of a batch.
    pub pad: Option<[usize; 2]>,
    /// Keys of the file without a meaning here.
    pub others: serde_json::Map<String, serde_json::Value>,
}

/// Mean and standard deviation of the channels of ImageNet.
const IMAGENET: [[f64; CHANNELS]; 2] = [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]];

/// Sides below this are cut from a larger image by [`Kind::ConvNext`].
const WARPED_FROM: usize = 384;

impl Processor {
    /// The usual one of a family for images of this height and width: ResNets keep the middle 7/8 and have ImageNet's mean and deviation, an ALBEF has CLIP's
    /// without a crop.
    pub fn usual(model_type: &str, size: [usize; 2]) -> Self {
        match model_type {
            "resnet" => {}
            "albef" => return Self { resize: Some(Resize::To(size)), crop: None, ..Self::of_kind(Kind::Clip) },
            _ => return Self::vit(size),
        }
        Self { normalize: Some(IMAGENET), ..Self::of_kind(Kind::ConvNext).with_size(size) }
    }

    /// ViT's for images of this height and width: bilinear, mean and standard deviation 1/2.
    pub fn vit(size: [usize; 2]) -> Self {
        Self { resize: Some(Resize::To(size)), ..Self::of_kind(Kind::Vit) }
    }

    /// The same for images of another height and width: resized so that the shares that remain are the same.
    #[must_use]
    pub fn with_size(&self, size: [usize; 2]) -> Self {
        let [height, width] = size;
        let was = self.size().unwrap_or(size);
        let scaled = |side: usize, of: usize| {
            let [to, from] = [size, was].map(|all| all[of].max(1));
            (side * to).div_ceil(from)
        };
        let resize = self.resize.map(|resize| match resize {
            Resize::To([h, w]) if self.crop.is_some() => Resize::To([scaled(h, 0), scaled(w, 1)]),
            Resize::Shorter(side) if self.crop.is_some() => Resize::Shorter(scaled(side, 0).max(scaled(side, 1))),
            Resize::Cropped { cropped, .. } if height == width => Resize::Cropped { side: height, cropped },
            _ => Resize::To(size),
        });
        Self { resize: resize.or(Some(Resize::To(size))), crop: self.crop.map(|_| [height, width]), ..self.clone() }
    }

    /// Height and width of its results; `None` where they depend on the image.
    pub fn size(&self) -> Option<[usize; 2]> {
        match (self.crop, self.resize) {
            (Some(crop), _) => Some(crop),
            (None, Some(Resize::To(size))) => Some(size),
            (None, Some(Resize::Cropped { side, .. })) => Some([side; 2]),
            (None, Some(Resize::Shorter(_) | Resize::Between { .. } | Resize::Within(_) | Resize::Multiples { .. }) | None) => {
                None
            }
        }
    }

    /// Resizes an image and cuts its middle.
    pub fn shape(&self, image: &Image) -> Image {
        let crop = match self.resize {
            Some(Resize::Cropped { side, .. }) if side < WARPED_FROM => Some([side; 2]),
            _ => self.crop,
        };
        match (self.resize.map(|to| self.resized(image.size(), to)), crop) {
            (None, None) => image.clone(),
            (None, Some(crop)) => image.middle(crop),
            (Some(size), None) => resize(image, size, self.filter),
            (Some(size), Some(crop)) => self.middle_of_resized(image, size, crop),
        }
    }

    /// Height and width that an image is resized to.
    fn resized(&self, image: [usize; 2], to: Resize) -> [usize; 2] {
        match to {
            Resize::To(size) => size,
            Resize::Shorter(side) => in_proportion(image, side),
            Resize::Cropped { side, cropped } if side < WARPED_FROM => in_proportion(image, (side as f64 / cropped) as usize),
            Resize::Cropped { side, .. } => [side; 2],
            Resize::Between { shorter, longer } => sizes::between(image, shorter, longer),
            Resize::Within(most) => sizes::within(image, most),
            Resize::Multiples { shorter, divisor } => vilt::multiples(image, shorter, divisor),
        }
    }

    /// The middle of a resized image, without the rest of it: a narrow image in proportion may be as long as it likes.
    fn middle_of_resized(&self, image: &Image, size: [usize; 2], crop: [usize; 2]) -> Image {
        let kept = [0, 1].map(|axis| {
            let start = size[axis].saturating_sub(crop[axis]) / 2;
            start..start + crop[axis].min(size[axis])
        });
        resize_part(image, size, kept, self.filter).middle(crop)
    }

    /// The model's value of every byte in a channel: (byte · factor − mean) / deviation, in f32 as `transformers` computes it.
    pub fn values(&self) -> Values {
        let of = |channel: usize, byte: u8| {
            let scaled = self.rescale.map_or(f64::from(byte), |factor| f64::from(byte) * factor) as f32;
            let own = |[mean, std]: [[f64; CHANNELS]; 2]| (scaled - mean[channel] as f32) / std[channel] as f32;
            self.normalize.map_or(scaled, own)
        };
        Values(std::array::from_fn(|channel| std::array::from_fn(|byte| of(channel, byte as u8))))
    }
}

/// Height and width whose smaller one is `shorter`.
fn in_proportion([height, width]: [usize; 2], shorter: usize) -> [usize; 2] {
    let longer = |long: usize, short: usize| ((shorter as f64 * long as f64) / short as f64) as usize;
    if width <= height { [longer(height, width), shorter] } else { [shorter, longer(width, height)] }
}

/// The model's values of bytes, by channel.
pub struct Values([[f32; 256]; CHANNELS]);

impl Values {
    /// All of them.
    fn all(&self) -> impl Iterator<Item = f32> + '_ {
        self.0.iter().flatten().copied()
    }

    /// The value of a byte of a channel.
    pub fn of(&self, channel: usize, byte: u8) -> f32 {
        self.0.get(channel).map_or(0.0, |bytes| bytes[usize::from(byte)])
    }
}
