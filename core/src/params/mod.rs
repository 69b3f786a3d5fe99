//! The registry of parameters: it is complete before any graph, and many programs share it.
//!
//! *Trainable* parameters are f32 values in one flat buffer; gradients and moments have its layout, so that an optimizer is one operation on the
//! range of a group. *Frozen* parameters are bytes of any element type, read in place from flash or a mapped file.
//!
//! A parameter's name is the path of the scopes that it was registered in, stored in its record: names need no second buffer.

mod group;
mod lora;
mod name;
mod registry;

pub use group::{Group, GroupId, MAX_GROUPS};
pub use lora::Lora;
pub use name::{MAX_DEPTH, Name};
pub use registry::{ParamsError, Registry, Scope, Streams};

use core::ops::Range;

use crate::dtype::DType;
use crate::math::rng::{Purpose, Rng};
use crate::shape::{Shape, UNIT};

/// The index of a parameter in its registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ParamId(u16);

impl ParamId {
    /// The first parameter.
    pub const FIRST: Self = Self(0);

    /// The position in [`Params::infos`].
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// The parameter `n` places later: layers of a stack register the same parameters in the same order.
    pub const fn plus(self, n: usize) -> Self {
        Self(self.0.saturating_add(n as u16))
    }
}

/// The part of a model that a parameter belongs to, which selects what is trained, frozen, or quantised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Part {
    /// Any other part.
    #[default]
    Other,
    /// The token embedding, which may be the head as well.
    Tokens,
    /// The position embedding.
    Positions,
    /// A layer of a stack, counted from 0.
    Block(u16),
    /// Between the last layer and the head: the final norm.
    Final,
    /// A head of its own.
    Head,
}

/// How a parameter starts.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub enum Init {
    /// 0.
    #[default]
    Zeros,
    /// 1.
    Ones,
    /// N(0, std²).
    Normal {
        /// Standard deviation.
        std: f64,
    },
    /// Uniform in [−bound, bound).
    Uniform {
        /// The bound.
        bound: f64,
    },
    /// Uniform in [low, high).
    Between {
        /// The least value.
        low: f64,
        /// Above all values.
        high: f64,
    },
}

impl Init {
    /// N(0, std²).
    pub const fn normal(std: f64) -> Self {
        Self::Normal { std }
    }
}

/// A parameter.
#[derive(Clone, Copy, Debug, Default)]
pub struct ParamInfo {
    /// Its name.
    pub name: Name,
    /// Its shape; a linear layer's weight is (out, in).
    pub shape: Shape,
    /// The part of the model that it belongs to.
    pub part: Part,
    /// Its optimizer group.
    pub group: GroupId,
    /// How it starts.
    pub init: Init,
    /// The random stream of its initial values.
    pub stream: u64,
    /// Whether it is frozen.
    pub frozen: bool,
    /// Whether it is never trained and remains frozen, as f32, whatever part of the model is tuned.
    pub buffer: bool,
    /// Whether it belongs to a low-rank adapter: it is neither in the model's own files nor quantised.
    pub adapter: bool,
    /// The type of its elements; trainable parameters are [`DType::Real`].
    pub dtype: DType,
    /// Its start: in elements of the flat trainable buffer, a multiple of [`UNIT`], or in bytes of the frozen buffer, a multiple of
    /// [`crate::shape::UNIT_BYTES`].
    pub offset: usize,
}

impl ParamInfo {
    /// Its elements in the flat trainable buffer.
    pub fn range(&self) -> Range<usize> {
        self.offset..self.offset.saturating_add(self.shape.len())
    }

    /// Fills its values with initial ones.
    fn fill(&self, seed: u64, values: &mut [f32]) {
        match self.init {
            Init::Zeros => values.fill(0.0),
            Init::Ones => values.fill(1.0),
            Init::Normal { std } => {
                let mut rng = Rng::new(seed, Purpose::Init, self.stream);
                for value in values {
                    *value = (rng.normal_f64() * std) as f32;
                }
            }
            Init::Uniform { bound } => Rng::new(seed, Purpose::Init, self.stream).fill_uniform(values, -bound, bound),
            Init::Between { low, high } => Rng::new(seed, Purpose::Init, self.stream).fill_uniform(values, low, high),
        }
    }

