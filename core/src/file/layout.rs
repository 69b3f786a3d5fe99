//! How a program file is laid out: a header, a table of sections, sections. All numbers are little-endian; every section begins at a multiple of
//! [`ALIGN_BYTES`] from the start of the file.
//!
//! **Versions.** Codes of operations, sections, programs and ports are only ever appended. A file says the version of the format that it needs, and an
//! older reader refuses it; what an older file lacks has a documented default.

use core::ops::Range;

use bytemuck::{Pod, Zeroable};

use crate::graph::ProgramInfo;

/// The first bytes of a file. The first is no text, and the line break is damaged by transfers that mean to convert text.
pub const MAGIC: [u8; 8] = *b"\x89samara\n";
/// The newest version of the format that this build reads.
pub const VERSION: u32 = 1;
/// Sections begin at multiples of this, in the file and in memory.
pub const ALIGN_BYTES: usize = 64;
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
    /// The version that the file needs.
    pub version: u32,
    /// See [`super::checksum`].
    pub checksum: u32,
    /// Bytes of the file.
    pub len: u32,
    /// Entries of the table of sections, which follows the header.
    pub sections: u32,
    /// Parameters: the first tensors of every program.
    pub params: u32,
    /// Elements of the trainable parameters.
    pub trainable_len: u32,
    /// How many of them, from the start, weight decay applies to.
    pub decay_len: u32,
    /// Bytes of the frozen parameters.
    pub frozen_bytes: u32,
    /// Token ids.
    pub vocab_size: u32,
    /// Tokens that a sequence can have.
    pub context: u32,
    /// The token that ends a text, [`NO_TOKEN`] for none.
    pub end_of_text: u32,
    /// 0.
    pub reserved: [u32; 3],
}

/// An entry of the table of sections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Section {
    /// A [`SectionKind`].
    pub kind: u32,
    /// The [`ProgramKind`] that it belongs to, 0 for what all programs share.
    pub program: u32,
    /// Where it begins, in bytes from the start of the file.
    pub offset: u32,
    /// Its bytes.
    pub len: u32,
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

/// Ports of a program.
pub const PORTS: usize = 16;

/// The tensors by which the outside and a program exchange values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// Token ids.
    Tokens = 0,
    /// Their positions.
    Positions = 1,
    /// Tokens already in the cache.
    Starts = 2,
    /// Tokens in the cache afterwards.
    Live = 3,
    /// Logits (V).
    Logits = 4,
    /// The token that follows each token.
    Targets = 5,
    /// The gradient of what is minimised with respect to each loss.
    Upstream = 6,
    /// Hyper-parameters of the update, [`crate::graph::HYPER_LEN`].
    Hyper = 7,
    /// Losses of the tokens.
    Losses = 8,
}

/// What stands beside the tables of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct ProgramHeader {
    /// Numbers of the program.
    pub info: ProgramInfo,
    /// Elements of the arena.
    pub arena_len: u32,
    /// The tensor of every [`Port`], `u16::MAX` for none.
    pub ports: [u16; PORTS],
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
