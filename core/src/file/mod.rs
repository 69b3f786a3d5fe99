//! The program file (`.samara`): programs with their plans, parameters and tokenizer in one file, read in place from flash or a mapped file.
//!
//! [`ProgramFile::open`] checks everything once. Afterwards a run stays within the memory lent to it, and every node finds its inputs: opening can
//! fail, running cannot. Only the initial values of trainable parameters are copied.

mod check;
mod checksum;
mod error;
pub mod layout;
mod serves;
mod text;

pub use checksum::checksum;
pub use error::FileError;
pub use layout::{Port, ProgramKind, SectionKind};
pub use text::TextError;

use bytemuck::{CheckedBitPattern, checked};
use layout::{GroupRecord, Header, MAGIC, PortRecord, ProgramHeader, Section, TokenizerHeader, TokenizerKind, VERSION};
use serves::{Images, Text};

use crate::exec::Kernels;
use crate::graph::{NodeRecord, Program, Tensor, TensorRecord};
use crate::params::{Layout, Params};
use crate::plan::{Plan, Slot};
use crate::shape::UNIT;
use crate::tokenizer::{BpeTables, CharTable, Classes, Split};

/// Includes a program file with the alignment for reading it in place: `static MODEL: &[u8] = samara_core::include_program!("model.samara");`
#[macro_export]
macro_rules! include_program {
    ($path:expr) => {{
        #[repr(C, align(64))]
        struct Aligned<B: ?Sized>(B);
        static FILE: &Aligned<[u8]> = &Aligned(*include_bytes!($path));
        &FILE.0
    }};
}

/// A program file that was checked.
#[derive(Clone, Copy)]
pub struct ProgramFile<'a> {
    kernels: &'a Kernels<f32>,
    bytes: &'a [u8],
    header: &'a Header,
    sections: &'a [Section],
}

/// A program of a file.
#[derive(Clone, Copy, Debug)]
pub struct FileProgram<'a> {
    /// The program.
    pub program: Program<'a>,
    /// Its plan.
    pub plan: Plan<'a>,
    ports: &'a [PortRecord],
}

/// The memory that the programs of a file need, in elements of four bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Activations, inputs and scratch of the largest program.
    pub arena_len: usize,
    /// Keys and values.
    pub state_len: usize,
    /// Integers of the program that has most of them.
    pub ints_len: usize,
    /// Trainable parameters.
    pub trainable_len: usize,
    /// Their gradients, where these have a buffer of their own.
    pub grads_len: usize,
    /// Their moments.
    pub moments_len: usize,
}

impl Sizes {
    /// The sum of all buffers.
    #[inline(never)]
    pub fn total_len(&self) -> usize {
        let Self { arena_len, state_len, ints_len, trainable_len, grads_len, moments_len } = *self;
        let parts = [arena_len, state_len, ints_len, trainable_len, grads_len, moments_len];
        parts.into_iter().fold(0, usize::saturating_add)
    }
}

