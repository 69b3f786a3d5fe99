//! NumPy's `.npy` files: values of up to 64 bits in either byte order; Fortran order is converted to C order.
//!
//! Format: NEP 1, versions 1 to 3: magic `\x93NUMPY`, two version bytes, the header's length, a Python dictionary, raw values.

use std::io::Write;
use std::path::Path;

use half::f16;

use crate::files::{FileError, IoError};
use crate::memory::{self, OutOfMemory};
use crate::run::durable::DurableFile;

/// The first bytes of every `.npy` file.
pub const MAGIC: &[u8] = b"\x93NUMPY";

/// The values of an array. Narrower types are widened, which is lossless.
#[derive(Clone, Debug, PartialEq)]
pub enum ArrayValues {
    /// `bool` (0 and 1), `int8`, `int16`, `int32`, `uint8`, `uint16`.
    I32(Vec<i32>),
    /// `int64`, `uint32`.
    I64(Vec<i64>),
    /// `uint64`.
    U64(Vec<u64>),
    /// `float16`, `float32`.
    F32(Vec<f32>),
    /// `float64`.
    F64(Vec<f64>),
}

/// An array in C order: the last axis varies fastest.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Length of every axis.
    pub shape: Vec<usize>,
    /// The element type in the file, such as `f32` or `bool`.
    pub dtype: &'static str,
    /// All values, `shape.iter().product()` of them.
    pub values: ArrayValues,
}

impl Array {
    /// The values as `i32`, if they are integers that fit.
    ///
    /// # Errors
    /// Floating-point values, or an integer beyond `i32`.
    pub fn into_i32(self, path: &Path) -> Result<Vec<i32>, FileError> {
        let too_large = |i: usize| FileError::format(path, "integers of 32 bits", format!("a larger one at index {i}"));
        match self.values {
            ArrayValues::I32(values) => Ok(values),
            ArrayValues::U64(values) => {
                values.into_iter().enumerate().map(|(i, v)| i32::try_from(v).map_err(|_| too_large(i))).collect()
            }
            ArrayValues::I64(values) => {
                values.into_iter().enumerate().map(|(i, v)| i32::try_from(v).map_err(|_| too_large(i))).collect()
            }
            ArrayValues::F32(_) | ArrayValues::F64(_) => {
                Err(FileError::format(path, "integers", format!("{} values", self.dtype)))
            }
        }
    }

    /// The values as `f64`; integers beyond 2⁵³ are rounded.
    pub fn into_f64(self) -> Vec<f64> {
        match self.values {
            ArrayValues::I32(values) => values.into_iter().map(f64::from).collect(),
            ArrayValues::I64(values) => values.into_iter().map(|v| v as f64).collect(),
            ArrayValues::U64(values) => values.into_iter().map(|v| v as f64).collect(),
            ArrayValues::F32(values) => values.into_iter().map(f64::from).collect(),
            ArrayValues::F64(values) => values,
        }
    }
}

/// Reads an array.
///
/// # Errors
/// A file that cannot be read, or that is no array of a type that is read.
pub fn read(path: &Path) -> Result<Array, FileError> {
    let bytes = std::fs::read(path).map_err(IoError::at(path, "read"))?;
    from_bytes(path, &bytes)
}

/// Reads an array from the bytes of a file, which `path` names in errors.
///
/// # Errors
/// Bytes that are no array of a type that is read.
pub fn from_bytes(path: &Path, bytes: &[u8]) -> Result<Array, FileError> {
    parse(bytes).map_err(|problem| match problem {
        Problem::Form { expected, found } => FileError::format(path, expected, found),
        Problem::Memory(error) => FileError::memory(path, "divide the array, or use a machine with more memory")(error),
    })
}

/// Writes an f32 array; the product of `shape` must be the number of values.
///
/// # Errors
/// The operating system refuses.
pub fn write_f32(path: &Path, shape: &[usize], values: &[f32]) -> Result<(), FileError> {
    write(path, "<f4", shape, values.len(), values.iter().map(|v| v.to_le_bytes()))
}

/// Writes an i32 array; the product of `shape` must be the number of values.
///
/// # Errors
/// The operating system refuses.
pub fn write_i32(path: &Path, shape: &[usize], values: &[i32]) -> Result<(), FileError> {
    write(path, "<i4", shape, values.len(), values.iter().map(|v| v.to_le_bytes()))
}

