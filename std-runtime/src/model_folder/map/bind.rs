//! Rules applied to the parameters of a model.

use std::collections::HashMap;

use super::layout::{DiskTensor, Layout, ParameterRows};
use super::pattern::Pattern;
use super::pieces::{Piece, Rows, uneven_row};
use super::{MapError, NameRule};

/// A name and a shape.
type Parameter = (String, Vec<usize>);

/// Rows of a parameter in a tensor: the tensor's name, its first row, the number of rows.
type Place = (String, usize, usize);

pub(super) fn bind(rules: &[NameRule], parameters: &[Parameter]) -> Result<Layout, MapError> {
    let mut binder = Binder { rules, parameters, tensors: Vec::new(), by_name: HashMap::new(), pieces: Vec::new() };
    let mut ranges = Vec::new();
    for (number, parameter) in parameters.iter().enumerate() {
        let begin = binder.pieces.len();
        binder.place(number, parameter)?;
        ranges.push(begin..binder.pieces.len());
        binder.add_absent(parameter)?;
    }
    binder.check()?;
    let tensors = binder.finished_tensors()?;
    let ties = binder.ties(&tensors)?;
    let rows_of = |((name, shape), pieces): (&Parameter, std::ops::Range<usize>)| ParameterRows {
        name: name.clone(),
        rows: rows(shape),
        row_len: row_shape(shape).iter().product(),
        pieces,
    };
    let mut layout = Layout {
        tensors,
        parameters: parameters.iter().zip(ranges).map(rows_of).collect(),
        pieces: binder.pieces,
        ties,
        prefixes: Vec::new(),
        ignored: Vec::new(),
        former: Vec::new(),
    };
    for rule in rules {
        match rule {
            NameRule::Prefix(prefix) => layout.prefixes.push(prefix),
            NameRule::Ignore(pattern) => layout.ignored.push(pattern.clone()),
            NameRule::Formerly(now, then) => layout.former.push((now, then)),
            _ => {}
        }
    }
    Ok(layout)
}

fn rows(shape: &[usize]) -> usize {
    shape.first().copied().unwrap_or(1)
}

fn row_shape(shape: &[usize]) -> &[usize] {
    shape.get(1..).unwrap_or(&[])
}

fn fill(pattern: &Pattern, captures: &[&str], name: &str) -> Result<String, MapError> {
    pattern.fill(captures).ok_or_else(|| MapError::Wildcards { pattern: pattern.to_string(), name: name.to_owned() })
}

/// A tensor whose number of rows is not yet known; for a transposed one, `shape` is that of the matrix before transposition.
struct Growing {
    name: String,
    shape: Vec<usize>,
    pieces: Vec<usize>,
}

struct Binder<'r> {
    rules: &'r [NameRule],
    parameters: &'r [Parameter],
    tensors: Vec<Growing>,
    by_name: HashMap<String, usize>,
    pieces: Vec<Piece>,
}

