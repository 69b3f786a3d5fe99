//! Writing a program file: sections one after the other, a header, a checksum.

use std::ops::Range;

use bytemuck::{NoUninit, bytes_of, cast_slice};
use samara_core::file::layout::{
    DECAY, GroupRecord, Header, MAGIC, NO_TOKEN, PortRecord, ProgramHeader, Section, TokenizerHeader, TokenizerKind, VERSION,
};
use samara_core::file::{Port, ProgramKind, SectionKind, checksum};
use samara_core::graph::{ProgramInfo, Tensor, TensorRecord};
use samara_core::params::{GroupId, Layout, Params};
use samara_core::shape::{UNIT, UNIT_BYTES};
use samara_core::tokenizer::Split;

use super::programs::DeviceProgram;
use crate::session::{OwnedProgram, ParamSet};
use crate::tokenizer::{Model, Tokenizer};

/// A file in the making.
#[derive(Default)]
pub struct FileWriter {
    sections: Vec<(SectionKind, u16, Vec<u8>)>,
}

/// The properties of a model that go into the header.
#[derive(Clone, Copy, Debug)]
pub struct FileModel {
    /// The number of parameters.
    pub params: usize,
    /// The sizes of their buffers.
    pub layout: Layout,
    /// Token ids.
    pub vocab_size: usize,
    /// Tokens that a sequence can have.
    pub context: usize,
    /// The token that ends a text.
    pub end_of_text: Option<u32>,
}

impl FileWriter {
    /// Adds a section; an empty one is left out.
    pub(super) fn add<T: NoUninit>(&mut self, kind: SectionKind, program: Option<ProgramKind>, records: &[T]) {
        if !records.is_empty() {
            self.sections.push((kind, program.map_or(0, |program| program as u16), cast_slice(records).to_vec()));
        }
    }

    /// Adds the header and the ports of a program.
    pub(super) fn heading(&mut self, kind: ProgramKind, info: ProgramInfo, arena_units: u32, ports: &[PortRecord]) {
        self.add(SectionKind::Program, Some(kind), &[ProgramHeader { info, arena_units }]);
        self.add(SectionKind::Ports, Some(kind), ports);
    }

    /// Adds programs with their plans and ports.
    pub(super) fn programs(&mut self, programs: &[DeviceProgram]) {
        programs.iter().for_each(|program| self.program(program.kind, &program.program, &program.ports));
    }

    /// Adds a program with its plan and its ports; ports of one kind are numbered in order.
    pub fn program(&mut self, kind: ProgramKind, program: &OwnedProgram, ports: &[(Port, Tensor)]) {
        let (view, plan) = (program.view(), program.plan());
        let index = |i: usize| ports[..i].iter().filter(|(port, _)| *port == ports[i].0).count() as u16;
        let record = |(i, &(port, tensor)): (usize, &(Port, Tensor))| PortRecord {
            kind: port as u16,
            index: index(i),
            tensor,
            reserved: 0,
        };
        let ports: Vec<PortRecord> = ports.iter().enumerate().map(record).collect();
        self.heading(kind, view.info(), (plan.arena_len() / UNIT) as u32, &ports);
        let tensors: Vec<TensorRecord> = view.tensors().iter().map(|record| record.stored()).collect();
        self.add(SectionKind::Tensors, Some(kind), &tensors);
        self.add(SectionKind::Nodes, Some(kind), view.nodes());
        self.add(SectionKind::Slots, Some(kind), plan.slots());
    }

    /// Adds the groups of the trainable parameters.
    fn groups(&mut self, params: &Params<'_>) {
        if params.trainable_len() > 0 {
            let record = |(group, range): (GroupId, Range<usize>)| GroupRecord {
                units: (range.len() / UNIT) as u32,
                flags: if group.decay() { DECAY } else { 0 },
                lr_scale: 1.0,
                reserved: 0,
            };
            let groups: Vec<GroupRecord> = params.groups().map(record).collect();
            self.add(SectionKind::Groups, None, &groups);
        }
    }

