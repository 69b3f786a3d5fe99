//! Sentences about a scene: true ones, and ones that are almost true.

use samara_core::math::rng::Rng;

use super::scene::{COLOURS, Object, SHAPES, SIZES, Scene};

/// Other words for sizes, colours and shapes, by number.
const SYNONYMS: [&[&[&str]]; 3] = [
    &[&["little", "tiny"], &["big", "huge"]],
    &[
        &["scarlet", "crimson"],
        &["emerald"],
        &["azure", "navy"],
        &["golden"],
        &["fuchsia"],
        &["turquoise"],
        &["amber"],
        &["ivory"],
    ],
    &[&["disc", "dot"], &["block"], &["wedge"], &["rhombus"], &["plus"], &["hoop"], &["beam"], &["pillar"]],
];
/// The usual words.
const WORDS: [&[&str]; 3] = [&SIZES, &COLOURS, &SHAPES];
/// The place of colours among a name's values.
const COLOUR: usize = 1;

/// A name of an object: size, colour and shape by number, and the words for them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Name {
    values: [usize; 3],
    words: [&'static str; 3],
}

/// Where an object is from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Left,
    Right,
    Above,
    Below,
}

/// A first object, and where it is from others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    first: Name,
    others: Vec<(Side, Name)>,
}

/// How a false caption differs from a true one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Two objects have each other's colour.
    Colours,
    /// Left and right, or above and below, are exchanged.
    Sides,
    /// One object has another size, colour or shape.
    Attribute,
}

impl Change {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Colours, Self::Sides, Self::Attribute];
}

impl Name {
    /// A name whose words are synonyms with this probability.
    fn of(object: &Object, synonyms: f64, rng: &mut Rng) -> Self {
        let values = [object.size, object.colour, object.shape];
        Self { values, words: std::array::from_fn(|part| word(part, values[part], synonyms, rng)) }
    }

    fn fits(&self, object: &Object) -> bool {
        self.values == [object.size, object.colour, object.shape]
    }

    /// As "a small red circle".
    fn text(&self) -> String {
        let article = if self.words[0].starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
        format!("{article} {}", self.words.join(" "))
    }
}

/// A word for a size (part 0), a colour (1) or a shape (2).
fn word(part: usize, value: usize, synonyms: f64, rng: &mut Rng) -> &'static str {
    let others = SYNONYMS[part][value];
    if synonyms > 0.0 && rng.uniform_f64() < synonyms {
        others[rng.below(others.len() as u64) as usize]
    } else {
        WORDS[part][value]
    }
}

impl Side {
    /// Where `from` is from `to`: along the axis on which their centers are further apart.
    fn of(from: &Object, to: &Object) -> Self {
        let [dx, dy] = [0, 1].map(|axis| to.center[axis] - from.center[axis]);
        match (dx.abs() >= dy.abs(), dx > 0.0, dy > 0.0) {
            (true, true, _) => Self::Left,
            (true, false, _) => Self::Right,
            (false, _, true) => Self::Above,
            (false, _, false) => Self::Below,
        }
    }

    /// Whether it can be said of two objects, on whichever axis they are further apart.
    fn can_be_said(self, from: &Object, to: &Object) -> bool {
        let [dx, dy] = [0, 1].map(|axis| to.center[axis] - from.center[axis]);
        match self {
            Self::Left => dx >= 0.0,
            Self::Right => dx <= 0.0,
            Self::Above => dy >= 0.0,
            Self::Below => dy <= 0.0,
        }
    }

    fn opposite(self) -> Self {
        match self {
            Self::Left => Self::Right,
            Self::Right => Self::Left,
            Self::Above => Self::Below,
            Self::Below => Self::Above,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Left => "left of",
            Self::Right => "right of",
            Self::Above => "above",
            Self::Below => "below",
        }
    }
}

impl Description {
    /// What objects are and where the first is from the others; a share `synonyms` of the words are other ones. `None` without objects.
    pub fn of(objects: &[Object], synonyms: f64, rng: &mut Rng) -> Option<Self> {
        let (first, others) = objects.split_first()?;
        let mut name = |object| Name::of(object, synonyms, rng);
        let (own, others) = (name(first), others.iter().map(|other| (Side::of(first, other), name(other))).collect());
        Some(Self { first: own, others })
    }

