//! Values of COCO's entries, as people and programs write them.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, SeqAccess, Visitor};

/// A number; NaN for null, to which a value that is not finite was changed.
#[derive(Clone, Copy)]
pub(super) struct Number(pub(super) f64);

/// An integer, also written as 3.0.
#[derive(Clone, Copy)]
pub(super) struct Id(pub(super) i64);

/// 0, 1, true, false or null.
#[derive(Clone, Copy)]
pub(super) struct Flag(pub(super) bool);

/// Four numbers, of which some may be NaN; all of them for null.
#[derive(Clone, Copy)]
pub(super) struct Four(pub(super) [f64; 4]);

/// A text or null.
pub(super) struct Text(pub(super) Option<String>);

/// Which of these is read.
struct Reader<T>(&'static str, fn(Given) -> Option<T>);

/// A single value.
enum Given {
    Null,
    Flag(bool),
    Integer(i64),
    Float(f64),
}

impl<'de, T> Visitor<'de> for Reader<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_unit<E: Error>(self) -> Result<T, E> {
        self.value(Given::Null, &"null")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<T, E> {
        self.value(Given::Flag(value), &value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<T, E> {
        self.value(Given::Integer(value), &value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<T, E> {
        let given = i64::try_from(value).map_or(Given::Float(value as f64), Given::Integer);
        self.value(given, &value)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<T, E> {
        self.value(Given::Float(value), &value)
    }
}

impl<T> Reader<T> {
    fn value<E: Error>(self, given: Given, found: &dyn fmt::Display) -> Result<T, E> {
        let Self(expected, read) = self;
        read(given).ok_or_else(|| E::custom(format_args!("expected {expected}, found {found}")))
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Reader("a number", |given| match given {
            Given::Null => Some(Self(f64::NAN)),
            Given::Integer(value) => Some(Self(value as f64)),
            Given::Float(value) => Some(Self(value)),
            Given::Flag(_) => None,
        }))
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        /// f64 represents every smaller integer exactly.
        const EXACT: f64 = 9_007_199_254_740_992.0;
        from.deserialize_any(Reader("an integer", |given| match given {
            Given::Integer(value) => Some(Self(value)),
            Given::Float(value) if value.fract() == 0.0 && value.abs() < EXACT => Some(Self(value as i64)),
            _ => None,
        }))
    }
}

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Reader("0 or 1", |given| match given {
            Given::Null => Some(Self(false)),
            Given::Flag(value) => Some(Self(value)),
            Given::Integer(value) => Some(Self(value != 0)),
            Given::Float(value) => Some(Self(value != 0.0)),
        }))
    }
}

impl<'de> Deserialize<'de> for Four {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct List;

        impl<'de> Visitor<'de> for List {
            type Value = Four;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list [x, y, width, height]")
            }

            fn visit_unit<E: Error>(self) -> Result<Four, E> {
                Ok(Four([f64::NAN; 4]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Four, A::Error> {
                let mut four = [0.0; 4];
                for (found, to) in four.iter_mut().enumerate() {
                    let Some(Number(value)) = list.next_element()? else {
                        return Err(A::Error::custom(format_args!(
                            "expected a list [x, y, width, height], found {found} numbers"
                        )));
                    };
                    *to = value;
                }
                match list.next_element::<IgnoredAny>()? {
                    None => Ok(Four(four)),
                    Some(_) => Err(A::Error::custom("expected a list [x, y, width, height], found more than 4 elements")),
                }
            }
        }

        from.deserialize_any(List)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Option::deserialize(from).map(Self)
    }
}
