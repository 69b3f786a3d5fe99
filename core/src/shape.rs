//! Shapes of tensors.

use core::fmt;

use bytemuck::{Pod, Zeroable};

/// The largest rank of a tensor.
pub const MAX_RANK: usize = 4;

/// Elements of a unit. Buffer positions are counted in units, so that 32 bits address 2³⁶ elements; everything is placed at a multiple of it.
pub const UNIT: usize = 16;
/// Bytes of a unit of `f32`: frozen parameters, which are bytes, begin at multiples of it.
pub const UNIT_BYTES: usize = 64;

/// The extents of a contiguous row-major tensor of rank 0 to 4.
#[derive(Clone, Copy, PartialEq, Eq, Default, Pod, Zeroable)]
#[repr(C)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Shape {
    dims: [u32; MAX_RANK],
    rank: u32,
}

impl Shape {
    /// A scalar: one element.
    pub const SCALAR: Self = Self { dims: [1; MAX_RANK], rank: 0 };

    /// A shape from at most four extents; `None` with more, or when the number of elements exceeds 2³¹ − 1.
    #[inline(never)]
    pub fn new(extents: &[usize]) -> Option<Self> {
        let mut dims = [1; MAX_RANK];
        let mut len = 1usize;
        if extents.len() > MAX_RANK {
            return None;
        }
        for (dim, &extent) in dims.iter_mut().zip(extents) {
            *dim = u32::try_from(extent).ok()?;
            len = len.checked_mul(extent)?;
        }
        i32::try_from(len).ok()?;
        Some(Self { dims, rank: extents.len() as u32 })
    }

    /// Whether [`Self::new`] would make this shape from its extents: shapes from a file may be invalid.
    pub(crate) fn is_valid(&self) -> bool {
        let mut extents = [1; MAX_RANK];
        for (to, &from) in extents.iter_mut().zip(&self.dims) {
            *to = from as usize;
        }
        extents.get(..self.rank()).and_then(Self::new) == Some(*self)
    }

    /// The extents, outermost first.
    pub fn dims(&self) -> &[u32] {
        self.dims.get(..self.rank()).unwrap_or(&[])
    }

    /// The extents padded with 1, and the rank: a shape as attributes.
    pub const fn padded(&self) -> ([u32; MAX_RANK], u32) {
        (self.dims, self.rank)
    }

    /// The rank.
    pub const fn rank(&self) -> usize {
        self.rank as usize
    }

    /// Extent `i`, 1 beyond the rank.
    pub fn dim(&self, i: usize) -> usize {
        self.dims.get(i).map_or(1, |&d| d as usize)
    }

    /// The number of elements.
    #[inline(never)]
    pub fn len(&self) -> usize {
        self.dims().iter().fold(1usize, |n, &d| n.saturating_mul(d as usize))
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The last extent: the number of columns when the tensor is seen as a matrix (rows, cols), as most operations do.
    #[inline(never)]
    pub fn cols(&self) -> usize {
        self.dims().last().map_or(1, |&d| d as usize)
    }

    /// The product of all extents but the last.
    #[inline(never)]
    pub fn rows(&self) -> usize {
        let outer = self.dims().split_last().map_or(&[] as &[u32], |(_, outer)| outer);
        outer.iter().fold(1usize, |n, &d| n.saturating_mul(d as usize))
    }

    /// The same shape with another last extent.
    pub fn with_cols(mut self, cols: usize) -> Option<Self> {
        if self.rank == 0 {
            return Self::new(&[cols]);
        }
        let last = self.rank().wrapping_sub(1);
        *self.dims.get_mut(last)? = u32::try_from(cols).ok()?;
        i32::try_from(self.len()).ok()?;
        Some(self)
    }

    /// The shape without its last extent.
    pub fn without_cols(&self) -> Self {
        let mut dims = self.dims;
        let rank = self.rank.saturating_sub(1);
        if let Some(last) = dims.get_mut(rank as usize) {
            *last = 1;
        }
        Self { dims, rank }
    }

    /// The shape without its first extent.
    pub fn without_batch(&self) -> Self {
        let mut dims = [1; MAX_RANK];
        for (to, &from) in dims.iter_mut().zip(self.dims().iter().skip(1)) {
            *to = from;
        }
        Self { dims, rank: self.rank.saturating_sub(1) }
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.dims()).finish()
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_cols() {
        let s = Shape::new(&[2, 3, 5]).unwrap();
        assert_eq!((s.rows(), s.cols(), s.len(), s.rank()), (6, 5, 30, 3));
        assert_eq!(s.with_cols(7).unwrap().dims(), &[2, 3, 7]);
        assert_eq!(s.without_cols().dims(), &[2, 3]);
        assert_eq!(s.without_batch().dims(), &[3, 5]);
        assert_eq!((Shape::SCALAR.rows(), Shape::SCALAR.cols(), Shape::SCALAR.len()), (1, 1, 1));
    }

    #[test]
    fn too_large_or_too_deep() {
        assert!(Shape::new(&[1, 1, 1, 1, 1]).is_none());
        assert!(Shape::new(&[1 << 20, 1 << 20]).is_none());
        assert!(Shape::new(&[usize::MAX]).is_none());
    }
}
