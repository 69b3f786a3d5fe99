//! A node's inputs as its shape rule reads them, with checks of type and shape.

use core::marker::PhantomData;

use super::attribute::Over;
use super::error::GraphErrorKind as E;
use super::op::MAX_OUTPUTS;
use super::tensor::Tensor;
use crate::dtype::DType;
use crate::shape::Shape;

/// An input as seen by a shape rule.
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

/// Integers of a dropout control: seed (low, high), step, micro-batch, p·2²⁴.
pub const DROPOUT_CONTROL_LEN: usize = 5;

/// The inputs of a node under construction, and the error type for inputs that do not fit.
pub(crate) struct Args<'a, F> {
    args: &'a [Option<Arg>],
    fault: PhantomData<F>,
}

/// The error on a device: it only tells that a node is refused. The reason would take as much flash as the rules themselves.
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
    pub(crate) fn get(&self, i: usize) -> Option<&'a Arg> {
        self.args.get(i)?.as_ref()
    }

    pub(super) fn any(&self, i: usize) -> Result<&'a Arg, F> {
        self.get(i).ok_or(F::from(E::MissingInput { input: i as u8 }))
    }

    pub(super) fn real(&self, i: usize) -> Result<&'a Arg, F> {
        let arg = self.any(i)?;
        if arg.dtype == DType::Real { Ok(arg) } else { Err(F::from(E::DType { input: i as u8 })) }
    }

    /// An input that may be a frozen parameter of any element type.
    pub(super) fn weight(&self, i: usize) -> Result<&'a Arg, F> {
        let arg = self.any(i)?;
        if arg.dtype == DType::I32 { Err(F::from(E::DType { input: i as u8 })) } else { Ok(arg) }
    }

    pub(super) fn ints(&self, i: usize) -> Result<&'a Arg, F> {
        let arg = self.any(i)?;
        if arg.dtype == DType::I32 { Ok(arg) } else { Err(F::from(E::DType { input: i as u8 })) }
    }

    /// An integer input whose values select one of `count` rows, or none by being negative where that is allowed.
    pub(super) fn selectors(&self, i: usize, count: usize, negative: bool) -> Result<&'a Arg, F> {
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

    pub(super) fn optional(&self, i: usize) -> Result<Option<&'a Arg>, F> {
        if self.get(i).is_some() { self.real(i).map(Some) } else { Ok(None) }
    }

    pub(super) fn optional_ints(&self, i: usize, expected: Shape) -> Result<(), F> {
        if self.get(i).is_some() { self.expect(i, self.ints(i)?, expected) } else { Ok(()) }
    }

    pub(super) fn optional_shape(&self, i: usize, expected: Shape) -> Result<(), F> {
        match self.optional(i)? {
            Some(arg) => self.expect(i, arg, expected),
            None => Ok(()),
        }
    }

    pub(super) fn tokens(&self, i: usize) -> Result<(&'a Arg, [usize; 3]), F> {
        self.real(i)?;
        self.tokens_of(i)
    }

    /// Tokens of any element type but integers.
    pub(super) fn tokens_of(&self, i: usize) -> Result<(&'a Arg, [usize; 3]), F> {
        let arg = self.weight(i)?;
        if arg.shape.rank() == 3 {
            return Ok((arg, [arg.shape.dim(0), arg.shape.dim(1), arg.shape.dim(2)]));
        }
        let expected = shape3(1, arg.shape.rows(), arg.shape.cols())?;
        Err(F::from(E::Shape { input: i as u8, found: arg.shape, expected }))
    }

    /// Compares extents; a scalar equals one row of one element.
    pub(super) fn expect(&self, i: usize, arg: &Arg, expected: Shape) -> Result<(), F> {
        if arg.shape == expected || (arg.shape.len() == 1 && expected.len() == 1) {
            return Ok(());
        }
        Err(F::from(E::Shape { input: i as u8, found: arg.shape, expected }))
    }

    /// Checks that input `i` broadcasts to `full`. Only the number of elements and their order matter, so (T, C) broadcasts to (B, T, C).
    pub(super) fn spread(&self, i: usize, over: Over, full: Shape) -> Result<(), F> {
        let arg = self.real(i)?;
        let expected = reduced(full, over)?;
        if arg.shape.len() == expected.len() {
            return Ok(());
        }
        Err(F::from(E::Shape { input: i as u8, found: arg.shape, expected }))
    }

    /// Checks that input `i` controls dropout.
    pub(super) fn control(&self, i: usize) -> Result<(), F> {
        self.expect(i, self.ints(i)?, Shape::new(&[DROPOUT_CONTROL_LEN]).ok_or(F::from(E::ShapeTooLarge))?)
    }
}

/// The shape from extents stored as attributes.
pub(super) fn shape_of<F: From<E>>(dims: [u32; 4], rank: u32) -> Result<Shape, F> {
    let mut extents = [0usize; 4];
    for (to, &from) in extents.iter_mut().zip(&dims) {
        *to = from as usize;
    }
    extents.get(..rank as usize).and_then(Shape::new).ok_or(F::from(E::ShapeTooLarge))
}

/// The shape of `x` reduced over the dimensions of `over`.
pub(super) fn reduced<F: From<E>>(x: Shape, over: Over) -> Result<Shape, F> {
    match over {
        Over::Same => Ok(x),
        Over::Scalar => Ok(Shape::SCALAR),
        Over::Row => Shape::new(&[x.cols()]).ok_or(F::from(E::ShapeTooLarge)),
        Over::Column => Ok(x.without_cols()),
        Over::Batch => Ok(x.without_batch()),
    }
}

/// The shape (a, b, c).
#[inline(never)]
pub(super) fn shape3<F: From<E>>(a: usize, b: usize, c: usize) -> Result<Shape, F> {
    Shape::new(&[a, b, c]).ok_or(F::from(E::ShapeTooLarge))
}

/// `ids` with a last extent added.
pub(super) fn rows_of<F: From<E>>(ids: Shape, cols: usize) -> Result<Shape, F> {
    let mut extents = [0usize; 5];
    let rank = ids.rank();
    for (to, &from) in extents.iter_mut().zip(ids.dims()) {
        *to = from as usize;
    }
    if let Some(last) = extents.get_mut(rank) {
        *last = cols;
    }
    extents.get(..rank + 1).and_then(Shape::new).ok_or(F::from(E::ShapeTooLarge))
}
