//! Conversion of program files of version 1 to the current version. A converted file computes the same bits.

use bytemuck::{AnyBitPattern, CheckedBitPattern, Pod, Zeroable, checked, pod_read_unaligned};
use samara_core::file::layout::{DECAY, GroupRecord, MAGIC, NO_TOKEN, PortRecord, VERSION};
use samara_core::file::{FileError, ProgramFile, ProgramKind, SectionKind, checksum};
use samara_core::graph::{Epsilon, Momentum, NodeRecord, Op, ProgramInfo, Role, Tensor, TensorRecord};
use samara_core::ops;
use samara_core::params::Layout;
use samara_core::shape::{UNIT, UNIT_BYTES};
use thiserror::Error;

use super::aligned::Aligned;
use super::file::{FileModel, FileWriter};
use crate::error::{Failure, Kind};

/// The version that is converted.
const OLD: u32 = 1;

/// Why a file is not converted.
#[derive(Debug, PartialEq, Error)]
pub enum ConvertError {
    /// Not a program file.
    #[error("not a program file: expected one that `samara export` wrote")]
    Magic,
    /// Already of this version.
    #[error("the file has format version {VERSION} already and needs no conversion")]
    Current,
    /// A later version.
    #[error("the file has format version {found}, this build converts version {OLD} to {VERSION}: update samara")]
    Version {
        /// Its version.
        found: u32,
    },
    /// The number of bytes is not the one in the header.
    #[error("{found} bytes, the header says {expected}: the file is cut off or joined with another")]
    Length {
        /// Bytes found.
        found: usize,
        /// Bytes according to the header.
        expected: usize,
    },
    /// The bytes are not those that were written.
    #[error("the checksum is {found:08x}, the header says {expected:08x}: the file is damaged, copy it again")]
    Checksum {
        /// Of the bytes.
        found: u32,
        /// In the header.
        expected: u32,
    },
    /// An invalid entry of the section table, or one that version 1 does not know.
    #[error("entry {entry} of the table of sections is invalid: export the model again")]
    Section {
        /// Its place in the table.
        entry: usize,
    },
    /// A section contains entries that version 1 never wrote.
    #[error("section {kind:?} has invalid entries: export the model again")]
    Records {
        /// The section.
        kind: SectionKind,
    },
    /// The result is refused.
    #[error("the converted file is refused: {0}")]
    Refused(FileError),
}

impl Failure for ConvertError {
    fn kind(&self) -> Kind {
        Kind::Data
    }
}

/// The header of version 1.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct OldHeader {
    magic: [u8; 8],
    version: u32,
    checksum: u32,
    len: u32,
    sections: u32,
    params: u32,
    trainable_len: u32,
    /// Weight decay applies to this many of them, from the start.
    decay_len: u32,
    frozen_bytes: u32,
    vocab_size: u32,
    context: u32,
    end_of_text: u32,
    reserved: [u32; 3],
}

/// An entry of its table of sections.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct OldSection {
    kind: u32,
    program: u32,
    offset: u32,
    len: u32,
}

/// Its header of a program.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct OldProgramHeader {
    tensors: u16,
    nodes: u16,
    backward: u16,
    update: u16,
    ints_len: u32,
    state_len: u32,
    moments: u32,
    arena_len: u32,
    /// The tensor of every port by its code, `u16::MAX` for none.
    ports: [u16; 16],
}

/// Converts a file of version 1 to the current version.
///
/// # Errors
/// The file is of another version, damaged, or invalid for version 1.
pub fn convert(bytes: &[u8]) -> Result<Vec<u8>, ConvertError> {
    let header = header(bytes)?;
    let mut writer = FileWriter::default();
    let mut seen = Vec::new();
    for entry in 0..header.sections as usize {
        let wrong = ConvertError::Section { entry };
        let at = size_of::<OldHeader>() + entry.saturating_mul(size_of::<OldSection>());
        let Some(section) = one::<OldSection>(bytes.get(at..).unwrap_or(&[])) else { return Err(wrong) };
        let Some(content) = bytes.get(section.offset as usize..).and_then(|rest| rest.get(..section.len as usize)) else {
            return Err(wrong);
        };
        let kind = SectionKind::from_code(section.kind).filter(|kind| (*kind as u32) <= SectionKind::ClassBlocks as u32);
        let program = ProgramKind::from_code(section.program);
        match kind {
            Some(kind) if (program.is_some() || section.program == 0) && !seen.contains(&(section.kind, section.program)) => {
                add(&mut writer, &header, kind, program, content)?;
            }
            _ => return Err(wrong),
        }
        seen.push((section.kind, section.program));
    }
    let layout = Layout { trainable_len: header.trainable_len as usize, frozen_bytes: header.frozen_bytes as usize };
    let converted = writer.finish(&FileModel {
        params: header.params as usize,
        layout,
        vocab_size: header.vocab_size as usize,
        context: header.context as usize,
        end_of_text: Some(header.end_of_text).filter(|&token| token != NO_TOKEN),
    });
    let (kernels, aligned) = (ops::reference(), Aligned::new(&converted));
    ProgramFile::open(aligned.get(), &kernels).map_err(ConvertError::Refused)?;
    Ok(converted)
}

