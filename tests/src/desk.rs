//! A folder for a test of the binary: rows, and what runs leave.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use serde_json::Value;

use crate::binary::samara;

/// A temporary folder in which commands run.
pub struct Desk {
    folder: tempfile::TempDir,
}

impl Default for Desk {
    fn default() -> Self {
        Self::new()
    }
}

impl Desk {
    /// An empty one.
    ///
    /// # Panics
    /// The system has no temporary folder.
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    /// A path in it.
    pub fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes rows of JSON.
    ///
    /// # Panics
    /// The file cannot be written.
    pub fn rows(&self, name: &str, rows: &[Value]) -> PathBuf {
        let path = self.at(name);
        fs::write(&path, rows.iter().map(|row| format!("{row}\n")).collect::<String>()).expect("rows");
        path
    }

    /// Reads rows of JSON.
    ///
    /// # Panics
    /// They are none.
    pub fn read_rows(&self, name: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.at(name)).expect(name);
        text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    /// Runs the binary; what it wrote to standard output and standard error.
    ///
    /// # Errors
    /// It fails; what it wrote to standard error.
    pub fn run(&self, args: &[&str]) -> Result<(String, String), String> {
        self.told(args, "")
    }

    /// The same with text on standard input.
    ///
    /// # Errors
    /// As [`Self::run`].
    ///
    /// # Panics
    /// It cannot be started.
    pub fn told(&self, args: &[&str], input: &str) -> Result<(String, String), String> {
        let mut child = samara()
            .args(args)
            .current_dir(self.folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        // One that ends before it has read all is no matter.
        let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
        let Output { status, stdout, stderr } = child.wait_with_output().expect("the binary ends");
        let [out, error] = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        if status.success() { Ok((out, error)) } else { Err(error) }
    }

    /// Runs a training of `command` from a model on rows, with keys and values as in `train.steps=1`; what it said.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn train(&self, command: &str, (init, data): (&Path, &Path), out: &str, sets: &[&str]) -> Result<String, String> {
        let [init, data] = [init, data].map(|path| path.to_string_lossy().into_owned());
        let mut args = vec![command, "--init", &init, "--data", &data, "--out", out, "--set", "train.threads=1"];
        args.extend(sets.iter().flat_map(|set| ["--set", set]));
        Ok(self.run(&args)?.1)
    }
}
