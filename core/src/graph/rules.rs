//! The shape rule of every operation.

use core::marker::PhantomData;

use super::error::GraphErrorKind as E;
use super::op::{Activation, AttentionSpec, MAX_OUTPUTS, Op, Over};
use super::record::{Tensor, attention_grad_outputs};
use crate::dtype::DType;
use crate::shape::Shape;

/// What a rule sees of an input.
#[derive(Clone, Copy)]
pub(crate) struct Arg {
    pub(crate) tensor: Tensor,
    pub(crate) shape: Shape,
    pub(crate) dtype: DType,
    pub(crate) column: u32,
    /// Smallest and largest integer.
    pub(crate) bounds: [i32; 2],
}

/// Shapes of the outputs; `None` where the operation has no such output.
pub(crate) type Outputs = [Option<Shape>; MAX_OUTPUTS];

/// Numbers that an optimizer reads: learning rate, β₁, β₂, ε, weight decay, 1 − β₁ᵗ, 1 − β₂ᵗ, largest gradient norm (0 = no clipping).
pub const HYPER_LEN: usize = 8;

/// Integers that dropout reads: seed (low, high), step, micro-batch, p·2²⁴.
pub const DROPOUT_CONTROL_LEN: usize = 5;

/// The shape rule of an operation.
pub(crate) type Rule = fn(&Op, &Args<'_, Refused>) -> Result<Outputs, Refused>;

/// The shape rule of one operation, without those of others: a device links the rules that its table of kernels names.
pub(crate) fn only<const OPCODE: u8>(op: &Op, args: &Args<'_, Refused>) -> Result<Outputs, Refused> {
    if op.opcode() == OPCODE { infer(op, args) } else { Err(Refused) }
}

/// The rule of an operation for a kernel that computes output 0 alone: a node with another one that is read is refused.
pub(crate) fn only_first<const OPCODE: u8>(op: &Op, args: &Args<'_, Refused>) -> Result<Outputs, Refused> {
    let [first, ..] = only::<OPCODE>(op, args)?;
    Ok([first, None, None])
}

/// The rule of attention for a kernel that computes output 0 alone, and without dropout.
pub(crate) fn without_dropout<const OPCODE: u8>(op: &Op, args: &Args<'_, Refused>) -> Result<Outputs, Refused> {
    if args.get(6).is_none() { only_first::<OPCODE>(op, args) } else { Err(Refused) }
}

/// The shapes of the outputs of `op`, or what is wrong with its inputs.
#[inline(always)]
pub(crate) fn infer<F: From<E>>(op: &Op, args: &Args<'_, F>) -> Result<Outputs, F> {
    match *op {
        Op::Linear { activation, .. } => linear(args, activation),
        Op::LinearBackward => linear_backward(args),
        Op::LayerNorm { eps } => layer_norm(args, eps),
        Op::LayerNormBackward => layer_norm_backward(args),
        Op::Embedding => embedding(args),
        Op::EmbeddingBackward { vocab } => {
            let ids = args.ints(0)?;
            let dy = args.real(1)?;
            args.expect(1, dy, rows_of(ids.shape, dy.shape.cols())?)?;
            Ok([Shape::new(&[vocab as usize, dy.shape.cols()]), None, None])
        }
        Op::Attention(spec) => attention(args, &spec),
        Op::AttentionBackward(spec) => attention_backward(args, &spec),
        Op::CacheWrite => cache_write(args),
        Op::CacheRead => {
            let (state, [b, _, _]) = args.tokens_of(0)?;
            args.expect(1, args.ints(1)?, Shape::new(&[b]).ok_or(E::ShapeTooLarge)?)?;
            Ok([Some(state.shape), None, None])
        }
        Op::HeadLoss { smoothing } => {
            let rows = head(args, smoothing)?;
            Ok([Some(rows), Some(rows), None])
        }
        Op::HeadLossTrain { smoothing } => {
            let rows = head(args, smoothing)?;
            upstream(args, 4, rows)?;
            Ok([Some(rows), Some(args.real(0)?.shape), Some(args.weight(1)?.shape)])
        }
        Op::HeadLossBackward { smoothing } => {
            let rows = head(args, smoothing)?;
            upstream(args, 4, rows)?;
            args.expect(5, args.real(5)?, rows)?;
            let w = args.weight(1)?.shape;
            Ok([Some(args.real(0)?.shape), Some(w), Shape::new(&[w.rows()])])
        }
        Op::Dropout { .. } => {
            control(args, 1)?;
            Ok([Some(args.real(0)?.shape), None, None])
        }
        Op::Unary { .. } => Ok([Some(args.real(0)?.shape), None, None]),
        Op::UnaryBackward { .. } => {
            let x = args.real(1)?.shape;
            args.expect(0, args.real(0)?, x)?;
            Ok([Some(x), None, None])
        }
        Op::Binary { over, .. } => {
            let a = args.real(0)?.shape;
            spread(args, 1, over, a)?;
            Ok([Some(a), None, None])
        }
        Op::SelectBackward { over, .. } => {
            let a = args.real(1)?.shape;
            args.expect(0, args.real(0)?, a)?;
            spread(args, 2, over, a)?;
            Ok([Some(a), None, None])
        }
        Op::Broadcast { over, dims, rank } => {
            let out = shape_of(dims, rank)?;
            spread(args, 0, over, out)?;
            Ok([Some(out), None, None])
        }
        Op::Reduce { over, .. } => Ok([Some(reduced(args.real(0)?.shape, over)?), None, None]),
        Op::ReduceMaxBackward { over } => {
            let x = args.real(1)?.shape;
            let small = reduced(x, over)?;
            args.expect(0, args.real(0)?, small)?;
            args.expect(2, args.real(2)?, small)?;
            Ok([Some(x), None, None])
        }
        Op::TokenSlice { first, count } => {
            let (_, [b, t, c]) = args.tokens(0)?;
            let end = (first as usize).saturating_add(count as usize);
            if end > t {
                return Err(F::from(E::Attribute { name: "last token", value: end as f64 }));
            }
            Ok([Shape::new(&[b, count as usize, c]), None, None])
        }
        Op::TokenPad { first, tokens } => {
            let (_, [b, t, c]) = args.tokens(0)?;
            if (first as usize).saturating_add(t) > tokens as usize {
                return Err(F::from(E::Attribute { name: "first token", value: f64::from(first) }));
            }
            Ok([Shape::new(&[b, tokens as usize, c]), None, None])
        }
        Op::TokenConcat => {
            let (_, [b, ta, c]) = args.tokens(0)?;
            let (second, [_, tb, _]) = args.tokens(1)?;
            args.expect(1, second, shape3(b, tb, c)?)?;
            Ok([Some(shape3(b, ta.saturating_add(tb), c)?), None, None])
        }
        Op::TokenReplace { first } => {
            let (x, [b, t, c]) = args.tokens(0)?;
            let (p, [_, count, _]) = args.tokens(1)?;
            args.expect(1, p, shape3(b, count, c)?)?;
            if (first as usize).saturating_add(count) > t {
                return Err(F::from(E::Attribute { name: "first token", value: f64::from(first) }));
            }
            Ok([Some(x.shape), None, None])
        }
        Op::Reshape { dims, rank } => {
            let out = shape_of(dims, rank)?;
            let x = args.any(0)?;
            if out.len() != x.shape.len() {
                return Err(F::from(E::Shape { input: 0, found: x.shape, expected: out }));
            }
            Ok([Some(out), None, None])
        }
        Op::AccumulateGrad => Ok([Some(args.real(0)?.shape), None, None]),
        Op::Constant { dims, rank, .. } => Ok([Some(shape_of(dims, rank)?), None, None]),
        Op::GlobalNorm => Ok([Some(Shape::SCALAR), None, None]),
        Op::AdamW { len, .. } | Op::Sgd { len, .. } => {
            args.expect(0, args.real(0)?, Shape::new(&[HYPER_LEN]).ok_or(E::ShapeTooLarge)?)?;
            if let Some(norm) = args.optional(1)? {
                args.expect(1, norm, Shape::SCALAR)?;
            }
            if let Some(gradient) = args.optional(2)? {
                // Only the number of elements matters.
                let expected = Shape::new(&[len as usize]).ok_or(E::ShapeTooLarge)?;
                let flat = Shape::new(&[gradient.shape.len()]).ok_or(E::ShapeTooLarge)?;
                args.expect(2, &Arg { shape: flat, ..*gradient }, expected)?;
            }
            Ok([None; MAX_OUTPUTS])
        }
        Op::Ema { .. } => {
            args.expect(0, args.real(0)?, Shape::SCALAR)?;
            Ok([None; MAX_OUTPUTS])
        }
    }
}

/// The inputs of a node under construction, and what is said when they do not fit.
pub(crate) struct Args<'a, F> {
    args: &'a [Option<Arg>],
    fault: PhantomData<F>,
}

