//! Equal layers one after the other.

use core::ops::Range;

use crate::params::{ParamId, Part, Scope};

/// A layer whose parameters are consecutive in the registry, so that an offset of its ids gives another copy of the same layer.
pub trait Repeat: Copy {
    /// The layer whose parameter ids are larger by `by`.
    fn moved(self, by: usize) -> Self;
}

impl Repeat for ParamId {
    fn moved(self, by: usize) -> Self {
        self.plus(by)
    }
}

impl<T: Repeat, const N: usize> Repeat for [T; N] {
    fn moved(self, by: usize) -> Self {
        self.map(|layer| layer.moved(by))
    }
}

impl<T: Repeat> Repeat for Option<T> {
    fn moved(self, by: usize) -> Self {
        self.map(|layer| layer.moved(by))
    }
}

/// Implements [`Repeat`] for a struct: the listed fields are parameters and layers, the others are equal in every copy.
#[macro_export]
macro_rules! repeat {
    ($layer:ty { $($field:ident),+ $(,)? }) => {
        impl $crate::nn::Repeat for $layer {
            fn moved(mut self, by: usize) -> Self {
                $(self.$field = $crate::nn::Repeat::moved(self.$field, by);)+
                self
            }
        }
    };
}
pub(crate) use repeat;

/// n equal layers: the first one, and the distance between the parameters of successive layers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stack<B> {
    first: Option<B>,
    stride: usize,
    count: usize,
}

impl<B: Repeat> Stack<B> {
    /// Registers layers `word.0` to `word.(count − 1)`, each as a block of the model ([`Part::Block`]).
    ///
    /// `register` must add the same parameters for every layer: the same number, order and shapes as for the first.
    pub fn register(count: usize, word: &'static str, s: &mut Scope<'_>, mut register: impl FnMut(&mut Scope<'_>) -> B) -> Self {
        Self::numbered(0..count, word, s, |i, s| register(&mut s.part(Part::Block(u16::try_from(i).unwrap_or(u16::MAX)))))
    }

    /// The same with the layers `word.i` for the i of a range, in the part of the model that `s` has: the equal layers after others.
    pub fn numbered(
        range: Range<usize>,
        word: &'static str,
        s: &mut Scope<'_>,
        mut register: impl FnMut(usize, &mut Scope<'_>) -> B,
    ) -> Self {
        let mut stack = Self { first: None, stride: 0, count: range.len() };
        for i in range {
            let begin = s.next_number();
            let layer = register(i, &mut s.item(word, i));
            let len = s.next_number().saturating_sub(begin);
            match stack.first {
                None => (stack.first, stack.stride) = (Some(layer), len),
                Some(_) if len != stack.stride => s.item(word, i).fail_uneven(),
                Some(_) => {}
            }
        }
        stack
    }

    /// Layer `i`; `None` beyond the last.
    pub fn get(&self, i: usize) -> Option<B> {
        self.first.filter(|_| i < self.count).map(|first| first.moved(i.saturating_mul(self.stride)))
    }

    /// All layers in order.
    pub fn iter(&self) -> impl Iterator<Item = B> + '_ {
        (0..self.count).filter_map(|i| self.get(i))
    }

    /// How many layers there are.
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether it is empty.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }
}
