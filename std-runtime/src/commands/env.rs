//! `samara env`.

use super::{Command, Console, Error, output};
use crate::host::Host;

/// Describe this machine and the kernels in use, for bug reports.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  samara env --json")]
pub(crate) struct Args {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Command for Args {
    fn run(&self, _: &Console) -> Result<(), Error> {
        let found = Host::this();
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
