//! A program without a standard library whose panic handler calls a function that does not exist: it links only when the compiler proved that
//! nothing in it can panic. It builds a registry, a training graph and a decoding graph of a small GPT with their plans, in lent memory, and
//! runs training steps with clipping, AdamW and a moving average, steps that train the last block, a head or all vectors above weights in
//! blocks with updates in the backward pass, decoding steps with a key and value cache, a product by the GEMM driver,
//! tokenizers, sampling, assignment and bipartite graphs, objectives of rewards and preferences; it opens a program file and does all that a session can do.
//!
//! It returns 0 when the loss fell and everything is finite.
#![no_std]
#![no_main]

mod assign;
mod device;
mod handler;
mod learn;
mod text;

use core::hint::black_box;

use samara_core::exec::{Backend, Cpu, Gradients, Memory, ints_mut, real, real_mut, write_ints, write_real};
use samara_core::gemm::{self, MatRef, RowSlices, Store};
use samara_core::graph::{DType, Epsilon, Graph, Momentum, NodeRecord, Recompute, Rule, TensorRecord, Wrt};
use samara_core::model::gpt::{Gpt, GptConfig};
use samara_core::model::lm::{DecodeShape, DecodeStep, LanguageModel, LmInputs, decode_step, losses};
use samara_core::ops;
use samara_core::params::{Lora, ParamInfo, Params, Registry};
use samara_core::plan::{Plan, Slot, storage_len};
use samara_core::quant::{BLOCK, dequantise_row, quantise_row};
use samara_core::threads::Serial;
use samara_core::tune::{Tune, store_as, tune};

const PARAMS: usize = 40;
const TENSORS: usize = 512;
const NODES: usize = 256;
const ARENA: usize = 65_536;
const FLAT: usize = 8_192;
const FROZEN: usize = 65_536;
const TOKENS: [i32; 6] = [1, 2, 3, 4, 5, 6];

/// All memory of a run: about a megabyte, on the stack of this program and in a device's RAM.
struct Buffers {
    arena: [f32; ARENA],
    state: [f32; 4_096],
    ints: [i32; 256],
    trainable: [f32; FLAT],
    grads: [f32; FLAT],
    moments: [f32; 3 * FLAT],
}

/// Tables of a graph and its plan.
struct Tables {
    tensors: [TensorRecord; TENSORS],
    nodes: [NodeRecord; NODES],
    slots: [Slot; TENSORS + NODES],
    order: [u16; TENSORS + NODES],
}

impl Tables {
    const EMPTY: Self = Self {
        tensors: [TensorRecord::EMPTY; TENSORS],
        nodes: [NodeRecord::EMPTY; NODES],
        slots: [Slot::EMPTY; TENSORS + NODES],
        order: [0; TENSORS + NODES],
    };
}

/// What the host calls.
#[unsafe(no_mangle)]
pub extern "C" fn main(argc: i32, argv: *const *const u8) -> i32 {
    let _ = black_box(argv);
    match run(argc) {
        Some(()) => 0,
        None => 1,
    }
}

/// A row of every element type, there and back; the kernels that read blocks are in the table.
fn quantise(n: usize) -> Option<()> {
    let row = [n as f32 - 0.5; 3 * BLOCK];
    let (mut bytes, mut back) = ([0; 2 * 3 * BLOCK], [0.0; 3 * BLOCK]);
    for dtype in [DType::F16, DType::Q8, DType::Q4] {
        quantise_row(dtype, row.get(n..)?, &mut bytes);
        dequantise_row(dtype, &bytes, back.get_mut(n..)?);
    }
    black_box(back).iter().all(|x: &f32| x.abs() < 1e9).then_some(())
}

