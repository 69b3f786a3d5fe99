//! Scenes of coloured shapes, and their pixels.

use samara_core::math::rng::Rng;

/// Shapes by number.
pub const SHAPES: [&str; 8] = ["circle", "square", "triangle", "diamond", "cross", "ring", "bar", "column"];
/// Colours by number.
pub const COLOURS: [&str; 8] = ["red", "green", "blue", "yellow", "magenta", "cyan", "orange", "white"];
/// Sizes by number.
pub const SIZES: [&str; 2] = ["small", "large"];

/// Red, green and blue of every colour, from 0 to 1.
const RGB: [[f32; 3]; 8] = [
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

/// A shape in an image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Object {
    /// Its number in [`SHAPES`].
    pub shape: usize,
    /// Its number in [`COLOURS`].
    pub colour: usize,
    /// Its number in [`SIZES`].
    pub size: usize,
    /// Center (x, y), relative to the image.
    pub center: [f32; 2],
    /// Half extents (x, y) before it is turned, relative to the image.
    pub half: [f32; 2],
    /// How far it is turned, in radians.
    pub turn: f32,
}

/// What of an object is given; the rest is drawn.
#[derive(Clone, Copy, Debug)]
pub struct Given {
    /// Its shape.
    pub shape: Option<usize>,
    /// Its colour.
    pub colour: Option<usize>,
    /// Its size.
    pub size: Option<usize>,
    /// Parts of the places along x and y where it fits, from 0 to 1.
    pub places: [[f32; 2]; 2],
    /// Factor of its extents.
    pub scale: f32,
    /// How far it is turned, in radians.
    pub turn: f32,
}

impl Default for Given {
    fn default() -> Self {
        Self { shape: None, colour: None, size: None, places: [[0.0, 1.0]; 2], scale: 1.0, turn: 0.0 }
    }
}

impl Object {
    /// Draws an object.
    pub fn draw(rng: &mut Rng, given: &Given) -> Self {
        let mut number = |of: usize, given: Option<usize>| {
            let drawn = rng.below(of as u64) as usize;
            given.unwrap_or(drawn)
        };
        let (shape, colour) = (number(SHAPES.len(), given.shape), number(COLOURS.len(), given.colour));
        let size = number(SIZES.len(), given.size);
        let [low, high] = HALF[size];
        let r = given.scale * (low + (high - low) * rng.uniform_f32());
        // Of bars and columns one side is much the longer one.
        let half = match SHAPES[shape] {
            "bar" => [r, 0.4 * r],
            "column" => [0.4 * r, r],
            _ => [r, r],
        };
        let mut object = Self { shape, colour, size, center: [0.0; 2], half, turn: given.turn };
        let reach = object.reach();
        for ((center, reach), [from, to]) in object.center.iter_mut().zip(reach).zip(given.places) {
            *center = reach + (1.0 - 2.0 * reach) * (from + (to - from) * rng.uniform_f32());
        }
        object
    }

    /// Half of the extents of the box around it.
    fn reach(&self) -> [f32; 2] {
        let ([x, y], (sin, cos)) = (self.half, self.turn.sin_cos());
        [cos.abs() * x + sin.abs() * y, sin.abs() * x + cos.abs() * y]
    }

    /// Whether the boxes of two objects share more than a little.
    pub fn covers(&self, other: &Self) -> bool {
        let [own, others] = [self.reach(), other.reach()];
        let shared = |axis: usize| {
            let ends = (self.center[axis] + own[axis]).min(other.center[axis] + others[axis]);
            (ends - (self.center[axis] - own[axis]).max(other.center[axis] - others[axis])).max(0.0)
        };
        let area = |[x, y]: [f32; 2]| 4.0 * x * y;
        shared(0) * shared(1) > 0.15 * area(own).min(area(others))
    }

    /// Whether a place, relative to the image, belongs to the object.
    pub fn contains(&self, at: [f32; 2]) -> bool {
        let [dx, dy] = [at[0] - self.center[0], at[1] - self.center[1]];
        let (sin, cos) = self.turn.sin_cos();
        let [x, y] = [(cos * dx + sin * dy) / self.half[0], (cos * dy - sin * dx) / self.half[1]];
        let square = x * x + y * y;
        x.abs() <= 1.0
            && y.abs() <= 1.0
            && match SHAPES[self.shape] {
                "circle" => square <= 1.0,
                "triangle" => 2.0 * x.abs() <= y + 1.0,
                "diamond" => x.abs() + y.abs() <= 1.0,
                "cross" => x.abs().min(y.abs()) <= 0.34,
                "ring" => (0.3..=1.0).contains(&square),
                _ => true,
            }
    }

    /// The box around it as (center x, center y, width, height), relative to the image.
    pub fn to_box(&self) -> [f32; 4] {
        let [x, y] = self.reach();
        [self.center[0], self.center[1], 2.0 * x, 2.0 * y]
    }
}

/// Objects from back to front.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scene {
    /// Thin strokes behind the objects, which are none.
    pub clutter: Vec<Object>,
    /// The objects.
    pub objects: Vec<Object>,
}

/// How a scene looks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Look {
    /// Deviation of the noise of every value, which is from 0 to 1.
    pub noise: f32,
    /// Whether 1 − v stands for v.
    pub inverted: bool,
}

impl Default for Look {
    fn default() -> Self {
        Self { noise: 0.06, inverted: false }
    }
}

/// How often a place is sought for an object that would cover others.
const TRIALS: usize = 20;

impl Scene {
    /// Adds an object that covers no other; whether there was a place for it.
    pub fn add(&mut self, rng: &mut Rng, given: &Given) -> bool {
        let is_free = |object: &Object| !self.objects.iter().any(|other| object.covers(other));
        let free = (0..TRIALS).map(|_| Object::draw(rng, given)).find(is_free);
        self.objects.extend(free);
        free.is_some()
    }

    /// Paints the scene on a ground of one colour: `put` gets every value of (height, width, 3) in order, about from 0 to 1.
    pub fn paint(&self, [height, width]: [usize; 2], look: Look, mut rng: Rng, mut put: impl FnMut(usize, f32)) {
        let ground: [f32; 3] = std::array::from_fn(|_| 0.1 + 0.4 * rng.uniform_f32());
        for i in 0..height * width {
            let at = [((i % width) as f32 + 0.5) / width as f32, ((i / width) as f32 + 0.5) / height as f32];
            let found = self.objects.iter().rev().chain(self.clutter.iter().rev()).find(|object| object.contains(at));
            for (channel, value) in found.map_or(ground, |object| RGB[object.colour]).into_iter().enumerate() {
                let value = if look.inverted { 1.0 - value } else { value };
                put(3 * i + channel, value + look.noise * rng.normal_f64() as f32);
            }
        }
    }
}
