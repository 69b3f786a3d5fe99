//! The memory that a session is lent, and runs on it.

use core::mem::take;
use core::ops::Range;

use super::SessionError;
use crate::exec::{Backend, Cpu, Gradients, Memory, place, place_mut};
use crate::file::{FileProgram, Port, ProgramFile};
use crate::graph::HYPER_LEN;
use crate::threads::Serial;

/// The hyper-parameters of a training step, named as in PyTorch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hyper {
    /// Learning rate.
    pub lr: f32,
    /// β₁; the momentum of SGD.
    pub beta1: f32,
    /// β₂.
    pub beta2: f32,
    /// ε.
    pub eps: f32,
    /// Weight decay.
    pub weight_decay: f32,
}

impl Hyper {
    /// PyTorch's defaults for AdamW at a learning rate, without weight decay.
    pub const fn adamw(lr: f32) -> Self {
        Self { lr, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0 }
    }

    /// Plain SGD.
    pub const fn sgd(lr: f32) -> Self {
        Self { lr, beta1: 0.0, beta2: 0.0, eps: 0.0, weight_decay: 0.0 }
    }
}

/// A file, and lent memory for its programs, which share the parameters.
pub(super) struct Lent<'a: 'm, 'm> {
    pub(super) file: ProgramFile<'a>,
    pub(super) memory: Memory<'m, f32>,
    /// Steps of training so far.
    pub(super) steps: u32,
}

impl<'a: 'm, 'm> Lent<'a, 'm> {
    /// Clears the memory and copies the initial values of trainable parameters into it.
    #[inline(always)]
    pub(super) fn new(file: ProgramFile<'a>, ram: &'m mut [f32]) -> Result<Self, SessionError> {
        let sizes = file.sizes();
        let (found, needed) = (ram.len(), sizes.total_len());
        let mut rest = ram.get_mut(..needed).ok_or(SessionError::Ram { found, needed })?;
        rest.fill(0.0);
        let mut part = |len: usize| split(&mut rest, len);
        let arena = part(sizes.arena_len);
        let state = part(sizes.state_len);
        let ints = bytemuck::try_cast_slice_mut(part(sizes.ints_len)).unwrap_or_default();
        let trainable = part(sizes.trainable_len);
        let (grads, moments) = (part(sizes.grads_len), part(sizes.moments_len));
        copy(trainable, file.trainable());
        let memory = Memory { arena, state, ints, trainable, grads, moments, frozen: file.frozen() };
        Ok(Self { file, memory, steps: 0 })
    }

    /// Runs a program; all programs share the arena.
    pub(super) fn run(&mut self, program: &FileProgram<'a>) {
        let nodes: Range<usize> = 0..program.program.nodes().len();
        Cpu::new(self.file.kernels(), &Serial).run(
            &program.program,
            &program.plan,
            &mut self.memory,
            nodes,
            Gradients::Overwrite,
        );
    }

    /// Writes the hyper-parameters of every group, runs, and returns the losses.
    pub(super) fn step(&mut self, program: &FileProgram<'a>, hyper: &Hyper) -> &[f32] {
        self.steps = self.steps.saturating_add(1);
        let correction = |beta: f32| 1.0 - power(beta, self.steps);
        let Hyper { lr, beta1, beta2, eps, weight_decay } = *hyper;
        let mut numbers: [f32; HYPER_LEN] = [lr, beta1, beta2, eps, weight_decay, correction(beta1), correction(beta2), 0.0];
        for port in program.ports().iter().filter(|port| port.kind == Port::Hyper as u16) {
            let [first, ..] = &mut numbers;
            *first = self.file.groups().get(usize::from(port.index)).map_or(lr, |group| lr * group.lr_scale);
            copy(place_mut(&program.plan, self.memory.arena, port.tensor), &numbers);
        }
        self.run(program);
        self.values(program, Port::Losses)
    }

    /// The mean of the losses of a step, of which `counted` have a target.
    pub(super) fn mean_step(&mut self, program: &FileProgram<'a>, counted: usize, hyper: &Hyper) -> f32 {
        let counted = counted.max(1) as f32;
        place_mut(&program.plan, self.memory.arena, program.port(Port::Upstream)).fill(1.0 / counted);
        self.step(program, hyper).iter().sum::<f32>() / counted
    }

    /// The values of a floating-point port.
    pub(super) fn values(&self, program: &FileProgram<'a>, port: Port) -> &[f32] {
        place(&program.plan, self.memory.arena, program.port(port))
    }
}

/// Takes the first `len` elements off the rest.
#[inline(never)]
fn split<'m>(rest: &mut &'m mut [f32], len: usize) -> &'m mut [f32] {
    let (part, tail) = take(rest).split_at_mut_checked(len).unwrap_or_default();
    *rest = tail;
    part
}

/// Copies values between slices that do not alias.
#[inline(never)]
fn copy(to: &mut [f32], from: &[f32]) {
    to.iter_mut().zip(from).for_each(|(to, &from)| *to = from);
}

/// xⁿ by squaring.
fn power(mut x: f32, mut n: u32) -> f32 {
    let mut power = 1.0;
    while n > 0 {
        if n & 1 != 0 {
            power *= x;
        }
        x *= x;
        n >>= 1;
    }
    power
}