/// What is said on a device: that a node is refused, and not why, which would take as much flash as the rules themselves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refused;

impl From<E> for Refused {
    fn from(_: E) -> Self {
        Self
    }
}

impl<'a, F: From<E>> Args<'a, F> {
    pub(crate) fn new(args: &'a [Option<Arg>]) -> Self {
        Self { args, fault: PhantomData }
    }

    #[inline(never)]
    fn get(&self, i: usize) -> Option<&'a Arg> {
        self.args.get(i)?.as_ref()
    }

    fn any(&self, i: usize) -> Result<&'a Arg, F> {
        self.get(i).ok_or(F::from(E::MissingInput { input: i as u8 }))
    }

    fn real(&self, i: usize) -> Result<&'a Arg, F> {
        let arg = self.any(i)?;
        if arg.dtype == DType::Real { Ok(arg) } else { Err(F::from(E::DType { input: i as u8 })) }
    }

    /// An input that may be a frozen parameter of any element type.
    fn weight(&self, i: usize) -> Result<&'a Arg, F> {
        let arg = self.any(i)?;
        if arg.dtype == DType::I32 { Err(F::from(E::DType { input: i as u8 })) } else { Ok(arg) }
    }

    fn ints(&self, i: usize) -> Result<&'a Arg, F> {
        let arg = self.any(i)?;
        if arg.dtype == DType::I32 { Ok(arg) } else { Err(F::from(E::DType { input: i as u8 })) }
    }

    /// Integers that select one of `count` rows, or none by being negative where that is allowed.
    fn selectors(&self, i: usize, count: usize, negative: bool) -> Result<&'a Arg, F> {
        let arg = self.ints(i)?;
        let [low, high] = arg.bounds;
        if low < 0 && !negative {
            return Err(F::from(E::Attribute { name: "smallest id", value: f64::from(low) }));
        }
        if usize::try_from(high).is_ok_and(|high| high >= count) {
            return Err(F::from(E::Attribute { name: "largest id", value: f64::from(high) }));
        }
        Ok(arg)
    }

    fn optional(&self, i: usize) -> Result<Option<&'a Arg>, F> {
        if self.get(i).is_some() { self.real(i).map(Some) } else { Ok(None) }
    }

    fn optional_ints(&self, i: usize, expected: Shape) -> Result<(), F> {
        if self.get(i).is_some() { self.expect(i, self.ints(i)?, expected) } else { Ok(()) }
    }

    fn optional_shape(&self, i: usize, expected: Shape) -> Result<(), F> {
        match self.optional(i)? {
            Some(arg) => self.expect(i, arg, expected),
            None => Ok(()),
        }
    }

    fn tokens(&self, i: usize) -> Result<(&'a Arg, [usize; 3]), F> {
        self.real(i)?;
        self.tokens_of(i)
    }

    /// Tokens of any element type but integers.
    fn tokens_of(&self, i: usize) -> Result<(&'a Arg, [usize; 3]), F> {
        let arg = self.weight(i)?;
        if arg.shape.rank() == 3 {
            return Ok((arg, [arg.shape.dim(0), arg.shape.dim(1), arg.shape.dim(2)]));
        }
        let expected = shape3(1, arg.shape.rows(), arg.shape.cols())?;
        Err(F::from(E::Shape { input: i as u8, found: arg.shape, expected }))
    }

    /// Compares extents; a scalar equals one row of one element.
    fn expect(&self, i: usize, arg: &Arg, expected: Shape) -> Result<(), F> {
        if arg.shape == expected || (arg.shape.len() == 1 && expected.len() == 1) {
            return Ok(());
        }
        Err(F::from(E::Shape { input: i as u8, found: arg.shape, expected }))
    }
}

