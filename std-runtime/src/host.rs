//! A description of this machine and the kernels in use, for bug reports and run folders.

use std::fs;
use std::thread;

use serde::Serialize;

use crate::kernels::gemm::{Gemm, GemmChoice};

/// A machine, and the build that runs on it.
#[derive(Debug, Serialize)]
pub struct Host {
    /// samara's version.
    pub version: &'static str,
    /// Architecture and operating system.
    pub target: String,
    /// Release, or with debug assertions.
    pub build: &'static str,
    /// The processor's name, where the system provides it.
    pub cpu: Option<String>,
    /// Vector instructions that kernels may use.
    pub cpu_features: Vec<&'static str>,
    /// Threads that run at the same time.
    pub threads: usize,
    /// All memory of the machine in bytes.
    pub memory_bytes: Option<u64>,
    /// The kernels of matrix products.
    pub gemm: &'static str,
    /// The CUDA backend.
    pub cuda: &'static str,
}

impl Host {
    /// The machine on which this runs.
    pub fn this() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            target: format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
            build: if cfg!(debug_assertions) { "with debug assertions" } else { "release" },
            cpu: field("/proc/cpuinfo", "model name"),
            cpu_features: cpu_features(),
            threads: thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: field("/proc/meminfo", "MemTotal").and_then(|text| kibibytes(&text)),
            gemm: GemmChoice::new(Gemm::Samara).name(),
            cuda: "not built in",
        }
    }
}

/// The value of a field in a file of `name: value` lines.
fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_once(':').map(|(_, value)| value.trim().to_owned())
}

fn kibibytes(text: &str) -> Option<u64> {
    text.strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(target_arch = "x86_64")]
fn cpu_features() -> Vec<&'static str> {
    let found = [
        ("sse4.2", is_x86_feature_detected!("sse4.2")),
        ("avx", is_x86_feature_detected!("avx")),
        ("avx2", is_x86_feature_detected!("avx2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("f16c", is_x86_feature_detected!("f16c")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx512bf16", is_x86_feature_detected!("avx512bf16")),
        ("avx512vnni", is_x86_feature_detected!("avx512vnni")),
    ];
    found.into_iter().filter(|(_, there)| *there).map(|(name, _)| name).collect()
}

#[cfg(not(target_arch = "x86_64"))]
fn cpu_features() -> Vec<&'static str> {
    Vec::new()
}