fn run(argc: i32) -> Option<()> {
    // Numbers that the compiler does not know.
    let n = black_box(argc.unsigned_abs() as usize);
    let config = GptConfig {
        vocab_size: 6 + n,
        n_positions: 7 + n,
        n_embd: 7 + n,
        n_layer: n,
        n_head: 1 + n,
        n_inner: 15 + n,
        window_size: 2 + n,
        ..GptConfig::GPT2
    };
    let mut infos = [ParamInfo::default(); PARAMS];
    let mut registry = Registry::new(&mut infos);
    let gpt = Gpt::register(&config, &mut registry.scope());
    let params = registry.finish(4).ok()?;
    let mut buffers = Buffers {
        arena: [0.0; ARENA],
        state: [0.0; 4_096],
        ints: [0; 256],
        trainable: [0.0; FLAT],
        grads: [0.0; FLAT],
        moments: [0.0; 3 * FLAT],
    };
    params.initialise(n as u64, &mut buffers.trainable);
    quantise(n)?;
    for recompute in [Recompute::None, Recompute::Cheap, Recompute::Blocks] {
        train(&config, &gpt, params, &mut buffers, recompute)?;
    }
    decode(&config, &gpt, params, &mut buffers)?;
    let adamw = Rule::AdamW(Epsilon::AfterCorrection);
    let moments = [Rule::Sgd(Momentum::None), Rule::Sgd(Momentum::Nesterov), adamw, adamw];
    for (tune, rule) in [Tune::LastBlock, Tune::Head, Tune::Bias, Tune::Adapters].into_iter().zip(moments) {
        tune_part(n, tune, rule, &mut buffers)?;
    }
    multiply(n, &mut buffers)?;
    assign::assign(n)?;
    learn::learn(n)?;
    device::run(&mut buffers.arena)?;
    text::tokenize()?;
    text::characters()?;
    text::choose(buffers.arena.get_mut(..20)?, &mut [0; 20])?;
    Some(())
}

fn memory(buffers: &mut Buffers) -> Memory<'_, f32> {
    Memory {
        arena: &mut buffers.arena,
        state: &mut buffers.state,
        ints: &mut buffers.ints,
        trainable: &mut buffers.trainable,
        grads: &mut buffers.grads,
        moments: &mut buffers.moments,
        frozen: &[],
    }
}

fn train(config: &GptConfig, gpt: &Gpt, params: Params<'_>, buffers: &mut Buffers, recompute: Recompute) -> Option<()> {
    let mut tables = Tables::EMPTY;
    let g = Graph::new(params, &mut tables.tensors, &mut tables.nodes);
    let mut inputs = LmInputs::new(&g, gpt, 2, 3);
    inputs.segments = Some(g.ints(&[2, 3], -1, 1));
    inputs.dropout = Some(g.ints(&[5], i32::MIN, i32::MAX));
    let targets = g.ints(&[2, 3], -100, config.vocab_size as i32 - 1);
    let (upstream, hyper, decay) = (g.input(&[1]), g.input(&[8]), g.input(&[1]));
    let hidden = gpt.hidden(&g, &inputs, None);
    let losses = g.output(g.head_loss(hidden, g.param(gpt.head()), None, targets, 0.1));
    g.backward(&[(losses, upstream)], Wrt::Trainable, recompute);
    let norm = g.global_norm();
    g.adamw(hyper, Some(norm), Epsilon::AfterCorrection);
    g.ema(decay, 2);
    let program = g.finish().ok()?;
    let kernels = ops::reference::<f32>();
    let cpu = Cpu::new(&kernels, &Serial);
    let _ = storage_len(&program);
    let plan = Plan::new(&program, &|node| cpu.scratch_len(node), &mut tables.slots, &mut tables.order).ok()?;
    plan.check().ok()?;
    if plan.arena_len() > ARENA || params.trainable_len() > FLAT || cpu.unsupported(&program).is_some() {
        return None;
    }
    let mut losses_seen = [0.0; 2];
    for (step, seen) in losses_seen.iter_mut().enumerate() {
        let t = 1 + step as u32;
        let control = ops::dropout::control(u64::from(t), t, 0, 0.1);
        let dropout = inputs.dropout?;
        write_ints(&program, &mut buffers.ints, inputs.tokens, &TOKENS).ok()?;
        write_ints(&program, &mut buffers.ints, inputs.positions, &[0, 1, 2, 0, 1, 2]).ok()?;
        write_ints(&program, &mut buffers.ints, inputs.segments?, &[0, 0, 0, -1, 0, 0]).ok()?;
        write_ints(&program, &mut buffers.ints, targets, &[2, 3, 4, -100, 6, 1]).ok()?;
        write_ints(&program, &mut buffers.ints, dropout, &control).ok()?;
        write_real(&program, &plan, &mut buffers.arena, upstream, &[0.2]).ok()?;
        let (c1, c2) = (1.0 - libm::powf(0.9, t as f32), 1.0 - libm::powf(0.99, t as f32));
        write_real(&program, &plan, &mut buffers.arena, hyper, &[0.01, 0.9, 0.99, 1e-8, 0.1, c1, c2, 1.0]).ok()?;
        write_real(&program, &plan, &mut buffers.arena, decay, &[0.9]).ok()?;
        cpu.run(&program, &plan, &mut memory(buffers), program.forward(), Gradients::Overwrite);
        cpu.run(&program, &plan, &mut memory(buffers), program.backward(), Gradients::Add);
        cpu.run(&program, &plan, &mut memory(buffers), program.update(), Gradients::Overwrite);
        *seen = real(&program, &plan, &buffers.arena, losses)?.iter().sum::<f32>();
    }
    let [before, after] = losses_seen;
    (after < before).then_some(())
}

