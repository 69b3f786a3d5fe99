//! How a program file is laid out: a header, a table of sections, sections. All numbers are little-endian; every section begins at a whole number of
//! units ([`UNIT_BYTES`]) from the start of the file, and positions and lengths are counted in them where they would not fit 32 bits otherwise.
//!
//! **Versions.** Codes of operations, sections, programs and ports are only ever appended. A file says the version of its layout, and a reader takes
//! one: `samara export --convert` rewrites older files, so that no device carries code for two.
//!
//! **What a reader does not know.** It refuses a section, a program or an operation with a code that it does not know, and a port of a kind that it does
//! not serve if that is an input, for the program would run on values that nobody wrote. A port that it does not know and that is an output is left
//! alone: nobody has to read a result. So new kinds of models need new codes and no new version.

use core::ops::Range;

use bytemuck::{Pod, Zeroable};

use crate::graph::{ProgramInfo, Tensor};
use crate::params::Layout;
use crate::shape::{UNIT, UNIT_BYTES};

/// The first bytes of a file. The first is no text, and the line break is damaged by transfers that mean to convert text.
pub const MAGIC: [u8; 8] = *b"\x89samara\n";
/// The version of the layout that this build reads.
pub const VERSION: u32 = 2;
/// Where the checksum stands.
pub(super) const CHECKSUM: Range<usize> = 12..16;
/// No token: a model without an end of text.
pub const NO_TOKEN: u32 = u32::MAX;
/// Tensors and nodes of a program together are at most this many: checking compares them with each other.
pub const MAX_RECORDS: usize = 8192;

/// The first [`size_of::<Header>()`](Header) bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Header {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// [`VERSION`].
    pub version: u32,
    /// See [`super::checksum`].
    pub checksum: u32,
    /// Bytes of the file.
    pub len: u64,
    /// Entries of the table of sections, which follows the header.
    pub sections: u32,
    /// Parameters: the first tensors of every program.
    pub params: u32,
    /// Units ([`UNIT`]) of the trainable parameters.
    pub trainable_units: u32,
    /// Units ([`UNIT_BYTES`]) of the frozen parameters.
    pub frozen_units: u32,
    /// Token ids.
    pub vocab_size: u32,
    /// Tokens that a sequence can have.
    pub context: u32,
    /// The token that ends a text, [`NO_TOKEN`] for none.
    pub end_of_text: u32,
    /// 0.
    pub reserved: [u32; 3],
}

impl Header {
    /// The sizes of the buffers of the parameters. The file has as many bytes of both, so that this machine can address them.
    pub const fn layout(&self) -> Layout {
        Layout {
            trainable_len: (self.trainable_units as usize).wrapping_mul(UNIT),
            frozen_bytes: (self.frozen_units as usize).wrapping_mul(UNIT_BYTES),
        }
    }
}

/// An entry of the table of sections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Section {
    /// A [`SectionKind`].
    pub kind: u16,
    /// The [`ProgramKind`] that it belongs to, 0 for what all programs share.
    pub program: u16,
    /// Where it begins, in units ([`UNIT_BYTES`]) from the start of the file.
    pub offset_units: u32,
    /// Its bytes.
    pub len: u64,
}

impl Section {
    /// Its bytes of the file; `None` for what this machine cannot address.
    #[inline(never)]
    pub fn range(&self) -> Option<Range<usize>> {
        let start = (self.offset_units as usize).checked_mul(UNIT_BYTES)?;
        Some(start..start.checked_add(usize::try_from(self.len).ok()?)?)
    }
}

/// A group of trainable parameters, which are updated alike: a range of the flat buffer. Groups lie one behind the other and cover it.
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct GroupRecord {
    /// Its units ([`UNIT`]).
    pub units: u32,
    /// [`DECAY`] or 0.
    pub flags: u32,
    /// Its learning rate is that of the step times this, which is finite and not negative. 0 freezes the group.
    pub lr_scale: f32,
    /// 0.
    pub reserved: u32,
}

/// Weight decay applies to a group.
pub const DECAY: u32 = 1;

/// A tensor by which the outside and a program exchange values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct PortRecord {
    /// A [`Port`].
    pub kind: u16,
    /// Which of several of this kind; of [`Port::Hyper`], the place of its group among the groups.
    pub index: u16,
    /// The tensor.
    pub tensor: Tensor,
    /// 0.
    pub reserved: u16,
}

