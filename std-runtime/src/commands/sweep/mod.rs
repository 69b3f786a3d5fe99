//! `samara sweep`.

mod job;
mod table;
mod work;

use std::fs;
use std::path::{Path, PathBuf};

use self::job::{Job, check_held_out};
use self::work::{Place, Sweep};
use super::args::ConfigArgs;
use super::training::Training;
use super::{Command, Console, Error, output};
use crate::files::IoError;
use crate::run::lock::FolderLock;
use crate::stop::Stop;
use crate::sweep::grid::{Axis, Protocol, cells, vpt};
use crate::vision::tune::Method;

const EXAMPLES: &str = "\
Cells are trained one after another with the first seed. The best on the
validation rows is chosen, of equal ones the first, and trained with all seeds;
of image classifiers its accuracy on the test images is measured. A finished
cell is not trained again: the same command resumes a sweep, and one with more
values extends it. DIR/sweep.json and DIR/sweep.csv have every cell.

Examples:
  samara sweep --data tales.txt --set train.steps=200 --grid train.lr=1e-3,3e-3 --out sweeps/lr
  samara sweep --init runs/photos --data flowers --set tune.method=vpt-deep --set train.batch_size=64 --grid vpt --out sweeps/deep";

/// Train over a grid of settings, choose by validation, and measure the chosen with several seeds.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// A key with its values, for every key of the grid; "vpt": the learning rates and weight decays of visual prompt tuning, with its optimizer and
    /// seeds.
    #[arg(long, value_name = "KEY=VALUE,...", required = true, allow_hyphen_values = true)]
    grid: Vec<String>,
    /// Seeds of the chosen cell, the first of them that of every cell [default: --seed].
    #[arg(long, value_name = "N,...", value_delimiter = ',', conflicts_with = "seed")]
    seeds: Vec<u64>,
    /// The folder of the sweep.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Keep the run folders of cells that are not chosen.
    #[arg(long)]
    keep: bool,
    /// Print {"schema", "measure", "cells", "chosen"}.
    #[arg(long)]
    json: bool,
}

impl Command for Args {
    fn run(&self, console: &Console) -> Result<(), Error> {
        let protocol = self.protocol()?;
        let first = *protocol.seeds.first().unwrap_or(&0);
        let grid = cells(&protocol.axes);
        let jobs = grid.iter().map(|cell| self.job(&protocol, cell, first)).collect::<Result<Vec<_>, _>>()?;
        jobs.first().map_or(Ok(()), |job| check_held_out(&job.training))?;
        fs::create_dir_all(&self.out).map_err(IoError::at(&self.out, "create the folder"))?;
        let _lock = FolderLock::take(&self.out)?;
        let stop = Stop::install(console.quiet).map_err(|error| Error::failed(error.to_string()))?;
        let place = Place { out: &self.out, keep: self.keep, config: &self.config };
        let mut sweep = Sweep::open(place, &stop, console.quiet, jobs.len() + protocol.seeds.len() - 1)?;
        for job in &jobs {
            sweep.train(job)?;
        }
        let chosen = sweep.best(&jobs)?;
        let settings = chosen.settings.clone();
        let seeds = protocol.seeds.iter().map(|&seed| self.job(&protocol, &settings, seed)).collect::<Result<Vec<_>, _>>()?;
        for job in &seeds {
            sweep.train(job)?;
            sweep.test(job)?;
        }
        sweep.finish(&settings, &seeds)?;
        let record = sweep.record();
        output::show(self.json, record, || table::text(record))
    }
}

impl Args {
    /// The settings, the grid and the seeds.
    fn protocol(&self) -> Result<Protocol, Error> {
        let own = self.grid.iter().filter(|grid| *grid != VPT).map(|grid| Axis::read(grid));
        let own = own.collect::<Result<Vec<_>, _>>().map_err(|text| Error::usage(format!("--grid {text}")))?;
        let mut protocol = Protocol { settings: Vec::new(), axes: Vec::new(), seeds: Vec::new() };
        if self.grid.iter().any(|grid| grid == VPT) {
            let Training::Images(config) = self.config.training(None, None)? else {
                return Err(Error::usage(
                    "--grid vpt is a protocol of image classifiers: set model.model_type=vit or --init, or name keys: --grid KEY=VALUES",
                ));
            };
            protocol = vpt(config.tune.method == Method::Full, config.train.batch_size, config.train.steps);
        }
        // A key of the user replaces that of the protocol.
        protocol.axes.retain(|axis| own.iter().all(|other| other.key != axis.key));
        protocol.axes.extend(own);
        if let Some(twice) =
            protocol.axes.iter().enumerate().find(|(i, axis)| protocol.axes[..*i].iter().any(|o| o.key == axis.key))
        {
            return Err(Error::usage(format!("--grid {}: the key is there twice; name all its values at once", twice.1.key)));
        }
        for Axis { key, .. } in &protocol.axes {
            if ["train.seed", "train.out"].contains(&key.as_str()) {
                let instead = if key == "train.seed" { "--seeds names the seeds" } else { "every cell has a folder in --out" };
                return Err(Error::usage(format!("--grid {key}: {instead}; leave it out")));
            }
            if self.config.set.iter().any(|set| set.split_once('=').is_some_and(|(name, _)| name.trim() == key)) {
                return Err(Error::usage(format!(
                    "--set {key}: --grid has it too, and its values would replace this one; leave one of them out"
                )));
            }
        }
        if let Some(twice) = self.seeds.iter().enumerate().find(|(i, seed)| self.seeds[..*i].contains(seed)) {
            return Err(Error::usage(format!(
                "--seeds: {} is there twice, and the same run again tells nothing of the spread",
                twice.1
            )));
        }
        if !self.seeds.is_empty() {
            protocol.seeds.clone_from(&self.seeds);
        } else if protocol.seeds.is_empty() || self.config.seed.is_some() {
            let seed = self.config.seed.as_deref().unwrap_or("0").parse();
            protocol.seeds = vec![seed.map_err(|_| Error::usage("--seed: expected an integer"))?];
        }
        Ok(protocol)
    }

    /// The training of a cell, whose configuration is checked.
    fn job(&self, protocol: &Protocol, cell: &[String], seed: u64) -> Result<Job, Error> {
        let training = self.training(protocol, cell, seed, None)?;
        let config = training.checksum();
        let out = self.out.join("cells").join(format!("{config:08x}"));
        let training = self.training(protocol, cell, seed, Some(&out))?;
        Ok(Job { settings: cell.to_vec(), set: self.config.set.clone(), seed, config, out, training })
    }

    fn training(&self, protocol: &Protocol, cell: &[String], seed: u64, out: Option<&Path>) -> Result<Training, Error> {
        let mut args = self.config.clone();
        args.set = [&protocol.settings[..], &args.set, cell].concat();
        args.seed = Some(seed.to_string());
        args.training(None, out)
    }
}

/// The name of the protocol of visual prompt tuning.
const VPT: &str = "vpt";
