//! Entries of COCO's lists: images, categories, annotations, detections. Keys that are not needed are passed over without being stored.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::values::{Flag, Four, Id, Number, Text};

/// Where a reader is, for its errors.
#[derive(Default)]
pub(super) struct Place {
    /// The list, the index of its entry, and the key.
    pub(super) list: Cell<&'static str>,
    pub(super) entry: Cell<Option<u64>>,
    pub(super) key: Cell<Option<&'static str>>,
}

impl Place {
    /// As text: `annotations[3].bbox`.
    pub(super) fn text(&self) -> String {
        let entry = self.entry.get().map_or_else(String::new, |entry| format!("[{entry}]"));
        let key = self.key.get().map_or_else(String::new, |key| format!(".{key}"));
        format!("{}{entry}{key}", self.list.get())
    }
}

/// An entry of a list.
pub(super) trait Entry: Default {
    /// The keys that it has; those before `REQUIRED` must be there.
    const KEYS: &'static [&'static str];
    const REQUIRED: usize;
    /// Reads the value of the key with this index.
    fn read<'de, A: MapAccess<'de>>(&mut self, key: usize, map: &mut A) -> Result<(), A::Error>;
}

/// An image: its id, size and file.
#[derive(Default)]
pub(super) struct ImageEntry {
    pub(super) id: i64,
    pub(super) file: Option<String>,
    pub(super) width: Option<f64>,
    pub(super) height: Option<f64>,
}

impl Entry for ImageEntry {
    const KEYS: &'static [&'static str] = &["id", "width", "height", "file_name"];
    const REQUIRED: usize = 1;

    fn read<'de, A: MapAccess<'de>>(&mut self, key: usize, map: &mut A) -> Result<(), A::Error> {
        match key {
            0 => self.id = map.next_value::<Id>()?.0,
            1 => self.width = Some(map.next_value::<Number>()?.0),
            2 => self.height = Some(map.next_value::<Number>()?.0),
            _ => self.file = map.next_value::<Text>()?.0,
        }
        Ok(())
    }
}

/// A category: its id and name.
#[derive(Default)]
pub(super) struct CategoryEntry {
    pub(super) id: i64,
    pub(super) name: Option<String>,
}

impl Entry for CategoryEntry {
    const KEYS: &'static [&'static str] = &["id", "name"];
    const REQUIRED: usize = 1;

    fn read<'de, A: MapAccess<'de>>(&mut self, key: usize, map: &mut A) -> Result<(), A::Error> {
        match key {
            0 => self.id = map.next_value::<Id>()?.0,
            _ => self.name = map.next_value::<Text>()?.0,
        }
        Ok(())
    }
}

/// An annotation.
#[derive(Default)]
pub(super) struct AnnotationEntry {
    pub(super) id: i64,
    pub(super) image: i64,
    pub(super) category: i64,
    pub(super) bbox: [f64; 4],
    pub(super) area: Option<f64>,
    pub(super) crowd: Option<bool>,
    pub(super) ignore: bool,
}

impl Entry for AnnotationEntry {
    const KEYS: &'static [&'static str] = &["id", "image_id", "category_id", "bbox", "area", "iscrowd", "ignore"];
    const REQUIRED: usize = 4;

    fn read<'de, A: MapAccess<'de>>(&mut self, key: usize, map: &mut A) -> Result<(), A::Error> {
        match key {
            0 => self.id = map.next_value::<Id>()?.0,
            1 => self.image = map.next_value::<Id>()?.0,
            2 => self.category = map.next_value::<Id>()?.0,
            3 => self.bbox = map.next_value::<Four>()?.0,
            4 => self.area = Some(map.next_value::<Number>()?.0).filter(|area| !area.is_nan()),
            5 => self.crowd = Some(map.next_value::<Flag>()?.0),
            _ => self.ignore = map.next_value::<Flag>()?.0,
        }
        Ok(())
    }
}

/// A detection.
#[derive(Default)]
pub(super) struct DetectionEntry {
    pub(super) image: i64,
    pub(super) category: i64,
    pub(super) bbox: [f64; 4],
    pub(super) score: f64,
}

impl Entry for DetectionEntry {
    const KEYS: &'static [&'static str] = &["image_id", "category_id", "bbox", "score"];
    const REQUIRED: usize = 4;

    fn read<'de, A: MapAccess<'de>>(&mut self, key: usize, map: &mut A) -> Result<(), A::Error> {
        match key {
            0 => self.image = map.next_value::<Id>()?.0,
            1 => self.category = map.next_value::<Id>()?.0,
            2 => self.bbox = map.next_value::<Four>()?.0,
            _ => self.score = map.next_value::<Number>()?.0,
        }
        Ok(())
    }
}

/// Reads a list of entries, and passes each to `take`, whose error ends the reading.
pub(super) struct List<'p, T, F> {
    place: &'p Place,
    name: &'static str,
    take: F,
    entry: PhantomData<T>,
}

impl<'p, T: Entry, F: FnMut(T) -> Result<(), String>> List<'p, T, F> {
    pub(super) fn new(place: &'p Place, name: &'static str, take: F) -> Self {
        Self { place, name, take, entry: PhantomData }
    }
}

impl<'de, T: Entry, F: FnMut(T) -> Result<(), String>> DeserializeSeed<'de> for List<'_, T, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        self.place.list.set(self.name);
        from.deserialize_seq(self)
    }
}

impl<'de, T: Entry, F: FnMut(T) -> Result<(), String>> Visitor<'de> for List<'_, T, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of objects with {}", T::KEYS.get(..T::REQUIRED).unwrap_or_default().join(", "))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        for index in 0.. {
            self.place.entry.set(Some(index));
            let Some(entry) = list.next_element_seed(OneEntry(self.place, PhantomData::<T>))? else { break };
            (self.take)(entry).map_err(A::Error::custom)?;
        }
        self.place.entry.set(None);
        self.place.list.set("");
        Ok(())
    }
}

struct OneEntry<'p, T>(&'p Place, PhantomData<T>);

impl<'de, T: Entry> DeserializeSeed<'de> for OneEntry<'_, T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<T, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de, T: Entry> Visitor<'de> for OneEntry<'_, T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object with {}", T::KEYS.get(..T::REQUIRED).unwrap_or_default().join(", "))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
        let (mut entry, mut given) = (T::default(), 0_u32);
        while let Some(key) = map.next_key_seed(KeyOf(T::KEYS))? {
            match key {
                Some(index) => {
                    self.0.key.set(T::KEYS.get(index).copied());
                    entry.read(index, &mut map)?;
                    given |= 1 << index;
                }
                None => _ = map.next_value::<IgnoredAny>()?,
            }
            self.0.key.set(None);
        }
        match T::KEYS.iter().take(T::REQUIRED).enumerate().find(|(index, _)| given >> index & 1 == 0) {
            None => Ok(entry),
            Some((_, key)) => Err(A::Error::custom(format_args!("expected key \"{key}\", found an object without it"))),
        }
    }
}

/// The index of a key among those that are needed.
pub(super) struct KeyOf(pub(super) &'static [&'static str]);

impl<'de> DeserializeSeed<'de> for KeyOf {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Option<usize>, D::Error> {
        from.deserialize_identifier(self)
    }
}

impl Visitor<'_> for KeyOf {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Option<usize>, E> {
        Ok(self.0.iter().position(|known| *known == key))
    }
}
