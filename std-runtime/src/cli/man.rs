//! `samara completions` and `samara man`.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;

use super::output::{self, STDOUT};
use crate::error::Error;
use crate::run::durable;

/// Print completions for a shell.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  samara completions bash > ~/.local/share/bash-completion/completions/samara")]
pub(super) struct CompletionsArgs {
    /// The shell.
    shell: Shell,
}

impl CompletionsArgs {
    pub(super) fn run(&self, command: &mut Command) -> Result<(), Error> {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, command, "samara", &mut text);
        output::write(&text)
    }
}

/// Print the manual page, or write one for each command.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  samara man | man -l -\n  samara man --out man1")]
pub(super) struct ManArgs {
    /// Write samara.1, samara-train.1 and so on into a folder.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl ManArgs {
    pub(super) fn run(&self, mut command: Command) -> Result<(), Error> {
        command.build();
        let Some(folder) = &self.out else { return output::write(&page(command)?) };
        fs::create_dir_all(folder).map_err(Error::io(folder, "create"))?;
        pages(command, folder)
    }
}

fn pages(command: Command, folder: &Path) -> Result<(), Error> {
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        pages(sub.clone(), folder)?;
    }
    let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
    let path = folder.join(format!("{name}.1"));
    durable::write(&path, &page(command)?).map_err(Error::io(&path, "write"))
}

fn page(command: Command) -> Result<Vec<u8>, Error> {
    let mut page = Vec::new();
    Man::new(command).render(&mut page).map_err(Error::io(Path::new(STDOUT), "write"))?;
    Ok(page)
}
