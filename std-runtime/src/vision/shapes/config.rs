//! `[shapes]`: images of the generated world instead of files.

use super::labelled::{LabelledShapes, Style, Target};
use crate::config::{Unread, table};

table! {
    /// Labelled images of a generated world of shapes, where data.path names none. An image is a function of the seed, its split and its number.
    pub ShapesConfig {
        /// What is told of an image: "shape" (8), "colour" (8), "shape-colour" (64), "size" (2), "count" (1 to 5 objects), "column" and "row" (an eighth of
        /// the image), "direction" (where a triangle points, 8) or "relation" (where a circle is from a square, 4); absent: images are files.
        target: Option<Target> = None;
        /// How images look: "plain", "inverted" (1 − v for every value), "rotated" (objects turned by 30 degrees), "cluttered" (strokes behind the objects) or
        /// "noisy" (noise of four times the deviation).
        style: Style = Style::Plain;
        /// Training images.
        train: u64 = 800, 1..=1000000000;
        /// Held-out images.
        val: u64 = 200, 0..=1000000000;
        /// Test images, which no training reads.
        test: u64 = 1000, 0..=1000000000;
        /// Seed of the world.
        seed: u64 = 0, 0..=9007199254740992_u64;
    }
    unread: ShapesConfig::unread;
}

impl ShapesConfig {
    /// The images; `None` if they are files.
    pub fn world(&self) -> Option<LabelledShapes> {
        let Self { target, style, train, val, test, seed } = *self;
        Some(LabelledShapes { target: target?, style, seed, counts: [train, val, test] })
    }

    fn unread(&self) -> Vec<Unread> {
        let instead = "it applies with shapes.target";
        let keys = if self.target.is_none() { &["style", "train", "val", "test", "seed"][..] } else { &[] };
        keys.iter().map(|&key| Unread { key, instead }).collect()
    }
}