fn write(
    path: &Path,
    descr: &str,
    shape: &[usize],
    len: usize,
    mut values: impl Iterator<Item = [u8; 4]>,
) -> Result<(), FileError> {
    if product(shape) != Some(len) {
        return Err(FileError::format(path, format!("as many values as in shape {shape:?}"), format!("{len}")));
    }
    let axes: String = shape.iter().map(|n| format!("{n}, ")).collect();
    // Python writes (3,) for one axis and (3, 4) for two.
    let axes = if shape.len() == 1 { axes.trim_end() } else { axes.trim_end_matches(", ") };
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({axes}), }}");
    // Magic, version, length, header and the closing line feed fill a multiple of 64 bytes.
    let padding = (10 + header.len() + 1).next_multiple_of(64) - (10 + header.len() + 1);
    header.extend(std::iter::repeat_n(' ', padding));
    header.push('\n');
    let length = u16::try_from(header.len()).map_err(|_| FileError::format(path, "fewer axes", format!("{}", shape.len())))?;
    let mut write_all = || {
        let mut file = DurableFile::create(path)?;
        file.write_all(&[MAGIC, &[1, 0]].concat())?;
        file.write_all(&length.to_le_bytes())?;
        file.write_all(header.as_bytes())?;
        values.try_for_each(|bytes| file.write_all(&bytes))?;
        file.commit()
    };
    Ok(write_all().map_err(IoError::at(path, "write"))?)
}

/// Why bytes could not be read as an array.
#[derive(Debug)]
enum Problem {
    /// They have another form.
    Form { expected: String, found: String },
    /// Its values do not fit into memory.
    Memory(OutOfMemory),
}

impl From<OutOfMemory> for Problem {
    fn from(error: OutOfMemory) -> Self {
        Self::Memory(error)
    }
}

fn mismatch(expected: impl Into<String>, found: impl Into<String>) -> Problem {
    Problem::Form { expected: expected.into(), found: found.into() }
}

fn parse(bytes: &[u8]) -> Result<Array, Problem> {
    let cut = || mismatch("a whole .npy header", format!("{} bytes (is the file truncated?)", bytes.len()));
    let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| mismatch("a .npy file", "other first bytes"))?;
    let (&[major, _minor], rest) = rest.split_first_chunk().ok_or_else(cut)?;
    let (length, rest) = match major {
        1 => rest.split_first_chunk().map(|(n, rest)| (usize::from(u16::from_le_bytes(*n)), rest)).ok_or_else(cut)?,
        2 | 3 => rest.split_first_chunk().map(|(n, rest)| (u32::from_le_bytes(*n) as usize, rest)).ok_or_else(cut)?,
        other => return Err(mismatch(".npy version 1, 2 or 3", other.to_string())),
    };
    let (header, data) = rest.split_at_checked(length).ok_or_else(cut)?;
    let header = std::str::from_utf8(header).map_err(|_| mismatch("a text header", "bytes that are not UTF-8"))?;
    let descr = field(header, "descr")?.trim_matches(['\'', '"']);
    let fortran = match field(header, "fortran_order")? {
        "False" => false,
        "True" => true,
        other => return Err(mismatch("fortran_order True or False", other)),
    };
    let shape = parse_shape(field(header, "shape")?)?;
    let count = product(&shape).ok_or_else(|| mismatch("a shape that fits into memory", format!("{shape:?}")))?;
    let (dtype, values) = values(descr, data, count)?;
    Ok(Array { dtype, values: in_c_order(values, &shape, fortran)?, shape })
}

