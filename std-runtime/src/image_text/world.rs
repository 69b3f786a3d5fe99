//! A generated world of scenes with captions. Pairs are functions of the seed, the split and their number.

use std::collections::HashSet;
use std::sync::Arc;

use samara_core::math::rng::{Purpose, Rng};

use crate::config::{Unread, table};
use crate::vision::image::Image;
use crate::vision::shapes::captions::{Change, Description};
use crate::vision::shapes::scene::{Given, Look, Scene};

table! {
    /// Images of a generated world of shapes with captions, where data.path names none.
    pub CaptionsConfig {
        /// Training pairs.
        train: u64 = 2000, 2..=1000000000;
        /// Held-out pairs, whose captions differ from each other while there are enough different ones.
        val: u64 = 500, 0..=1000000;
        /// Objects of a scene, whose places to each other the caption tells.
        objects: usize = 2, 1..=4;
        /// The share of the words that are other ones of the same meaning: scarlet or crimson for red, disc for circle.
        synonyms: f64 = 0.0, 0..=1;
        /// The share of the training images whose caption is that of another scene.
        noise: f64 = 0.0, 0..=1;
        /// The share of the training captions that do not tell of one of the objects.
        incomplete: f64 = 0.0, 0..=1;
        /// Seed of the world.
        seed: u64 = 0, 0..=9007199254740992_u64;
    }
    unread: CaptionsConfig::unread;
}

impl CaptionsConfig {
    fn unread(&self) -> Vec<Unread> {
        let alone = Unread { key: "incomplete", instead: "a caption of one object has none to leave out; set captions.objects" };
        if self.objects < 2 { vec![alone] } else { Vec::new() }
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

/// A caption that is false of an image, and almost its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HardNegative {
    /// How it differs from the image's caption.
    pub change: Change,
    /// The caption.
    pub caption: String,
}

/// The world of a configuration.
#[derive(Clone, Debug)]
pub struct CaptionWorld {
    config: CaptionsConfig,
    /// For every held-out row, which of its scenes has a caption that no earlier row has.
    attempts: Arc<[u64]>,
    /// Held-out rows with the caption of an earlier one.
    repeated: usize,
}

/// Streams of random numbers: the second half of rows, of held-out rows, of further scenes, of words, of what captions lack, of false captions.
const HELD_OUT: u64 = 1 << 40;
const WRONG: u64 = 1 << 41;
const WORDS: u64 = 1 << 43;
const LACKING: u64 = 1 << 44;
const FALSE: u64 = 1 << 45;
/// Scenes of a held-out row are so far apart.
const ATTEMPT: u64 = 1 << 46;
/// Scenes that a held-out row can have.
const MOST_ATTEMPTS: u64 = 100;
/// False captions of an image.
const NEGATIVES: usize = 4;

impl CaptionWorld {
    /// The world of a configuration.
    pub fn new(config: &CaptionsConfig) -> Self {
        let mut world = Self { config: config.clone(), attempts: Arc::default(), repeated: 0 };
        let (mut known, mut attempts, mut repeated) = (HashSet::new(), Vec::new(), 0);
        for row in 0..config.val {
            let mut fresh =
                |attempt: &u64| known.insert(world.said(&world.drawn(HELD_OUT + row, *attempt), HELD_OUT + row).text());
            let attempt = (0..MOST_ATTEMPTS).find(|attempt| fresh(attempt));
            repeated += usize::from(attempt.is_none());
            attempts.push(attempt.unwrap_or(0));
        }
        (world.attempts, world.repeated) = (attempts.into(), repeated);
        world
    }

    /// Held-out rows with the caption of an earlier one.
    pub fn repeated(&self) -> usize {
        self.repeated
    }

    /// A scene, and the source of its noise. Splits are disjoint, whatever their sizes are.
    pub fn scene(&self, split: WorldSplit, row: u64) -> (Scene, Rng) {
        match split {
            WorldSplit::Train => self.drawn(row, 0),
            WorldSplit::Val => self.drawn(HELD_OUT + row, self.attempts.get(row as usize).copied().unwrap_or(0)),
        }
    }