/// The shape from extents as they stand in attributes.
pub(crate) fn shape_of(dims: [u32; 4], rank: u32) -> Result<Shape, E> {
    let mut extents = [0usize; 4];
    for (to, &from) in extents.iter_mut().zip(&dims) {
        *to = from as usize;
    }
    extents.get(..rank as usize).and_then(Shape::new).ok_or(E::ShapeTooLarge)
}

/// The shape of `x` reduced over everything that `over` lets fall together.
pub(crate) fn reduced(x: Shape, over: Over) -> Result<Shape, E> {
    match over {
        Over::Same => Ok(x),
        Over::Scalar => Ok(Shape::SCALAR),
        Over::Row => Shape::new(&[x.cols()]).ok_or(E::ShapeTooLarge),
        Over::Column => Ok(x.without_cols()),
        Over::Batch => Ok(x.without_batch()),
    }
}

#[inline(never)]
fn shape3(a: usize, b: usize, c: usize) -> Result<Shape, E> {
    Shape::new(&[a, b, c]).ok_or(E::ShapeTooLarge)
}

/// `ids` with a last extent added.
fn rows_of(ids: Shape, cols: usize) -> Result<Shape, E> {
    let mut extents = [0usize; 5];
    let rank = ids.rank();
    for (to, &from) in extents.iter_mut().zip(ids.dims()) {
        *to = from as usize;
    }
    if let Some(last) = extents.get_mut(rank) {
        *last = cols;
    }
    extents.get(..rank + 1).and_then(Shape::new).ok_or(E::ShapeTooLarge)
}