    /// Its bytes in the frozen buffer, where an element of type `Real` takes `real_bytes`.
    pub fn frozen_bytes(&self, real_bytes: usize) -> Range<usize> {
        self.offset..self.offset.saturating_add(self.dtype.bytes(self.shape.len(), real_bytes).unwrap_or(0))
    }
}

/// The sizes of the buffers of a registry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// Elements of the flat trainable buffer.
    pub trainable_len: usize,
    /// Bytes of the frozen buffer.
    pub frozen_bytes: usize,
}

/// A finished registry.
#[derive(Clone, Copy, Debug)]
pub struct Params<'a> {
    infos: &'a [ParamInfo],
    layout: Layout,
}

impl<'a> Params<'a> {
    /// Assembles a registry from the parts of one finished registry.
    pub const fn from_parts(infos: &'a [ParamInfo], layout: Layout) -> Self {
        Self { infos, layout }
    }

    /// The sizes of the buffers.
    pub const fn layout(&self) -> Layout {
        self.layout
    }

    /// The parameters in the order in which they were added.
    pub const fn infos(&self) -> &'a [ParamInfo] {
        self.infos
    }

    /// Elements of the flat trainable buffer, of the gradients, and of each moment.
    pub const fn trainable_len(&self) -> usize {
        self.layout.trainable_len
    }

    /// Bytes of the frozen buffer.
    pub const fn frozen_bytes(&self) -> usize {
        self.layout.frozen_bytes
    }

    /// The two default groups and every other group with parameters, each with its elements in the flat trainable buffer.
    ///
    /// Ranges are consecutive in the order of the groups and cover the buffer; a group without trainable parameters has an empty range.
    pub fn groups(&self) -> impl Iterator<Item = (GroupId, Range<usize>)> + 'a {
        let params = *self;
        (0..MAX_GROUPS).filter_map(move |number| {
            let defaults = [GroupId::DECAY, GroupId::NO_DECAY];
            let mut known = defaults.into_iter().chain(params.infos.iter().map(|p| p.group));
            known.find(|group| group.index() == number).map(|group| (group, params.group_range(group)))
        })
    }

    /// The elements of a group in the flat trainable buffer.
    pub fn group_range(&self, group: GroupId) -> Range<usize> {
        let start = group.index().checked_sub(1).map_or(0, |below| self.groups_end(below));
        start..self.groups_end(group.index())
    }

    /// The ends of the groups up to index `last`.
    fn groups_end(&self, last: usize) -> usize {
        let own = self.infos.iter().filter(|p| !p.frozen && p.group.index() <= last);
        own.map(|p| p.range().end.checked_next_multiple_of(UNIT).unwrap_or(usize::MAX)).max().unwrap_or(0)
    }

    /// The number of trainable values, without alignment padding.
    pub fn trainable_count(&self) -> usize {
        self.infos.iter().filter(|p| !p.frozen).map(|p| p.shape.len()).sum()
    }

    /// Fills `trainable` with initial values. Value i of a parameter depends on the seed, the parameter's stream and i, not on the layout.
    pub fn initialise(&self, seed: u64, trainable: &mut [f32]) {
        for info in self.infos.iter().filter(|p| !p.frozen) {
            info.fill(seed, trainable.get_mut(info.range()).unwrap_or(&mut []));
        }
    }

    /// Fills the frozen parameters of f32 values in the frozen buffer, aligned for f32, with initial values.
    pub fn initialise_frozen(&self, seed: u64, frozen: &mut [u8]) {
        for info in self.infos.iter().filter(|p| p.frozen && p.dtype == DType::Real) {
            let bytes = frozen.get_mut(info.frozen_bytes(size_of::<f32>())).unwrap_or(&mut []);
            info.fill(seed, bytemuck::try_cast_slice_mut(bytes).unwrap_or(&mut []));
        }
    }
}