/// The tokenizer of a file.
#[derive(Clone, Copy, Debug)]
pub enum FileTokenizer<'a> {
    /// The id of a byte is its value.
    Bytes,
    /// One token for each character.
    Chars(CharTable<'a>),
    /// Byte-level BPE.
    Bpe(BpeTables<'a>),
}

impl<'a> ProgramFile<'a> {
    /// Opens and fully checks the file of a language model for a table of kernels.
    ///
    /// The time is linear in the bytes of the file and quadratic in the number of nodes.
    ///
    /// # Errors
    ///
    /// The file is damaged, of another version, has values out of bounds, or an operation without a kernel in `kernels`.
    #[inline(never)]
    pub fn open(bytes: &'a [u8], kernels: &'a Kernels<f32>) -> Result<Self, FileError> {
        Self::open_serving(bytes, kernels, check::ports::<Text>)
    }

    /// The same for the file of an image classifier.
    ///
    /// # Errors
    ///
    /// As for [`ProgramFile::open`].
    #[inline(never)]
    pub fn open_images(bytes: &'a [u8], kernels: &'a Kernels<f32>) -> Result<Self, FileError> {
        Self::open_serving(bytes, kernels, check::ports::<Images>)
    }

    fn open_serving(bytes: &'a [u8], kernels: &'a Kernels<f32>, ports: check::Ports) -> Result<Self, FileError> {
        let file = Self::read(bytes, kernels)?;
        let (found, expected) = (checksum(bytes), file.header.checksum);
        if found != expected {
            return Err(FileError::Checksum { found, expected });
        }
        check::file(&file, ports)?;
        Ok(file)
    }

    /// Finds header and sections.
    fn read(bytes: &'a [u8], kernels: &'a Kernels<f32>) -> Result<Self, FileError> {
        let length = FileError::Length { found: bytes.len(), expected: size_of::<Header>() };
        let (header, rest) = bytes.split_at_checked(size_of::<Header>()).ok_or(length)?;
        if !header.starts_with(&MAGIC) {
            return Err(FileError::Magic);
        }
        if !bytes.as_ptr().addr().is_multiple_of(align_of::<NodeRecord>()) {
            return Err(FileError::Alignment);
        }
        let header: &Header = bytemuck::try_from_bytes(header).map_err(|_| FileError::Alignment)?;
        if header.version != VERSION {
            return Err(FileError::Version { found: header.version });
        }
        if header.len != bytes.len() as u64 {
            let expected = usize::try_from(header.len).unwrap_or(usize::MAX);
            return Err(FileError::Length { found: bytes.len(), expected });
        }
        let table = (header.sections as usize).checked_mul(size_of::<Section>()).and_then(|len| rest.get(..len));
        let sections = table.and_then(|table| bytemuck::try_cast_slice(table).ok()).ok_or(FileError::Section { entry: 0 })?;
        Ok(Self { kernels, bytes, header, sections })
    }

    /// The table of kernels that the file was opened with.
    pub const fn kernels(&self) -> &'a Kernels<f32> {
        self.kernels
    }

    /// The bytes of the file.
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Its header.
    pub const fn header(&self) -> &'a Header {
        self.header
    }

    /// Its table of sections.
    pub const fn sections(&self) -> &'a [Section] {
        self.sections
    }

    /// The bytes of a section; empty when it is absent. `program` is the section's program, `None` for a shared section.
    pub fn section(&self, kind: SectionKind, program: Option<ProgramKind>) -> &'a [u8] {
        let program = program.map_or(0, |program| program as u16);
        let found = self.sections.iter().find(|s| s.kind == kind as u16 && s.program == program);
        // An absent section is an empty range at the start of the file, which is aligned for records.
        self.bytes.get(found.and_then(Section::range).unwrap_or(0..0)).unwrap_or(&[])
    }

    /// The records of a section, or the kind of the section whose bytes are not records.
    fn records<T: CheckedBitPattern>(&self, kind: SectionKind, program: Option<ProgramKind>) -> Result<&'a [T], SectionKind> {
        checked::try_cast_slice(self.section(kind, program)).map_err(|_| kind)
    }

    /// The one record of a section.
    fn record<T: CheckedBitPattern>(&self, kind: SectionKind, program: Option<ProgramKind>) -> Result<&'a T, SectionKind> {
        if let [record] = self.records(kind, program)? { Ok(record) } else { Err(kind) }
    }

    /// The layout of the parameters.
    pub const fn layout(&self) -> Layout {
        self.header.layout()
    }

    /// The groups of the trainable parameters.
    pub fn groups(&self) -> &'a [GroupRecord] {
        self.records(SectionKind::Groups, None).unwrap_or(&[])
    }

    /// The program of a kind, if the file has it.
    pub fn program(&self, kind: ProgramKind) -> Option<FileProgram<'a>> {
        self.parts(kind).ok()
    }

    /// A program, or the kind of the section that is invalid.
    fn parts(&self, kind: ProgramKind) -> Result<FileProgram<'a>, SectionKind> {
        let header: &ProgramHeader = self.record(SectionKind::Program, Some(kind))?;
        let tensors: &[TensorRecord] = self.records(SectionKind::Tensors, Some(kind))?;
        let nodes: &[NodeRecord] = self.records(SectionKind::Nodes, Some(kind))?;
        let slots: &[Slot] = self.records(SectionKind::Slots, Some(kind))?;
        let program = Program::from_parts(Params::from_parts(&[], self.layout()), tensors, nodes, header.info);
        let plan = Plan::from_parts(slots, tensors.len(), (header.arena_units as usize).saturating_mul(UNIT));
        Ok(FileProgram { program, plan, ports: self.records(SectionKind::Ports, Some(kind))? })
    }

    /// All programs of the file.
    pub fn programs(&self) -> impl Iterator<Item = (ProgramKind, FileProgram<'a>)> + use<'a> {
        let file = *self;
        ProgramKind::ALL.into_iter().filter_map(move |kind| Some((kind, file.program(kind)?)))
    }

    /// The memory that its programs need.
    pub fn sizes(&self) -> Sizes {
        let trainable_len = self.layout().trainable_len;
        let mut sizes = Sizes { trainable_len, ..Sizes::default() };
        for (_, FileProgram { program, plan, .. }) in self.programs() {
            let info = program.info();
            sizes.arena_len = sizes.arena_len.max(plan.arena_len());
            sizes.state_len = sizes.state_len.max(info.state_len());
            sizes.ints_len = sizes.ints_len.max(info.ints_len as usize);
            sizes.moments_len = sizes.moments_len.max(trainable_len.saturating_mul(info.moments as usize));
            sizes.grads_len = sizes.grads_len.max(program.grads_len());
        }
        sizes
    }

    /// Initial values of the trainable parameters.
    pub fn trainable(&self) -> &'a [f32] {
        bytemuck::try_cast_slice(self.section(SectionKind::Trainable, None)).unwrap_or(&[])
    }

    /// The frozen parameters.
    pub fn frozen(&self) -> &'a [u8] {
        self.section(SectionKind::Frozen, None)
    }

    /// The tokenizer, if the file has one.
    pub fn tokenizer(&self) -> Option<FileTokenizer<'a>> {
        self.open_tokenizer().ok().flatten()
    }

    fn open_tokenizer(&self) -> Result<Option<FileTokenizer<'a>>, FileError> {
        if self.section(SectionKind::Tokenizer, None).is_empty() {
            return Ok(None);
        }
        let wrong = |kind| FileError::Records { kind };
        let unknown = wrong(SectionKind::Tokenizer);
        let header: &TokenizerHeader = self.record(SectionKind::Tokenizer, None).map_err(wrong)?;
        let split = match header.split {
            0 => Split::Gpt2,
            1 => Split::Whole,
            _ => return Err(unknown),
        };
        let tokenizer = match TokenizerKind::from_code(header.kind).ok_or(unknown)? {
            TokenizerKind::Bytes => FileTokenizer::Bytes,
            TokenizerKind::Chars => FileTokenizer::Chars(
                CharTable::open(self.records(SectionKind::Chars, None).map_err(wrong)?).map_err(|id| FileError::Char { id })?,
            ),
            TokenizerKind::Bpe => FileTokenizer::Bpe(self.bpe(split).map_err(wrong)?.open().map_err(FileError::Tokenizer)?),
        };
        Ok(Some(tokenizer))
    }

    /// The tables of a BPE tokenizer, borrowed from the file.
    fn bpe(&self, split: Split) -> Result<BpeTables<'a>, SectionKind> {
        Ok(BpeTables {
            split,
            classes: Classes {
                index: self.section(SectionKind::ClassIndex, None),
                blocks: self.records(SectionKind::ClassBlocks, None)?,
            },
            byte_tokens: self.records(SectionKind::ByteTokens, None)?,
            token_offsets: self.records(SectionKind::TokenOffsets, None)?,
            token_bytes: self.section(SectionKind::TokenBytes, None),
            merged: self.records(SectionKind::Merged, None)?,
            pairs: self.records(SectionKind::Pairs, None)?,
            words: self.records(SectionKind::Words, None)?,
        })
    }

    /// The name of a parameter; `None` when names were stripped.
    pub fn name(&self, param: usize) -> Option<&'a str> {
        // Bytes, for the search for a character in a text has a panic path.
        let name = self.section(SectionKind::Names, None).split(|&byte| byte == b'\n').nth(param)?;
        core::str::from_utf8(name).ok().filter(|name| !name.is_empty())
    }
}

