//! A registry under construction: scopes name parameters, `finish` lays them out.

use core::fmt;

use super::group::{Group, GroupId, MAX_GROUPS};
use super::name::{MAX_DEPTH, Name};
use super::{Init, Layout, Lora, ParamId, ParamInfo, Params, Part};
use crate::dtype::DType;
use crate::quant::BLOCK;
use crate::shape::{Shape, UNIT, UNIT_BYTES};

/// Errors of a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParamsError {
    /// The storage is full.
    TooMany {
        /// The capacity of its storage.
        capacity: usize,
        /// How many were added.
        needed: usize,
    },
    /// Two parameters have one name.
    Duplicate {
        /// The name.
        name: Name,
    },
    /// A path has too many parts, or a number above 65534.
    Path {
        /// The scope.
        scope: Name,
        /// The word that was to follow.
        word: &'static str,
    },
    /// Layers of a stack register different numbers of parameters.
    Uneven {
        /// The first layer that differs from layer 0.
        name: Name,
    },
    /// More groups than a registry can have.
    TooManyGroups,
    /// The row length is not a multiple of the quantisation block.
    Blocks {
        /// The parameter.
        name: Name,
        /// Elements of a row.
        cols: usize,
    },
    /// A parameter has more elements, or more extents, than a tensor can have.
    TooLarge {
        /// The parameter.
        name: Name,
    },
    /// The trainable or the frozen parameters exceed the range of buffer positions, or what this machine can address.
    NoPlace {
        /// The parameter that has no place any more.
        name: Name,
    },
}

impl fmt::Display for ParamsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany { capacity, needed } => {
                write!(f, "{needed} parameters, but storage for only {capacity}: lend storage for {needed}")
            }
            Self::Duplicate { name } => write!(f, "two parameters are named {name}: give one of them a scope of its own"),
            Self::Path { scope, word } => write!(
                f,
                "no place for \"{word}\" in scope \"{scope}\": names have at most {MAX_DEPTH} parts and numbers up to 65534; \
                 join words of one part with dots"
            ),
            Self::Uneven { name } => write!(f, "layer {name} has another number of parameters than the first layer of its stack"),
            Self::TooManyGroups => write!(f, "more than {MAX_GROUPS} optimizer groups"),
            Self::Blocks { name, cols } => {
                write!(
                    f,
                    "parameter {name} has rows of {cols} values, not a multiple of the quantisation block of {BLOCK}: keep it in f32"
                )
            }
            Self::TooLarge { name } => {
                write!(f, "parameter {name} has more than 2147483647 elements or more than four extents: split it")
            }
            Self::NoPlace { name } => write!(
                f,
                "no place for parameter {name}: trainable ones have at most 2^36 elements together, frozen ones 2^38 bytes, and all must be \
                 addressable by this machine"
            ),
        }
    }
}

impl core::error::Error for ParamsError {}

/// The random stream of a parameter's initial values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Streams {
    /// The hash of its name ([`Name::hash`]): initial values do not depend on other parameters or on the order of registration.
    #[default]
    Name,
    /// Its index in the registry, as in GPT models: their trajectories are pinned to the bit. Adapters are not counted.
    Number,
}

/// A registry that is being filled.
pub struct Registry<'a> {
    infos: &'a mut [ParamInfo],
    state: State,
}

/// The state of a registry besides its parameters.
struct State {
    /// Parameters registered, including those beyond the capacity.
    len: usize,
    /// How many of them belong to low-rank adapters.
    adapters: usize,
    groups: usize,
    error: Option<ParamsError>,
}

impl State {
    fn fail(&mut self, error: ParamsError) {
        self.error = self.error.or(Some(error));
    }
}

impl<'a> Registry<'a> {
    /// An empty registry in lent storage; [`Registry::count`] gives the required size.
    pub fn new(storage: &'a mut [ParamInfo]) -> Self {
        Self { infos: storage, state: State { len: 0, adapters: 0, groups: 2, error: None } }
    }

