//! `samara env`.

use std::fs;
use std::thread;

use serde::Serialize;

use super::{Command, Console, Error, output};
use crate::kernels::gemm::{Gemm, GemmChoice};

/// Describe this machine and what runs on it: paste it into bug reports.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  samara env --json")]
pub(crate) struct Args {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Environment {
    version: &'static str,
    target: String,
    build: &'static str,
    cpu: Option<String>,
    cpu_features: Vec<&'static str>,
    threads: usize,
    memory_bytes: Option<u64>,
    gemm: &'static str,
    cuda: &'static str,
}

impl Command for Args {
    fn run(&self, _: &Console) -> Result<(), Error> {
        let found = Environment {
            version: env!("CARGO_PKG_VERSION"),
            target: format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
            build: if cfg!(debug_assertions) { "with debug assertions" } else { "release" },
            cpu: field("/proc/cpuinfo", "model name"),
            cpu_features: cpu_features(),
            threads: thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: field("/proc/meminfo", "MemTotal").and_then(|text| kibibytes(&text)),
            gemm: GemmChoice::new(Gemm::Samara).name(),
            cuda: "not built in",
        };
        if self.json {
            return output::json(&found);
        }
        let unknown = || "unknown".to_owned();
        let rows = [
            ("version", format!("{} ({})", found.version, found.build)),
            ("target", found.target),
            ("cpu", found.cpu.unwrap_or_else(unknown)),
            ("cpu features", found.cpu_features.join(" ")),
            ("threads", found.threads.to_string()),
            ("memory", found.memory_bytes.map_or_else(unknown, output::bytes)),
            ("matrix products", found.gemm.to_owned()),
            ("cuda", found.cuda.to_owned()),
        ];
        let lines: String = rows.iter().map(|(name, value)| format!("{name:<16}{value}\n")).collect();
        output::write(lines.as_bytes())
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
