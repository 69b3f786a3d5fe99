//! NumPy's `.npz` files: zip archives of `.npy` arrays.

use std::io::{Cursor, Read};
use std::path::Path;

use zip::ZipArchive;
use zip::result::ZipError;

use crate::files::FileError;
use crate::npy::{self, Array};

/// Whether bytes begin like a zip archive.
pub fn is_zip(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"PK\x05\x06")
}

/// Reads the array `name`, or the only one, from the bytes of a file; errors name it `path`.
///
/// # Errors
/// A damaged archive, no array of that name, or several without a name given.
pub fn from_bytes(path: &Path, bytes: &[u8], name: Option<&str>) -> Result<Array, FileError> {
    let damaged = |error: ZipError| FileError::format(path, "a whole .npz archive", format!("\"{error}\"; save it again"));
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(damaged)?;
    let entry = chosen(path, &archive, name)?;
    let mut array = Vec::new();
    let mut reader = archive.by_name(&entry).map_err(damaged)?;
    reader.read_to_end(&mut array).map_err(|error| damaged(error.into()))?;
    npy::from_bytes(&path.join(&entry), &array)
}

/// The archive's entry of the array.
fn chosen(path: &Path, archive: &ZipArchive<Cursor<&[u8]>>, name: Option<&str>) -> Result<String, FileError> {
    let entries = archive.file_names().filter_map(Result::ok);
    let mut names: Vec<String> = entries.filter_map(|entry| entry.strip_suffix(".npy").map(str::to_owned)).collect();
    names.sort_unstable();
    let listed = || if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    match (name, names.as_slice()) {
        (Some(name), _) if names.iter().any(|other| other == name) => Ok(format!("{name}.npy")),
        (Some(name), _) => Err(FileError::format(path, format!("the array {name}"), listed())),
        (None, [name]) => Ok(format!("{name}.npy")),
        (None, []) => Err(FileError::format(path, "one .npy array in the archive", "none; numpy.savez writes such archives")),
        (None, [first, ..]) => {
            let found = format!("{}; name one: {}:{first}", listed(), path.display());
            Err(FileError::format(path, "one array", found))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use zip::write::{SimpleFileOptions, ZipWriter};

    /// An archive as `numpy.savez` or `numpy.savez_compressed` writes it.
    fn archive(names: &[&str], method: zip::CompressionMethod) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        for (k, name) in (0..).zip(names) {
            let path = folder.path().join("a.npy");
            npy::write_i32(&path, &[1, 1], &[k]).unwrap();
            writer.start_file(format!("{name}.npy"), SimpleFileOptions::default().compression_method(method)).unwrap();
            writer.write_all(&std::fs::read(&path).unwrap()).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    #[test]
    fn one_array_or_the_one_that_is_named() {
        let value = |bytes: &[u8], name| {
            from_bytes(Path::new("a.npz"), bytes, name).map(Array::into_f64).map_err(|error| error.to_string())
        };
        for method in [zip::CompressionMethod::Stored, zip::CompressionMethod::Deflated] {
            assert_eq!(value(&archive(&["arr_0"], method), None), Ok(vec![0.0]));
            assert_eq!(value(&archive(&["b", "a"], method), Some("a")), Ok(vec![1.0]));
        }
        let two = archive(&["b", "a"], zip::CompressionMethod::Stored);
        assert_eq!(value(&two, None), Err("a.npz: expected one array, found a, b; name one: a.npz:a".to_owned()));
        assert_eq!(value(&two, Some("c")), Err("a.npz: expected the array c, found a, b".to_owned()));
        let none = archive(&[], zip::CompressionMethod::Stored);
        assert!(value(&none, None).unwrap_err().starts_with("a.npz: expected one .npy array in the archive, found none"));
        for end in 4..two.len() {
            assert!(value(&two[..end], Some("a")).is_err(), "{end}");
        }
    }
}