    fn drawn(&self, number: u64, attempt: u64) -> (Scene, Rng) {
        let mut rng = Rng::new(self.config.seed, Purpose::Data, number + attempt * ATTEMPT);
        loop {
            let mut scene = Scene::default();
            let given = Given { scale: 1.2, ..Given::default() };
            if (0..self.config.objects).all(|_| scene.add(&mut rng, &given)) {
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

    /// The caption of an image. Of a share of the training images it is that of a scene without an image; of another share it lacks an object.
    pub fn caption(&self, split: WorldSplit, row: u64) -> String {
        if split == WorldSplit::Val {
            return self.said(&self.scene(split, row), HELD_OUT + row).text();
        }
        let drawn = |stream: u64| Rng::new(self.config.seed, Purpose::Data, stream + row);
        let is_wrong = drawn(WRONG).uniform_f64() < self.config.noise;
        let (mut scene, rng) = self.drawn(if is_wrong { row + (WRONG << 1) } else { row }, 0);
        let mut lacking = drawn(LACKING);
        if self.config.objects > 1 && lacking.uniform_f64() < self.config.incomplete {
            scene.objects.remove(lacking.below(scene.objects.len() as u64) as usize);
        }
        self.said(&(scene, rng), row).text()
    }

    /// Captions that are false of an image, at most four: one with colours exchanged and one with sides exchanged, where the scene allows them, and others with
    /// one changed attribute.
    pub fn hard_negatives(&self, split: WorldSplit, row: u64) -> Vec<HardNegative> {
        let number = if split == WorldSplit::Train { row } else { HELD_OUT + row };
        let scene = self.scene(split, row);
        let own = self.said(&scene, number);
        let mut rng = Rng::new(self.config.seed, Purpose::Data, FALSE + number);
        let mut negatives: Vec<HardNegative> = Vec::with_capacity(NEGATIVES);
        for change in [Change::Colours, Change::Sides].into_iter().chain([Change::Attribute; MOST_ATTEMPTS as usize]) {
            let changed = (0..NEGATIVES).filter_map(|_| own.changed(change, &mut rng));
            let mut wrong = changed.filter(|said| !said.can_be_said_of(&scene.0.objects)).map(|said| said.text());
            let fresh = wrong.find(|caption| negatives.iter().all(|other| other.caption != *caption));
            negatives.extend(fresh.map(|caption| HardNegative { change, caption }));
            if negatives.len() == NEGATIVES {
                break;
            }
        }
        negatives
    }

    /// What is said of a scene with the words of a row.
    fn said(&self, (scene, _): &(Scene, Rng), number: u64) -> Description {
        let mut words = Rng::new(self.config.seed, Purpose::Data, WORDS + number);
        Description::of(&scene.objects, self.config.synonyms, &mut words).expect("a scene has an object")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::{WordPieceOptions, WordPieceTrainer};

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
    /// Objects that words tell of, with size, colour and shape by number, and sides of the first from the others, read from the text alone.
    fn read(caption: &str) -> (Vec<[usize; 3]>, Vec<&str>) {
        const MEANINGS: [&[&[&str]]; 3] = [
            &[&["small", "little", "tiny"], &["large", "big", "huge"]],
            &[
                &["red", "scarlet", "crimson"],
                &["green", "emerald"],
                &["blue", "azure", "navy"],
                &["yellow", "golden"],
                &["magenta", "fuchsia"],
                &["cyan", "turquoise"],
                &["orange", "amber"],
                &["white", "ivory"],
            ],
            &[
                &["circle", "disc", "dot"],
                &["square", "block"],
                &["triangle", "wedge"],
                &["diamond", "rhombus"],
                &["cross", "plus"],
                &["ring", "hoop"],
                &["bar", "beam"],
                &["column", "pillar"],
            ],
        ];
        let (mut objects, mut sides) = (Vec::new(), Vec::new());
        let mut words = caption.split(' ').filter(|word| !["of", "and"].contains(word));
        while let Some(word) = words.next() {
            if ["a", "an"].contains(&word) {
                let number = |part: usize, word: &str| MEANINGS[part].iter().position(|words| words.contains(&word)).unwrap();
                objects.push([0, 1, 2].map(|part| number(part, words.next().unwrap())));
            } else {
                sides.push(word);
            }
        }
        assert_eq!(objects.len(), sides.len() + 1, "{caption}");
        (objects, sides)
    }

    /// Whether a caption is true of a scene: some order of its objects has the names, and the sides.
    fn is_true(caption: &str, scene: &Scene) -> bool {
        let (names, sides) = read(caption);
        let fits = |name: &[usize; 3], at: usize| {
            let object = &scene.objects[at];
            *name == [object.size, object.colour, object.shape]
        };
        let count = scene.objects.len();
        let orders =
            (0..count.pow(names.len() as u32)).map(|code| (0..names.len()).map(|k| code / count.pow(k as u32) % count).collect());
        orders.filter(|order: &Vec<usize>| order.iter().collect::<HashSet<_>>().len() == names.len()).any(|order| {
            let center = |k: usize| scene.objects[order[k]].center;
            let is_on = |side: &str, k: usize| match side {
                "left" => center(0)[0] <= center(k)[0],
                "right" => center(0)[0] >= center(k)[0],
                "above" => center(0)[1] <= center(k)[1],
                _ => center(0)[1] >= center(k)[1],
            };
            names.iter().zip(&order).all(|(name, &at)| fits(name, at)) && sides.iter().zip(1..).all(|(side, k)| is_on(side, k))
        })
    }

    /// Captions are true of their scenes, hard negatives are not; there are four of each image, of every kind that the scene allows.
    #[test]
    fn hard_negatives_are_false() {
        for (objects, synonyms) in [(1, 0.0), (2, 0.0), (2, 0.5), (3, 0.5), (4, 0.0)] {
            let world = CaptionWorld::new(&CaptionsConfig { objects, synonyms, val: 120, ..CaptionsConfig::default() });
            let mut of_kind = [0; 3];
            for row in 0..120 {
                let (scene, _) = world.scene(WorldSplit::Val, row);
                let caption = world.caption(WorldSplit::Val, row);
                assert!(is_true(&caption, &scene), "{caption}");
                let negatives = world.hard_negatives(WorldSplit::Val, row);
                assert_eq!(negatives.len(), NEGATIVES);
                for HardNegative { change, caption } in negatives {
                    assert!(!is_true(&caption, &scene), "{caption}");
                    of_kind[change as usize] += 1;
                }
            }
            let [colours, sides, attribute] = of_kind;
            assert!(attribute >= 240 && (objects == 1) == (sides == 0), "{of_kind:?}");
            assert!(objects == 1 || sides > 110 && colours > 90, "{of_kind:?}");
        }
    }

    #[test]
    fn captions_of_the_gallery_differ_and_synonyms_and_gaps_have_their_shares() {
        let config = CaptionsConfig { objects: 2, synonyms: 0.4, incomplete: 0.3, ..CaptionsConfig::default() };
        let world = CaptionWorld::new(&config);
        let gallery: HashSet<String> = (0..500).map(|row| world.caption(WorldSplit::Val, row)).collect();
        assert_eq!((gallery.len(), world.repeated()), (500, 0));
        let alone = CaptionWorld::new(&CaptionsConfig { objects: 1, val: 200, ..CaptionsConfig::default() });
        assert!(alone.repeated() >= 200 - 128, "{}", alone.repeated());
        let captions: Vec<String> = (0..1000).map(|row| world.caption(WorldSplit::Train, row)).collect();
        let lacking = captions.iter().filter(|caption| read(caption).0.len() == 1).count();
        assert!((250..350).contains(&lacking), "{lacking}");
        let count =
            |word: &str| captions.iter().flat_map(|caption| caption.split(' ')).filter(|other| *other == word).count() as f64;
        let synonyms = (count("scarlet") + count("crimson")) / (count("red") + count("scarlet") + count("crimson"));
        assert!((synonyms - 0.4).abs() < 0.1, "{synonyms}");
        assert!((0..1000).all(|row| is_true(&captions[row as usize], &world.scene(WorldSplit::Train, row).0)));
    }

    /// Words of a small vocabulary are several tokens, so that whole-word masking has something to do.
    #[test]
    fn words_have_several_pieces_in_a_small_vocabulary() {
        let world = CaptionWorld::new(&CaptionsConfig::default());
        let mut trainer = WordPieceTrainer::new(WordPieceOptions { vocab_size: 80, ..WordPieceOptions::default() });
        (0..2000).for_each(|row| trainer.add(&world.caption(WorldSplit::Train, row)).unwrap());
        let tokenizer = trainer.train().unwrap();
        let pieces = |word: &str| tokenizer.encode(word.as_bytes(), crate::tokenizer::Specials::None).unwrap().len();
        assert_eq!(pieces("small"), 1);
        let several = ["circle", "square", "triangle", "diamond", "magenta", "yellow", "orange", "column"].map(pieces);
        assert!(several.iter().filter(|&&pieces| pieces > 1).count() >= 5, "{several:?}");
    }
}
