//! The registry of parameters: it exists before any graph, and many programs share it.
//!
//! *Trainable* parameters are numbers in one flat buffer; gradients and moments have its layout, so that an optimizer is one operation on a range.
//! *Frozen* parameters are bytes of any element type, read in place from flash or a mapped file.

use core::fmt;
use core::ops::Range;

use crate::dtype::DType;
use crate::math::rng::{Purpose, Rng};
use crate::quant::BLOCK;
use crate::shape::Shape;

/// Elements to which every trainable parameter is aligned in the flat buffers.
pub const ALIGN: usize = 16;

/// The number of a parameter in its registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ParamId(u16);

impl ParamId {
    /// The first parameter.
    pub const FIRST: Self = Self(0);

    /// The position in [`Params::infos`].
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// The parameter `n` places later: layers register the same parameters in the same order.
    pub const fn plus(self, n: usize) -> Self {
        Self(self.0.saturating_add(n as u16))
    }
}

/// A parameter's name: a template whose `{}` stands for an index, as in `h.{}.ln_1.weight`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Name {
    /// The template.
    pub template: &'static str,
    /// What `{}` stands for.
    pub index: u16,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.template.split_once("{}") {
            Some((before, after)) => write!(f, "{before}{}{after}", self.index),
            None => f.write_str(self.template),
        }
    }
}

/// Parameter groups of an optimizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Group {
    /// Weight decay applies: matrices and embeddings.
    #[default]
    Decay,
    /// Biases, gains and the like.
    NoDecay,
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
}

/// A parameter.
#[derive(Clone, Copy, Debug, Default)]
pub struct ParamInfo {
    /// Its name.
    pub name: Name,
    /// Its shape; a linear layer's weight is (out, in).
    pub shape: Shape,
    /// Its optimizer group.
    pub group: Group,
    /// How it starts.
    pub init: Init,
    /// Whether it is frozen.
    pub frozen: bool,
    /// The type of its elements; trainable parameters are [`DType::Real`].
    pub dtype: DType,
    /// Where it begins: in elements of the flat trainable buffer, or in bytes of the frozen ones.
    pub offset: u32,
}

impl ParamInfo {
    /// Its elements in the flat trainable buffer.
    pub fn range(&self) -> Range<usize> {
        let start = self.offset as usize;
        start..start.saturating_add(self.shape.len())
    }

    /// Its bytes in the frozen buffer, where a number takes `real_bytes`.
    pub fn frozen_bytes(&self, real_bytes: usize) -> Range<usize> {
        let start = self.offset as usize;
        start..start.saturating_add(self.dtype.bytes(self.shape.len(), real_bytes).unwrap_or(0))
    }
}

/// What can be wrong with a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParamsError {
    /// The storage is full.
    TooMany {
        /// How many parameters it holds.
        capacity: usize,
    },
    /// Rows do not fall into blocks.
    Blocks {
        /// The parameter.
        name: Name,
        /// Elements of a row.
        cols: usize,
    },
    /// A shape is impossible or all parameters together are too large.
    TooLarge {
        /// The parameter.
        name: Name,
    },
}

impl fmt::Display for ParamsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany { capacity } => write!(f, "more than {capacity} parameters: lend more storage"),
            Self::Blocks { name, cols } => {
                write!(f, "parameter {name} has rows of {cols} numbers, which do not fall into blocks of {BLOCK}: keep it in f32")
            }
            Self::TooLarge { name } => write!(f, "parameter {name} is too large"),
        }
    }
}

impl core::error::Error for ParamsError {}

/// A registry that is being filled.
pub struct Registry<'a> {
    infos: &'a mut [ParamInfo],
    len: usize,
    error: Option<ParamsError>,
}

impl<'a> Registry<'a> {
    /// An empty registry in lent storage.
    pub fn new(storage: &'a mut [ParamInfo]) -> Self {
        Self { infos: storage, len: 0, error: None }
    }

