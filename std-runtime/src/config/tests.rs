use std::path::Path;

use super::*;

table! {
    /// A model that purrs.
    Cat {
        /// The family: "cat" or "dog".
        kind: Kind = Kind::Cat;
        /// Lives.
        lives: usize = 9, 1..=9;
    }
}

table! {
    /// A model that barks.
    Dog {
        /// The family: "cat" or "dog".
        kind: Kind = Kind::Dog;
        /// Tricks.
        tricks: usize = 3, 0..=100;
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Cat,
    Dog,
}

impl Choice for Kind {
    const WORDS: &'static [(&'static str, Self)] = &[("cat", Self::Cat), ("dog", Self::Dog)];
}

/// A table whose keys depend on one of them.
#[derive(Clone, Debug, PartialEq)]
enum Pet {
    Cat(Cat),
    Dog(Dog),
}

impl Default for Pet {
    fn default() -> Self {
        Self::Cat(Cat::default())
    }
}

impl Pet {
    fn table(&self) -> &dyn Table {
        match self {
            Self::Cat(cat) => cat,
            Self::Dog(dog) => dog,
        }
    }
}

impl Table for Pet {
    fn keys(&self) -> &'static [Key] {
        self.table().keys()
    }

    fn set(&mut self, key: &str, given: Given<'_>) -> Result<(), String> {
        if key == "kind" {
            *self = match Kind::read(given)? {
                Kind::Cat => Self::Cat(Cat::default()),
                Kind::Dog => Self::Dog(Dog::default()),
            };
        }
        match self {
            Self::Cat(cat) => cat.set(key, given),
            Self::Dog(dog) => dog.set(key, given),
        }
    }

    fn show(&self, key: &str) -> Option<String> {
        self.table().show(key)
    }

    fn deciding_key(&self) -> Option<&'static str> {
        Some("kind")
    }

    fn hint(&self, key: &str) -> Option<String> {
        (key == "lives").then(|| ", a key of cats; did you mean `tricks`?".to_owned())
    }
}

table! {
    /// Food.
    Food {
        /// Meals a day.
        meals: usize = 2, 1..=24;
        /// Of what.
        brand: Option<String> = None;
        /// Whether a hunter brings it.
        hunted: bool = false;
    }
    may change: brand;
    unread: Food::unread;
}

impl Food {
    fn unread(&self) -> Vec<Unread> {
        if self.hunted { vec![Unread { key: "brand", instead: "what is hunted has none" }] } else { Vec::new() }
    }
}

tables! {
    /// A household.
    House checked by House::check_together {
        /// `[pet]`
        pet: Pet;
        /// `[food]`
        food: Food;
    }
}

impl House {
    fn check_together(&self) -> Result<(), Invalid> {
        match &self.pet {
            Pet::Dog(dog) if dog.tricks > 10 * self.food.meals => {
                Err(Invalid::new("pet.tricks", "ten for each meal", dog.tricks))
            }
            _ => Ok(()),
        }
    }
}

fn merged(file: &str, sets: &[&str]) -> Result<House, String> {
    let mut layers = Layers::<House>::new();
    let text = |error: ConfigError| error.to_string();
    layers.text(Path::new("pet.toml"), file).map_err(text)?;
    sets.iter().try_for_each(|set| layers.set(set)).map_err(text)?;
    layers.finish().map_err(text)
}

#[test]
fn the_last_layer_decides_which_keys_there_are() {
    let dog = |tricks| Pet::Dog(Dog { tricks, ..Dog::default() });
    // The deciding key may come after its dependents, and in a later layer.
    assert_eq!(merged("[pet]\ntricks = 5\nkind = \"dog\"", &[]).unwrap().pet, dog(5));
    assert_eq!(merged("[pet]\ntricks = 5", &["pet.kind=dog"]).unwrap().pet, dog(5));
    assert_eq!(merged("[pet]\nkind = \"cat\"", &["pet.tricks=7", "pet.kind=dog"]).unwrap().pet, dog(7));
    // A later layer that changes the deciding key must still give a valid result.
    let error = merged("[pet]\nkind = \"cow\"", &["pet.kind=dog"]).unwrap_err();
    assert_eq!(error, "pet.toml:2:8: pet.kind: expected one of \"cat\", \"dog\", found \"cow\"");
}

#[test]
fn a_key_of_another_family_is_told() {
    for (file, sets, expected) in [
        ("[pet]\ntricks = 5", &[][..], "pet.toml:2:1: unknown key `pet.tricks`; known are kind, lives"),
        ("[pet]\nlives = 5", &["pet.kind=dog"], "pet.toml:2:1: unknown key `pet.lives`, a key of cats; did you mean `tricks`?"),
        (
            "",
            &["pet.kind=dog", "pet.lives=5"],
            "--set pet.lives=5: unknown key `pet.lives`, a key of cats; did you mean `tricks`?",
        ),
        ("[food]\nlives = 5", &[], "pet.toml:2:1: unknown key `food.lives`; did you mean `pet.lives`?"),
        ("[pet]\nkind = \"dog\"\ntricks = 21", &[], "pet.toml:3:10: pet.tricks: expected ten for each meal, found 21"),
    ] {
        assert_eq!(merged(file, sets).expect_err(file), expected);
    }
}

#[test]
fn differences_are_those_of_both_families() {
    let (cat, dog) = (House::default(), merged("", &["pet.kind=dog", "food.brand=x"]).unwrap());
    let keys = |differences: Vec<Difference>| differences.into_iter().map(|d| d.key).collect::<Vec<_>>();
    assert_eq!(keys(differences(&cat, &dog)), ["pet.kind", "pet.lives", "pet.tricks", "food.brand"]);
    assert_eq!(keys(conflicts(&cat, &dog)), ["pet.kind", "pet.lives", "pet.tricks"]);
    assert_eq!(merged(&to_toml(&dog), &[]).unwrap(), dog);
}

#[test]
fn what_nothing_reads_is_refused_where_a_person_gave_it() {
    let error = |file: &str, sets: &[&str]| merged(file, sets).unwrap_err();
    assert_eq!(
        error("[food]\nhunted = true\nbrand = \"x\"", &[]),
        "pet.toml:3:9: food.brand: expected no value; what is hunted has none, found \"x\""
    );
    let sets = ["food.brand=x", "food.hunted=true"];
    assert_eq!(error("", &sets), "--set food.brand=x: food.brand: expected no value; what is hunted has none, found \"x\"");
    assert_eq!(merged("", &["food.brand=x"]).unwrap().food.brand.as_deref(), Some("x"));
    // A preset may contain keys without effect. They are neither written nor compared.
    let mut layers = Layers::<House>::new();
    layers.preset(&Preset { name: "p", about: "", toml: "[food]\nbrand = \"x\"" }).unwrap();
    layers.set("food.hunted=true").unwrap();
    let house = layers.finish().unwrap();
    assert_eq!(house.food.brand.as_deref(), Some("x"));
    let written = merged(&to_toml(&house), &[]).unwrap();
    assert_eq!((written.food.brand.as_deref(), differences(&house, &written)), (None, Vec::new()));
}

#[test]
fn values_that_are_put_are_forgotten_by_no_layer_before() {
    let mut layers = Layers::<House>::new();
    layers.set("food.meals=5").unwrap();
    layers.put(&["food.meals"], &Place::Folder("cupboard".into()), |house| house.food.meals = 3);
    assert_eq!(layers.values().unwrap().food.meals, 3);
    layers.set("food.meals=4").unwrap();
    assert_eq!(layers.values().unwrap().food.meals, 4);
}