impl<'a> FileProgram<'a> {
    /// The tensor of a port, [`Tensor::NONE`] for none; of several of a kind, the first.
    pub fn port(&self, port: Port) -> Tensor {
        self.port_of(port as u16, 0)
    }

    /// The tensor of a port by the code of its kind and its index, [`Tensor::NONE`] for none.
    #[inline(never)]
    pub fn port_of(&self, kind: u16, index: u16) -> Tensor {
        self.ports.iter().find(|port| (port.kind, port.index) == (kind, index)).map_or(Tensor::NONE, |port| port.tensor)
    }

    /// All its ports.
    pub const fn ports(&self) -> &'a [PortRecord] {
        self.ports
    }
}

impl<'a> FileTokenizer<'a> {
    /// The bytes of a token; `room` holds bytes that must be constructed. Empty for an id without text.
    pub fn token<'r>(&self, id: u32, room: &'r mut [u8; 4]) -> &'r [u8]
    where
        'a: 'r,
    {
        match self {
            Self::Bytes => {
                let [byte, ..] = room;
                *byte = id as u8;
                room.get(..usize::from(id < 256)).unwrap_or(&[])
            }
            Self::Chars(table) => table.chars().get(id as usize).map_or(&[], |c| c.encode_utf8(room).as_bytes()),
            Self::Bpe(tables) => tables.token(id).unwrap_or(&[]),
        }
    }
}
