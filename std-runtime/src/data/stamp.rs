//! Whether the files of a data set are as they were, without reading them: their names, lengths and times of modification.

use std::fs;
use std::path::Path;
use std::time::UNIX_EPOCH;

use super::DataError;
use super::source::{DataRequest, Source};
use super::splits::PrepareError;
use super::text::{Paths, files_of};
use crate::files::IoError;

/// The stamp of the files of a text; `None` for the built-in corpus, and for files that are not there any more. It does not depend on where they are.
///
/// # Errors
/// A folder that cannot be listed.
pub fn stamp(request: &DataRequest) -> Result<Option<String>, PrepareError> {
    match &request.source {
        Source::Path(path) if path.exists() => Ok(Some(of(path)?)),
        _ => Ok(None),
    }
}

fn of(path: &Path) -> Result<String, DataError> {
    let files = files_of(path, &mut Paths::default())?;
    let mut checksum = 0;
    for file in &files {
        let found = fs::metadata(file).map_err(IoError::at(file, "read"))?;
        // Systems without such times have the lengths.
        let modified = found.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
        let name = file.strip_prefix(path).unwrap_or(file);
        let line = format!("{} {} {}\n", name.display(), found.len(), modified.as_nanos());
        checksum = crc32c::crc32c_append(checksum, line.as_bytes());
    }
    Ok(format!("{} files, crc32c {checksum:08x}", files.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::config::DataConfig;

    #[test]
    fn a_stamp_follows_names_lengths_and_times() {
        let folder = tempfile::tempdir().unwrap();
        let stamp_of = |name: &str| {
            let config = DataConfig { path: Some(folder.path().join(name)), ..DataConfig::default() };
            stamp(&DataRequest::new(&config)).unwrap()
        };
        let write = |name: &str, text: &str, second: u64| {
            let file = fs::File::create(folder.path().join(name)).unwrap();
            fs::write(folder.path().join(name), text).unwrap();
            file.set_modified(UNIX_EPOCH + std::time::Duration::from_secs(second)).unwrap();
        };
        write("a.txt", "abc", 7);
        let first = stamp_of("a.txt");
        fs::rename(folder.path().join("a.txt"), folder.path().join("b.txt")).unwrap();
        assert_eq!(stamp_of("b.txt"), first);
        write("b.txt", "abd", 8);
        assert_ne!(stamp_of("b.txt"), first);
        let before = stamp_of("");
        write("c.txt", "", 8);
        assert_ne!(stamp_of(""), before);
        assert_eq!((stamp_of("a.txt"), stamp_of("absent")), (None, None));
        assert_eq!(stamp(&DataRequest::new(&DataConfig::default())).unwrap(), None);
    }
}
