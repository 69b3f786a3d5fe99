//! Changes of a training image: what is drawn for it, and how its pixels are computed. All of it is a function of (seed, index), where the index counts
//! images through all epochs.

use samara_core::math::rng::{Purpose, Rng};

use super::rand_augment::rand_augment;
use crate::vision::config::AugmentConfig;
use crate::vision::image::CHANNELS;

/// A rectangle in pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rect {
    /// Rows above it.
    pub top: usize,
    /// Columns to its left.
    pub left: usize,
    /// Its rows.
    pub height: usize,
    /// Its columns.
    pub width: usize,
}

impl Rect {
    /// A whole image.
    pub fn all([height, width]: [usize; 2]) -> Self {
        Self { top: 0, left: 0, height, width }
    }

    /// Its number of pixels.
    pub fn area(&self) -> usize {
        self.height * self.width
    }

    fn contains(&self, y: usize, x: usize) -> bool {
        (self.top..self.top + self.height).contains(&y) && (self.left..self.left + self.width).contains(&x)
    }
}

/// What is done with one image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct View {
    /// The part of the stored image that remains.
    pub crop: Rect,
    /// Left is right.
    pub flip: bool,
    /// Factors of brightness, contrast and saturation.
    pub jitter: [f32; 3],
}

/// What another image does to an image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mix {
    /// The image has this share of every pixel.
    Share(f32),
    /// The other image fills a rectangle.
    Fill(Rect),
}

impl Mix {
    /// The share of the image itself in the target.
    pub fn share(&self, size: [usize; 2]) -> f32 {
        match self {
            Self::Share(share) => *share,
            Self::Fill(rect) => 1.0 - rect.area() as f32 / Rect::all(size).area().max(1) as f32,
        }
    }
}

/// Draws for images.
#[derive(Clone, Debug)]
pub struct Augment {
    /// The configuration.
    pub config: AugmentConfig,
    /// The seed of the run.
    pub seed: u64,
}

/// Streams of one index: those of the image, and of the one that is mixed in.
const STREAMS: u64 = 2;

impl Augment {
    /// The random numbers of an image, and of what is mixed into it.
    pub fn rng(&self, index: u64, other: bool) -> Rng {
        Rng::new(self.seed, Purpose::Augment, index.wrapping_mul(STREAMS).wrapping_add(u64::from(other)))
    }

    /// The view of a stored image of this size.
    pub fn view(&self, rng: &mut Rng, stored: [usize; 2]) -> View {
        let c = &self.config;
        let crop = if c.crop_area < 1.0 { crop(rng, stored, c.crop_area) } else { Rect::all(stored) };
        let flip = c.flip && rng.next_u32() & 1 == 1;
        let jitter =
            if c.jitter > 0.0 { [(); 3].map(|()| (1.0 + c.jitter * (2.0 * rng.uniform_f64() - 1.0)) as f32) } else { [1.0; 3] };
        View { crop, flip, jitter }
    }

    /// RandAugment's operations on pixels (H, W, 3), if there are any; `bytes` is room for them.
    pub fn operations(&self, rng: &mut Rng, size: [usize; 2], pixels: &mut [f32], bytes: &mut [Vec<u8>; 2]) {
        if self.config.rand_augment > 0.0 {
            rand_augment(rng, self.config.rand_augment, size, pixels, bytes);
        }
    }

    /// The rectangle of noise in an image, if it gets one: 2 to 33 % of its area, with an aspect ratio from 3/10 to 10/3.
    pub fn erased(&self, rng: &mut Rng, size: [usize; 2]) -> Option<Rect> {
        if self.config.erase == 0.0 || rng.uniform_f64() >= self.config.erase {
            return None;
        }
        (0..ATTEMPTS).find_map(|_| rect(rng, size, [0.02, 0.33], 10.0 / 3.0))
    }

    /// What another image does to an image, if something is mixed in.
    pub fn mix(&self, rng: &mut Rng, size: [usize; 2]) -> Option<Mix> {
        let c = &self.config;
        let cuts = match (c.mixup > 0.0, c.cutmix > 0.0) {
            (false, false) => return None,
            (true, true) => rng.next_u32() & 1 == 1,
            (_, cuts) => cuts,
        };
        let share = beta(rng, if cuts { c.cutmix } else { c.mixup });
        Some(if cuts { Mix::Fill(filled(rng, size, share)) } else { Mix::Share(share as f32) })
    }
}

/// Attempts to draw a rectangle that fits.
const ATTEMPTS: u32 = 10;

/// The part of an image that remains, as torchvision's `RandomResizedCrop` draws it.
fn crop(rng: &mut Rng, size: [usize; 2], least: f64) -> Rect {
    (0..ATTEMPTS).find_map(|_| rect(rng, size, [least, 1.0], 4.0 / 3.0)).unwrap_or_else(|| Rect::all(size))
}