/// Trains a part of a model whose other matrices are frozen in blocks, every update right behind its gradient.
fn tune_part(n: usize, part: Tune, rule: Rule, buffers: &mut Buffers) -> Option<()> {
    let width = n.checked_mul(BLOCK)?;
    let config = GptConfig {
        vocab_size: 6 + n,
        n_positions: 7 + n,
        n_embd: width,
        n_layer: 1 + n,
        n_head: n,
        n_inner: width,
        ..GptConfig::GPT2
    };
    let mut infos = [ParamInfo::default(); PARAMS];
    let mut registry = Registry::new(&mut infos);
    let lora = Lora { rank: n, scale: 1.0, targets: if part == Tune::Adapters { &["attn.c_attn", "c_fc"] } else { &["none"] } };
    let mut gpt = Gpt::register(&config, &mut registry.scope().adapted(lora));
    store_as(DType::Q8, &mut registry);
    tune(part, &mut gpt, &mut registry);
    let params = registry.finish(4).ok()?;
    params.initialise(n as u64, &mut buffers.trainable);
    buffers.moments.fill(0.0);
    let mut weights = Frozen([0; FROZEN]);
    fill(params, &mut weights)?;
    let mut tables = Tables::EMPTY;
    let g = Graph::new(params, &mut tables.tensors, &mut tables.nodes);
    let inputs = LmInputs::new(&g, &gpt, 2, 3);
    let targets = g.ints(&[2, 3], -100, config.vocab_size as i32 - 1);
    let (upstream, hyper) = (g.input(&[1]), g.input(&[8]));
    let losses = g.output(losses(&g, &gpt, &inputs, targets));
    g.backward_updating(&[(losses, upstream)], rule, hyper, Recompute::None);
    let program = g.finish().ok()?;
    let kernels = ops::reference::<f32>();
    let cpu = Cpu::new(&kernels, &Serial);
    let plan = Plan::new(&program, &|node| cpu.scratch_len(node), &mut tables.slots, &mut tables.order).ok()?;
    plan.check().ok()?;
    let fits = plan.arena_len() <= ARENA && params.trainable_len() <= FLAT && program.grads_len() == 0;
    if !fits || cpu.unsupported(&program).is_some() {
        return None;
    }
    let mut losses_seen = [0.0; 3];
    for seen in &mut losses_seen {
        write_ints(&program, &mut buffers.ints, inputs.tokens, &TOKENS).ok()?;
        write_ints(&program, &mut buffers.ints, inputs.positions, &[0, 1, 2, 0, 1, 2]).ok()?;
        write_ints(&program, &mut buffers.ints, targets, &[2, 3, 4, -100, 6, 1]).ok()?;
        write_real(&program, &plan, &mut buffers.arena, upstream, &[0.2]).ok()?;
        write_real(&program, &plan, &mut buffers.arena, hyper, &[0.02, 0.9, 0.99, 1e-8, 0.1, 0.5, 0.5, 0.0]).ok()?;
        let memory = &mut Memory { grads: &mut [], frozen: &weights.0, ..memory(buffers) };
        cpu.run(&program, &plan, memory, program.forward(), Gradients::Overwrite);
        cpu.run(&program, &plan, memory, program.backward(), Gradients::Overwrite);
        *seen = real(&program, &plan, &buffers.arena, losses)?.iter().sum::<f32>();
    }
    let [before, _, after] = losses_seen;
    (after < before).then_some(())
}

