//! Tokens of sequences: parts of the second of three extents.

use super::super::adjoint::Step;
use super::super::args::{Args, Outputs, shape3};
use super::super::builder::Graph;
use super::super::error::GraphErrorKind as E;
use super::super::family::{Differentiable, Operation};
use super::super::tape::Tape;
use super::super::tensor::Tensor;
use super::super::work::Work;
use super::{Op, of};
use crate::shape::Shape;

impl Graph<'_> {
    /// Tokens first..first+count of every sequence. x (B, T, C); result (B, count, C).
    #[track_caller]
    pub fn token_slice(&self, x: Tensor, first: usize, count: usize) -> Tensor {
        let [y, ..] = self.push(Op::TokenSlice { first: extent(first), count: extent(count) }, &[x.into()]);
        y
    }

    /// a (B, Ta, C) and then b (B, Tb, C); result (B, Ta + Tb, C).
    #[track_caller]
    pub fn token_concat(&self, a: Tensor, b: Tensor) -> Tensor {
        let [y, ..] = self.push(Op::TokenConcat, &[a.into(), b.into()]);
        y
    }

    /// Replaces the tokens of x (B, T, C) from `first` on by p (B, P, C); result (B, T, C).
    #[track_caller]
    pub fn token_replace(&self, x: Tensor, p: Tensor, first: usize) -> Tensor {
        let [y, ..] = self.push(Op::TokenReplace { first: extent(first) }, &[x.into(), p.into()]);
        y
    }
}

/// An extent as an attribute; the shape rule refuses one that does not fit.
fn extent(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// Contributes the tokens of the upstream gradient that belong to input `i`, which starts at token `first`.
fn contribute(tape: &mut Tape<'_>, step: &Step, i: usize, first: u32) -> Result<(), E> {
    if !tape.wants(step, i) {
        return Ok(());
    }
    let dy = tape.upstream(step, 0)?;
    let count = tape.tensor(step.input(i))?.shape.dim(1) as u32;
    let dx = tape.one(Op::TokenSlice { first, count }, &[dy])?;
    tape.contribute(step.input(i), dx)
}

impl Operation for of::TokenSlice {
    fn shapes<F: From<E>>(self, args: &Args<'_, F>) -> Result<Outputs, F> {
        let (_, [b, t, c]) = args.tokens(0)?;
        let end = (self.first as usize).saturating_add(self.count as usize);
        if end > t {
            return Err(F::from(E::Attribute { name: "last token", value: end as f64 }));
        }
        Ok([Shape::new(&[b, self.count as usize, c]), None, None])
    }

    fn flops(self, _: &Work<'_>) -> u64 {
        0
    }

    fn bytes(self, work: &Work<'_>) -> u64 {
        work.written(0).saturating_mul(2)
    }
}

impl Differentiable for of::TokenSlice {
    fn gradient(self, tape: &mut Tape<'_>, step: &Step) -> Result<(), E> {
        let dy = tape.upstream(step, 0)?;
        let tokens = tape.tensor(step.input(0))?.shape.dim(1) as u32;
        let dx = tape.one(Op::TokenPad { first: self.first, tokens }, &[dy])?;
        tape.contribute(step.input(0), dx)
    }
}

impl Operation for of::TokenPad {
    fn shapes<F: From<E>>(self, args: &Args<'_, F>) -> Result<Outputs, F> {
        let (_, [b, t, c]) = args.tokens(0)?;
        if (self.first as usize).saturating_add(t) > self.tokens as usize {
            return Err(F::from(E::Attribute { name: "first token", value: f64::from(self.first) }));
        }
        Ok([Shape::new(&[b, self.tokens as usize, c]), None, None])
    }

    fn flops(self, _: &Work<'_>) -> u64 {
        0
    }
}

impl Differentiable for of::TokenPad {
    fn gradient(self, tape: &mut Tape<'_>, step: &Step) -> Result<(), E> {
        contribute(tape, step, 0, self.first)
    }
}

impl Operation for of::TokenConcat {
    fn shapes<F: From<E>>(self, args: &Args<'_, F>) -> Result<Outputs, F> {
        let (_, [b, ta, c]) = args.tokens(0)?;
        let (second, [_, tb, _]) = args.tokens(1)?;
        args.expect(1, second, shape3(b, tb, c)?)?;
        Ok([Some(shape3(b, ta.saturating_add(tb), c)?), None, None])
    }

    fn flops(self, _: &Work<'_>) -> u64 {
        0
    }
}

impl Differentiable for of::TokenConcat {
    fn gradient(self, tape: &mut Tape<'_>, step: &Step) -> Result<(), E> {
        let tokens = tape.tensor(step.input(0))?.shape.dim(1) as u32;
        contribute(tape, step, 0, 0)?;
        contribute(tape, step, 1, tokens)
    }
}

impl Operation for of::TokenReplace {
    fn shapes<F: From<E>>(self, args: &Args<'_, F>) -> Result<Outputs, F> {
        let (x, [b, t, c]) = args.tokens(0)?;
        let (p, [_, count, _]) = args.tokens(1)?;
        args.expect(1, p, shape3(b, count, c)?)?;
        if (self.first as usize).saturating_add(count) > t {
            return Err(F::from(E::Attribute { name: "first token", value: f64::from(self.first) }));
        }
        Ok([Some(x.shape), None, None])
    }

    fn flops(self, _: &Work<'_>) -> u64 {
        0
    }
}

impl Differentiable for of::TokenReplace {
    fn gradient(self, tape: &mut Tape<'_>, step: &Step) -> Result<(), E> {
        let dy = tape.upstream(step, 0)?;
        contribute(tape, step, 1, self.first)?;
        if tape.wants(step, 0) {
            let (dims, rank) = tape.tensor(step.input(1))?.shape.padded();
            let zeros = tape.one(Op::Constant { value: 0.0, dims, rank }, &[])?;
            let dx = tape.one(Op::TokenReplace { first: self.first }, &[dy, zeros])?;
            tape.contribute(step.input(0), dx)?;
        }
        Ok(())
    }
}
