//! `samara completions`.

use clap_complete::Shell;

use super::{Command, Console, Error, output};

/// Print completions for a shell.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  samara completions bash > ~/.local/share/bash-completion/completions/samara")]
pub(crate) struct Args {
    /// The shell.
    shell: Shell,
}

impl Command for Args {
    fn run(&self, console: &Console) -> Result<(), Error> {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut (console.command_line)(), "samara", &mut text);
        output::write(&text)
    }
}