/// `count` values of the header's type, and the type's name.
fn values(descr: &str, data: &[u8], count: usize) -> Result<(&'static str, ArrayValues), Problem> {
    let big = descr.starts_with('>');
    Ok(match descr.trim_start_matches(['<', '>', '|', '=']) {
        "b1" => ("bool", ArrayValues::I32(decode(data, count, big, |[b]: [u8; 1]| i32::from(b != 0))?)),
        "i1" => ("i8", ArrayValues::I32(decode(data, count, big, |b| i8::from_le_bytes(b).into())?)),
        "u1" => ("u8", ArrayValues::I32(decode(data, count, big, |b| u8::from_le_bytes(b).into())?)),
        "i2" => ("i16", ArrayValues::I32(decode(data, count, big, |b| i16::from_le_bytes(b).into())?)),
        "u2" => ("u16", ArrayValues::I32(decode(data, count, big, |b| u16::from_le_bytes(b).into())?)),
        "i4" => ("i32", ArrayValues::I32(decode(data, count, big, i32::from_le_bytes)?)),
        "u4" => ("u32", ArrayValues::I64(decode(data, count, big, |b| u32::from_le_bytes(b).into())?)),
        "i8" => ("i64", ArrayValues::I64(decode(data, count, big, i64::from_le_bytes)?)),
        "u8" => ("u64", ArrayValues::U64(decode(data, count, big, u64::from_le_bytes)?)),
        "f2" => ("f16", ArrayValues::F32(decode(data, count, big, |b| f16::from_le_bytes(b).to_f32())?)),
        "f4" => ("f32", ArrayValues::F32(decode(data, count, big, f32::from_le_bytes)?)),
        "f8" => ("f64", ArrayValues::F64(decode(data, count, big, f64::from_le_bytes)?)),
        other => return Err(mismatch("numbers of up to 64 bits", refused(other))),
    })
}

/// The name of an unsupported type, and what to save instead.
fn refused(descr: &str) -> String {
    let (name, instead) = match descr {
        "f16" | "f12" => ("longdouble", "array.astype('float64')"),
        "c8" => ("complex64", "its real part or magnitude: array.real, abs(array)"),
        "c16" => ("complex128", "its real part or magnitude: array.real, abs(array)"),
        "c32" | "c24" => ("clongdouble", "its real part or magnitude as float64"),
        "O" => ("objects", "array.astype('float64')"),
        _ if descr.starts_with(['U', 'S', 'a']) => ("text", "array.astype('float64')"),
        _ if descr.starts_with(['M', 'm']) => ("times", "array.astype('int64')"),
        _ if descr.starts_with(['[', '(']) => ("records", "one field of them"),
        _ => ("another type", "array.astype('float64')"),
    };
    format!("{name} ({descr:?}); save {instead}")
}

/// The text of one value of the header's dictionary.
fn field<'a>(header: &'a str, key: &str) -> Result<&'a str, Problem> {
    let missing = || mismatch(format!("a header with '{key}'"), header.trim().chars().take(80).collect::<String>());
    let at = header.find(&format!("'{key}'")).or_else(|| header.find(&format!("\"{key}\""))).ok_or_else(missing)?;
    let (_, value) = header.get(at..).and_then(|rest| rest.split_once(':')).ok_or_else(missing)?;
    let value = value.trim_start();
    let end = if value.starts_with('(') { value.find(')').map(|i| i + 1) } else { value.find([',', '}']) };
    end.and_then(|end| value.get(..end)).map(str::trim).ok_or_else(missing)
}

fn parse_shape(text: &str) -> Result<Vec<usize>, Problem> {
    let inner = text.strip_prefix('(').and_then(|t| t.strip_suffix(')'));
    // Python 2 wrote long integers as 3L.
    let length = |axis: &str| axis.strip_suffix('L').unwrap_or(axis).parse();
    let axes = inner.map(|inner| inner.split(',').map(str::trim).filter(|axis| !axis.is_empty()).map(length).collect());
    match axes {
        Some(Ok(shape)) => Ok(shape),
        _ => Err(mismatch("a shape like (3, 4)", text)),
    }
}

fn product(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1_usize, |n, &axis| n.checked_mul(axis))
}

/// Decodes bytes of either order; `value` decodes little-endian ones.
fn decode<T, const N: usize>(data: &[u8], count: usize, big: bool, value: impl Fn([u8; N]) -> T) -> Result<Vec<T>, Problem> {
    if Some(data.len()) != count.checked_mul(N) {
        return Err(mismatch(format!("{count} values of {N} bytes"), format!("{} bytes", data.len())));
    }
    let little = |mut bytes: [u8; N]| {
        if big {
            bytes.reverse();
        }
        value(bytes)
    };
    let mut values = memory::room_for(count)?;
    values.extend(data.as_chunks().0.iter().map(|&bytes| little(bytes)));
    Ok(values)
}