    /// The root scope.
    pub fn scope(&mut self) -> Scope<'_> {
        let settings = Settings {
            path: Name::ROOT,
            part: Part::Other,
            matrices: GroupId::DECAY,
            vectors: GroupId::NO_DECAY,
            streams: Streams::Name,
            lora: None,
        };
        Scope { infos: self.infos, state: &mut self.state, settings }
    }

    /// How many parameters `register` adds.
    pub fn count<T>(register: impl FnOnce(&mut Scope<'_>) -> T) -> usize {
        let mut registry = Registry::new(&mut []);
        register(&mut registry.scope());
        registry.state.len
    }

    /// Adds an optimizer group to the two default ones; see [`Scope::groups`].
    pub fn add_group(&mut self, group: Group) -> GroupId {
        let id = GroupId::new(self.state.groups as u8, group);
        if self.state.groups >= MAX_GROUPS {
            self.state.fail(ParamsError::TooManyGroups);
            return if group.decay { GroupId::DECAY } else { GroupId::NO_DECAY };
        }
        self.state.groups = self.state.groups.saturating_add(1);
        id
    }

    /// The parameters registered so far, to change groups, initial values, or what is frozen.
    pub fn infos_mut(&mut self) -> &mut [ParamInfo] {
        let len = self.state.len.min(self.infos.len());
        self.infos.get_mut(..len).unwrap_or(&mut [])
    }

    /// Lays the parameters out: trainable ones group by group, then frozen ones. `real_bytes` is the size of an element of type `Real` (4 in use).
    ///
    /// # Errors
    /// The first error of this registry or of its scopes.
    pub fn finish(mut self, real_bytes: usize) -> Result<Params<'a>, ParamsError> {
        if let Some(error) = self.state.error {
            return Err(error);
        }
        let (capacity, needed) = (self.infos.len(), self.state.len);
        if needed > capacity {
            return Err(ParamsError::TooMany { capacity, needed });
        }
        check_unique(self.infos_mut())?;
        let trainable_len = lay_out_trainable(self.infos_mut())?;
        let frozen_bytes = lay_out_frozen(self.infos_mut(), real_bytes)?;
        let infos: &'a [ParamInfo] = self.infos;
        Ok(Params::from_parts(infos.get(..needed).unwrap_or(&[]), Layout { trainable_len, frozen_bytes }))
    }
}

fn check_unique(infos: &[ParamInfo]) -> Result<(), ParamsError> {
    for (i, info) in infos.iter().enumerate() {
        if infos.iter().take(i).any(|earlier| earlier.name == info.name) {
            return Err(ParamsError::Duplicate { name: info.name });
        }
    }
    Ok(())
}

/// Places the trainable parameters, one group after the other; returns the length of the flat buffer.
fn lay_out_trainable(infos: &mut [ParamInfo]) -> Result<usize, ParamsError> {
    let mut end = 0usize;
    for group in 0..MAX_GROUPS {
        for info in infos.iter_mut().filter(|p| !p.frozen && p.group.index() == group) {
            info.offset = end;
            end = end_of(end, info.shape.len(), UNIT).ok_or(ParamsError::NoPlace { name: info.name })?;
        }
    }
    Ok(end)
}

/// Places the frozen parameters; returns the length of their buffer in bytes.
fn lay_out_frozen(infos: &mut [ParamInfo], real_bytes: usize) -> Result<usize, ParamsError> {
    let mut end = 0usize;
    for info in infos.iter_mut().filter(|p| p.frozen) {
        let no_place = ParamsError::NoPlace { name: info.name };
        let cols = info.shape.cols();
        if matches!(info.dtype, DType::Q8 | DType::Q4) && !cols.is_multiple_of(BLOCK) {
            return Err(ParamsError::Blocks { name: info.name, cols });
        }
        let bytes = info.dtype.bytes(info.shape.len(), real_bytes).ok_or(no_place)?;
        info.offset = end;
        end = end_of(end, bytes, UNIT_BYTES).ok_or(no_place)?;
    }
    Ok(end)
}

/// The start of the next parameter after one of `len` at `start`; `None` beyond 32 bits of units, or beyond what this machine can address.
fn end_of(start: usize, len: usize, unit: usize) -> Option<usize> {
    let end = start.checked_add(len)?.checked_next_multiple_of(unit)?;
    u32::try_from(end.checked_div(unit)?).is_ok().then_some(end)
}

/// A path under which parameters are registered, with the settings that all parameters below it share.
///
/// Errors are sticky, so that layers need no `?`: [`Registry::finish`] returns the first one.
pub struct Scope<'r> {
    infos: &'r mut [ParamInfo],
    state: &'r mut State,
    settings: Settings<'r>,
}

#[derive(Clone, Copy)]
struct Settings<'t> {
    path: Name,
    part: Part,
    matrices: GroupId,
    vectors: GroupId,
    streams: Streams,
    lora: Option<Lora<'t>>,
}

