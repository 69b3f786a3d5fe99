//! Writing a program file: sections one after the other, a header, a checksum.

use bytemuck::{NoUninit, bytes_of, cast_slice};
use samara_core::file::layout::{
    ALIGN_BYTES, Header, MAGIC, NO_TOKEN, PORTS, ProgramHeader, Section, TokenizerHeader, TokenizerKind, VERSION,
};
use samara_core::file::{Port, ProgramKind, SectionKind, checksum};
use samara_core::graph::Tensor;
use samara_core::params::{GroupId, Params};
use samara_core::tokenizer::Split;

use crate::session::{OwnedProgram, ParamSet};
use crate::tokenizer::{Model, Tokenizer};

/// A file in the making.
#[derive(Default)]
pub struct FileWriter {
    sections: Vec<(SectionKind, u32, Vec<u8>)>,
}

impl FileWriter {
    /// Adds a section; an empty one is left out.
    fn add<T: NoUninit>(&mut self, kind: SectionKind, program: Option<ProgramKind>, records: &[T]) {
        if !records.is_empty() {
            self.sections.push((kind, program.map_or(0, |program| program as u32), cast_slice(records).to_vec()));
        }
    }

    /// Adds a program with its plan and its ports.
    pub fn program(&mut self, kind: ProgramKind, program: &OwnedProgram, ports: &[(Port, Tensor)]) {
        let (view, plan) = (program.view(), program.plan());
        let mut header =
            ProgramHeader { info: view.info(), arena_len: plan.arena_len() as u32, ports: [Tensor::NONE.index() as u16; PORTS] };
        for (port, tensor) in ports {
            header.ports[*port as usize] = tensor.index() as u16;
        }
        self.add(SectionKind::Program, Some(kind), &[header]);
        self.add(SectionKind::Tensors, Some(kind), view.tensors());
        self.add(SectionKind::Nodes, Some(kind), view.nodes());
        self.add(SectionKind::Slots, Some(kind), plan.slots());
    }

    /// Adds the parameters of a set; their names too if they are wanted.
    pub fn params(&mut self, set: &ParamSet, names: bool) {
        self.add(SectionKind::Trainable, None, set.weights.get());
        self.add(SectionKind::Frozen, None, set.frozen.get());
        if names {
            let all: String = set.params().infos().iter().map(|info| format!("{}\n", info.name)).collect();
            self.add(SectionKind::Names, None, all.as_bytes());
        }
    }

    /// Adds a tokenizer. The table of whole words only makes encoding faster, unless words that are tokens are never merged: a device does without.
    pub fn tokenizer(&mut self, tokenizer: &Tokenizer) {
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
        }
    }

    /// The bytes of the file.
    pub fn finish(self, params: &Params<'_>, vocab_size: usize, context: usize, end_of_text: Option<u32>) -> Vec<u8> {
        let layout = params.layout();
        let mut header = Header {
            magic: MAGIC,
            version: VERSION,
            checksum: 0,
            len: 0,
            sections: self.sections.len() as u32,
            params: params.infos().len() as u32,
            trainable_len: layout.trainable_len as u32,
            decay_len: params.group_range(GroupId::DECAY).end as u32,
            frozen_bytes: layout.frozen_bytes as u32,
            vocab_size: vocab_size as u32,
            context: context as u32,
            end_of_text: end_of_text.unwrap_or(NO_TOKEN),
            reserved: [0; 3],
        };
        let table_bytes = size_of::<Header>() + self.sections.len() * size_of::<Section>();
        let mut table = Vec::with_capacity(self.sections.len());
        let mut file = vec![0; table_bytes];
        for (kind, program, bytes) in &self.sections {
            file.resize(file.len().next_multiple_of(ALIGN_BYTES), 0);
            table.push(Section { kind: *kind as u32, program: *program, offset: file.len() as u32, len: bytes.len() as u32 });
            file.extend_from_slice(bytes);
        }
        header.len = file.len() as u32;
        let front = [bytes_of(&header), cast_slice(&table)].concat();
        file[..front.len()].copy_from_slice(&front);
        header.checksum = checksum(&file);
        file[..size_of::<Header>()].copy_from_slice(bytes_of(&header));
        file
    }
}