/// A rectangle with a share of an image's area between two shares, and an aspect ratio up to `aspect` either way; `None` if it does not fit.
fn rect(rng: &mut Rng, [height, width]: [usize; 2], [least, most]: [f64; 2], aspect: f64) -> Option<Rect> {
    let area = (height * width) as f64 * (least + (most - least) * rng.uniform_f64());
    let ratio = ((2.0 * rng.uniform_f64() - 1.0) * aspect.ln()).exp();
    let [w, h] = [(area * ratio).sqrt(), (area / ratio).sqrt()].map(|side| (side.round() as usize).max(1));
    let places = |all: usize, side: usize| Some(all.checked_sub(side)? as u64 + 1);
    let (rows, columns) = (places(height, h)?, places(width, w)?);
    Some(Rect { top: rng.below(rows) as usize, left: rng.below(columns) as usize, height: h, width: w })
}

/// CutMix's rectangle: its sides are √(1 − share) of the image's, its centre anywhere, cut at the edges.
fn filled(rng: &mut Rng, [height, width]: [usize; 2], share: f64) -> Rect {
    let side = (1.0 - share).max(0.0).sqrt();
    let mut along = |all: usize| {
        let (centre, half) = (rng.below(all.max(1) as u64) as i64, (all as f64 * side / 2.0) as i64);
        let [from, to] = [centre - half, centre + half].map(|at| at.clamp(0, all as i64) as usize);
        (from, to - from)
    };
    let ((top, height), (left, width)) = (along(height), along(width));
    Rect { top, left, height, width }
}

/// A number from Beta(α, α) with 0 < α ≤ 1 (Jöhnk 1964).
fn beta(rng: &mut Rng, alpha: f64) -> f64 {
    loop {
        let [u, v] = [(); 2].map(|()| rng.uniform_f64().powf(1.0 / alpha));
        let sum = u + v;
        if sum > 0.0 && sum <= 1.0 {
            return u / sum;
        }
    }
}

impl View {
    /// Writes the view of a stored image (h, w, 3) into pixels (H, W, 3) of values from 0 to 255: bilinear where sizes differ.
    pub fn draw(&self, stored: &[u8], stored_width: usize, [height, width]: [usize; 2], to: &mut [f32]) {
        let Rect { top, left, height: rows, width: columns } = self.crop;
        let down = rows as f32 / height as f32;
        let across = columns as f32 / width as f32;
        for (y, line) in to.chunks_exact_mut((width * CHANNELS).max(1)).enumerate() {
            let [y0, y1, v] = between(y, down, rows);
            for (x, pixel) in line.chunks_exact_mut(CHANNELS).enumerate() {
                let [x0, x1, w] = between(if self.flip { width - 1 - x } else { x }, across, columns);
                let at = |y: f32, x: f32, c: usize| {
                    let place = ((top + y as usize) * stored_width + left + x as usize) * CHANNELS + c;
                    stored.get(place).copied().map_or(0.0, f32::from)
                };
                for (c, value) in pixel.iter_mut().enumerate() {
                    let [above, below] = [y0, y1].map(|y| at(y, x0, c) * (1.0 - w) + at(y, x1, c) * w);
                    *value = above * (1.0 - v) + below * v;
                }
            }
        }
        self.colour(to);
    }

    /// Brightness, contrast around the mean grey, saturation around each pixel's grey, as torchvision defines them.
    fn colour(&self, pixels: &mut [f32]) {
        let [brightness, contrast, saturation] = self.jitter;
        if self.jitter == [1.0; 3] {
            return;
        }
        let grey = |pixel: &[f32]| 0.299 * pixel[0] + 0.587 * pixel[1] + 0.114 * pixel[2];
        pixels.iter_mut().for_each(|value| *value = (*value * brightness).clamp(0.0, 255.0));
        let count = (pixels.len() / CHANNELS).max(1) as f32;
        let mean = pixels.chunks_exact(CHANNELS).map(grey).sum::<f32>() / count;
        pixels.iter_mut().for_each(|value| *value = (mean + (*value - mean) * contrast).clamp(0.0, 255.0));
        for pixel in pixels.chunks_exact_mut(CHANNELS) {
            let own = grey(pixel);
            pixel.iter_mut().for_each(|value| *value = (own + (*value - own) * saturation).clamp(0.0, 255.0));
        }
    }
}

/// The two source pixels around the centre of pixel `i`, and the weight of the second.
fn between(i: usize, scale: f32, len: usize) -> [f32; 3] {
    let at = ((i as f32 + 0.5) * scale - 0.5).clamp(0.0, len.saturating_sub(1) as f32);
    let first = at.floor();
    [first, (first + 1.0).min(len.saturating_sub(1) as f32), at - first]
}

