//! Program files of tiny models, and damage to them.

use std::sync::Arc;

use bytemuck::{CheckedBitPattern, NoUninit, bytes_of, checked, from_bytes};
use samara::export::build::program_file;
use samara::export::spec::{FileSpec, Optimizer, TrainShape};
use samara::lm::Model;
use samara::model::architecture::Architecture;
use samara::session::Engine;
use samara::tokenizer::Tokenizer;
use samara_core::exec::Kernels;
use samara_core::file::layout::{Header, Section};
use samara_core::file::{FileError, ProgramFile, ProgramKind, SectionKind, checksum};
use samara_core::graph::DType;
use samara_core::model::gpt::GptConfig;
use samara_core::model::llama::LlamaConfig;
use samara_core::tune::Tune;

/// The smallest model.
pub const TINY: GptConfig = GptConfig {
    vocab_size: 5,
    n_positions: 4,
    n_embd: 4,
    n_layer: 1,
    n_head: 2,
    n_inner: 4,
    initializer_range: 0.5,
    ..GptConfig::GPT2
};

/// A model whose rows are whole quantisation blocks, with banded attention in its second layer.
pub const SMALL: GptConfig = GptConfig {
    vocab_size: 11,
    n_positions: 12,
    n_embd: 64,
    n_layer: 2,
    n_head: 4,
    n_inner: 96,
    initializer_range: 0.2,
    window_size: 3,
    ..GptConfig::GPT2
};

/// The same with grouped queries, biases of queries, keys and values, and an untied head.
pub const LLAMA: LlamaConfig = LlamaConfig {
    vocab_size: 11,
    hidden_size: 64,
    intermediate_size: 96,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    head_dim: 16,
    max_position_embeddings: 12,
    initializer_range: 0.2,
    qkv_bias: true,
    tie_word_embeddings: false,
    ..LlamaConfig::SMOLLM2_135M
};

/// All f32, nothing trained.
pub const PLAIN: FileSpec = FileSpec {
    weights: DType::Real,
    kv: DType::Real,
    train: Tune::None,
    optimizer: Optimizer::Sgd,
    shape: TrainShape { batch: 2, block: 4, weighted: false },
    context: 4,
    names: true,
};

/// A model with initial weights, and the kernels of a device.
pub fn model(architecture: impl Architecture + 'static) -> Model {
    let mut model = Model::new(Arc::new(Engine::reference().expect("a thread")), Arc::new(architecture)).expect("a model");
    model.initialise(5);
    model
}

/// The program file of a model with initial weights, with the model's full context.
pub fn export(architecture: impl Architecture + 'static, spec: FileSpec, tokenizer: Option<&Tokenizer>) -> File {
    let model = model(architecture);
    let spec = FileSpec { context: model.dims.n_positions, ..spec };
    File::new(&program_file(&Engine::reference().expect("a thread"), &model, tokenizer, &spec).expect("a file"))
}

/// A program file where it can be read.
#[derive(Clone)]
pub struct File {
    words: Vec<u64>,
    len: usize,
}

impl File {
    /// A copy of these bytes.
    pub fn new(bytes: &[u8]) -> Self {
        let mut words = vec![0u64; bytes.len().div_ceil(size_of::<u64>())];
        bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(bytes);
        Self { words, len: bytes.len() }
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[..self.len]
    }

    /// The bytes of the file, for changing them: this invalidates the checksum.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.words)[..self.len]
    }

    /// Opens it.
    ///
    /// # Errors
    /// The file is not one of a program.
    pub fn open<'a>(&'a self, kernels: &'a Kernels<f32>) -> Result<ProgramFile<'a>, FileError> {
        ProgramFile::open(self.bytes(), kernels)
    }

    /// Opens it as that of an image classifier.
    ///
    /// # Errors
    /// The file is not one of such a program.
    pub fn open_images<'a>(&'a self, kernels: &'a Kernels<f32>) -> Result<ProgramFile<'a>, FileError> {
        ProgramFile::open_images(self.bytes(), kernels)
    }

    /// What is wrong with it.
    pub fn error(&self, kernels: &Kernels<f32>) -> FileError {
        self.open(kernels).err().expect("an error")
    }

    /// Its header.
    pub fn header(&self) -> Header {
        *from_bytes(&self.bytes()[..size_of::<Header>()])
    }

    /// The same file with another header, its checksum repaired.
    pub fn with_header(&self, edit: impl FnOnce(&mut Header)) -> Self {
        let mut header = self.header();
        edit(&mut header);
        let mut file = self.clone();
        file.bytes_mut()[..size_of::<Header>()].copy_from_slice(bytes_of(&header));
        file.repaired()
    }

    /// The same file with another table of sections, its checksum repaired.
    pub fn with_sections(&self, edit: impl FnOnce(&mut [Section])) -> Self {
        let mut file = self.clone();
        let count = self.header().sections as usize;
        edit(bytemuck::cast_slice_mut(&mut file.bytes_mut()[size_of::<Header>()..][..count * size_of::<Section>()]));
        file.repaired()
    }

    /// The same file with other records in a section, its checksum repaired.
    pub fn with<T: CheckedBitPattern + NoUninit>(
        &self,
        kind: SectionKind,
        program: Option<ProgramKind>,
        edit: impl FnOnce(&mut [T]),
    ) -> Self {
        let mut file = self.clone();
        edit(checked::cast_slice_mut(file.section_mut(kind, program)));
        file.repaired()
    }

    /// The bytes of a section, for changing them: this invalidates the checksum.
    pub fn section_mut(&mut self, kind: SectionKind, program: Option<ProgramKind>) -> &mut [u8] {
        let table: &[Section] =
            bytemuck::cast_slice(&self.bytes()[size_of::<Header>()..][..self.header().sections as usize * size_of::<Section>()]);
        let wanted = |s: &&Section| (s.kind, s.program) == (kind as u16, program.map_or(0, |p| p as u16));
        let range = table.iter().find(wanted).and_then(Section::range).expect("a section");
        &mut self.bytes_mut()[range]
    }

    /// The file's first bytes, with length and checksum corrected.
    pub fn prefix(&self, len: usize) -> Self {
        let file = Self::new(&self.bytes()[..len]);
        if len < size_of::<Header>() { file } else { file.with_header(|header| header.len = len as u64) }
    }

    /// The same file, its checksum repaired.
    pub fn repaired(mut self) -> Self {
        let sum = checksum(self.bytes());
        self.bytes_mut()[12..16].copy_from_slice(&sum.to_le_bytes());
        self
    }
}
