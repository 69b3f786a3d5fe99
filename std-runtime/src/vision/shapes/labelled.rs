//! Images of shapes with a class each, for classifiers: nine things to tell of an image, in five looks.

use std::f32::consts::PI;

use samara_core::math::rng::{Purpose, Rng};

use super::scene::{COLOURS, Given, Look, Object, SHAPES, SIZES, Scene};
use crate::config::Choice;
use crate::vision::data::list::Split;
use crate::vision::image::Image;

/// What is told of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The shape of the only object.
    Shape,
    /// Its colour.
    Colour,
    /// Both.
    ShapeColour,
    /// Whether it is small or large.
    Size,
    /// How many objects there are.
    Count,
    /// In which eighth of the image, from left to right, the only object is.
    Column,
    /// The same from top to bottom.
    Row,
    /// Where the only object, a triangle, points.
    Direction,
    /// Where a circle is from a square.
    Relation,
}

impl Choice for Target {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("shape", Self::Shape),
        ("colour", Self::Colour),
        ("shape-colour", Self::ShapeColour),
        ("size", Self::Size),
        ("count", Self::Count),
        ("column", Self::Column),
        ("row", Self::Row),
        ("direction", Self::Direction),
        ("relation", Self::Relation),
    ];
}

/// How images look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// As the detector's.
    Plain,
    /// 1 − v for every value.
    Inverted,
    /// Objects are turned by 30 degrees.
    Rotated,
    /// Strokes behind the objects.
    Cluttered,
    /// Noise of four times the deviation.
    Noisy,
}

impl Choice for Style {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("plain", Self::Plain),
        ("inverted", Self::Inverted),
        ("rotated", Self::Rotated),
        ("cluttered", Self::Cluttered),
        ("noisy", Self::Noisy),
    ];
}

/// Eighths of an image, and directions.
const PARTS: usize = 8;
const COUNTS: [&str; 5] = ["1", "2", "3", "4", "5"];
const DIRECTIONS: [&str; PARTS] = ["up", "up-right", "right", "down-right", "down", "down-left", "left", "up-left"];
const RELATIONS: [&str; 4] = ["left of", "right of", "above", "below"];
/// A circle and a square.
const RELATED: [usize; 2] = [0, 1];
/// A triangle, which points up.
const POINTER: usize = 2;
/// A bar, of which strokes are made.
const STROKE: usize = 6;
/// Strokes of a cluttered image.
const STROKES: usize = 10;
/// Factors of the extents of a single object, and of one of two.
const ALONE: f32 = 1.8;
const OF_TWO: f32 = 1.3;

/// Labelled images of the world.
#[derive(Clone, Copy, Debug)]
pub struct LabelledShapes {
    /// What is told of an image.
    pub target: Target,
    /// How images look.
    pub style: Style,
    /// Seed of the world.
    pub seed: u64,
    /// Images of training, validation and test.
    pub counts: [u64; 3],
}

impl LabelledShapes {
    /// The names of the classes.
    pub fn classes(&self) -> Vec<String> {
        let named = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        match self.target {
            Target::Shape => named(&SHAPES),
            Target::Colour => named(&COLOURS),
            Target::ShapeColour => SHAPES.iter().flat_map(|shape| COLOURS.map(|colour| format!("{colour} {shape}"))).collect(),
            Target::Size => named(&SIZES),
            Target::Count => named(&COUNTS),
            Target::Column | Target::Row => (0..PARTS).map(|part| part.to_string()).collect(),
            Target::Direction => named(&DIRECTIONS),
            Target::Relation => named(&RELATIONS),
        }
    }

    /// The number of images of a split; of all images, those of the training and of the validation.
    pub fn count(&self, split: Split) -> u64 {
        let [train, val, test] = self.counts;
        match split {
            Split::Train => train,
            Split::Val => val,
            Split::Test => test,
            Split::All => train + val,
        }
    }

    /// The first number in the world of the split of an image, and its number in that split. Splits are disjoint, whatever their sizes are.
    fn number(&self, split: Split, row: u64) -> [u64; 2] {
        const APART: u64 = 1 << 40;
        match split {
            Split::Train => [0, row],
            Split::Val => [APART, row],
            Split::Test => [2 * APART, row],
            Split::All if row < self.counts[0] => [0, row],
            Split::All => [APART, row - self.counts[0]],
        }
    }

    /// A scene with its class, and the source of its noise. Classes take turns.
    pub fn scene(&self, split: Split, row: u64) -> (Scene, usize, Rng) {
        let [first, row] = self.number(split, row);
        let class = (row % self.classes().len().max(1) as u64) as usize;
        let mut rng = Rng::new(self.seed, Purpose::Data, first + row);
        let turn = if self.style == Style::Rotated { PI / 6.0 } else { 0.0 };
        let mut scene = self.objects(&mut rng, class, turn);
        if self.style == Style::Cluttered {
            scene.clutter = (0..STROKES).map(|_| stroke(&mut rng)).collect();
        }
        (scene, class, rng)
    }

    fn objects(&self, rng: &mut Rng, class: usize, turn: f32) -> Scene {
        let any = Given { turn, scale: ALONE, ..Given::default() };
        let part = |i: usize| [i, i + 1].map(|end| end as f32 / PARTS as f32);
        let all = any.places[0];
        let alone = match self.target {
            Target::Shape => Given { shape: Some(class), ..any },
            Target::Colour => Given { colour: Some(class), ..any },
            Target::ShapeColour => Given { shape: Some(class / COLOURS.len()), colour: Some(class % COLOURS.len()), ..any },
            Target::Size => Given { size: Some(class), ..any },
            Target::Column => Given { places: [part(class), all], ..any },
            Target::Row => Given { places: [all, part(class)], ..any },
            Target::Direction => Given { shape: Some(POINTER), turn: turn + class as f32 * 2.0 * PI / PARTS as f32, ..any },
            Target::Count => return several(rng, &vec![Given { turn, ..Given::default() }; class + 1]),
            Target::Relation => return several(rng, &related(class, Given { scale: OF_TWO, ..any })),
        };
        several(rng, &[alone])
    }