/// Fills a rectangle of pixels (H, W, 3) with noise from 0 to 255.
pub fn erase(rng: &mut Rng, rect: Rect, width: usize, pixels: &mut [f32]) {
    for (i, pixel) in pixels.chunks_exact_mut(CHANNELS).enumerate() {
        if rect.contains(i / width.max(1), i % width.max(1)) {
            pixel.iter_mut().for_each(|value| *value = 255.0 * rng.uniform_f32());
        }
    }
}

/// Mixes pixels (H, W, 3) of another image into those of an image.
pub fn blend(mix: Mix, width: usize, other: &[f32], pixels: &mut [f32]) {
    let pairs = pixels.chunks_exact_mut(CHANNELS).zip(other.chunks_exact(CHANNELS)).enumerate();
    for (i, (to, from)) in pairs {
        match mix {
            Mix::Share(share) => to.iter_mut().zip(from).for_each(|(to, from)| *to = share * *to + (1.0 - share) * from),
            Mix::Fill(rect) if rect.contains(i / width.max(1), i % width.max(1)) => to.copy_from_slice(from),
            Mix::Fill(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn augment(config: AugmentConfig) -> Augment {
        Augment { config, seed: 3 }
    }

    #[test]
    fn without_settings_an_image_stays_as_it_is() {
        let none = augment(AugmentConfig::default());
        let view = none.view(&mut none.rng(5, false), [2, 3]);
        let stored: Vec<u8> = (0..18).collect();
        let mut pixels = [0.0; 18];
        view.draw(&stored, 3, [2, 3], &mut pixels);
        assert_eq!(pixels.map(|x| x as u8)[..], stored);
        assert_eq!((none.mix(&mut none.rng(5, false), [2, 3]), none.erased(&mut none.rng(5, false), [2, 3])), (None, None));
        let flipped = View { flip: true, ..view };
        flipped.draw(&stored, 3, [2, 3], &mut pixels);
        assert_eq!(pixels.map(|x| x as u8)[..9], [6, 7, 8, 3, 4, 5, 0, 1, 2]);
    }

    #[test]
    fn crops_are_inside_and_follow_seed_and_index() {
        let crops = augment(AugmentConfig { crop_area: 0.3, ..AugmentConfig::default() });
        let of = |index| crops.view(&mut crops.rng(index, false), [40, 30]).crop;
        let mut shares = Vec::new();
        for index in 0..500 {
            let Rect { top, left, height, width } = of(index);
            assert!(top + height <= 40 && left + width <= 30 && height > 0 && width > 0);
            shares.push((height * width) as f64 / 1200.0);
            assert_eq!(of(index), of(index));
        }
        assert!(shares.iter().all(|&share| share > 0.28), "{shares:?}");
        let mean = shares.iter().sum::<f64>() / 500.0;
        assert!((0.5..0.75).contains(&mean), "{mean}");
        assert_ne!(of(1), of(2));
    }

    #[test]
    fn shares_of_mixtures_are_those_of_their_pixels() {
        for config in [
            AugmentConfig { mixup: 0.4, ..AugmentConfig::default() },
            AugmentConfig { cutmix: 1.0, ..AugmentConfig::default() },
            AugmentConfig { mixup: 1.0, cutmix: 0.5, ..AugmentConfig::default() },
        ] {
            let augment = augment(config);
            let mut sum = 0.0;
            for index in 0..400 {
                let mix = augment.mix(&mut augment.rng(index, false), [8, 10]).unwrap();
                let mut pixels = [100.0; 240];
                blend(mix, 10, &[0.0; 240], &mut pixels);
                let share = pixels.iter().sum::<f32>() / 24_000.0;
                assert!((share - mix.share([8, 10])).abs() < 1e-5);
                sum += share;
            }
            // Rectangles are cut at the edges, so that more than half remains on average.
            assert!((0.4..0.85).contains(&(sum / 400.0)), "{sum}");
        }
    }

    #[test]
    fn grey_has_no_saturation_and_erasing_keeps_the_rest() {
        let view = View { crop: Rect::all([1, 2]), flip: false, jitter: [0.5, 1.0, 0.0] };
        let mut pixels = [0.0; 6];
        view.draw(&[200, 200, 200, 100, 0, 0], 2, [1, 2], &mut pixels);
        assert!((pixels[0] - 100.0).abs() < 1e-3 && (pixels[3] - pixels[5]).abs() < 1e-3, "{pixels:?}");
        let all = augment(AugmentConfig { erase: 1.0, ..AugmentConfig::default() });
        let mut rng = all.rng(0, false);
        let rect = all.erased(&mut rng, [20, 20]).unwrap();
        let mut pixels = [-1.0; 1200];
        erase(&mut rng, rect, 20, &mut pixels);
        assert_eq!(pixels.iter().filter(|&&x| x >= 0.0).count(), rect.area() * 3);
        assert!((0.01..0.35).contains(&(rect.area() as f64 / 400.0)));
    }
}
