//! Program files: what is wrong with one is found before it runs, and what runs has the bits of the same program in memory.

mod bits;
mod convert;
mod faults;
mod session;
mod weighted;

use proptest::collection::vec;
use proptest::prelude::*;
use samara::decoding::generator::Generator;
use samara::export::spec::{FileSpec, Optimizer};
use samara::model::architecture::Architecture;
use samara::tokenizer::{BpeTrainOptions, BpeTrainer, Tokenizer};
use samara_core::decode::Sampling;
use samara_core::exec::{Gradients, Kernels, WriteError};
use samara_core::file::layout::{DECAY, GroupRecord, PortRecord, ProgramHeader, TokenizerHeader};
use samara_core::file::{FileError, Port, ProgramFile, ProgramKind, SectionKind, checksum};
use samara_core::graph::{
    Activation, AttentionMask, AttentionSpec, DType, Epsilon, Graph, HYPER_LEN, Momentum, NodeRecord, Op, Recompute, Role, Rule,
    Shape, Tensor, TensorRecord,
};
use samara_core::model::gpt::GptConfig;
use samara_core::model::lm::{self, LanguageModel, LmInputs};
use samara_core::nn::KvCache;
use samara_core::ops::{self, elementwise::GeluTanh};
use samara_core::params::{Params, Registry};
use samara_core::plan::Slot;
use samara_core::session::{Hyper, Session, SessionError};
use samara_core::tokenizer::Split;
use samara_core::tune::{Tune, store_as, tune};
use samara_tests::device::{File, LLAMA, PLAIN, SMALL, TINY, export, model};
use samara_tests::draw::Draw;
use samara_tests::session::{self as ram, Table};

const SLIM: GptConfig = GptConfig { bias: false, ..TINY };
const TRAINED: FileSpec = FileSpec { train: Tune::LastBlock, optimizer: Optimizer::Adamw, ..PLAIN };
const KINDS: [ProgramKind; 3] = [ProgramKind::Decode, ProgramKind::Train, ProgramKind::Evaluate];
const WEIGHTS: [DType; 3] = [DType::Real, DType::Q8, DType::Q4];
const CACHES: [DType; 3] = [DType::Real, DType::F16, DType::Q8];

fn tables<T: Copy>(file: &File, read: impl Fn(&ProgramFile<'_>) -> T) -> T {
    let kernels = ops::training();
    read(&file.open(&kernels).expect("a sound file"))
}

fn slots(file: &File, kind: ProgramKind) -> Vec<Slot> {
    let kernels = ops::training();
    file.open(&kernels).expect("a sound file").program(kind).expect("a program").plan.slots().to_vec()
}

fn tensors(file: &File, kind: ProgramKind) -> Vec<TensorRecord> {
    let kernels = ops::training();
    file.open(&kernels).expect("a sound file").program(kind).expect("a program").program.tensors().to_vec()
}

fn nodes(file: &File, kind: ProgramKind) -> Vec<NodeRecord> {
    let kernels = ops::training();
    file.open(&kernels).expect("a sound file").program(kind).expect("a program").program.nodes().to_vec()
}

fn in_arena(t: &TensorRecord) -> bool {
    matches!(t.role, Role::Activation | Role::Input)
}

/// Tokens of a step and those that follow; one has no successor.
fn text(spec: &FileSpec) -> (Vec<i32>, Vec<i32>) {
    let len = spec.shape.batch * spec.shape.block;
    let all = tokens(&SMALL, len + 1);
    let mut targets = all[1..].to_vec();
    targets[len - 1] = -1;
    (all[..len].to_vec(), targets)
}

fn tokens(config: &GptConfig, len: usize) -> Vec<i32> {
    Draw::new(7).ints(len, 0, config.vocab_size as i32 - 1)
}
