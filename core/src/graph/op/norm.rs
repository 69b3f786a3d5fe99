//! Norms over the last extent: layer norm, and RMS norm, which does not subtract the mean.

use super::super::adjoint::Step;
use super::super::args::{Args, Outputs};
use super::super::builder::Graph;
use super::super::error::GraphErrorKind as E;
use super::super::family::{Cheap, Differentiable, Operation};
use super::super::record::NodeRecord;
use super::super::tape::Tape;
use super::super::tensor::{Columns, Tensor};
use super::super::work::{Work, product};
use super::{Op, of};
use crate::shape::Shape;

impl Graph<'_> {
    /// Layer norm over the last extent, (x − μ)/√(σ² + ε) · w + b. x (…, C), w (C), b (C); result (…, C). Ba, Kiros and Hinton 2016.
    #[track_caller]
    pub fn layer_norm(&self, x: Tensor, w: Option<Tensor>, b: Option<Tensor>, eps: f64) -> Tensor {
        let [y, ..] = self.push(Op::LayerNorm { eps, centre: true }, &[x.into(), w.into(), b.into()]);
        y
    }

    /// Root-mean-square norm over the last extent, x/√(mean x² + ε) · w. x (…, C), w (C); result (…, C). Zhang and Sennrich 2019.
    #[track_caller]
    pub fn rms_norm(&self, x: Tensor, w: Option<Tensor>, eps: f64) -> Tensor {
        let [y, ..] = self.push(Op::LayerNorm { eps, centre: false }, &[x.into(), w.into()]);
        y
    }
}

impl Operation for of::LayerNorm {
    fn shapes<F: From<E>>(self, args: &Args<'_, F>) -> Result<Outputs, F> {
        let x = args.real(0)?;
        if !(self.eps > 0.0 && self.eps.is_finite()) {
            return Err(F::from(E::Attribute { name: "eps", value: self.eps }));
        }
        let c = Shape::new(&[x.shape.cols()]).ok_or(F::from(E::ShapeTooLarge))?;
        args.optional_shape(1, c)?;
        args.optional_shape(2, c)?;
        Ok([Some(x.shape), Shape::new(&[x.shape.rows(), 2]), None])
    }

    fn flops(self, work: &Work<'_>) -> u64 {
        product(&[if self.centre { 8 } else { 4 }, work.input_len(0)])
    }
}

impl Differentiable for of::LayerNorm {
    fn gradient(self, tape: &mut Tape<'_>, step: &Step) -> Result<(), E> {
        let dy = tape.upstream(step, 0)?;
        let [x, w, b] = [0, 1, 2].map(|i| step.input(i));
        let wanted = [0, 1, 2].map(|i| tape.wants(step, i));
        let addend = if wanted.first() == Some(&true) { tape.addend(x)? } else { Tensor::NONE };
        let saved = tape.saved(x)?;
        let statistics = tape.saved(step.output(1))?;
        let inputs = [dy, saved, w, statistics, addend].map(Columns::from);
        let [dx, dw, db] = tape.push(Op::LayerNormBackward { centre: self.centre }, &inputs, wanted)?;
        tape.replace(x, dx)?;
        tape.settle(w, dw)?;
        tape.settle(b, db)
    }
}

impl Cheap for of::LayerNorm {
    fn again(self, tape: &mut Tape<'_>, node: &NodeRecord) -> Result<Option<Tensor>, E> {
        let x = tape.saved(node.input(0))?;
        let op = Op::LayerNorm { eps: self.eps, centre: self.centre };
        Ok(Some(tape.one(op, &[x, node.input(1), node.input(2)])?))
    }
}

impl Operation for of::LayerNormBackward {
    fn shapes<F: From<E>>(self, args: &Args<'_, F>) -> Result<Outputs, F> {
        let x = args.real(1)?;
        args.expect(0, args.real(0)?, x.shape)?;
        let c = Shape::new(&[x.shape.cols()]).ok_or(F::from(E::ShapeTooLarge))?;
        args.optional_shape(2, c)?;
        args.expect(3, args.real(3)?, Shape::new(&[x.shape.rows(), 2]).ok_or(F::from(E::ShapeTooLarge))?)?;
        args.optional_shape(4, x.shape)?;
        Ok([Some(x.shape), Some(c), Some(c)])
    }

    fn flops(self, work: &Work<'_>) -> u64 {
        product(&[if self.centre { 14 } else { 10 }, work.input_len(1)])
    }
}
