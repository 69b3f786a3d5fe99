//! The binary `samara`, as a user runs it.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// The binary, built by Cargo with the profile of the running test.
pub fn samara() -> Command {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    Command::new(BINARY.get_or_init(build))
}

fn build() -> PathBuf {
    // target/PROFILE/deps/this-test
    let test = std::env::current_exe().expect("path of this test");
    let profile = test.ancestors().nth(2).expect("folder of the profile");
    let release = profile.file_name().is_some_and(|name| name == "release");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // Built as `cargo test --workspace` does: other features would compile the runtime and its dependencies a second time. Cargo builds the binary
    // with any test of its package.
    cargo.args(["test", "--no-run", "--quiet", "--workspace", "--test", "parity", "--manifest-path"]);
    cargo.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml")).arg("--target-dir").arg(profile.parent().expect("target"));
    if release {
        cargo.arg("--release");
    }
    assert!(cargo.status().expect("cargo").success(), "{cargo:?}");
    profile.join(format!("samara{}", std::env::consts::EXE_SUFFIX))
}