/// Checks that input `i` spreads over `full`; only the number of elements and the order matter, so (T, C) spreads over (B, T, C).
fn spread<F: From<E>>(args: &Args<'_, F>, i: usize, over: Over, full: Shape) -> Result<(), F> {
    let arg = args.real(i)?;
    let expected = reduced(full, over)?;
    if arg.shape.len() == expected.len() {
        return Ok(());
    }
    Err(F::from(E::Shape { input: i as u8, found: arg.shape, expected }))
}

fn linear<F: From<E>>(args: &Args<'_, F>, activation: Activation) -> Result<Outputs, F> {
    let x = args.real(0)?;
    let w = args.weight(1)?;
    if w.shape.rank() != 2 || w.shape.cols() != x.shape.cols() || x.shape.rank() == 0 {
        let expected = Shape::new(&[w.shape.rows(), x.shape.cols()]).ok_or(E::ShapeTooLarge)?;
        return Err(F::from(E::Shape { input: 1, found: w.shape, expected }));
    }
    let n = w.shape.rows();
    let y = x.shape.with_cols(n).ok_or(E::ShapeTooLarge)?;
    args.optional_shape(2, Shape::new(&[n]).ok_or(E::ShapeTooLarge)?)?;
    args.optional_shape(3, y)?;
    Ok([Some(y), (activation != Activation::None).then_some(y), None])
}

fn linear_backward<F: From<E>>(args: &Args<'_, F>) -> Result<Outputs, F> {
    let (dy, x, w) = (args.real(0)?, args.optional(1)?, args.weight(2)?);
    let dx = match x {
        Some(x) => x.shape,
        None => dy.shape.with_cols(w.shape.cols()).ok_or(E::ShapeTooLarge)?,
    };
    args.expect(0, dy, dx.with_cols(w.shape.rows()).ok_or(E::ShapeTooLarge)?)?;
    args.optional_shape(1, dx.with_cols(w.shape.cols()).ok_or(E::ShapeTooLarge)?)?;
    args.optional_shape(3, dx)?;
    Ok([Some(dx), x.map(|_| w.shape), Shape::new(&[w.shape.rows()])])
}

