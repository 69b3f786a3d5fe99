//! The ports that a kind of sessions serves: what programs for text need, and what programs for images need.

use super::FileProgram;
use super::layout::{Header, Port, ProgramKind};
use crate::graph::{Role, Shape};

/// A kind of sessions. Its checks are compiled for those that a program links.
pub(super) trait Serves {
    /// The ports, by their codes.
    const PORTS: &'static [Served];

    /// Tokens or images of a run.
    fn items(program: &FileProgram<'_>) -> usize;

    /// Rows of the logits of a run of so many tokens or images.
    fn rows(items: usize) -> usize;

    /// The first port whose tensor has extents that a session cannot serve.
    fn unfit(program: &FileProgram<'_>, kind: ProgramKind, header: &Header) -> Option<Port>;
}

/// A port that sessions serve.
pub(super) struct Served {
    pub(super) role: Role,
    pub(super) len: Len,
    /// Bit k: programs of the kind with code k need it.
    pub(super) programs: u8,
}

/// The elements of a port.
pub(super) enum Len {
    One,
    /// One for each token or image.
    Items,
    OneOrItems,
    /// A row of the vocabulary, or of the classes, for each of [`Serves::rows`].
    Rows,
    Hyper,
    Any,
}

const DECODE: u8 = 1 << ProgramKind::Decode as u8;
const TRAIN: u8 = 1 << ProgramKind::Train as u8;
const EVALUATE: u8 = 1 << ProgramKind::Evaluate as u8;

const fn served(role: Role, len: Len, programs: u8) -> Served {
    Served { role, len, programs }
}

/// Sessions of language models.
pub(super) struct Text;

static TEXT: [Served; 9] = [
    served(Role::Ints, Len::Items, DECODE | TRAIN | EVALUATE), // tokens
    served(Role::Ints, Len::Items, DECODE | TRAIN | EVALUATE), // positions
    served(Role::Ints, Len::One, DECODE),                      // starts
    served(Role::Ints, Len::One, DECODE),                      // live
    served(Role::Activation, Len::Rows, DECODE),               // logits
    served(Role::Ints, Len::Items, TRAIN | EVALUATE),          // targets
    served(Role::Input, Len::OneOrItems, TRAIN),               // upstream
    served(Role::Input, Len::Hyper, TRAIN),                    // hyper
    served(Role::Activation, Len::Items, TRAIN | EVALUATE),    // losses
];

impl Serves for Text {
    const PORTS: &'static [Served] = &TEXT;

    fn items(program: &FileProgram<'_>) -> usize {
        program.program.shape(program.port(Port::Tokens)).len()
    }

    /// Those of one token.
    fn rows(_: usize) -> usize {
        1
    }

    fn unfit(program: &FileProgram<'_>, kind: ProgramKind, header: &Header) -> Option<Port> {
        let tokens = program.program.shape(program.port(Port::Tokens));
        let decodes = kind == ProgramKind::Decode;
        if tokens.cols() > header.context as usize || (decodes && tokens.len() != 1) {
            return Some(Port::Tokens);
        }
        (!decodes && !has_positions(program, tokens)).then_some(Port::Positions)
    }
}

/// Positions are counted from 0 in every sequence without a bounds check: they are within the bounds.
fn has_positions(program: &FileProgram<'_>, tokens: Shape) -> bool {
    program.program.tensor(program.port(Port::Positions)).is_some_and(|r| {
        let [low, high] = r.bounds;
        r.shape == tokens && low <= 0 && usize::try_from(high).is_ok_and(|high| high.saturating_add(1) >= tokens.cols())
    })
}

/// Sessions of image classifiers.
pub(super) struct Images;

static IMAGES: [Served; 11] = {
    const NONE: Served = served(Role::Ints, Len::One, 0);
    [
        NONE,
        NONE,
        NONE,
        NONE,
        served(Role::Activation, Len::Rows, EVALUATE), // logits
        NONE,
        served(Role::Input, Len::OneOrItems, TRAIN),     // upstream
        served(Role::Input, Len::Hyper, TRAIN),          // hyper
        served(Role::Activation, Len::Items, TRAIN),     // losses
        served(Role::Input, Len::Any, TRAIN | EVALUATE), // pixels
        served(Role::Ints, Len::Items, TRAIN),           // labels
    ]
};

impl Serves for Images {
    const PORTS: &'static [Served] = &IMAGES;

    fn items(program: &FileProgram<'_>) -> usize {
        program.program.shape(program.port(Port::Pixels)).dim(0)
    }

    fn rows(items: usize) -> usize {
        items
    }

    fn unfit(program: &FileProgram<'_>, kind: ProgramKind, _: &Header) -> Option<Port> {
        let pixels = program.program.shape(program.port(Port::Pixels));
        (kind == ProgramKind::Decode || pixels.is_empty()).then_some(Port::Pixels)
    }
}

/// Whether the host writes tensors of a role.
pub(super) const fn is_input(role: Role) -> bool {
    matches!(role, Role::Input | Role::Ints)
}