/// The values in C order (last axis fastest); in Fortran order the first axis varies fastest.
fn in_c_order(values: ArrayValues, shape: &[usize], fortran: bool) -> Result<ArrayValues, OutOfMemory> {
    if !fortran || shape.len() < 2 {
        return Ok(values);
    }
    Ok(match values {
        ArrayValues::I32(values) => ArrayValues::I32(turned(&values, shape)?),
        ArrayValues::I64(values) => ArrayValues::I64(turned(&values, shape)?),
        ArrayValues::U64(values) => ArrayValues::U64(turned(&values, shape)?),
        ArrayValues::F32(values) => ArrayValues::F32(turned(&values, shape)?),
        ArrayValues::F64(values) => ArrayValues::F64(turned(&values, shape)?),
    })
}

/// From Fortran order to C order.
fn turned<T: Copy>(values: &[T], shape: &[usize]) -> Result<Vec<T>, OutOfMemory> {
    let place = |index: usize| {
        let (mut rest, mut stride, mut place) = (index, values.len(), 0);
        for &axis in shape.iter().rev() {
            stride /= axis;
            place += rest % axis * stride;
            rest /= axis;
        }
        place
    };
    let mut turned = memory::room_for(values.len())?;
    turned.extend((0..values.len()).filter_map(|index| values.get(place(index)).copied()));
    Ok(turned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// `numpy.save` of `numpy.arange(6, dtype=numpy.int32).reshape(2, 3)`, NumPy 2.4.
    fn golden() -> Vec<u8> {
        let mut bytes = b"\x93NUMPY\x01\x00\x76\x00{'descr': '<i4', 'fortran_order': False, 'shape': (2, 3), }".to_vec();
        bytes.resize(127, b' ');
        bytes.push(b'\n');
        bytes.extend((0..6_i32).flat_map(i32::to_le_bytes));
        bytes
    }

    #[test]
    fn bytes_are_those_of_numpy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        write_i32(&path, &[2, 3], &[0, 1, 2, 3, 4, 5]).unwrap();
        assert_eq!(fs::read(&path).unwrap(), golden());
    }

    #[test]
    fn round_trips() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        for shape in [vec![], vec![1], vec![1, 1, 1]] {
            write_f32(&path, &shape, &[-1.5]).unwrap();
            assert_eq!(read(&path).unwrap(), Array { shape, dtype: "f32", values: ArrayValues::F32(vec![-1.5]) });
        }
        write_f32(&path, &[0, 4], &[]).unwrap();
        assert_eq!(read(&path).unwrap(), Array { shape: vec![0, 4], dtype: "f32", values: ArrayValues::F32(vec![]) });
        assert!(write_f32(&path, &[2], &[1.0]).unwrap_err().to_string().contains("[2]"));
    }

    #[test]
    fn fortran_order_is_brought_into_c_order() {
        let transposed = |shape: &str, count: i32| {
            let mut header = format!("{{'descr': '<i4', 'fortran_order': True, 'shape': {shape}, }}");
            header.push('\n');
            let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
            bytes.extend((header.len() as u16).to_le_bytes());
            bytes.extend(header.as_bytes());
            bytes.extend((0..count).flat_map(i32::to_le_bytes));
            parse(&bytes).unwrap().values
        };
        assert_eq!(transposed("(2, 3)", 6), ArrayValues::I32(vec![0, 2, 4, 1, 3, 5]));
        // numpy.arange(8).reshape((2, 2, 2), order="F").ravel()
        assert_eq!(transposed("(2, 2, 2)", 8), ArrayValues::I32(vec![0, 4, 2, 6, 1, 5, 3, 7]));
        assert_eq!(transposed("(3,)", 3), ArrayValues::I32(vec![0, 1, 2]));
        assert_eq!(transposed("(0, 3)", 0), ArrayValues::I32(vec![]));
        assert_eq!(transposed("(1, 4)", 4), ArrayValues::I32(vec![0, 1, 2, 3]));
    }

    /// The values read for a type in the header.
    fn typed(descr: &str, data: &[u8], count: usize) -> (&'static str, Vec<f64>) {
        let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({count}L,), }}");
        header.push('\n');
        let mut bytes = b"\x93NUMPY\x03\x00".to_vec();
        bytes.extend((header.len() as u32).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        let array = parse(&bytes).unwrap();
        (array.dtype, array.into_f64())
    }

    #[test]
    fn every_type_of_numbers_in_both_byte_orders() {
        // numpy.array([1, -2]).astype(TYPE).tobytes(), NumPy 2.4, or [1, 254] for unsigned ones.
        let cases: [(&str, &str, &[u8], [f64; 2]); 11] = [
            ("i1", "i8", &[1, 254], [1.0, -2.0]),
            ("u1", "u8", &[1, 254], [1.0, 254.0]),
            ("i2", "i16", &[1, 0, 254, 255], [1.0, -2.0]),
            ("u2", "u16", &[1, 0, 254, 255], [1.0, 65534.0]),
            ("i4", "i32", &[1, 0, 0, 0, 254, 255, 255, 255], [1.0, -2.0]),
            ("u4", "u32", &[1, 0, 0, 0, 254, 255, 255, 255], [1.0, 4_294_967_294.0]),
            ("i8", "i64", &[1, 0, 0, 0, 0, 0, 0, 0, 254, 255, 255, 255, 255, 255, 255, 255], [1.0, -2.0]),
            ("u8", "u64", &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 128], [1.0, 9_223_372_036_854_775_808.0]),
            ("f2", "f16", &[0, 60, 0, 192], [1.0, -2.0]),
            ("f4", "f32", &[0, 0, 128, 63, 0, 0, 0, 192], [1.0, -2.0]),
            ("f8", "f64", &[0, 0, 0, 0, 0, 0, 240, 63, 0, 0, 0, 0, 0, 0, 0, 192], [1.0, -2.0]),
        ];
        for (descr, name, little, expected) in cases {
            let big: Vec<u8> = little.chunks(little.len() / 2).flat_map(|value| value.iter().rev().copied()).collect();
            assert_eq!(typed(&format!("<{descr}"), little, 2), (name, expected.to_vec()));
            assert_eq!(typed(&format!(">{descr}"), &big, 2), (name, expected.to_vec()));
        }
        assert_eq!(typed("|b1", &[1, 0], 2), ("bool", vec![1.0, 0.0]));
        for (descr, name) in
            [("<f16", "longdouble"), ("<c16", "complex128"), (">c8", "complex64"), ("|O", "objects"), ("<U3", "text")]
        {
            let Problem::Form { found, .. } = values(descr, &[], 0).unwrap_err() else { panic!("{descr}") };
            assert!(found.starts_with(name) && found.contains("; save "), "{found}");
        }
    }

    #[test]
    fn every_prefix_is_an_error() {
        let golden = golden();
        assert!(parse(&golden).is_ok());
        for end in 0..golden.len() {
            assert!(parse(&golden[..end]).is_err(), "{end}");
        }
        let mut long = golden.clone();
        long.push(0);
        assert!(parse(&long).is_err());
    }

    #[test]
    fn hostile_headers() {
        let with = |from: &str, to: &str| {
            let golden = golden();
            let text: String = golden[10..128].iter().map(|&b| char::from(b)).collect();
            let header = text.replacen(from, to, 1);
            let mut bytes = b"\x93NUMPY\x02\x00".to_vec();
            bytes.extend((header.len() as u32).to_le_bytes());
            bytes.extend(header.as_bytes());
            bytes.extend(&golden[128..]);
            parse(&bytes)
        };
        assert!(with("x", "x").is_ok());
        // Either quotes of Python.
        assert!(["descr", "shape", "fortran_order"].iter().all(|key| with(&format!("'{key}'"), &format!("\"{key}\"")).is_ok()));
        for (from, to) in [
            ("(2, 3)", "(18446744073709551615, 2)"),
            ("(2, 3)", "(4611686018427387904, 1)"),
            ("(2, 3)", "(-2, -3)"),
            ("(2, 3)", "(2, 3"),
            ("(2, 3)", "6"),
            ("False", "true"),
            ("<i4", "|O"),
            ("descr", "other"),
            ("shape", "shapes"),
            ("{", "\u{e9}"),
        ] {
            let result = with(from, to);
            assert!(result.is_err() || from == "{", "{from} -> {to}: {result:?}");
        }
    }

    #[test]
    fn integers_become_i32() {
        let path = Path::new("a.npy");
        let array = |values| Array { shape: vec![2], dtype: "i64", values };
        assert_eq!(array(ArrayValues::I64(vec![1, -2])).into_i32(path).unwrap(), [1, -2]);
        assert_eq!(array(ArrayValues::U64(vec![1, 65535])).into_i32(path).unwrap(), [1, 65535]);
        assert!(array(ArrayValues::I64(vec![1, 1 << 40])).into_i32(path).unwrap_err().to_string().contains("index 1"));
        assert!(array(ArrayValues::F32(vec![1.0, 2.0])).into_i32(path).is_err());
    }
}
