//! What can be wrong with a program file.

use core::fmt;

use super::layout::{MAX_RECORDS, Port, ProgramKind, SectionKind, VERSION};
use crate::graph::Tensor;
use crate::tokenizer::TableError;

/// The first thing found wrong with a program file.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum FileError {
    /// The bytes are not aligned in memory for the values of the file.
    Alignment,
    /// The first bytes are not those of a program file.
    Magic,
    /// The file is of another version of the format.
    Version {
        /// Its version.
        found: u32,
    },
    /// The number of bytes is not the one in the header.
    Length {
        /// Bytes found.
        found: usize,
        /// Bytes according to the header.
        expected: usize,
    },
    /// The checksum of the bytes is not the one in the header.
    Checksum {
        /// Of the bytes.
        found: u32,
        /// In the header.
        expected: u32,
    },
    /// An entry of the section table is invalid: an unknown kind, a range outside of the file, or a duplicate section.
    Section {
        /// Its index in the table.
        entry: usize,
    },
    /// A section is missing, or its length is wrong.
    Content {
        /// The section.
        kind: SectionKind,
        /// Bytes there are.
        found: usize,
        /// Bytes there must be.
        expected: usize,
    },
    /// Records with invalid values, which are not tensors, nodes or characters.
    Records {
        /// The section.
        kind: SectionKind,
    },
    /// Parameter groups that do not cover the trainable parameters, or have an invalid factor or flag.
    Groups,
    /// A program has more tensors and nodes than can be checked in reasonable time.
    TooLarge {
        /// The program.
        program: ProgramKind,
    },
    /// The header of a program contradicts itself or the tables.
    Program {
        /// The program.
        program: ProgramKind,
    },
    /// A tensor's record contradicts itself, its buffer, or its producer.
    Tensor {
        /// The program.
        program: ProgramKind,
        /// The tensor.
        tensor: usize,
    },
    /// The table of kernels lacks an operation, or its kernel does not support the types of the node's inputs.
    NoKernel {
        /// The program.
        program: ProgramKind,
        /// The node.
        node: usize,
        /// Its operation's code.
        opcode: u8,
    },
    /// A node reads a tensor that is not yet available, writes where it must not, or needs more memory than the plan has.
    Node {
        /// The program.
        program: ProgramKind,
        /// The node.
        node: usize,
    },
    /// A node's inputs and outputs do not have the shapes of its operation, or the kernel lacks the node's activation or norm.
    Rule {
        /// The program.
        program: ProgramKind,
        /// The node.
        node: usize,
    },
    /// The plan has less scratch for a node than its kernel needs: the file was exported for other kernels.
    Scratch {
        /// The program.
        program: ProgramKind,
        /// The node.
        node: usize,
        /// Elements of scratch in the plan.
        found: usize,
        /// Elements that the kernel needs.
        needed: usize,
    },
    /// The plan lets two values with overlapping lifetimes share memory, or has no memory for one.
    Plan {
        /// The program.
        program: ProgramKind,
        /// A tensor index, or, from the number of tensors on, that number plus a node index (the node's scratch).
        slot: usize,
    },
    /// A port is missing, leads to an unsuitable tensor, or is an input that sessions of this version do not write.
    Port {
        /// The program.
        program: ProgramKind,
        /// The code of its kind.
        port: usize,
        /// Its tensor.
        tensor: Tensor,
    },
    /// The tables of a BPE tokenizer.
    Tokenizer(TableError),
    /// A character that is out of order.
    Char {
        /// Its id.
        id: usize,
    },
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alignment => {
                f.write_str("the file is not aligned in memory: include it with samara_core::include_program!, or map it")
            }
            Self::Magic => f.write_str("not a program file: expected one that `samara export` wrote"),
            Self::Version { found } => version(f, *found),
            Self::Length { found, expected } => {
                write!(f, "{found} bytes, the header says {expected}: the file is cut off or joined with another")
            }
            Self::Checksum { found, expected } => {
                write!(
                    f,
                    "the checksum is {found:08x}, the header says {expected:08x}: the file is damaged, copy or export it again"
                )
            }
            Self::Section { entry } => {
                write!(f, "entry {entry} of the table of sections is invalid, or of a kind that needs a newer samara")
            }
            Self::Content { kind, found, expected } => write!(f, "section {kind:?} has {found} bytes, expected {expected}"),
            Self::Records { kind } => write!(f, "section {kind:?} has entries with invalid values"),
            Self::Groups => f.write_str("the parameter groups do not cover the trainable parameters, or have invalid values"),
            Self::TooLarge { program } => write!(f, "program {program:?} has more than {MAX_RECORDS} tensors and nodes"),
            Self::Program { program } => write!(f, "the header of program {program:?} contradicts its tables"),
            Self::Tensor { program, tensor } => {
                write!(f, "tensor {tensor} of program {program:?} contradicts its buffer or its producer")
            }
            Self::NoKernel { program, node, opcode } => {
                write!(
                    f,
                    "node {node} of program {program:?} is operation {opcode}, for which the linked table has no kernel: link one that has it"
                )
            }
            Self::Node { program, node } => write!(f, "node {node} of program {program:?} reads or writes invalid memory"),
            Self::Rule { program, node } => {
                write!(
                    f,
                    "node {node} of program {program:?} has inputs or outputs of the wrong shape or type, or an activation or norm that the table of kernels lacks: link one that has it"
                )
            }
            Self::Scratch { program, node, found, needed } => write!(
                f,
                "node {node} of program {program:?} has {found} elements of scratch and needs {needed}: export the model again with this version"
            ),
            Self::Plan { program, slot } => {
                write!(f, "slot {slot} of the plan of program {program:?} has no memory, or memory that another value still uses")
            }
            Self::Port { program, port: kind, tensor } => port(f, *program, *kind, *tensor),
            Self::Tokenizer(error) => write!(f, "tokenizer: {error}"),
            Self::Char { id } => write!(f, "character {id} is not in the order of code points"),
        }
    }
}

impl core::error::Error for FileError {}

fn version(f: &mut fmt::Formatter<'_>, found: u32) -> fmt::Result {
    write!(f, "the file has format version {found}, this build reads version {VERSION}: ")?;
    f.write_str(if found < VERSION { "convert it with `samara export --convert FILE --out FILE`" } else { "update samara" })
}

fn port(f: &mut fmt::Formatter<'_>, program: ProgramKind, kind: usize, tensor: Tensor) -> fmt::Result {
    match u32::try_from(kind).ok().and_then(Port::from_code) {
        Some(known) => write!(f, "port {known:?} of program {program:?} ")?,
        None => write!(f, "port {kind} of program {program:?} ")?,
    }
    if !tensor.is_some() {
        return f.write_str("is missing: export the model again");
    }
    let tensor = tensor.index();
    write!(
        f,
        "leads to tensor {tensor}, which has the wrong role or shape, or is an input that this version does not write: update samara"
    )
}