    /// An image of this height and width with its class.
    pub fn image(&self, size: [usize; 2], split: Split, row: u64) -> (Image, usize) {
        let (scene, class, rng) = self.scene(split, row);
        let plain = Look::default();
        let noise = if self.style == Style::Noisy { 4.0 * plain.noise } else { plain.noise };
        let mut image = Image::black(size);
        let values = image.pixels_mut();
        scene.paint(size, Look { noise, inverted: self.style == Style::Inverted }, rng, |i, value| {
            values[i] = (255.0 * value).round().clamp(0.0, 255.0) as u8;
        });
        (image, class)
    }
}

/// A scene with all of these objects: it is begun again while one of them has no place.
fn several(rng: &mut Rng, all: &[Given]) -> Scene {
    loop {
        let mut scene = Scene::default();
        if all.iter().all(|given| scene.add(rng, given)) {
            return scene;
        }
    }
}

/// A circle and a square in halves of the image.
fn related(relation: usize, given: Given) -> [Given; 2] {
    let [first, second] = [[0.0, 0.4], [0.6, 1.0]];
    let all = [0.42, 0.58];
    let places = match relation {
        0 => [[first, all], [second, all]],
        1 => [[second, all], [first, all]],
        2 => [[all, first], [all, second]],
        _ => [[all, second], [all, first]],
    };
    [0, 1].map(|i| Given { shape: Some(RELATED[i]), places: places[i], ..given })
}

/// A short line somewhere.
fn stroke(rng: &mut Rng) -> Object {
    let given = Given { shape: Some(STROKE), scale: 0.6, turn: PI * rng.uniform_f32(), ..Given::default() };
    let mut stroke = Object::draw(rng, &given);
    stroke.half[1] = 0.015;
    stroke
}

#[cfg(test)]
mod tests {
    use super::*;

    fn world(target: Target, style: Style) -> LabelledShapes {
        LabelledShapes { target, style, seed: 0, counts: [30, 10, 5] }
    }

    /// The class of a scene follows from its objects alone.
    #[test]
    fn labels_are_what_scenes_show() {
        for (word, target) in Target::WORDS {
            let world = world(*target, Style::Plain);
            let classes = world.classes();
            for row in 0..100 {
                let (scene, class, _) = world.scene(Split::Train, row);
                let first = scene.objects[0];
                let eighth = |axis: usize| {
                    let reach = first.to_box()[2 + axis] / 2.0;
                    (8.0 * (first.center[axis] - reach) / (1.0 - 2.0 * reach)).floor().min(7.0) as usize
                };
                let shown = match target {
                    Target::Shape => SHAPES[first.shape].to_owned(),
                    Target::Colour => COLOURS[first.colour].to_owned(),
                    Target::ShapeColour => format!("{} {}", COLOURS[first.colour], SHAPES[first.shape]),
                    Target::Size => SIZES[first.size].to_owned(),
                    Target::Count => scene.objects.len().to_string(),
                    Target::Column => eighth(0).to_string(),
                    Target::Row => eighth(1).to_string(),
                    Target::Direction => DIRECTIONS[(first.turn * 4.0 / PI).round() as usize].to_owned(),
                    Target::Relation => {
                        let caption = scene.caption();
                        let (_, rest) = caption.split_once(" circle ").unwrap();
                        rest.split_once(" a ").unwrap().0.to_owned()
                    }
                };
                assert_eq!(shown, classes[class], "{word} {row}");
            }
        }
    }

    #[test]
    fn an_image_is_a_function_of_seed_split_and_number() {
        let world = world(Target::Shape, Style::Plain);
        let [train, val, test] = [Split::Train, Split::Val, Split::Test].map(|split| world.image([24; 2], split, 3));
        assert!(train == world.image([24; 2], Split::Train, 3));
        assert!(train.0 != val.0 && val.0 != test.0);
        assert_eq!(world.count(Split::All), 40);
        assert!(world.image([24; 2], Split::All, 3) == train && world.image([24; 2], Split::All, 33) == val);
        let other = LabelledShapes { seed: 1, ..world };
        assert!(other.image([24; 2], Split::Train, 3).0 != train.0);
    }

    #[test]
    fn styles_change_what_they_say() {
        let of = |style| world(Target::Colour, style).scene(Split::Train, 5).0;
        assert_eq!(of(Style::Plain), of(Style::Noisy));
        assert_eq!((of(Style::Cluttered).clutter.len(), of(Style::Plain).clutter.len()), (STROKES, 0));
        assert!(of(Style::Rotated).objects.iter().all(|object| object.turn > 0.5));
        let image = |style| world(Target::Colour, style).image([32; 2], Split::Train, 5).0;
        let mean = |image: &Image| image.pixels().iter().map(|&x| f64::from(x)).sum::<f64>() / image.pixels().len() as f64;
        let sum = mean(&image(Style::Plain)) + mean(&image(Style::Inverted));
        assert!((sum - 255.0).abs() < 2.0, "{sum}");
        let spread = |image: &Image| {
            let corner: Vec<f64> = (0..4).map(|i| f64::from(image.pixels()[3 * i])).collect();
            corner.iter().fold(0.0_f64, |most, x| most.max((x - corner[0]).abs()))
        };
        assert!(spread(&image(Style::Noisy)) > spread(&image(Style::Plain)));
    }
}
