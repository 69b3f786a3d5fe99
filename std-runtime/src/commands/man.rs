//! `samara man`.

use std::fs;
use std::path::{Path, PathBuf};

use clap_mangen::Man;

use super::{Command, Console, Error, output};
use crate::files::{IoError, STDOUT};
use crate::run::durable;

/// Print the manual page, or write one for each command.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  samara man | man -l -\n  samara man --out man1")]
pub(crate) struct Args {
    /// Write samara.1, samara-train.1 and so on into a folder.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl Command for Args {
    fn run(&self, console: &Console) -> Result<(), Error> {
        let mut command_line = (console.command_line)();
        command_line.build();
        let Some(folder) = &self.out else { return output::write(&page(command_line)?) };
        fs::create_dir_all(folder).map_err(IoError::at(folder, "create"))?;
        pages(command_line, folder)
    }
}

fn pages(command: clap::Command, folder: &Path) -> Result<(), Error> {
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        pages(sub.clone(), folder)?;
    }
    let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
    let path = folder.join(format!("{name}.1"));
    Ok(durable::write(&path, &page(command)?).map_err(IoError::at(&path, "write"))?)
}

fn page(command: clap::Command) -> Result<Vec<u8>, Error> {
    let mut page = Vec::new();
    Man::new(command).render(&mut page).map_err(IoError::at(Path::new(STDOUT), "write"))?;
    Ok(page)
}
