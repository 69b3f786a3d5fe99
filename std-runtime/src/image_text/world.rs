//! A generated world of scenes with captions. Pairs are functions of the seed, the split and their number.

use samara_core::math::rng::{Purpose, Rng};

use crate::config::table;
use crate::vision::image::Image;
use crate::vision::shapes::scene::{Given, Look, Scene};

table! {
    /// Images of a generated world of shapes with captions, where data.path names none.
    pub CaptionsConfig {
        /// Training pairs.
        train: u64 = 2000, 2..=1000000000;
        /// Held-out pairs.
        val: u64 = 500, 0..=1000000000;
        /// Objects of a scene, whose places to each other the caption tells.
        objects: usize = 2, 1..=4;
        /// The share of the training images whose caption is that of another scene.
        noise: f64 = 0.0, 0..=1;
        /// Seed of the world.
        seed: u64 = 0, 0..=9007199254740992_u64;
    }
}

/// Which part of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorldSplit {
    /// For training; captions may be wrong.
    Train,
    /// Held out.
    Val,
}

/// The world of a configuration.
#[derive(Clone, Copy, Debug)]
pub struct CaptionWorld {
    objects: usize,
    noise: f64,
    seed: u64,
}

impl CaptionWorld {
    /// The world of a configuration.
    pub fn new(config: &CaptionsConfig) -> Self {
        Self { objects: config.objects, noise: config.noise, seed: config.seed }
    }

    /// A scene, and the source of its noise. Splits are disjoint, whatever their sizes are.
    pub fn scene(&self, split: WorldSplit, row: u64) -> (Scene, Rng) {
        let first = if split == WorldSplit::Train { 0 } else { 1 << 40 };
        let mut rng = Rng::new(self.seed, Purpose::Data, first + row);
        loop {
            let mut scene = Scene::default();
            let given = Given { scale: 1.2, ..Given::default() };
            if (0..self.objects).all(|_| scene.add(&mut rng, &given)) {
                return (scene, rng);
            }
        }
    }

    /// An image of this height and width.
    pub fn image(&self, size: [usize; 2], split: WorldSplit, row: u64) -> Image {
        let (scene, rng) = self.scene(split, row);
        let mut image = Image::black(size);
        let values = image.pixels_mut();
        scene.paint(size, Look::default(), rng, |i, value| values[i] = (255.0 * value).round().clamp(0.0, 255.0) as u8);
        image
    }

    /// The caption of an image; of a share of the training images it is that of a scene without an image.
    pub fn caption(&self, split: WorldSplit, row: u64) -> String {
        const APART: u64 = 1 << 41;
        let is_wrong = split == WorldSplit::Train && Rng::new(self.seed, Purpose::Data, APART + row).uniform_f64() < self.noise;
        let row = if is_wrong { row + (APART << 1) } else { row };
        self.scene(split, row).0.caption()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_captions_is_wrong_and_only_in_training() {
        let world = |noise| CaptionWorld::new(&CaptionsConfig { noise, ..CaptionsConfig::default() });
        let [clean, noisy] = [0.0, 0.3].map(world);
        let own = |world: &CaptionWorld, split, row| world.caption(split, row) == world.scene(split, row).0.caption();
        let wrong = |world: &CaptionWorld, split| (0..400).filter(|&row| !own(world, split, row)).count();
        assert_eq!((wrong(&clean, WorldSplit::Train), wrong(&noisy, WorldSplit::Val)), (0, 0));
        assert!((90..150).contains(&wrong(&noisy, WorldSplit::Train)), "{}", wrong(&noisy, WorldSplit::Train));
        let [train, val] = [WorldSplit::Train, WorldSplit::Val].map(|split| clean.image([16; 2], split, 7));
        assert!(train == clean.image([16; 2], WorldSplit::Train, 7) && train != val);
        assert!(clean.caption(WorldSplit::Val, 1).matches(" a ").count() == 1);
    }
}