fn layer_norm<F: From<E>>(args: &Args<'_, F>, eps: f64) -> Result<Outputs, F> {
    let x = args.real(0)?;
    if !(eps > 0.0 && eps.is_finite()) {
        return Err(F::from(E::Attribute { name: "eps", value: eps }));
    }
    let c = Shape::new(&[x.shape.cols()]).ok_or(E::ShapeTooLarge)?;
    args.optional_shape(1, c)?;
    args.optional_shape(2, c)?;
    Ok([Some(x.shape), Shape::new(&[x.shape.rows(), 2]), None])
}

fn layer_norm_backward<F: From<E>>(args: &Args<'_, F>) -> Result<Outputs, F> {
    let x = args.real(1)?;
    args.expect(0, args.real(0)?, x.shape)?;
    let c = Shape::new(&[x.shape.cols()]).ok_or(E::ShapeTooLarge)?;
    args.optional_shape(2, c)?;
    args.expect(3, args.real(3)?, Shape::new(&[x.shape.rows(), 2]).ok_or(E::ShapeTooLarge)?)?;
    args.optional_shape(4, x.shape)?;
    Ok([Some(x.shape), Some(c), Some(c)])
}

fn embedding<F: From<E>>(args: &Args<'_, F>) -> Result<Outputs, F> {
    let table = args.weight(1)?;
    let ids = args.selectors(0, table.shape.rows(), false)?;
    let y = rows_of(ids.shape, table.shape.cols())?;
    args.optional_shape(2, y)?;
    Ok([Some(y), None, None])
}

/// (B, Tq, Tk) after checking q, k, v from input `first` on.
fn attention_extents<F: From<E>>(args: &Args<'_, F>, first: usize, spec: &AttentionSpec) -> Result<[usize; 3], F> {
    let (q, [b, tq, _]) = args.tokens(first)?;
    let (k, [_, tk, k_cols]) = args.tokens_of(first + 1)?;
    let (v, [_, _, v_cols]) = args.tokens_of(first + 2)?;
    if spec.heads == 0 || spec.kv_heads == 0 || !spec.heads.is_multiple_of(spec.kv_heads) {
        return Err(F::from(E::Attribute { name: "kv_heads", value: f64::from(spec.kv_heads) }));
    }
    if spec.head_dim == 0 {
        return Err(F::from(E::Attribute { name: "head_dim", value: 0.0 }));
    }
    args.expect(first + 1, k, shape3(b, tk, k_cols)?)?;
    args.expect(first + 2, v, shape3(b, tk, v_cols)?)?;
    for (arg, heads) in [(q, spec.heads), (k, spec.kv_heads), (v, spec.kv_heads)] {
        let count = heads.saturating_mul(spec.head_dim);
        if arg.column.saturating_add(count) as usize > arg.shape.cols() {
            return Err(F::from(E::Columns { first: arg.column, count, cols: arg.shape.cols() as u32 }));
        }
    }
    Ok([b, tq, tk])
}

fn attention<F: From<E>>(args: &Args<'_, F>, spec: &AttentionSpec) -> Result<Outputs, F> {
    let [b, tq, tk] = attention_extents(args, 0, spec)?;
    segments(args, 3, b, tq, tk)?;
    args.optional_ints(5, Shape::new(&[b]).ok_or(E::ShapeTooLarge)?)?;
    if args.get(6).is_some() {
        control(args, 6)?;
    }
    let cols = spec.heads as usize * spec.head_dim as usize;
    Ok([Some(shape3(b, tq, cols)?), Some(shape3(b, spec.heads as usize, tq)?), None])
}

/// Query and key segments stand together or not at all.
fn segments<F: From<E>>(args: &Args<'_, F>, first: usize, b: usize, tq: usize, tk: usize) -> Result<(), F> {
    let there = |i: usize| args.get(i).is_some();
    if there(first) != there(first + 1) {
        let input = if there(first) { first as u8 + 1 } else { first as u8 };
        return Err(F::from(E::MissingInput { input }));
    }
    args.optional_ints(first, Shape::new(&[b, tq]).ok_or(E::ShapeTooLarge)?)?;
    args.optional_ints(first + 1, Shape::new(&[b, tk]).ok_or(E::ShapeTooLarge)?)
}

