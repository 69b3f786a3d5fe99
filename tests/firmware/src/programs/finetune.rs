//! Fine-tuning on the device: the last block of a GPT of 35 thousand parameters, in 50 steps, on a text of another kind than it was trained on. The hash
//! is over the losses of all steps and the parameters at the end.

use core::hint::black_box;

use samara_core::exec::Kernels;
use samara_core::file::ProgramKind;
use samara_core::ops::{self, elementwise::GeluTanh};
use samara_core::session::{Hyper, Session};

use super::model;
use crate::{Hash, Program, decimals, figure};

static KERNELS: Kernels<f32> = ops::training_with::<_, GeluTanh>();
/// Four parts to learn, two to be judged by.
static TEXT: &[u8] = include_bytes!("../../models/changed.txt");
const TRAINED: usize = 4096;
const STEPS: usize = 50;
/// Tokens of a step.
const BLOCK: usize = 32;
/// What `samara export` says that a session takes with SGD and with AdamW, in numbers of four bytes.
const SGD_LEN: usize = 35_808;
const ADAMW_LEN: usize = 61_344;

/// By SGD: nothing stands beside the parameters.
pub struct WithSgd {
    ram: [f32; SGD_LEN],
}

/// By AdamW, with two moments for each parameter.
pub struct WithAdamw {
    ram: [f32; ADAMW_LEN],
}

impl Program for WithSgd {
    const NEW: Self = Self { ram: [0.0; SGD_LEN] };

    fn run(&mut self) -> Option<Hash> {
        static MODEL: &[u8] = samara_core::include_program!("../../models/finetune-sgd.samara");
        finetune(black_box(MODEL), &mut self.ram, &Hyper::sgd(0.2))
    }
}

impl Program for WithAdamw {
    const NEW: Self = Self { ram: [0.0; ADAMW_LEN] };

    fn run(&mut self) -> Option<Hash> {
        static MODEL: &[u8] = samara_core::include_program!("../../models/finetune-adamw.samara");
        finetune(black_box(MODEL), &mut self.ram, &Hyper::adamw(0.003))
    }
}

fn finetune(model: &[u8], ram: &mut [f32], hyper: &Hyper) -> Option<Hash> {
    let mut session = model::open(model, &KERNELS, ram)?;
    let (train, held_out) = TEXT.split_at_checked(TRAINED)?;
    let mut hash = Hash::default();
    loss("before", &mut session, held_out)?;
    let (mut tokens, mut targets) = ([0; BLOCK], [0; BLOCK]);
    let starts = (0..TRAINED - BLOCK).step_by(BLOCK).cycle();
    for start in starts.take(black_box(STEPS)) {
        read(train, start, &mut tokens, &mut targets);
        hash.reals(&[session.train(&tokens, &targets, hyper).ok()?]);
    }
    loss("after", &mut session, held_out)?;
    hash.reals(session.trainable());
    figure("steps", STEPS as u64);
    Some(hash)
}

/// Tokens from `start` on, and what follows each.
fn read(text: &[u8], start: usize, tokens: &mut [i32], targets: &mut [i32]) {
    let from = |start: usize| text.get(start..).unwrap_or(&[]).iter().map(|&byte| i32::from(byte));
    tokens.iter_mut().zip(from(start)).for_each(|(to, byte)| *to = byte);
    targets.iter_mut().zip(from(start + 1)).for_each(|(to, byte)| *to = byte);
}

/// Reports the mean loss of a text in blocks that do not overlap.
fn loss(name: &str, session: &mut Session<'_, '_>, text: &[u8]) -> Option<()> {
    let block = session.tokens_of(ProgramKind::Evaluate).min(BLOCK);
    let (mut tokens, mut targets) = ([0; BLOCK], [0; BLOCK]);
    let (mut sum, mut count) = (0.0, 0u32);
    for start in (0..text.len().saturating_sub(block)).step_by(block.max(1)) {
        read(text, start, &mut tokens, &mut targets);
        sum += session.evaluate(tokens.get(..block)?, targets.get(..block)?).ok()?.iter().sum::<f32>();
        count += block as u32;
    }
    decimals(name, (sum * 100.0) as u64, u64::from(count) * 100);
    Some(())
}
