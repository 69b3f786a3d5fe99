//! Functions of one or two elements.

use super::super::adjoint::Step;
use super::super::args::{Args, Outputs};
use super::super::attribute::{BinaryKind, Over, UnaryKind};
use super::super::builder::Graph;
use super::super::error::GraphErrorKind as E;
use super::super::family::{Cheap, Differentiable, Operation};
use super::super::record::NodeRecord;
use super::super::tape::Tape;
use super::super::tensor::Tensor;
use super::super::work::{Work, product};
use super::{Op, of};

impl Graph<'_> {
    /// f(x) elementwise. x of any shape; result in its shape.
    #[track_caller]
    pub fn unary(&self, kind: UnaryKind, a: f64, b: f64, x: Tensor) -> Tensor {
        let [y, ..] = self.push(Op::Unary { kind, a, b }, &[x.into()]);
        y
    }

    /// a x. x of any shape; result in its shape.
    #[track_caller]
    pub fn scale(&self, x: Tensor, a: f64) -> Tensor {
        self.unary(UnaryKind::Scale, a, 0.0, x)
    }

    /// f(a, b) elementwise, with b broadcast as [`Over`] specifies. a of any shape; result in the shape of a.
    #[track_caller]
    pub fn binary(&self, kind: BinaryKind, over: Over, a: Tensor, b: Tensor) -> Tensor {
        let [y, ..] = self.push(Op::Binary { kind, over }, &[a.into(), b.into()]);
        y
    }

    /// a + b of the same shape.
    #[track_caller]
    pub fn add(&self, a: Tensor, b: Tensor) -> Tensor {
        self.binary(BinaryKind::Add, Over::Same, a, b)
    }

    /// a b of the same shape, element by element.
    #[track_caller]
    pub fn mul(&self, a: Tensor, b: Tensor) -> Tensor {
        self.binary(BinaryKind::Mul, Over::Same, a, b)
    }
}

impl Operation for of::Unary {
    fn shapes<F: From<E>>(self, args: &Args<'_, F>) -> Result<Outputs, F> {
        Ok([Some(args.real(0)?.shape), None, None])
    }

    fn flops(self, work: &Work<'_>) -> u64 {
        work.output_len(0) as u64
    }
}

impl Differentiable for of::Unary {
    fn gradient(self, tape: &mut Tape<'_>, step: &Step) -> Result<(), E> {
        let Self { kind, a, b } = self;
        let dy = tape.upstream(step, 0)?;
        let dx = match kind {
            UnaryKind::Scale => tape.one(Op::Unary { kind, a, b }, &[dy])?,
            UnaryKind::Offset => dy,
            _ => {
                let x = tape.saved(step.input(0))?;
                tape.one(Op::UnaryBackward { kind, a, b }, &[dy, x])?
            }
        };
        tape.contribute(step.input(0), dx)
    }
}

impl Cheap for of::Unary {
    /// Not scales and offsets, whose gradients do not read x.
    fn again(self, tape: &mut Tape<'_>, node: &NodeRecord) -> Result<Option<Tensor>, E> {
        let Self { kind, a, b } = self;
        if matches!(kind, UnaryKind::Scale | UnaryKind::Offset) {
            return Ok(None);
        }
        let x = tape.saved(node.input(0))?;
        Ok(Some(tape.one(Op::Unary { kind, a, b }, &[x])?))
    }
}

impl Operation for of::UnaryBackward {
    fn shapes<F: From<E>>(self, args: &Args<'_, F>) -> Result<Outputs, F> {
        let x = args.real(1)?.shape;
        args.expect(0, args.real(0)?, x)?;
        Ok([Some(x), None, None])
    }

    fn flops(self, work: &Work<'_>) -> u64 {
        product(&[2, work.output_len(0)])
    }
}

impl Operation for of::Binary {
    fn shapes<F: From<E>>(self, args: &Args<'_, F>) -> Result<Outputs, F> {
        let a = args.real(0)?.shape;
        args.spread(1, self.over, a)?;
        Ok([Some(a), None, None])
    }

    fn flops(self, work: &Work<'_>) -> u64 {
        work.output_len(0) as u64
    }
}

impl Differentiable for of::Binary {
    fn gradient(self, tape: &mut Tape<'_>, step: &Step) -> Result<(), E> {
        let dy = tape.upstream(step, 0)?;
        let [a, b] = [step.input(0), step.input(1)];
        match self.kind {
            BinaryKind::Add => {
                tape.contribute(a, dy)?;
                tape.contribute_reduced(b, dy, self.over)
            }
            BinaryKind::Sub => {
                tape.contribute(a, dy)?;
                self.contribute_negative(tape, step, dy)
            }
            BinaryKind::Mul => self.product_gradient(tape, step, dy),
            BinaryKind::Div => {
                let b_saved = tape.saved(b)?;
                let da = tape.one(Op::Binary { kind: BinaryKind::Div, over: self.over }, &[dy, b_saved])?;
                if tape.wants(step, 1) {
                    // d(a/b)/db = −(a/b)/b.
                    let y = tape.saved(step.output(0))?;
                    let product = tape.one(same(BinaryKind::Mul), &[da, y])?;
                    self.contribute_negative(tape, step, product)?;
                }
                tape.contribute(a, da)
            }
            BinaryKind::Min | BinaryKind::Max => {
                let (a_saved, b_saved) = (tape.saved(a)?, tape.saved(b)?);
                let select = Op::SelectBackward { max: self.kind == BinaryKind::Max, over: self.over };
                let da = tape.one(select, &[dy, a_saved, b_saved])?;
                if tape.wants(step, 1) {
                    let rest = tape.one(same(BinaryKind::Sub), &[dy, da])?;
                    tape.contribute_reduced(b, rest, self.over)?;
                }
                tape.contribute(a, da)
            }
        }
    }
}

impl of::Binary {
    fn product_gradient(self, tape: &mut Tape<'_>, step: &Step, dy: Tensor) -> Result<(), E> {
        let [a, b] = [step.input(0), step.input(1)];
        if tape.wants(step, 0) {
            let b = tape.saved(b)?;
            let da = tape.one(Op::Binary { kind: BinaryKind::Mul, over: self.over }, &[dy, b])?;
            tape.contribute(a, da)?;
        }
        if tape.wants(step, 1) {
            let a = tape.saved(a)?;
            let product = tape.one(same(BinaryKind::Mul), &[dy, a])?;
            tape.contribute_reduced(b, product, self.over)?;
        }
        Ok(())
    }

    /// Contributes −g, reduced, to b.
    fn contribute_negative(self, tape: &mut Tape<'_>, step: &Step, g: Tensor) -> Result<(), E> {
        if !tape.wants(step, 1) {
            return Ok(());
        }
        let negative = tape.one(Op::Unary { kind: UnaryKind::Scale, a: -1.0, b: 0.0 }, &[g])?;
        tape.contribute_reduced(step.input(1), negative, self.over)
    }
}

/// A function of two tensors of the same shape.
fn same(kind: BinaryKind) -> Op {
    Op::Binary { kind, over: Over::Same }
}

impl Operation for of::SelectBackward {
    fn shapes<F: From<E>>(self, args: &Args<'_, F>) -> Result<Outputs, F> {
        let a = args.real(1)?.shape;
        args.expect(0, args.real(0)?, a)?;
        args.spread(2, self.over, a)?;
        Ok([Some(a), None, None])
    }

    fn flops(self, work: &Work<'_>) -> u64 {
        product(&[2, work.output_len(0)])
    }
}
