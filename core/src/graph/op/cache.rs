//! Caches of keys and values: rows of a state.

use super::super::args::{Args, Outputs, shape3};
use super::super::builder::Graph;
use super::super::error::GraphErrorKind as E;
use super::super::family::Operation;
use super::super::tensor::{Columns, Tensor};
use super::super::work::Work;
use super::{Op, of};
use crate::dtype::DType;
use crate::shape::Shape;

impl Graph<'_> {
    /// Writes x (B, T, ·) into a state (B, Tmax, C), sequence b from token `starts[b]` on; returns the updated state (B, Tmax, C). starts (B) i32.
    #[track_caller]
    pub fn cache_write(&self, x: Columns, starts: Tensor, state: Tensor) -> Tensor {
        let [y, ..] = self.push(Op::CacheWrite, &[x, starts.into(), state.into()]);
        y
    }

    /// Converts a state (B, Tmax, C) of any element type to `Real` (B, Tmax, C), sequence b up to token `live[b]`; later tokens are undefined. live
    /// (B) i32.
    #[track_caller]
    pub fn cache_read(&self, state: Tensor, live: Tensor) -> Tensor {
        let [y, ..] = self.push(Op::CacheRead, &[state.into(), live.into()]);
        y
    }
}

impl Operation for of::CacheWrite {
    fn shapes<F: From<E>>(self, args: &Args<'_, F>) -> Result<Outputs, F> {
        let (x, [b, t, cols]) = args.tokens(0)?;
        let (state, [_, t_max, c]) = args.tokens_of(2)?;
        args.expect(1, args.ints(1)?, Shape::new(&[b]).ok_or(F::from(E::ShapeTooLarge))?)?;
        args.expect(2, state, shape3(b, t_max, c)?)?;
        if state.dtype == DType::Q4 {
            return Err(F::from(E::DType { input: 2 }));
        }
        if t > t_max {
            return Err(F::from(E::Shape { input: 0, found: x.shape, expected: state.shape }));
        }
        if (x.column as usize).saturating_add(c) > cols {
            return Err(F::from(E::Columns { first: x.column, count: c as u32, cols: cols as u32 }));
        }
        Ok([Some(state.shape), None, None])
    }

    fn flops(self, _: &Work<'_>) -> u64 {
        0
    }

    fn bytes(self, work: &Work<'_>) -> u64 {
        // The rows that are written, not the whole state.
        work.read(1).saturating_add(work.reals(2 * work.node.input_shape(0).rows() * work.node.output_shape(0).cols()))
    }
}

impl Operation for of::CacheRead {
    fn shapes<F: From<E>>(self, args: &Args<'_, F>) -> Result<Outputs, F> {
        let (state, [b, _, _]) = args.tokens_of(0)?;
        args.expect(1, args.ints(1)?, Shape::new(&[b]).ok_or(F::from(E::ShapeTooLarge))?)?;
        Ok([Some(state.shape), None, None])
    }

    fn flops(self, _: &Work<'_>) -> u64 {
        0
    }
}