macro_rules! codes {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $code:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[cfg_attr(feature = "defmt", derive(defmt::Format))]
        #[repr(u32)]
        pub enum $name { $($(#[$vmeta])* $variant = $code,)* }
        impl $name {
            /// The meaning of a code.
            pub const fn from_code(code: u32) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

codes! {
    /// What a section holds.
    SectionKind {
        /// A [`ProgramHeader`].
        Program = 1,
        /// [`crate::graph::TensorRecord`]s.
        Tensors = 2,
        /// [`crate::graph::NodeRecord`]s.
        Nodes = 3,
        /// [`crate::plan::Slot`]s: one for each tensor, then one for each node.
        Slots = 4,
        /// Initial values of the trainable parameters, `f32`.
        Trainable = 5,
        /// The frozen parameters.
        Frozen = 6,
        /// A [`TokenizerHeader`].
        Tokenizer = 7,
        /// Characters by id, 32 bits each.
        Chars = 8,
        /// [`crate::tokenizer::BpeTables::byte_tokens`].
        ByteTokens = 9,
        /// [`crate::tokenizer::BpeTables::token_offsets`].
        TokenOffsets = 10,
        /// [`crate::tokenizer::BpeTables::token_bytes`].
        TokenBytes = 11,
        /// [`crate::tokenizer::BpeTables::merged`].
        Merged = 12,
        /// [`crate::tokenizer::BpeTables::pairs`].
        Pairs = 13,
        /// [`crate::tokenizer::BpeTables::words`]; absent for none.
        Words = 14,
        /// [`crate::tokenizer::Classes::index`].
        ClassIndex = 16,
        /// [`crate::tokenizer::Classes::blocks`].
        ClassBlocks = 17,
        /// Names of the parameters, each with a line break behind it; may be stripped.
        Names = 15,
        /// [`PortRecord`]s of a program.
        Ports = 18,
        /// [`GroupRecord`]s; absent where nothing is trained.
        Groups = 19,
    }
}

codes! {
    /// What a program does.
    ProgramKind {
        /// One token through the model, with a cache of keys and values.
        Decode = 1,
        /// A step of training: forward, backward, update.
        Train = 2,
        /// The losses of a text.
        Evaluate = 3,
    }
}

impl ProgramKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Decode, Self::Train, Self::Evaluate];
}

codes! {
    /// What a port carries. Sessions of this version serve the first nine kinds; the others are for models that take images, or answer with something
    /// else than logits.
    Port {
        /// Token ids (B, T).
        Tokens = 0,
        /// Their positions (B, T).
        Positions = 1,
        /// Tokens already in the cache (B).
        Starts = 2,
        /// Tokens in the cache afterwards (B).
        Live = 3,
        /// Logits (V).
        Logits = 4,
        /// The token that follows each token (B, T), negative for none.
        Targets = 5,
        /// The gradient of what is minimised with respect to each loss: one number for all of them (1), or one for each.
        Upstream = 6,
        /// Hyper-parameters of the update, [`crate::graph::HYPER_LEN`]. Without one of its own, a group reads those of group 0.
        Hyper = 7,
        /// Losses of the tokens (B, T).
        Losses = 8,
        /// Images, numbers (B, H, W, C).
        Pixels = 9,
        /// Classes of images or texts, integers (B), negative for none.
        Labels = 10,
        /// Segments of tokens (B, T), integers: attention within one alone, negative for padding. The mask of every model that has one.
        Segments = 11,
        /// Segments of keys (B, capacity), where they are not those of the tokens.
        KeySegments = 12,
        /// Types of tokens (B, T), integers.
        TokenTypes = 13,
        /// Boxes of objects to be found, numbers (B, N, 4).
        TargetBoxes = 14,
        /// Boxes of objects that were found, numbers (B, N, 4).
        Boxes = 15,
        /// Hidden states or embeddings, numbers (B, T, C) or (B, C).
        Hidden = 16,
        /// Scores of a head with one output, numbers (B) or (B, T).
        Scores = 17,
    }
}

/// What stands beside the tables of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct ProgramHeader {
    /// Numbers of the program.
    pub info: ProgramInfo,
    /// Units ([`UNIT`]) of the arena.
    pub arena_units: u32,
}

/// How text becomes tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct TokenizerHeader {
    /// A [`TokenizerKind`].
    pub kind: u32,
    /// 0: GPT-2's pattern cuts text into words; 1: text is one word.
    pub split: u32,
}

codes! {
    /// Kinds of tokenizers.
    TokenizerKind {
        /// The id of a byte is its value.
        Bytes = 0,
        /// The id of a character is its place in a sorted list.
        Chars = 1,
        /// Byte-level BPE.
        Bpe = 2,
    }
}
