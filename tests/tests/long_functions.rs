//! Functions longer than a screen: clippy's `too_many_lines` (50, `clippy.toml`) warns in core and std-runtime, and each exception stands here by name.
//!
//! Kernels and tables may be long. Elsewhere the list only shrinks: an exception that is not listed fails, and so does one that is gone.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// `FILE: FUNCTION` of everything else that is longer than 50 lines.
const LONG: [&str; 4] = [
    "core/src/assignment/cardinality.rs: cheapest_path",
    "std-runtime/src/run/plot.rs: draw",
    "std-runtime/src/train/run.rs: open",
    "std-runtime/src/train/tests.rs: errors_say_where_what_and_what_instead",
];
/// Where kernels and tables stand.
const FREE: [&str; 3] = ["core/src/ops/", "core/src/gemm/", "std-runtime/src/kernels/"];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// Names of functions behind an attribute that allows them to be long; the place of the attribute where there is no function.
fn exceptions(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("clippy::too_many_lines") {
        let line = text[..at].rsplit('\n').next().unwrap_or_default();
        if line.contains("warn(") {
            continue;
        }
        let name = text[at..].split_once("fn ").map(|(_, rest)| rest.split(['(', '<']).next().unwrap_or_default());
        found.push(name.filter(|_| !line.contains("#![")).unwrap_or("the whole file").to_owned());
    }
    found
}

#[test]
fn long_functions_are_those_that_are_listed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    ["core/src", "std-runtime/src"].iter().for_each(|folder| sources(&root.join(folder), &mut files));
    let mut found = BTreeSet::new();
    for file in files {
        let name = file.strip_prefix(&root).expect("below the root").to_string_lossy().replace('\\', "/");
        let all = exceptions(&fs::read_to_string(&file).expect("source"));
        if !FREE.iter().any(|free| name.starts_with(free)) {
            found.extend(all.into_iter().map(|function| format!("{name}: {function}")));
        }
    }
    let listed: BTreeSet<String> = LONG.iter().map(|&line| line.to_owned()).collect();
    let (new, gone): (Vec<_>, Vec<_>) = (found.difference(&listed).collect(), listed.difference(&found).collect());
    assert!(new.is_empty(), "longer than 50 lines and not listed: {new:?}; cut them into steps with names");
    assert!(gone.is_empty(), "no longer there, take them out of LONG: {gone:?}");
}

#[test]
fn exceptions_are_found() {
    let text = "#![warn(clippy::too_many_lines)]\n#[allow(clippy::too_many_lines, reason = \"a table\")]\n#[inline]\npub fn long<T>(x: T) {}\n";
    assert_eq!(exceptions(text), ["long"]);
    assert_eq!(exceptions("#![allow(clippy::too_many_lines)]\nfn f() {}"), ["the whole file"]);
    assert!(exceptions("fn f() {}").is_empty());
}
