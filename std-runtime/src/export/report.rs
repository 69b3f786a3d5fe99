//! The resources of a program file on a device: flash, RAM, work.

use samara_core::exec::{Backend, Cpu};
use samara_core::file::{FileError, ProgramFile, SectionKind};
use samara_core::graph::DType;
use samara_core::ops;
use samara_core::ops::weight::is_blocks;
use samara_core::threads::Serial;
use samara_core::tune::Tune;
use serde::Serialize;

use super::aligned::Aligned;
use super::names::{PROGRAM_NAMES, dtype_name};
use super::spec::{FileSpec, ImageSpec};
use super::target::{ENGINE_BYTES, Target};
use super::work::multiplications;

/// An upper bound of the stack in bytes, enforced by the firmware's tests.
const STACK_BYTES: u64 = 4 * 1024;
/// Tenths of an instruction per multiplication on a Cortex-M7 with quantised weights, overhead included: measured by the firmware test `generate` for
/// a model of width 64; wider models take less.
const M7_TENTHS: u64 = 75;
/// Bytes of a float, an integer, and a state element.
const ELEMENT_BYTES: u64 = 4;

/// A part of a file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FlashPart {
    /// What it is.
    pub what: &'static str,
    /// Its bytes.
    pub bytes: u64,
}

/// RAM that a device needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DeviceRam {
    /// Activations, inputs, scratch.
    pub arena_bytes: u64,
    /// The most scratch of a node, part of the arena.
    pub scratch_bytes: u64,
    /// Keys and values.
    pub state_bytes: u64,
    /// Tokens and positions.
    pub ints_bytes: u64,
    /// Trained parameters.
    pub trainable_bytes: u64,
    /// Their moments.
    pub moments_bytes: u64,
    /// The sum of the above: the RAM lent to a session.
    pub session_bytes: u64,
    /// A bound of the stack.
    pub stack_bytes: u64,
    /// Everything.
    pub total_bytes: u64,
}

/// A program file and its resources on a device.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Footprint {
    /// Its programs.
    pub programs: Vec<&'static str>,
    /// How matrices are stored.
    pub weights: &'static str,
    /// The element type of keys and values, of a language model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv: Option<&'static str>,
    /// Tokens that a sequence can have, of a language model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<usize>,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// What they are.
    pub flash: Vec<FlashPart>,
    /// A bound of the engine's code.
    pub engine_bytes: u64,
    /// File and engine.
    pub flash_bytes: u64,
    /// RAM.
    pub ram: DeviceRam,
    /// Multiplications of a token in the middle of a sequence, or of an image.
    pub multiplications: u64,
    /// Instructions per token in the middle of a sequence on a Cortex-M7, where known: with quantised weights.
    pub m7_instructions: Option<u64>,
    /// The chosen microcontroller.
    #[serde(skip)]
    pub target: Option<&'static Target>,
    /// The limit that the microcontroller exceeds.
    #[serde(skip)]
    pub problem: Option<String>,
}

/// How a file was made.
#[derive(Clone, Copy, Debug)]
pub struct Made {
    /// How matrices are stored.
    pub weights: DType,
    /// Whether something is trained.
    pub trains: bool,
    /// The element type of keys and values and the context of a language model; `None` for a classifier of images.
    pub text: Option<(DType, usize)>,
}

impl From<&FileSpec> for Made {
    fn from(spec: &FileSpec) -> Self {
        Self { weights: spec.weights, trains: spec.train != Tune::None, text: Some((spec.kv, spec.context)) }
    }
}

impl From<&ImageSpec<'_>> for Made {
    fn from(spec: &ImageSpec<'_>) -> Self {
        Self { weights: spec.weights, trains: spec.tune.is_some(), text: None }
    }
}