/// Bytes of frozen weights; numbers among them must be aligned.
#[repr(align(64))]
struct Frozen([u8; FROZEN]);

/// Something else in every row of every frozen parameter: blocks where it is stored in blocks, and numbers otherwise.
fn fill(params: Params<'_>, weights: &mut Frozen) -> Option<()> {
    for (number, info) in params.infos().iter().enumerate().filter(|(_, info)| info.frozen) {
        let bytes = weights.0.get_mut(info.frozen_bytes(size_of::<f32>()))?;
        let block = info.dtype.bytes(BLOCK, size_of::<f32>())?;
        for (row, bytes) in bytes.chunks_exact_mut(block.max(1)).enumerate() {
            let mut numbers = [0.0; BLOCK];
            for (i, x) in numbers.iter_mut().enumerate() {
                *x = 0.2 * libm::sinf((7 * i + 5 * row + number) as f32);
            }
            if info.dtype != DType::Real {
                quantise_row(info.dtype, &numbers, bytes);
                continue;
            }
            for (to, x) in bytes.as_chunks_mut().0.iter_mut().zip(numbers) {
                *to = x.to_le_bytes();
            }
        }
    }
    Some(())
}

fn decode(config: &GptConfig, gpt: &Gpt, params: Params<'_>, buffers: &mut Buffers) -> Option<()> {
    let mut tables = Tables::EMPTY;
    let g = Graph::new(params, &mut tables.tensors, &mut tables.nodes);
    let shape = DecodeShape { batch: 2, len: 1, capacity: config.n_positions, dtype: DType::F16, read_in_place: true };
    let DecodeStep { inputs, cache, logits } = decode_step(&g, gpt, &shape);
    let program = g.finish().ok()?;
    let kernels = ops::reference::<f32>();
    let cpu = Cpu::new(&kernels, &Serial);
    let plan = Plan::new(&program, &|node| cpu.scratch_len(node), &mut tables.slots, &mut tables.order).ok()?;
    plan.check().ok()?;
    if program.info().state_len() > buffers.state.len() {
        return None;
    }
    for position in 0..2 {
        write_ints(&program, &mut buffers.ints, inputs.tokens, &[1, 2]).ok()?;
        write_ints(&program, &mut buffers.ints, inputs.positions, &[position, position]).ok()?;
        ints_mut(&program, &mut buffers.ints, cache.starts)?.fill(position);
        ints_mut(&program, &mut buffers.ints, cache.live)?.fill(position.wrapping_add(1));
        cpu.run(&program, &plan, &mut memory(buffers), 0..program.nodes().len(), Gradients::Overwrite);
        let logits = real_mut(&program, &plan, &mut buffers.arena, logits)?;
        if logits.is_empty() || logits.iter().any(|x| !x.is_finite()) {
            return None;
        }
    }
    Some(())
}

/// A (m, k) times B (k, n) of ones, each as it lies and turned: every element is k, then 2k, and 1 more by the epilogue.
fn multiply(n: usize, buffers: &mut Buffers) -> Option<()> {
    let (m, n, k) = (4 + n, 10 + n, 6 + n);
    let kernel = black_box(gemm::portable::<f32>());
    let ones = buffers.trainable.get_mut(..k.checked_mul(m.max(n))?)?;
    ones.fill(1.0);
    let (a, b) = (MatRef::new(ones, m, k), MatRef::new(ones, n, k).t());
    let mut c = RowSlices { data: buffers.grads.get_mut(..m.checked_mul(n)?)?, ld: n };
    let len = |major| gemm::scratch_len(&kernel, major, m, n, k);
    let scratch = buffers.arena.get_mut(..len(gemm::Major::Rows).max(len(gemm::Major::Columns)))?;
    gemm::gemm(&kernel, a, b, &mut c, Store::Overwrite, None, scratch);
    let (a, b) = (MatRef::new(ones, k, m).t(), MatRef::new(ones, k, n));
    let mut add_one = |_: usize, _: usize, row: &mut [f32]| row.iter_mut().for_each(|x| *x += 1.0);
    gemm::gemm(&kernel, a, b, &mut c, Store::Add, Some(&mut add_one), scratch);
    c.data.iter().all(|&x| x == 2.0 * k as f32 + 1.0).then_some(())
}
