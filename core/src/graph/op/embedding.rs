//! Rows of a table.

use super::super::adjoint::Step;
use super::super::args::{Args, Outputs, rows_of};
use super::super::builder::Graph;
use super::super::error::GraphErrorKind as E;
use super::super::family::{Differentiable, Operation};
use super::super::tape::Tape;
use super::super::tensor::Tensor;
use super::super::work::Work;
use super::{Op, of};
use crate::shape::Shape;

impl Graph<'_> {
    /// Gathers rows of a table, plus `addend` if given. ids (…) i32, table (V, C), addend (…, C); result (…, C). The table may be an activation.
    #[track_caller]
    pub fn embedding(&self, ids: Tensor, table: Tensor, addend: Option<Tensor>) -> Tensor {
        let [y, ..] = self.push(Op::Embedding, &[ids.into(), table.into(), addend.into()]);
        y
    }
}

impl Operation for of::Embedding {
    fn shapes<F: From<E>>(self, args: &Args<'_, F>) -> Result<Outputs, F> {
        let table = args.weight(1)?;
        let ids = args.selectors(0, table.shape.rows(), false)?;
        let y = rows_of(ids.shape, table.shape.cols())?;
        args.optional_shape(2, y)?;
        Ok([Some(y), None, None])
    }

    fn flops(self, work: &Work<'_>) -> u64 {
        if work.node.has_input(2) { work.output_len(0) as u64 } else { 0 }
    }

    fn bytes(self, work: &Work<'_>) -> u64 {
        // One row of the table for every id.
        work.all_but(&[1]).saturating_add(work.input_bytes(1, work.output_len(0)))
    }
}

impl Differentiable for of::Embedding {
    fn gradient(self, tape: &mut Tape<'_>, step: &Step) -> Result<(), E> {
        let dy = tape.upstream(step, 0)?;
        let [ids, table, addend] = [0, 1, 2].map(|i| step.input(i));
        if addend.is_some() {
            tape.contribute(addend, dy)?;
        }
        if !tape.wants(step, 1) {
            return Ok(());
        }
        let shape = tape.tensor(table)?.shape;
        let out = tape.one(Op::EmbeddingBackward { vocab: shape.rows() as u32 }, &[ids, dy])?;
        if tape.in_grads(table) {
            return tape.settle(table, out);
        }
        let out = tape.reshaped(out, shape)?;
        tape.contribute(table, out)
    }
}

impl Operation for of::EmbeddingBackward {
    fn shapes<F: From<E>>(self, args: &Args<'_, F>) -> Result<Outputs, F> {
        let ids = args.ints(0)?;
        let dy = args.real(1)?;
        args.expect(1, dy, rows_of(ids.shape, dy.shape.cols())?)?;
        Ok([Shape::new(&[self.vocab as usize, dy.shape.cols()]), None, None])
    }

    fn flops(self, work: &Work<'_>) -> u64 {
        work.input_len(1) as u64
    }

    fn bytes(self, work: &Work<'_>) -> u64 {
        // A later contribution touches the rows of its ids only.
        if work.node.record().is_later(0) { work.read(0).saturating_add(work.read(1).saturating_mul(3)) } else { work.all() }
    }
}
