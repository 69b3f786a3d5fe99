//! The layout of one model's parameters on disk, and conversion a few rows at a time.

use super::pattern::Pattern;
use super::pieces::{Piece, Rows};
use crate::model_folder::safetensors::TensorValues;

/// A tensor of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskTensor {
    /// Its name.
    pub name: String,
    /// Its shape on disk.
    pub shape: Vec<usize>,
    /// Whether it is stored transposed.
    pub(super) transposed: bool,
    /// Channels of a row that is (channels, …) on disk and (…, channels) in the parameter.
    pub(super) channels: Option<usize>,
    /// Indices of its pieces; empty: it is all zeros.
    pub(super) pieces: Vec<usize>,
}

impl DiskTensor {
    /// Values of the tensor.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Rows on disk: the first extent.
    pub fn rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }

    /// Values of a row on disk.
    pub fn row_len(&self) -> usize {
        self.shape.iter().skip(1).product()
    }

    /// Whether the model has no such parameter: it is written as zeros, and may be absent when read.
    pub fn is_zero(&self) -> bool {
        self.pieces.is_empty()
    }
}

/// A parameter as rows: of a vector every value is a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterRows {
    /// Its name.
    pub name: String,
    /// Its rows: the first extent.
    pub rows: usize,
    /// Values of a row.
    pub row_len: usize,
    /// Its pieces, a range of the layout's.
    pub(super) pieces: std::ops::Range<usize>,
}

/// A name map applied to the parameters of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    pub(super) tensors: Vec<DiskTensor>,
    pub(super) parameters: Vec<ParameterRows>,
    pub(super) pieces: Vec<Piece>,
    /// Tensors that may repeat another one: the name, and the index of the other.
    pub(super) ties: Vec<(String, usize)>,
    pub(super) prefixes: Vec<&'static str>,
    pub(super) ignored: Vec<Pattern>,
    /// Ends of names, and what they were in old files.
    pub(super) former: Vec<(&'static str, &'static str)>,
}

/// Rows of a parameter that are converted at a time; a strip of a transposed tensor takes this many adjacent values from every row of the file.
pub const STRIP: usize = 64;

/// A square of a transposed matrix, which stays in the nearest cache.
type Square = [[f32; STRIP]; STRIP];

impl Layout {
    /// Tensors in the order in which they are written.
    pub fn tensors(&self) -> &[DiskTensor] {
        &self.tensors
    }

    /// Parameters in the order of the registry.
    pub fn parameters(&self) -> &[ParameterRows] {
        &self.parameters
    }

    /// Tensors that may repeat another one.
    pub fn ties(&self) -> impl Iterator<Item = (&str, &DiskTensor)> {
        self.ties.iter().filter_map(|(name, to)| Some((name.as_str(), self.tensors.get(*to)?)))
    }

    /// Whether a tensor is ignored.
    pub fn ignores(&self, name: &str) -> bool {
        self.ignored.iter().any(|pattern| pattern.captures(name).is_some())
    }

    /// What a tensor was called in old files.
    pub fn former_name(&self, name: &str) -> Option<String> {
        self.former.iter().find_map(|(now, then)| Some(format!("{}{then}", name.strip_suffix(now)?)))
    }

    /// Prefixes that a file of these tensors does without.
    pub fn absent_prefixes<'n>(&self, names: impl Iterator<Item = &'n str> + Clone) -> Vec<&'static str> {
        let absent = |prefix: &&&str| !names.clone().any(|name| name.starts_with(**prefix));
        self.prefixes.iter().filter(absent).copied().collect()
    }

    /// Reads rows of a parameter from row `first` on, until `out` is full. `values` returns the values of the layout's tensors.
    pub fn read_rows<'v>(
        &self,
        parameter: usize,
        first: usize,
        out: &mut [f32],
        values: impl Fn(usize) -> Option<TensorValues<'v>>,
    ) {
        let Some(own) = self.parameters.get(parameter) else { return };
        let end = first + out.len() / own.row_len.max(1);
        for piece in self.pieces.get(own.pieces.clone()).unwrap_or(&[]) {
            let taken = piece.memory.within(first, end);
            let (Some(tensor), Some(values)) = (self.tensors.get(piece.tensor), values(piece.tensor)) else { continue };
            let (disk, mut memory) = (piece.disk.part(taken.clone()), piece.memory.part(taken));
            memory.start = memory.start.saturating_sub(first);
            if tensor.transposed {
                read_columns(&values, tensor.row_len(), disk, memory, own.row_len, out);
            } else {
                read_rows(&values, disk, memory, own.row_len, out);
                let rows = (0..memory.count).map(|k| span(memory.at(k), own.row_len));
                reorder(tensor.channels.map(|channels| [channels, own.row_len / channels.max(1)]), rows, out);
            }
        }
    }

    /// Computes rows of a tensor in disk order from row `first` on, until `out` is full. `values` returns the values of the layout's parameters, or
    /// of anything with their shapes, such as their gradients.
    pub fn write_rows<'v>(&self, tensor: usize, first: usize, out: &mut [f32], values: impl Fn(usize) -> &'v [f32]) {
        let Some(own) = self.tensors.get(tensor) else { return };
        let row_len = own.row_len();
        out.fill(0.0);
        let end = first + out.len() / row_len.max(1);
        for piece in own.pieces.iter().filter_map(|&i| self.pieces.get(i)) {
            let values = values(piece.parameter);
            if own.transposed {
                let cols = self.parameters.get(piece.parameter).map_or(0, |parameter| parameter.row_len);
                write_columns(values, piece, cols, first..end.min(cols), row_len, out);
                continue;
            }
            let taken = piece.disk.within(first, end);
            for k in taken.clone() {
                let from = values.get(span(piece.memory.at(k), row_len)).unwrap_or(&[]);
                let to = out.get_mut(span(piece.disk.at(k) - first, row_len)).unwrap_or(&mut []);
                to.iter_mut().zip(from).for_each(|(to, &from)| *to = from);
            }
            let rows = taken.map(|k| span(piece.disk.at(k) - first, row_len));
            reorder(own.channels.map(|channels| [row_len / channels.max(1), channels]), rows, out);
        }
    }
}