    /// Adds a trainable parameter; matrices are in the decay group, vectors are not. Errors appear in [`Registry::finish`].
    pub fn add(&mut self, template: &'static str, index: usize, extents: &[usize], init: Init) -> ParamId {
        let name = Name { template, index: index as u16 };
        let group = if extents.len() >= 2 { Group::Decay } else { Group::NoDecay };
        let id = ParamId(self.len as u16);
        let shape = Shape::new(extents);
        match (self.infos.get_mut(self.len), shape) {
            (Some(info), Some(shape)) => {
                *info = ParamInfo { name, shape, group, init, frozen: false, dtype: DType::Real, offset: 0 };
                self.len = self.len.saturating_add(1);
            }
            (None, _) => self.error = self.error.or(Some(ParamsError::TooMany { capacity: self.infos.len() })),
            (_, None) => self.error = self.error.or(Some(ParamsError::TooLarge { name })),
        }
        id
    }

    /// The parameters added so far, for changing groups, initial values, or what is frozen.
    pub fn infos_mut(&mut self) -> &mut [ParamInfo] {
        self.infos.get_mut(..self.len).unwrap_or(&mut [])
    }

    /// Lays the parameters out: trainable ones with decay, trainable ones without, frozen ones. `real_bytes` is the size of a number (4 in use).
    pub fn finish(mut self, real_bytes: usize) -> Result<Params<'a>, ParamsError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let mut decay_len = 0;
        let mut end = 0usize;
        for group in [Group::Decay, Group::NoDecay] {
            for info in self.infos_mut().iter_mut().filter(|p| !p.frozen && p.group == group) {
                info.offset = end as u32;
                end = end.saturating_add(info.shape.len()).next_multiple_of(ALIGN);
                if i32::try_from(end).is_err() {
                    return Err(ParamsError::TooLarge { name: info.name });
                }
            }
            if group == Group::Decay {
                decay_len = end;
            }
        }
        let mut frozen_bytes = 0usize;
        for info in self.infos_mut().iter_mut().filter(|p| p.frozen) {
            let too_large = ParamsError::TooLarge { name: info.name };
            let cols = info.shape.cols();
            if matches!(info.dtype, DType::Q8 | DType::Q4) && !cols.is_multiple_of(BLOCK) {
                return Err(ParamsError::Blocks { name: info.name, cols });
            }
            let bytes = info.dtype.bytes(info.shape.len(), real_bytes).ok_or(too_large)?;
            info.offset = frozen_bytes as u32;
            frozen_bytes = frozen_bytes.saturating_add(bytes).next_multiple_of(64);
            if u32::try_from(frozen_bytes).is_err() {
                return Err(too_large);
            }
        }
        let len = self.len;
        let infos: &'a [ParamInfo] = self.infos;
        Ok(Params::from_parts(infos.get(..len).unwrap_or(&[]), Layout { trainable_len: end, decay_len, frozen_bytes }))
    }
}

/// The sizes of the buffers of a registry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// Elements of the flat trainable buffer.
    pub trainable_len: usize,
    /// How many of them, from the start, are in the decay group.
    pub decay_len: usize,
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
    /// A registry from its parts, which must come from one finished registry.
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

    /// Elements of the flat trainable buffer, and of the gradients and each moment.
    pub const fn trainable_len(&self) -> usize {
        self.layout.trainable_len
    }

    /// Bytes of the frozen buffer.
    pub const fn frozen_bytes(&self) -> usize {
        self.layout.frozen_bytes
    }

    /// The elements of a group in the flat trainable buffer.
    pub const fn group_range(&self, group: Group) -> Range<usize> {
        match group {
            Group::Decay => 0..self.layout.decay_len,
            Group::NoDecay => self.layout.decay_len..self.layout.trainable_len,
        }
    }

    /// The number of trainable values, without alignment gaps.
    pub fn trainable_count(&self) -> usize {
        self.infos.iter().filter(|p| !p.frozen).map(|p| p.shape.len()).sum()
    }

    /// Fills `trainable` with initial values. Value i of a parameter depends on the seed, the parameter's number and i, not on the layout.
    pub fn initialise(&self, seed: u64, trainable: &mut [f32]) {
        for (number, info) in self.infos.iter().enumerate().filter(|(_, p)| !p.frozen) {
            let values = trainable.get_mut(info.range()).unwrap_or(&mut []);
            match info.init {
                Init::Zeros => values.fill(0.0),
                Init::Ones => values.fill(1.0),
                Init::Normal { std } => {
                    let mut rng = Rng::new(seed, Purpose::Init, number as u64);
                    for value in values {
                        *value = (rng.normal_f64() * std) as f32;
                    }
                }
            }
        }
    }
}