/// The header of a file of version 1 with correct length and checksum.
fn header(bytes: &[u8]) -> Result<OldHeader, ConvertError> {
    if !bytes.starts_with(&MAGIC) {
        return Err(ConvertError::Magic);
    }
    let length = |expected: usize| ConvertError::Length { found: bytes.len(), expected };
    let header: OldHeader = one(bytes).ok_or(length(size_of::<OldHeader>()))?;
    match header.version {
        OLD => {}
        VERSION => return Err(ConvertError::Current),
        found => return Err(ConvertError::Version { found }),
    }
    if header.len as usize != bytes.len() {
        return Err(length(header.len as usize));
    }
    let (found, expected) = (checksum(bytes), header.checksum);
    if found != expected {
        return Err(ConvertError::Checksum { found, expected });
    }
    Ok(header)
}

/// Adds the content of a section of version 1.
fn add(
    writer: &mut FileWriter,
    header: &OldHeader,
    kind: SectionKind,
    program: Option<ProgramKind>,
    content: &[u8],
) -> Result<(), ConvertError> {
    let wrong = ConvertError::Records { kind };
    match (kind, program) {
        (SectionKind::Program, Some(program)) => {
            let old: OldProgramHeader = one(content).filter(|_| content.len() == size_of::<OldProgramHeader>()).ok_or(wrong)?;
            let (info, arena_units) = heading(&old).ok_or(ConvertError::Records { kind })?;
            let port = |(kind, tensor): (u16, Tensor)| PortRecord { kind, index: 0, tensor, reserved: 0 };
            let tensors = old.ports.map(bytemuck::cast::<u16, Tensor>);
            let ports: Vec<PortRecord> = (0..).zip(tensors).filter(|(_, t)| t.is_some()).map(port).collect();
            writer.heading(program, info, arena_units, &ports);
        }
        (SectionKind::Tensors, Some(_)) => {
            let tensors = records(content).ok_or(wrong)?.into_iter().map(tensor).collect::<Option<Vec<_>>>();
            writer.add(kind, program, &tensors.ok_or(ConvertError::Records { kind })?);
        }
        (SectionKind::Nodes, Some(_)) => {
            let nodes = records(content).ok_or(wrong)?.into_iter().map(node).collect::<Option<Vec<_>>>();
            writer.add(kind, program, &nodes.ok_or(ConvertError::Records { kind })?);
        }
        (SectionKind::Trainable, None) => {
            writer.add(SectionKind::Groups, None, &groups(header).ok_or(wrong)?);
            writer.add(kind, None, content);
        }
        _ => writer.add(kind, program, content),
    }
    Ok(())
}

/// The counts of a program, and its arena in units.
fn heading(old: &OldProgramHeader) -> Option<(ProgramInfo, u32)> {
    let &OldProgramHeader { tensors, nodes, backward, update, ints_len, state_len, moments, .. } = old;
    let state_units = units(state_len, UNIT)?;
    Some((ProgramInfo { tensors, nodes, backward, update, ints_len, state_units, moments }, units(old.arena_len, UNIT)?))
}

/// Two groups, with weight decay and without.
fn groups(header: &OldHeader) -> Option<[GroupRecord; 2]> {
    let decay = units(header.decay_len, UNIT)?;
    let rest = units(header.trainable_len, UNIT)?.checked_sub(decay)?;
    Some([(decay, DECAY), (rest, 0)].map(|(units, flags)| GroupRecord { units, flags, lr_scale: 1.0, reserved: 0 }))
}

/// A tensor with its start in units, where version 1 counted elements or bytes.
fn tensor(mut record: TensorRecord) -> Option<TensorRecord> {
    let unit = match record.role {
        Role::Ints => 1,
        Role::Frozen => UNIT_BYTES,
        Role::Activation | Role::Input | Role::State | Role::Trainable | Role::Grad => UNIT,
    };
    record.offset = units(record.offset, unit)?;
    Some(record.stored())
}

/// A node; the range of an update starts at a unit, where version 1 counted elements.
fn node(mut record: NodeRecord) -> Option<NodeRecord> {
    const UPDATES: [u8; 2] = [
        Op::AdamW { start: 0, len: 0, decay: false, epsilon: Epsilon::AfterCorrection }.opcode(),
        Op::Sgd { start: 0, len: 0, decay: false, momentum: Momentum::None }.opcode(),
    ];
    if UPDATES.contains(&record.opcode) {
        let [start, ..] = &mut record.attributes;
        *start /= UNIT as f64;
        (start.fract() == 0.0).then_some(())?;
    }
    Some(record)
}

/// A whole number of units.
fn units(len: u32, unit: usize) -> Option<u32> {
    let unit = unit as u32;
    len.is_multiple_of(unit).then_some(len / unit)
}

/// A record at the start of these bytes.
fn one<T: AnyBitPattern>(bytes: &[u8]) -> Option<T> {
    bytes.get(..size_of::<T>()).map(pod_read_unaligned)
}

/// Records one behind the other.
fn records<T: CheckedBitPattern>(bytes: &[u8]) -> Option<Vec<T>> {
    let records = bytes.chunks(size_of::<T>()).map(checked::try_pod_read_unaligned);
    records.collect::<Result<_, _>>().ok()
}
