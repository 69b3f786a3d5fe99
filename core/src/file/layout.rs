//! The layout of a program file: a header, a table of sections, sections. All values are little-endian. Every section begins at a multiple of
//! [`UNIT_BYTES`] from the start of the file; positions and lengths that might not fit 32 bits are counted in these units.
//!
//! **Versions.** Codes of operations, sections, programs and ports are append-only. A file records the version of its layout, and a reader accepts
//! one version: `samara export --convert` rewrites older files, so that no device carries code for two.
//!
//! **Unknown codes.** A reader refuses an unknown section, program or operation, and an input port of a kind that it does not serve, because the
//! program would run on unwritten values. An unknown output port is ignored: a result may stay unread. So new kinds of models need new codes and no
//! new version.

use core::ops::Range;

use bytemuck::{Pod, Zeroable};

use crate::graph::{ProgramInfo, Tensor};
use crate::params::Layout;
use crate::shape::{UNIT, UNIT_BYTES};

/// The first bytes of a file. The first byte is not ASCII, and the line break is damaged by transfers that convert text.
pub const MAGIC: [u8; 8] = *b"\x89samara\n";
/// The version of the layout that this build reads.
pub const VERSION: u32 = 2;
/// The bytes of the checksum field.
pub(super) const CHECKSUM: Range<usize> = 12..16;
/// No token: a model without an end of text.
pub const NO_TOKEN: u32 = u32::MAX;
/// The most tensors and nodes of a program together: checking compares them pairwise.
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
    /// Token ids, or classes.
    pub vocab_size: u32,
    /// Tokens that a sequence can have; 0 where there are none.
    pub context: u32,
    /// The end-of-text token, [`NO_TOKEN`] for none.
    pub end_of_text: u32,
    /// 0.
    pub reserved: [u32; 3],
}

impl Header {
    /// The sizes of the parameter buffers. The file has at least as many bytes of each, so that this machine can address them.
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

/// A group of trainable parameters with common update settings: a range of the flat buffer. Groups are consecutive and cover it.
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
        /// The losses of a text, or the logits of images.
        Evaluate = 3,
    }
}

impl ProgramKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Decode, Self::Train, Self::Evaluate];
}

codes! {
    /// The meaning of a port. Sessions of this version serve the first eleven kinds; the others are for models whose output is not logits.
    Port {
        /// Token ids (B, T).
        Tokens = 0,
        /// Their positions (B, T).
        Positions = 1,
        /// Tokens already in the cache (B).
        Starts = 2,
        /// Tokens in the cache afterwards (B).
        Live = 3,
        /// Logits (V), or of every image (B, classes).
        Logits = 4,
        /// The next token of each token (B, T), negative for none.
        Targets = 5,
        /// The gradient of the objective with respect to each loss: one value for all of them (1), or one per loss.
        Upstream = 6,
        /// Hyper-parameters of the update, [`crate::graph::HYPER_LEN`]. A group without a port of its own reads those of group 0.
        Hyper = 7,
        /// Losses of the tokens (B, T) or images (B).
        Losses = 8,
        /// Images, floating point: pixels (B, H, W, channels), or patches (B, N, channels·P·P) in the order of the model.
        Pixels = 9,
        /// Classes of images or texts, integers (B), negative for none.
        Labels = 10,
        /// Segment ids of tokens (B, T), integers: attention stays within a segment; negative for padding. The mask of every model that has one.
        Segments = 11,
        /// Segment ids of keys (B, capacity), where they differ from those of the tokens.
        KeySegments = 12,
        /// Types of tokens (B, T), integers.
        TokenTypes = 13,
        /// Ground-truth boxes, floating point (B, N, 4).
        TargetBoxes = 14,
        /// Predicted boxes, floating point (B, N, 4).
        Boxes = 15,
        /// Hidden states or embeddings, floating point (B, T, C) or (B, C).
        Hidden = 16,
        /// Scores of a head with one output, floating point (B) or (B, T).
        Scores = 17,
    }
}

/// Fields of a program that are not in its tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct ProgramHeader {
    /// Sizes and counts of the program.
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
