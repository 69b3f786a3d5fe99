//! Changes of a training image with boxes: what is drawn for it, and where its boxes go. All of it is a function of (seed, index), where the index counts
//! images through all epochs.

use samara_core::math::rng::{Purpose, Rng};

use super::config::BoxAugmentConfig;
use super::list::Object;
use crate::vision::data::augment::{Rect, View};

/// Draws for images.
#[derive(Clone, Debug)]
pub struct BoxAugment {
    /// The configuration.
    pub config: BoxAugmentConfig,
    /// The seed of the run.
    pub seed: u64,
}

/// What becomes of one image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BoxView {
    /// The part of the stored image, mirrored and coloured.
    pub view: View,
    /// Height and width of the result.
    pub size: [usize; 2],
    /// The part relative to the image: its left upper corner (x, y) and its extents (width, height).
    part: [f32; 4],
}

impl BoxAugment {
    /// The view of a stored image of this size in a square of `side` pixels: crop, mirror, resize.
    pub fn view(&self, index: u64, stored: [usize; 2], side: usize) -> BoxView {
        let c = &self.config;
        let mut rng = Rng::new(self.seed, Purpose::Augment, index);
        let flip = c.flip && rng.next_u32() & 1 == 1;
        let crops = c.crop > 0.0 && rng.uniform_f64() < c.crop;
        let crop = if crops { crop(&mut rng, stored, c.crop_side) } else { Rect::all(stored) };
        let scale = if c.min_scale < 1.0 { c.min_scale + (1.0 - c.min_scale) * rng.uniform_f64() } else { 1.0 };
        let change = |rng: &mut Rng| (1.0 + c.jitter * (2.0 * rng.uniform_f64() - 1.0)) as f32;
        let jitter = if c.jitter > 0.0 { [(); 3].map(|()| change(&mut rng)) } else { [1.0; 3] };
        BoxView::new(View { crop, flip, jitter }, stored, (side as f64 * scale).round().max(1.0) as usize)
    }
}

impl BoxView {
    /// The view of a stored image of this size, resized so that its longer side is `longer`.
    pub fn new(view: View, [height, width]: [usize; 2], longer: usize) -> Self {
        let Rect { top, left, height: rows, width: columns } = view.crop;
        let factor = longer as f64 / rows.max(columns).max(1) as f64;
        let size = [rows, columns].map(|side| ((side as f64 * factor).round() as usize).clamp(1, longer.max(1)));
        let part =
            [left as f32 / width as f32, top as f32 / height as f32, columns as f32 / width as f32, rows as f32 / height as f32];
        Self { view, size, part }
    }

    /// An object of the image in the view: cut at its edges; `None` outside of it.
    pub fn object(&self, object: &Object) -> Option<Object> {
        let [cx, cy, width, height] = object.place;
        let [x, y, wide, high] = self.part;
        let along = |centre: f32, extent: f32, from: f32, all: f32| {
            let ends = [centre - extent / 2.0, centre + extent / 2.0].map(|end| ((end - from) / all).clamp(0.0, 1.0));
            (ends[1] > ends[0]).then_some([(ends[0] + ends[1]) / 2.0, ends[1] - ends[0]])
        };
        let ([cx, width], [cy, height]) = (along(cx, width, x, wide)?, along(cy, height, y, high)?);
        let cx = if self.view.flip { 1.0 - cx } else { cx };
        // A sliver whose area is 0 in f32 cannot be matched.
        (width * height > 0.0).then_some(Object { place: [cx, cy, width, height], ..*object })
    }
}

/// A part with sides of at least a share of the image's.
fn crop(rng: &mut Rng, [height, width]: [usize; 2], least: f64) -> Rect {
    let mut along = |all: usize| {
        let share = least + (1.0 - least) * rng.uniform_f64();
        let side = ((all as f64 * share).round() as usize).clamp(1, all.max(1));
        (rng.below((all - side.min(all)) as u64 + 1) as usize, side)
    };
    let ((top, height), (left, width)) = (along(height), along(width));
    Rect { top, left, height, width }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(place: [f32; 4]) -> Object {
        Object { class: 1, place }
    }

    #[test]
    fn boxes_follow_the_pixels_of_crops_and_mirrors() {
        let crop = Rect { top: 10, left: 20, height: 20, width: 40 };
        let view = |flip| BoxView::new(View { crop, flip, jitter: [1.0; 3] }, [40, 80], 80);
        assert_eq!(view(false).size, [40, 80]);
        // A box from (10, 5) to (40, 20) in pixels: from (0, 0) to (20, 10) in the crop.
        let whole = object([25.0 / 80.0, 12.5 / 40.0, 30.0 / 80.0, 15.0 / 40.0]);
        let close = |found: [f32; 4], expected: [f32; 4]| found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(close(view(false).object(&whole).unwrap().place, [0.25, 0.25, 0.5, 0.5]));
        assert!(close(view(true).object(&whole).unwrap().place, [0.75, 0.25, 0.5, 0.5]));
        assert_eq!(view(false).object(&object([0.1, 0.1, 0.1, 0.1])), None);
    }

    #[test]
    fn a_view_is_a_function_of_seed_and_index() {
        let config = BoxAugmentConfig { min_scale: 0.6, crop: 0.5, ..BoxAugmentConfig::default() };
        let augment = BoxAugment { config, seed: 3 };
        let views: Vec<BoxView> = (0..200).map(|index| augment.view(index, [48, 64], 64)).collect();
        assert_eq!(augment.view(7, [48, 64], 64), views[7]);
        let count = |of: &dyn Fn(&BoxView) -> bool| views.iter().filter(|view| of(view)).count();
        assert!(
            (60..140).contains(&count(&|view| view.view.flip))
                && (60..140).contains(&count(&|view| view.part == [0.0, 0.0, 1.0, 1.0]))
        );
        assert!(views.iter().all(|view| view.size.iter().max().is_some_and(|&longer| (38..=64).contains(&longer))));
    }
}