/// Flash, RAM and work of a file; the first limit of the target that it exceeds.
///
/// # Errors
/// The file is refused by its reader.
pub fn footprint(bytes: &[u8], made: Made, target: Option<&'static Target>) -> Result<Footprint, FileError> {
    let kernels = ops::reference::<f32>();
    let aligned = Aligned::new(bytes);
    let open = if made.text.is_some() { ProgramFile::open } else { ProgramFile::open_images };
    let file = open(aligned.get(), &kernels)?;
    let sizes = file.sizes();
    let of = |len: usize| len as u64 * ELEMENT_BYTES;
    let ram = DeviceRam {
        arena_bytes: of(sizes.arena_len),
        scratch_bytes: of(scratch_len(&file)),
        state_bytes: of(sizes.state_len),
        ints_bytes: of(sizes.ints_len),
        trainable_bytes: of(sizes.trainable_len),
        moments_bytes: of(sizes.moments_len),
        session_bytes: of(sizes.total_len()),
        stack_bytes: STACK_BYTES,
        total_bytes: of(sizes.total_len()) + STACK_BYTES,
    };
    let engine_bytes = target.map_or(ENGINE_BYTES, |target| target.engine_bytes)[usize::from(made.trains)];
    let flash_bytes = bytes.len() as u64 + engine_bytes;
    let problem = target.and_then(|target| problem(target, made, flash_bytes, ram.total_bytes));
    Ok(Footprint {
        programs: PROGRAM_NAMES.into_iter().filter(|(kind, _)| file.program(*kind).is_some()).map(|(_, name)| name).collect(),
        weights: dtype_name(made.weights),
        kv: made.text.map(|(kv, _)| dtype_name(kv)),
        context: made.text.map(|(_, context)| context),
        file_bytes: bytes.len() as u64,
        flash: flash_parts(&file),
        engine_bytes,
        flash_bytes,
        ram,
        multiplications: multiplications(&file),
        m7_instructions: (made.text.is_some() && is_blocks(made.weights)).then(|| multiplications(&file) * M7_TENTHS / 10),
        target,
        problem,
    })
}

/// The largest scratch of any node, in elements; part of the arena.
fn scratch_len(file: &ProgramFile<'_>) -> usize {
    let cpu = Cpu::new(file.kernels(), &Serial);
    let nodes = file.programs().flat_map(|(_, p)| (0..p.program.nodes().len()).filter_map(move |i| p.program.node(i)));
    nodes.filter(|node| !node.record().dead).map(|node| cpu.scratch_len(&node)).max().unwrap_or(0)
}

fn flash_parts(file: &ProgramFile<'_>) -> Vec<FlashPart> {
    use SectionKind as K;
    let groups: [(&'static str, &[SectionKind]); 5] = [
        ("frozen weights", &[K::Frozen]),
        ("initial values of trainable parameters", &[K::Groups, K::Trainable]),
        ("programs and plans", &[K::Program, K::Ports, K::Tensors, K::Nodes, K::Slots]),
        (
            "tokenizer",
            &[
                K::Tokenizer,
                K::Chars,
                K::ClassIndex,
                K::ClassBlocks,
                K::ByteTokens,
                K::TokenOffsets,
                K::TokenBytes,
                K::Merged,
                K::Pairs,
                K::Words,
            ],
        ),
        ("names", &[K::Names]),
    ];
    let bytes = |kinds: &[SectionKind]| {
        let of_kind = file.sections().iter().filter(|section| kinds.iter().any(|kind| *kind as u16 == section.kind));
        of_kind.map(|section| section.len).sum()
    };
    groups.into_iter().map(|(what, kinds)| FlashPart { what, bytes: bytes(kinds) }).filter(|part| part.bytes > 0).collect()
}

/// The limit that a target exceeds.
fn problem(target: &Target, made: Made, flash_bytes: u64, ram_bytes: u64) -> Option<String> {
    let over = |what: &str, needed: u64, has: u64, advice: &str| {
        (needed > has).then(|| format!("{what}: {needed} bytes, {} has {has}; use {advice}", target.name))
    };
    let [flash, ram] = match made.text {
        Some(_) => [
            "--quantize q4, --strip-names, a smaller --context, train fewer parameters, or use a smaller model",
            "--kv f16 or q8, a smaller --context, --batch or --block, --optimizer sgd, or train fewer parameters",
        ],
        None => [
            "--quantize q4, --strip-names, train fewer parameters, or use a smaller model",
            "--recompute blocks, a smaller --batch, fewer --prompts, --optimizer sgd, or train fewer parameters",
        ],
    };
    over("flash", flash_bytes, target.flash_bytes, flash).or_else(|| over("RAM", ram_bytes, target.ram_bytes, ram))
}
