//! A sentence about a scene.

use super::scene::{COLOURS, Object, SHAPES, SIZES, Scene};

/// Where an object is from another: along the axis on which their centers are further apart.
fn relation(from: &Object, to: &Object) -> &'static str {
    let [dx, dy] = [0, 1].map(|axis| to.center[axis] - from.center[axis]);
    match (dx.abs() >= dy.abs(), dx > 0.0, dy > 0.0) {
        (true, true, _) => "left of",
        (true, false, _) => "right of",
        (false, _, true) => "above",
        (false, _, false) => "below",
    }
}

impl Object {
    /// Its name, as "a small red circle".
    pub fn name(&self) -> String {
        format!("a {} {} {}", SIZES[self.size], COLOURS[self.colour], SHAPES[self.shape])
    }
}

impl Scene {
    /// What the scene shows: its first object, and where that is from each of the others, as "a small red circle left of a large blue square and above a
    /// small white ring". Empty without objects.
    pub fn caption(&self) -> String {
        let Some((first, others)) = self.objects.split_first() else { return String::new() };
        let relations: Vec<String> = others.iter().map(|other| format!("{} {}", relation(first, other), other.name())).collect();
        format!("{} {}", first.name(), relations.join(" and ")).trim_end().to_owned()
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
}