    /// Adds the parameters of a set and their groups, and optionally their names.
    pub fn params(&mut self, set: &ParamSet, names: bool) {
        self.groups(&set.params());
        self.add(SectionKind::Trainable, None, set.weights.get());
        self.add(SectionKind::Frozen, None, set.frozen.get());
        if names {
            let all: String = set.params().infos().iter().map(|info| format!("{}\n", info.name)).collect();
            self.add(SectionKind::Names, None, all.as_bytes());
        }
    }

    /// Adds a tokenizer. The table of whole words only accelerates encoding, except with `ignore_merges`: otherwise a device does without it. A
    /// tokenizer that devices do not support ([`Tokenizer::beyond_devices`]) is left out.
    pub fn tokenizer(&mut self, tokenizer: &Tokenizer) {
        if tokenizer.beyond_devices().is_some() {
            return;
        }
        let mut header = |kind: TokenizerKind, split: Split| {
            let split = u32::from(split == Split::Whole);
            self.add(SectionKind::Tokenizer, None, &[TokenizerHeader { kind: kind as u32, split }]);
        };
        match tokenizer.model() {
            Model::Byte => header(TokenizerKind::Bytes, Split::Whole),
            Model::Character(chars) => {
                header(TokenizerKind::Chars, Split::Whole);
                self.add(SectionKind::Chars, None, &chars.iter().map(|&c| u32::from(c)).collect::<Vec<_>>());
            }
            Model::Bpe(bpe) => {
                let tables = bpe.tables();
                header(TokenizerKind::Bpe, tables.split);
                self.add(SectionKind::ClassIndex, None, tables.classes.index);
                self.add(SectionKind::ClassBlocks, None, tables.classes.blocks);
                self.add(SectionKind::ByteTokens, None, tables.byte_tokens);
                self.add(SectionKind::TokenOffsets, None, tables.token_offsets);
                self.add(SectionKind::TokenBytes, None, tables.token_bytes);
                self.add(SectionKind::Merged, None, tables.merged);
                self.add(SectionKind::Pairs, None, tables.pairs);
                if bpe.ignore_merges() {
                    self.add(SectionKind::Words, None, tables.words);
                }
            }
            Model::Pieces(_) | Model::WordPiece(_) => {}
        }
    }

    /// The bytes of the file.
    pub fn finish(self, model: &FileModel) -> Vec<u8> {
        let mut header = Header {
            magic: MAGIC,
            version: VERSION,
            checksum: 0,
            len: 0,
            sections: self.sections.len() as u32,
            params: model.params as u32,
            trainable_units: (model.layout.trainable_len / UNIT) as u32,
            frozen_units: (model.layout.frozen_bytes / UNIT_BYTES) as u32,
            vocab_size: model.vocab_size as u32,
            context: model.context as u32,
            end_of_text: model.end_of_text.unwrap_or(NO_TOKEN),
            reserved: [0; 3],
        };
        let table_bytes = size_of::<Header>() + self.sections.len() * size_of::<Section>();
        let mut table = Vec::with_capacity(self.sections.len());
        let mut file = vec![0; table_bytes];
        for (kind, program, bytes) in &self.sections {
            file.resize(file.len().next_multiple_of(UNIT_BYTES), 0);
            let offset_units = (file.len() / UNIT_BYTES) as u32;
            table.push(Section { kind: *kind as u16, program: *program, offset_units, len: bytes.len() as u64 });
            file.extend_from_slice(bytes);
        }
        header.len = file.len() as u64;
        let front = [bytes_of(&header), cast_slice(&table)].concat();
        file[..front.len()].copy_from_slice(&front);
        header.checksum = checksum(&file);
        file[..size_of::<Header>()].copy_from_slice(bytes_of(&header));
        file
    }
}
