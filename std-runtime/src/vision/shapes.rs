//! A generated world to detect objects in: coloured shapes of two sizes on a noisy background. A row is a function of the seed and its index.

use samara_core::math::rng::{Purpose, Rng};

use crate::data::DataError;
use crate::data::dataset::{Dataset, HostBatch};

/// The classes.
pub const SHAPES: [&str; 8] = ["circle", "square", "triangle", "diamond", "cross", "ring", "bar", "column"];

/// The most shapes of an image.
pub const MOST_SHAPES: usize = 5;

/// Red, green and blue, from 0 to 1.
const COLOURS: [[f32; 3]; 8] = [
    [0.9, 0.1, 0.1],
    [0.1, 0.8, 0.1],
    [0.15, 0.25, 0.95],
    [0.95, 0.9, 0.1],
    [0.85, 0.15, 0.85],
    [0.1, 0.85, 0.85],
    [0.95, 0.55, 0.1],
    [0.95, 0.95, 0.95],
];

/// Half of the extents of a small and of a large shape, over the side of the image.
const HALF: [[f32; 2]; 2] = [[0.07, 0.10], [0.13, 0.18]];

/// How often a place is sought for a shape that would cover others.
const TRIALS: usize = 20;

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

/// A shape in an image.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Shape {
    class: usize,
    colour: [f32; 3],
    /// Center and half extents, relative to the image.
    center: [f32; 2],
    half: [f32; 2],
}

impl Shape {
    fn new(rng: &mut Rng) -> Self {
        let class = rng.below(SHAPES.len() as u64) as usize;
        let colour = COLOURS[rng.below(COLOURS.len() as u64) as usize];
        let [low, high] = HALF[rng.below(2) as usize];
        let r = low + (high - low) * rng.uniform_f32();
        // Of bars and columns one side is much the longer one.
        let half = match SHAPES[class] {
            "bar" => [r, 0.4 * r],
            "column" => [0.4 * r, r],
            _ => [r, r],
        };
        let center = half.map(|half| half + (1.0 - 2.0 * half) * rng.uniform_f32());
        Self { class, colour, center, half }
    }

    /// Whether the boxes of two shapes share more than a little.
    fn covers(&self, other: &Self) -> bool {
        let shared = |axis: usize| {
            let ends = (self.center[axis] + self.half[axis]).min(other.center[axis] + other.half[axis]);
            (ends - (self.center[axis] - self.half[axis]).max(other.center[axis] - other.half[axis])).max(0.0)
        };
        let area = |shape: &Self| 4.0 * shape.half[0] * shape.half[1];
        shared(0) * shared(1) > 0.15 * area(self).min(area(other))
    }

    /// Whether a place, relative to the image, belongs to the shape.
    fn contains(&self, at: [f32; 2]) -> bool {
        let [x, y] = [0, 1].map(|axis| (at[axis] - self.center[axis]) / self.half[axis]);
        let square = x * x + y * y;
        x.abs() <= 1.0
            && y.abs() <= 1.0
            && match SHAPES[self.class] {
                "circle" => square <= 1.0,
                "triangle" => 2.0 * x.abs() <= y + 1.0,
                "diamond" => x.abs() + y.abs() <= 1.0,
                "cross" => x.abs().min(y.abs()) <= 0.34,
                "ring" => (0.3..=1.0).contains(&square),
                _ => true,
            }
    }

    fn to_box(self) -> [f32; 4] {
        [self.center[0], self.center[1], 2.0 * self.half[0], 2.0 * self.half[1]]
    }
}

impl ShapesWorld {
    /// The shapes of an image, from back to front, and the source of its noise.
    fn image(&self, row: u64) -> (Vec<Shape>, Rng) {
        let mut rng = Rng::new(self.seed, Purpose::Data, self.first + row);
        let count = 1 + rng.below(MOST_SHAPES as u64) as usize;
        let mut shapes: Vec<Shape> = Vec::new();
        for _ in 0..count {
            let free = (0..TRIALS).map(|_| Shape::new(&mut rng)).find(|shape| !shapes.iter().any(|other| shape.covers(other)));
            shapes.extend(free);
        }
        (shapes, rng)
    }

    fn paint(&self, shapes: &[Shape], mut rng: Rng, pixels: &mut [f32]) {
        let side = self.side as f32;
        let ground: [f32; 3] = std::array::from_fn(|_| 0.1 + 0.4 * rng.uniform_f32());
        for (i, pixel) in pixels.chunks_exact_mut(3).enumerate() {
            let at = [(i % self.side) as f32 + 0.5, (i / self.side) as f32 + 0.5].map(|x| x / side);
            let colour = shapes.iter().rev().find(|shape| shape.contains(at)).map_or(ground, |shape| shape.colour);
            for (to, value) in pixel.iter_mut().zip(colour) {
                *to = (value + 0.06 * rng.normal_f64() as f32 - 0.45) / 0.25;
            }
        }
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
        let images: Vec<(Vec<Shape>, Rng)> = rows.iter().map(|&row| self.image(row)).collect();
        let [classes] = into.ints_mut(["class_labels"]);
        classes.fill(-1);
        for (to, (shapes, _)) in classes.chunks_mut(MOST_SHAPES).zip(&images) {
            to.iter_mut().zip(shapes).for_each(|(to, shape)| *to = shape.class as i32);
        }
        let [pixels, boxes] = into.reals_mut(["pixel_values", "boxes"]);
        pixels.fill(0.0);
        boxes.fill(0.0);
        let places = pixels.chunks_mut(self.side * self.side * 3).zip(boxes.chunks_mut(4 * MOST_SHAPES));
        for ((pixels, boxes), (shapes, rng)) in places.zip(images) {
            boxes.chunks_mut(4).zip(&shapes).for_each(|(to, shape)| to.copy_from_slice(&shape.to_box()));
            self.paint(&shapes, rng, pixels);
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
            let (shapes, _) = WORLD.image(row);
            assert!((1..=MOST_SHAPES).contains(&shapes.len()));
            for shape in shapes {
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
