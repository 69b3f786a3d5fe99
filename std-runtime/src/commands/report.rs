//! `samara report`.

use std::path::PathBuf;

use super::out_file::refuse_foreign;
use super::{Command, Console, Error, output};
use crate::files::IoError;
use crate::report::{PAGE_START, Run, page};
use crate::run::durable;

const EXAMPLES: &str = "\
Examples:
  samara report runs/tales-001
  samara report runs/* --out compared.html";

/// Write one page of HTML about runs: results, differences between configurations, curves, samples.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Run folders, finished or not.
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// The file [default: report.html in the run's folder, or here for several runs]. A file that is not such a page is not overwritten.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// The default file name of the page.
const PAGE: &str = "report.html";

impl Command for Args {
    fn run(&self, _: &Console) -> Result<(), Error> {
        let default = || if let [one] = self.runs.as_slice() { one.join(PAGE) } else { PathBuf::from(PAGE) };
        let out = self.out.clone().unwrap_or_else(default);
        refuse_foreign(&out, "a page of samara report", PAGE_START)?;
        let runs = self.runs.iter().map(|folder| Run::read(folder)).collect::<Result<Vec<Run>, _>>()?;
        durable::write(&out, page(&runs)?.as_bytes()).map_err(IoError::at(&out, "write"))?;
        output::line(&out.display().to_string())
    }
}