fn attention_backward<F: From<E>>(args: &Args<'_, F>, spec: &AttentionSpec) -> Result<Outputs, F> {
    let [b, tq, tk] = attention_extents(args, 1, spec)?;
    let (q, k, v) = (args.real(1)?, args.real(2)?, args.real(3)?);
    let cols = spec.heads as usize * spec.head_dim as usize;
    args.expect(0, args.real(0)?, shape3(b, tq, cols)?)?;
    args.expect(4, args.real(4)?, shape3(b, tq, cols)?)?;
    args.expect(5, args.real(5)?, shape3(b, spec.heads as usize, tq)?)?;
    segments(args, 6, b, tq, tk)?;
    if args.get(8).is_some() {
        control(args, 8)?;
    }
    let slots = attention_grad_outputs(q.tensor, k.tensor, v.tensor);
    let mut outputs = [None; MAX_OUTPUTS];
    let mut covered = [0usize; MAX_OUTPUTS];
    let parts = [(q, spec.heads), (k, spec.kv_heads), (v, spec.kv_heads)];
    let columns = |(arg, heads): (&Arg, u32)| {
        let first = arg.column as usize;
        first..first.saturating_add(heads as usize * spec.head_dim as usize)
    };
    for (slot, part) in slots.iter().zip(parts) {
        if let (Some(out), Some(cols)) = (outputs.get_mut(*slot), covered.get_mut(*slot)) {
            *out = Some(part.0.shape);
            *cols = cols.saturating_add(columns(part).len());
        }
    }
    let overlap = |a: (&Arg, u32), b: (&Arg, u32)| {
        a.0.tensor == b.0.tensor && columns(a).start < columns(b).end && columns(b).start < columns(a).end
    };
    let [q_part, k_part, v_part] = parts;
    if overlap(q_part, k_part) || overlap(q_part, v_part) || overlap(k_part, v_part) {
        return Err(F::from(E::ColumnsNotCovered));
    }
    let all = outputs.iter().zip(&covered).all(|(out, &cols)| out.is_none_or(|s| s.cols() == cols));
    if all { Ok(outputs) } else { Err(F::from(E::ColumnsNotCovered)) }
}

fn cache_write<F: From<E>>(args: &Args<'_, F>) -> Result<Outputs, F> {
    let (x, [b, t, cols]) = args.tokens(0)?;
    let (state, [_, t_max, c]) = args.tokens_of(2)?;
    args.expect(1, args.ints(1)?, Shape::new(&[b]).ok_or(E::ShapeTooLarge)?)?;
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

/// The shape of per-row values of the head, after checking x, W, b and the targets.
fn head<F: From<E>>(args: &Args<'_, F>, smoothing: f64) -> Result<Shape, F> {
    if !(0.0..1.0).contains(&smoothing) {
        return Err(F::from(E::Attribute { name: "smoothing", value: smoothing }));
    }
    let (x, w) = (args.real(0)?, args.weight(1)?);
    if w.shape.rank() != 2 || w.shape.cols() != x.shape.cols() {
        let expected = Shape::new(&[w.shape.rows(), x.shape.cols()]).ok_or(E::ShapeTooLarge)?;
        return Err(F::from(E::Shape { input: 1, found: w.shape, expected }));
    }
    args.optional_shape(2, Shape::new(&[w.shape.rows()]).ok_or(E::ShapeTooLarge)?)?;
    let rows = x.shape.without_cols();
    args.expect(3, args.selectors(3, w.shape.rows(), true)?, rows)?;
    Ok(rows)
}

fn upstream<F: From<E>>(args: &Args<'_, F>, i: usize, rows: Shape) -> Result<(), F> {
    let arg = args.real(i)?;
    if arg.shape.len() == 1 { Ok(()) } else { args.expect(i, arg, rows) }
}

fn control<F: From<E>>(args: &Args<'_, F>, i: usize) -> Result<(), F> {
    args.expect(i, args.ints(i)?, Shape::new(&[DROPOUT_CONTROL_LEN]).ok_or(E::ShapeTooLarge)?)
}
