//! Rows of the world for detectors: up to five shapes of two sizes on a noisy ground, with their boxes.

use samara_core::math::rng::{Purpose, Rng};

use super::scene::{Given, Look, Scene};
use crate::data::DataError;
use crate::data::dataset::{Dataset, HostBatch};

/// The mean and the standard deviation by which pixels from 0 to 1 are normalised, of every channel.
pub const NORMALIZE: [[f64; 3]; 2] = [[0.45; 3], [0.25; 3]];

/// The most shapes of an image.
pub const MOST_SHAPES: usize = 5;

/// Images of shapes: `pixel_values` (B, side, side, 3), from about −2 to 2; `class_labels` (B, M), −1 after the last object; `boxes` (B, M, 4) as (center x,
/// center y, width, height) relative to the image. M is [`MOST_SHAPES`].
#[derive(Clone, Copy, Debug)]
pub struct ShapesWorld {
    /// Height and width in pixels.
    pub side: usize,
    /// The first image of the world, and how many there are: worlds of other images than these are disjoint from it.
    pub first: u64,
    /// Images.
    pub len: u64,
    /// Seed of everything.
    pub seed: u64,
}

impl ShapesWorld {
    /// The objects of an image, and the source of its noise.
    fn image(&self, row: u64) -> (Scene, Rng) {
        let mut rng = Rng::new(self.seed, Purpose::Data, self.first + row);
        let count = 1 + rng.below(MOST_SHAPES as u64) as usize;
        let mut scene = Scene::default();
        for _ in 0..count {
            scene.add(&mut rng, &Given::default());
        }
        (scene, rng)
    }
}

impl Dataset for ShapesWorld {
    fn len(&self) -> u64 {
        self.len
    }

    fn batch(&self, rows: usize) -> HostBatch {
        let batch = HostBatch::new(rows).with_reals("pixel_values", self.side * self.side * 3);
        batch.with_reals("boxes", 4 * MOST_SHAPES).with_ints("class_labels", MOST_SHAPES)
    }

    fn fill(&self, rows: &[u64], into: &mut HostBatch) -> Result<(), DataError> {
        into.tokens = rows.len() as u64;
        let images: Vec<(Scene, Rng)> = rows.iter().map(|&row| self.image(row)).collect();
        let [classes] = into.ints_mut(["class_labels"]);
        classes.fill(-1);
        for (to, (scene, _)) in classes.chunks_mut(MOST_SHAPES).zip(&images) {
            to.iter_mut().zip(&scene.objects).for_each(|(to, object)| *to = object.shape as i32);
        }
        let [pixels, boxes] = into.reals_mut(["pixel_values", "boxes"]);
        pixels.fill(0.0);
        boxes.fill(0.0);
        let places = pixels.chunks_mut(self.side * self.side * 3).zip(boxes.chunks_mut(4 * MOST_SHAPES));
        for ((pixels, boxes), (scene, rng)) in places.zip(images) {
            boxes.chunks_mut(4).zip(&scene.objects).for_each(|(to, object)| to.copy_from_slice(&object.to_box()));
            scene.paint([self.side; 2], Look::default(), rng, |i, value| pixels[i] = (value - 0.45) / 0.25);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORLD: ShapesWorld = ShapesWorld { side: 48, first: 0, len: 100, seed: 7 };

    #[test]
    fn an_image_depends_on_its_number_alone_and_worlds_are_disjoint() {
        let fill = |world: ShapesWorld, rows: &[u64]| {
            let mut batch = world.batch(3);
            world.fill(rows, &mut batch).unwrap();
            batch
        };
        let (first, again) = (fill(WORLD, &[4, 9]), fill(WORLD, &[9, 4, 5]));
        let len = 48 * 48 * 3;
        assert_eq!(first.reals("pixel_values")[..len], again.reals("pixel_values")[len..2 * len]);
        assert_eq!(first.ints("class_labels")[..5], again.ints("class_labels")[5..10]);
        assert_eq!((first.tokens, &first.ints("class_labels")[10..]), (2, &[-1; 5][..]));
        let later = fill(ShapesWorld { first: 9, ..WORLD }, &[0]);
        assert_eq!(later.reals("boxes")[..20], first.reals("boxes")[20..40]);
    }

    /// Every side of a box touches pixels of its shape, and none beyond it.
    #[test]
    fn boxes_are_tight() {
        for row in 0..100 {
            let (scene, _) = WORLD.image(row);
            assert!((1..=MOST_SHAPES).contains(&scene.objects.len()));
            for shape in scene.objects {
                let [x, y, width, height] = shape.to_box();
                assert!(x - width / 2.0 >= -1e-6 && y + height / 2.0 <= 1.0 + 1e-6);
                let steps = || (0..=200).map(|i| i as f32 / 200.0);
                let inside = |x: f32, y: f32| shape.contains([x, y]);
                let columns: Vec<f32> = steps().filter(|&x| steps().any(|y| inside(x, y))).collect();
                let (first, last) = (columns[0], columns[columns.len() - 1]);
                assert!((first - (x - width / 2.0)).abs() < 0.011 && (last - (x + width / 2.0)).abs() < 0.011, "{shape:?}");
            }
        }
    }
}