/// Transposes the matrix (rows, columns) that each of these rows is.
fn reorder(matrix: Option<[usize; 2]>, rows: impl Iterator<Item = std::ops::Range<usize>>, out: &mut [f32]) {
    let Some([height, width]) = matrix else { return };
    let mut copy = Vec::new();
    for row in rows {
        let row = out.get_mut(row).unwrap_or(&mut []);
        copy.clear();
        copy.extend_from_slice(row);
        for (i, line) in copy.chunks(width.max(1)).enumerate() {
            line.iter().enumerate().for_each(|(j, &x)| {
                if let Some(to) = row.get_mut(j * height + i) {
                    *to = x;
                }
            });
        }
    }
}

fn span(row: usize, row_len: usize) -> std::ops::Range<usize> {
    row * row_len..(row + 1) * row_len
}

/// Rows of a tensor that has the parameter's row length.
fn read_rows(values: &TensorValues<'_>, disk: Rows, memory: Rows, row_len: usize, out: &mut [f32]) {
    if disk.step == 1 && memory.step == 1 {
        let place = memory.start * row_len..(memory.start + memory.count) * row_len;
        return values.read(disk.start * row_len, out.get_mut(place).unwrap_or(&mut []));
    }
    for k in 0..memory.count {
        values.read(disk.at(k) * row_len, out.get_mut(span(memory.at(k), row_len)).unwrap_or(&mut []));
    }
}

/// Reads columns of a transposed tensor, whose rows have `disk_len` values, as rows of a parameter.
fn read_columns(values: &TensorValues<'_>, disk_len: usize, disk: Rows, memory: Rows, row_len: usize, out: &mut [f32]) {
    let mut square: Square = [[0.0; STRIP]; STRIP];
    for strip in (0..memory.count).step_by(STRIP) {
        let taken = (memory.count - strip).min(STRIP);
        for start in (0..row_len).step_by(STRIP) {
            for (k, line) in (start..row_len).zip(&mut square) {
                let line = line.get_mut(..taken).unwrap_or_default();
                if disk.step == 1 {
                    values.read(k * disk_len + disk.at(strip), line);
                } else {
                    for (j, value) in line.chunks_mut(1).enumerate() {
                        values.read(k * disk_len + disk.at(strip + j), value);
                    }
                }
            }
            for r in 0..taken {
                let row = out.get_mut(span(memory.at(strip + r), row_len)).unwrap_or(&mut []);
                for (place, line) in row.iter_mut().skip(start).zip(&square) {
                    *place = line.get(r).copied().unwrap_or(0.0);
                }
            }
        }
    }
}

/// Writes columns `cols` of a parameter (rows of `row_len` values) as rows of a transposed tensor, whose rows have `disk_len` values.
fn write_columns(values: &[f32], piece: &Piece, row_len: usize, cols: std::ops::Range<usize>, disk_len: usize, out: &mut [f32]) {
    let mut square: Square = [[0.0; STRIP]; STRIP];
    for start in cols.clone().step_by(STRIP) {
        let width = (cols.end - start).min(STRIP);
        for strip in (0..piece.memory.count).step_by(STRIP) {
            let taken = (piece.memory.count - strip).min(STRIP);
            for (k, line) in (strip..strip + taken).zip(&mut square) {
                let at = piece.memory.at(k) * row_len + start;
                let from = values.get(at..at + width).unwrap_or(&[]);
                line.iter_mut().zip(from).for_each(|(to, &from)| *to = from);
            }
            for c in 0..width {
                let row = out.get_mut(span(start - cols.start + c, disk_len)).unwrap_or(&mut []);
                for (j, line) in square.iter().take(taken).enumerate() {
                    if let (Some(to), Some(&from)) = (row.get_mut(piece.disk.at(strip + j)), line.get(c)) {
                        *to = from;
                    }
                }
            }
        }
    }
}