impl Binder<'_> {
    /// Adds the pieces of a parameter.
    fn place(&mut self, number: usize, parameter: &Parameter) -> Result<(), MapError> {
        let mut memory = 0;
        for (name, first, count) in self.places(parameter)? {
            let tensor = self.tensor(&name, &parameter.1, first + count, &parameter.0)?;
            let whole = Piece {
                tensor,
                parameter: number,
                disk: Rows::contiguous(first, count),
                memory: Rows::contiguous(memory, count),
            };
            let permuted = self.rules.iter().find_map(|rule| match rule {
                NameRule::Permute { disk, head_dim, on_disk } if disk.captures(&name).is_some() => Some((*head_dim, *on_disk)),
                _ => None,
            });
            let pieces = match permuted {
                Some((head_dim, on_disk)) => whole.permuted(&name, head_dim, on_disk)?,
                None => vec![whole],
            };
            let numbers = self.pieces.len()..self.pieces.len() + pieces.len();
            self.pieces.extend(pieces);
            if let Some(tensor) = self.tensors.get_mut(tensor) {
                tensor.pieces.extend(numbers);
            }
            memory += count;
        }
        Ok(())
    }

    /// The locations of the rows of a parameter, in order.
    fn places(&self, (name, shape): &Parameter) -> Result<Vec<Place>, MapError> {
        for rule in self.rules {
            match rule {
                NameRule::Rename { memory, disk } => {
                    if let Some(captures) = memory.captures(name) {
                        return Ok(vec![(fill(disk, &captures, name)?, 0, rows(shape))]);
                    }
                }
                NameRule::Fuse { memory, parts } => {
                    if let Some(captures) = memory.captures(name) {
                        return parts.iter().map(|(disk, rows)| Ok((fill(disk, &captures, name)?, 0, *rows))).collect();
                    }
                }
                NameRule::Split { disk, parts } => {
                    let part = parts.iter().enumerate().find_map(|(i, part)| Some((i, part.captures(name)?)));
                    if let Some((i, captures)) = part {
                        let mut first = 0;
                        for earlier in parts.iter().take(i) {
                            first += self.rows_of(&fill(earlier, &captures, name)?);
                        }
                        return Ok(vec![(fill(disk, &captures, name)?, first, rows(shape))]);
                    }
                }
                NameRule::Transpose { .. }
                | NameRule::Permute { .. }
                | NameRule::Extents { .. }
                | NameRule::Tie { .. }
                | NameRule::Prefix(_)
                | NameRule::Ignore(_)
                | NameRule::Formerly(..)
                | NameRule::AbsentIfZero { .. } => {}
            }
        }
        Ok(vec![(name.clone(), 0, rows(shape))])
    }

    /// The number of rows of another parameter; 0 if it is absent, so that the rest begins at the tensor's first row.
    fn rows_of(&self, name: &str) -> usize {
        self.parameters.iter().find(|(other, _)| other == name).map_or(0, |(_, shape)| rows(shape))
    }

    /// The tensor of this name, grown to at least this many rows of the parameter's shape.
    fn tensor(&mut self, name: &str, shape: &[usize], end: usize, parameter: &str) -> Result<usize, MapError> {
        if let Some((number, tensor)) = self.by_name.get(name).and_then(|&i| Some((i, self.tensors.get_mut(i)?))) {
            if tensor.pieces.is_empty() {
                return Err(MapError::Row { what: "tensor", name: name.to_owned(), row: 0, places: 2, other: "model" });
            }
            if row_shape(&tensor.shape) != row_shape(shape) {
                let (found, expected) = (row_shape(shape).to_vec(), row_shape(&tensor.shape).to_vec());
                return Err(MapError::RowShape { tensor: name.to_owned(), parameter: parameter.to_owned(), found, expected });
            }
            if let Some(rows) = tensor.shape.first_mut() {
                *rows = end.max(*rows);
            }
            return Ok(number);
        }
        let mut shape = shape.to_vec();
        if let Some(rows) = shape.first_mut() {
            *rows = end;
        }
        self.by_name.insert(name.to_owned(), self.tensors.len());
        self.tensors.push(Growing { name: name.to_owned(), shape, pieces: Vec::new() });
        Ok(self.tensors.len() - 1)
    }

    /// Adds the vectors of zeros that follow a parameter.
    fn add_absent(&mut self, (name, shape): &Parameter) -> Result<(), MapError> {
        for rule in self.rules {
            let NameRule::AbsentIfZero { disk, beside } = rule else { continue };
            let Some(captures) = beside.captures(name) else { continue };
            let name = fill(disk, &captures, name)?;
            if self.by_name.insert(name.clone(), self.tensors.len()).is_some() {
                return Err(MapError::Row { what: "tensor", name, row: 0, places: 2, other: "model" });
            }
            self.tensors.push(Growing { name, shape: vec![rows(shape)], pieces: Vec::new() });
        }
        Ok(())
    }

    /// Every row of every parameter and of every tensor has one place.
    fn check(&self) -> Result<(), MapError> {
        let mut memory = vec![Vec::new(); self.parameters.len()];
        for piece in &self.pieces {
            if let Some(rows) = memory.get_mut(piece.parameter) {
                rows.push(piece.memory);
            }
        }
        for ((name, shape), pieces) in self.parameters.iter().zip(memory) {
            if let Some((row, places)) = uneven_row(rows(shape), pieces.into_iter()) {
                return Err(MapError::Row { what: "parameter", name: name.clone(), row, places, other: "file" });
            }
        }
        for tensor in self.tensors.iter().filter(|tensor| !tensor.pieces.is_empty()) {
            let pieces = tensor.pieces.iter().filter_map(|&i| self.pieces.get(i)).map(|piece| piece.disk);
            if let Some((row, places)) = uneven_row(rows(&tensor.shape), pieces) {
                return Err(MapError::Row { what: "tensor", name: tensor.name.clone(), row, places, other: "model" });
            }
        }
        Ok(())
    }

    /// The tensors with their shapes on disk.
    fn finished_tensors(&mut self) -> Result<Vec<DiskTensor>, MapError> {
        let growing = std::mem::take(&mut self.tensors);
        let is_transposed = |name: &str| {
            self.rules.iter().any(|rule| matches!(rule, NameRule::Transpose { disk } if disk.captures(name).is_some()))
        };
        let finish = |Growing { name, mut shape, pieces }: Growing| {
            let transposed = is_transposed(&name);
            if transposed && shape.len() != 2 {
                return Err(MapError::NotAMatrix { tensor: name, shape });
            }
            if transposed {
                shape.reverse();
            }
            let channels = self.extents(&name, &mut shape)?;
            Ok(DiskTensor { name, shape, transposed, channels, pieces })
        };
        growing.into_iter().map(finish).collect()
    }

    /// Gives a tensor the extents of its rule; returns the channels of a row if they are first on disk and last in memory.
    fn extents(&self, name: &str, shape: &mut Vec<usize>) -> Result<Option<usize>, MapError> {
        let rule = self.rules.iter().find_map(|rule| match rule {
            NameRule::Extents { disk, row, channels_last } if disk.captures(name).is_some() => Some((row, *channels_last)),
            _ => None,
        });
        let Some((row, channels_last)) = rule else { return Ok(None) };
        let found = row_shape(shape).iter().product();
        if row.iter().product::<usize>() != found {
            return Err(MapError::Extents { tensor: name.to_owned(), found, row: row.clone() });
        }
        shape.truncate(1);
        shape.extend(row);
        Ok(row.first().copied().filter(|_| channels_last))
    }

    fn ties(&self, tensors: &[DiskTensor]) -> Result<Vec<(String, usize)>, MapError> {
        let mut ties = Vec::new();
        for rule in self.rules {
            let NameRule::Tie { disk, to } = rule else { continue };
            let mut found = false;
            for (number, tensor) in tensors.iter().enumerate() {
                let Some(captures) = to.captures(&tensor.name) else { continue };
                ties.push((fill(disk, &captures, &tensor.name)?, number));
                found = true;
            }
            if !found {
                return Err(MapError::Untied { disk: disk.to_string(), to: to.to_string() });
            }
        }
        Ok(ties)
    }
}