impl Scope<'_> {
    /// The scope `word` in this one.
    pub fn at(&mut self, word: &'static str) -> Scope<'_> {
        let path = self.join(word, None);
        self.with(Settings { path, ..self.settings })
    }

    /// The scope `word.number` in this one.
    pub fn item(&mut self, word: &'static str, number: usize) -> Scope<'_> {
        let path = self.join(word, Some(number));
        self.with(Settings { path, ..self.settings })
    }

    /// This scope, whose parameters belong to another part of the model.
    pub fn part(&mut self, part: Part) -> Scope<'_> {
        self.with(Settings { part, ..self.settings })
    }

    /// This scope with other optimizer groups: one for parameters with two or more extents, one for vectors.
    pub fn groups(&mut self, matrices: GroupId, vectors: GroupId) -> Scope<'_> {
        self.with(Settings { matrices, vectors, ..self.settings })
    }

    /// This scope with initial values from other streams.
    pub fn streams(&mut self, streams: Streams) -> Scope<'_> {
        self.with(Settings { streams, ..self.settings })
    }

    /// This scope with low-rank adapters in those of its linear layers that are targets.
    pub fn adapted<'s>(&'s mut self, lora: Lora<'s>) -> Scope<'s> {
        Scope { infos: self.infos, state: self.state, settings: Settings { lora: Some(lora), ..self.settings } }
    }

    /// The adapter of a linear layer in this scope, if it gets one.
    pub fn lora(&self) -> Option<Lora<'_>> {
        self.settings.lora.filter(|lora| lora.adapts(&self.settings.path))
    }

    /// Adds a trainable parameter.
    pub fn add(&mut self, word: &'static str, extents: &[usize], init: Init) -> ParamId {
        let number = self.state.len.saturating_sub(self.state.adapters);
        self.push(word, extents, init, Some(number))
    }

    /// Adds a parameter that is never trained and starts as `init`: statistics of a normalisation, for example.
    pub fn add_buffer(&mut self, word: &'static str, extents: &[usize], init: Init) -> ParamId {
        let id = self.add(word, extents, init);
        if let Some(info) = self.infos.get_mut(id.index()) {
            (info.frozen, info.buffer) = (true, true);
        }
        id
    }

    /// Adds a trainable parameter of a low-rank adapter. Its initial values come from the stream of its name.
    pub fn add_adapter(&mut self, word: &'static str, extents: &[usize], init: Init) -> ParamId {
        let id = self.push(word, extents, init, None);
        self.state.adapters = self.state.adapters.saturating_add(1);
        id
    }

    /// Adds a parameter: with this index in the base model, or an adapter's.
    fn push(&mut self, word: &'static str, extents: &[usize], init: Init, of_base: Option<usize>) -> ParamId {
        let name = self.join(word, None);
        let Settings { part, matrices, vectors, streams, .. } = self.settings;
        let shape = Shape::new(extents).unwrap_or_else(|| {
            self.state.fail(ParamsError::TooLarge { name });
            Shape::SCALAR
        });
        let number = self.state.len;
        let stream = match (streams, of_base) {
            (Streams::Number, Some(number)) => number as u64,
            (Streams::Name, _) | (Streams::Number, None) => name.hash(),
        };
        let adapter = of_base.is_none();
        let group = if extents.len() >= 2 { matrices } else { vectors };
        if let Some(info) = self.infos.get_mut(number) {
            let dtype = DType::Real;
            *info = ParamInfo { name, shape, part, group, init, stream, frozen: false, buffer: false, adapter, dtype, offset: 0 };
        }
        self.state.len = number.saturating_add(1);
        if number >= usize::from(u16::MAX) {
            self.state.fail(ParamsError::TooMany { capacity: u16::MAX.into(), needed: self.state.len });
        }
        ParamId(number as u16)
    }

    /// The index of the next parameter.
    pub(crate) fn next_number(&self) -> usize {
        self.state.len
    }

    /// Records that the layer in this scope differs from the first of its stack.
    pub(crate) fn fail_uneven(&mut self) {
        self.state.fail(ParamsError::Uneven { name: self.settings.path });
    }

    fn join(&mut self, word: &'static str, number: Option<usize>) -> Name {
        let scope = self.settings.path;
        scope.join(word, number).unwrap_or_else(|| {
            self.state.fail(ParamsError::Path { scope, word });
            scope
        })
    }

    fn with<'s>(&'s mut self, settings: Settings<'s>) -> Scope<'s> {
        Scope { infos: self.infos, state: self.state, settings }
    }
}
