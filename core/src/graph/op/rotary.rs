//! Rotary position embeddings. Su et al. 2021.

use super::super::adjoint::Step;
use super::super::args::{Args, Outputs};
use super::super::attribute::RotarySpec;
use super::super::builder::Graph;
use super::super::error::GraphErrorKind as E;
use super::super::family::{Differentiable, Operation};
use super::super::tape::Tape;
use super::super::tensor::Tensor;
use super::super::work::{Work, product};
use super::{Op, of};

impl Graph<'_> {
    /// Rotates the first `heads` heads of every row by its position, see [`RotarySpec`]. x (…, ·) with at least heads·head_dim columns, one position
    /// (i32) per row of x; result in the shape of x.
    #[track_caller]
    pub fn rotary(&self, x: Tensor, positions: Tensor, spec: RotarySpec) -> Tensor {
        let [y, ..] = self.push(Op::Rotary(spec), &[x.into(), positions.into()]);
        y
    }
}

impl Operation for of::Rotary {
    fn shapes<F: From<E>>(self, args: &Args<'_, F>) -> Result<Outputs, F> {
        let RotarySpec { heads, head_dim, rotated, base, .. } = self.spec;
        let (x, positions) = (args.real(0)?.shape, args.ints(1)?.shape);
        if rotated == 0 || !rotated.is_multiple_of(2) || rotated > head_dim {
            return Err(F::from(E::Attribute { name: "rotated", value: f64::from(rotated) }));
        }
        if !(base > 0.0 && base.is_finite()) {
            return Err(F::from(E::Attribute { name: "base", value: base }));
        }
        let count = heads.saturating_mul(head_dim);
        if heads == 0 || count as usize > x.cols() {
            return Err(F::from(E::Columns { first: 0, count, cols: x.cols() as u32 }));
        }
        if positions.len() != x.rows() {
            return Err(F::from(E::Shape { input: 1, found: positions, expected: x.without_cols() }));
        }
        Ok([Some(x), None, None])
    }

    fn flops(self, work: &Work<'_>) -> u64 {
        product(&[3, rotated_len(work, &self.spec)])
    }

    fn bytes(self, work: &Work<'_>) -> u64 {
        // In place, columns without rotation are not touched.
        if work.in_place { work.read(1).saturating_add(work.reals(2 * rotated_len(work, &self.spec))) } else { work.all() }
    }
}

/// Elements that are rotated.
fn rotated_len(work: &Work<'_>, spec: &RotarySpec) -> usize {
    work.node.input_shape(0).rows().saturating_mul(spec.heads as usize).saturating_mul(spec.rotated as usize)
}

impl Differentiable for of::Rotary {
    /// The transpose of a rotation is the rotation back.
    fn gradient(self, tape: &mut Tape<'_>, step: &Step) -> Result<(), E> {
        let dy = tape.upstream(step, 0)?;
        let back = Op::Rotary(RotarySpec { inverse: !self.spec.inverse, ..self.spec });
        let dx = tape.one(back, &[dy, step.input(1)])?;
        tape.contribute(step.input(0), dx)
    }
}