    /// As "a small red circle left of a large blue square and above a small white ring".
    pub fn text(&self) -> String {
        let relations: Vec<String> =
            self.others.iter().map(|(side, other)| format!("{} {}", side.text(), other.text())).collect();
        format!("{} {}", self.first.text(), relations.join(" and ")).trim_end().to_owned()
    }

    /// Whether it can be said of some of these objects, each named once.
    pub fn can_be_said_of(&self, objects: &[Object]) -> bool {
        let mut firsts = objects.iter().enumerate().filter(|(_, object)| self.first.fits(object));
        firsts.any(|(at, first)| can_place(&self.others, first, objects, &mut vec![at]))
    }

    /// A description that differs in one way, chosen at random; `None` if there is nothing to change in this way.
    pub fn changed(&self, change: Change, rng: &mut Rng) -> Option<Self> {
        let mut changed = self.clone();
        let count = self.others.len() as u64;
        match change {
            Change::Colours => {
                let (_, other) = changed.others.get_mut(rng.below(count) as usize)?;
                let own = &mut changed.first;
                std::mem::swap(&mut own.values[COLOUR], &mut other.values[COLOUR]);
                std::mem::swap(&mut own.words[COLOUR], &mut other.words[COLOUR]);
            }
            Change::Sides => {
                let (side, _) = changed.others.get_mut(rng.below(count) as usize)?;
                *side = side.opposite();
            }
            Change::Attribute => {
                let (name, part) = (rng.below(count + 1) as usize, rng.below(WORDS.len() as u64) as usize);
                let name = match name.checked_sub(1) {
                    Some(other) => &mut changed.others.get_mut(other)?.1,
                    None => &mut changed.first,
                };
                let of = WORDS[part].len();
                name.values[part] = (name.values[part] + 1 + rng.below(of as u64 - 1) as usize) % of;
                name.words[part] = WORDS[part][name.values[part]];
            }
        }
        Some(changed)
    }
}

/// Whether the rest of a description finds its objects, apart from those that are taken.
fn can_place(others: &[(Side, Name)], first: &Object, objects: &[Object], taken: &mut Vec<usize>) -> bool {
    let Some(((side, name), rest)) = others.split_first() else { return true };
    for (at, object) in objects.iter().enumerate() {
        if !taken.contains(&at) && name.fits(object) && side.can_be_said(first, object) {
            taken.push(at);
            if can_place(rest, first, objects, taken) {
                return true;
            }
            taken.pop();
        }
    }
    false
}

impl Scene {
    /// What the scene shows, in the usual words: its first object, and where that is from each of the others. Empty without objects.
    pub fn caption(&self) -> String {
        let mut unused = Rng::new(0, samara_core::math::rng::Purpose::Data, 0);
        Description::of(&self.objects, 0.0, &mut unused).map_or_else(String::new, |said| said.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caption_says_what_is_where() {
        let object = |shape, colour, size, center| Object { shape, colour, size, center, half: [0.1; 2], turn: 0.0 };
        let mut scene = Scene::default();
        assert_eq!(scene.caption(), "");
        scene.objects = vec![object(0, 0, 0, [0.2, 0.4])];
        assert_eq!(scene.caption(), "a small red circle");
        scene.objects.push(object(1, 2, 1, [0.8, 0.6]));
        assert_eq!(scene.caption(), "a small red circle left of a large blue square");
        scene.objects.push(object(5, 7, 0, [0.1, 0.1]));
        scene.objects.push(object(7, 6, 1, [0.1, 0.9]));
        let expected =
            "a small red circle left of a large blue square and below a small white ring and above a large orange column";
        assert_eq!(scene.caption(), expected);
        scene.objects.swap(0, 1);
        assert!(scene.caption().starts_with("a large blue square right of a small red circle"));
    }

    /// No word stands for two things.
    #[test]
    fn words_have_one_meaning() {
        let all = SYNONYMS.iter().flat_map(|part| part.iter().flat_map(|words| words.iter())).chain(WORDS.into_iter().flatten());
        let words: Vec<&str> = all.copied().collect();
        let different: std::collections::BTreeSet<&str> = words.iter().copied().collect();
        assert_eq!(words.len(), different.len());
        assert!(SYNONYMS.iter().zip(WORDS).all(|(others, words)| others.len() == words.len()));
    }
}
