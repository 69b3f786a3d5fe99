//! What a command may write over: a file of its own making.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use super::Error;

/// Refuses a file to write where something else is than `what`, a file that begins with `start`. A path that cannot be read is reported when it is written.
pub(super) fn refuse_foreign(out: &Path, what: &str, start: &[u8]) -> Result<(), Error> {
    let Ok(found) = fs::symlink_metadata(out) else { return Ok(()) };
    let mut first = Vec::new();
    let read = File::open(out).and_then(|file| file.take(start.len() as u64).read_to_end(&mut first));
    if found.is_file() && read.is_ok() && first == start {
        return Ok(());
    }
    Err(Error::usage(format!("{}: exists and is not {what}: choose another name, or remove it", out.display())))
}

/// Refuses a file to write where a file has content. Pipes and devices pass.
pub(super) fn refuse_content(out: &Path) -> Result<(), Error> {
    match fs::metadata(out) {
        Ok(found) if found.is_dir() || found.is_file() && found.len() > 0 => {
            let what = if found.is_dir() { "is a folder".to_owned() } else { format!("exists, with {} bytes", found.len()) };
            Err(Error::usage(format!("{}: {what}, and is not overwritten: choose another name, or remove it", out.display())))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_another_making_stays() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("own"), "MARK and more").unwrap();
        fs::write(at("other"), "MAR").unwrap();
        fs::write(at("empty"), "").unwrap();
        let refused = |name: &str| refuse_foreign(&at(name), "a page", b"MARK").is_err();
        assert_eq!(["own", "absent", "other", "empty", "."].map(refused), [false, false, true, true, true]);
        let refused = |name: &str| refuse_content(&at(name)).is_err();
        assert_eq!(["own", "absent", "other", "empty", "."].map(refused), [true, false, true, false, true]);
        let error = refuse_content(&at("own")).unwrap_err().to_string();
        assert!(error.contains("own: exists, with 13 bytes, and is not overwritten"), "{error}");
    }
}
