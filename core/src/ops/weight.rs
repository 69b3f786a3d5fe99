//! A weight of any element type, as linear layers, heads and embeddings read it.

use super::{copy, part, part_mut};
use crate::exec::Views;
use crate::graph::{DType, Node};
use crate::math::Real;
use crate::math::half::from_f16;
use crate::quant::{BLOCK, dequantise_row, dot_blocks, quantise_activations};

/// An input (N, K) of a node.
#[derive(Clone, Copy)]
pub struct Weight<'a, R> {
    /// How elements are stored.
    pub dtype: DType,
    /// Rows N, when the elements are numbers.
    pub real: &'a [R],
    /// Rows N otherwise.
    pub bytes: &'a [u8],
    /// K.
    pub cols: usize,
}

impl<'a, R: Real> Weight<'a, R> {
    /// Input `i` of a node.
    pub fn new(node: &Node<'_>, views: &Views<'a, R>, i: usize) -> Self {
        Self {
            dtype: dtype(node, i),
            real: views.inputs.get(i).copied().unwrap_or(&[]),
            bytes: views.bytes.get(i).copied().unwrap_or(&[]),
            cols: node.input_shape(i).cols(),
        }
    }

    /// Row `j` in bytes.
    pub fn row_bytes(&self, j: usize) -> &'a [u8] {
        let len = self.dtype.bytes(self.cols, size_of::<R>()).unwrap_or(0);
        part(self.bytes, j.wrapping_mul(len), len)
    }

    /// Copies row `j`.
    pub fn read_row(&self, j: usize, to: &mut [R]) {
        match self.dtype {
            DType::Real | DType::I32 => copy(to, part(self.real, j.wrapping_mul(self.cols), self.cols)),
            DType::F16 | DType::Q8 | DType::Q4 => dequantise_row(self.dtype, self.row_bytes(j), to),
        }
    }

    /// Row `j` as numbers (K): where it lies, or read into `scratch`, of which [`row_scratch_len`] elements are used.
    pub fn row<'s>(&self, j: usize, scratch: &'s mut [R]) -> &'s [R]
    where
        'a: 's,
    {
        match self.dtype {
            DType::Real | DType::I32 => part(self.real, j.wrapping_mul(self.cols), self.cols),
            DType::F16 | DType::Q8 | DType::Q4 => {
                let to = part_mut(scratch, 0, self.cols);
                dequantise_row(self.dtype, self.row_bytes(j), to);
                to
            }
        }
    }

    /// A row of activations (K) ready for [`Self::dot`]; `scratch` has [`scratch_len`] elements.
    pub fn prepare<'s>(&self, x: &'s [R], scratch: &'s mut [R]) -> Row<'s, R> {
        let Some((d, q)) = scratch.split_at_mut_checked(x.len() / BLOCK).filter(|_| is_blocks(self.dtype)) else {
            return Row { x, q: &[], d: &[] };
        };
        let q: &mut [i8] = bytemuck::try_cast_slice_mut(q).unwrap_or(&mut []);
        for ((x, q), d) in x.as_chunks().0.iter().zip(q.as_chunks_mut().0).zip(d.iter_mut()) {
            *d = R::from_f64(f64::from(quantise_activations(x, q)));
        }
        Row { x, q, d }
    }

    /// Row `j` times a row of activations.
    pub fn dot(&self, j: usize, row: &Row<'_, R>) -> R {
        match self.dtype {
            DType::Real | DType::I32 => super::dot(row.x, part(self.real, j.wrapping_mul(self.cols), self.cols)),
            DType::F16 => {
                let weights = self.row_bytes(j).as_chunks().0.iter().map(|&bits| from_f16(u16::from_le_bytes(bits)));
                row.x.iter().zip(weights).fold(R::ZERO, |sum, (&x, w)| sum + x * R::from_f64(f64::from(w)))
            }
            DType::Q8 | DType::Q4 => dot_blocks(self.dtype, self.row_bytes(j), row.q, row.d),
        }
    }
}

/// A row of activations: as it is, and in blocks where the weight is.
#[derive(Clone, Copy)]
pub struct Row<'s, R> {
    x: &'s [R],
    q: &'s [i8],
    d: &'s [R],
}

/// The element type of input `i`.
pub fn dtype(node: &Node<'_>, i: usize) -> DType {
    node.input(i).map_or(DType::Real, |t| t.dtype)
}

/// Elements of scratch for a row of input `i` as numbers: none where it is numbers.
pub fn row_scratch_len(node: &Node<'_>, i: usize) -> usize {
    if dtype(node, i) == DType::Real { 0 } else { node.input_shape(i).cols() }
}

/// Whether rows are read in blocks.
pub fn is_blocks(dtype: DType) -> bool {
    matches!(dtype, DType::Q8 | DType::Q4)
}

/// Elements of scratch for a row of activations against input `i`: a scale for each block, and a byte for each number.
pub fn scratch_len(node: &Node<'_>, i: usize) -> usize {
    let k = node.input_shape(i).cols();
    if is_blocks(dtype(node, i)) { k / BLOCK + k.div_ceil(size_of::<f32>()) } else { 0 }
}
