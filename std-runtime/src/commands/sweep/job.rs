//! The training of a cell.

use std::path::PathBuf;

use super::super::Error;
use super::super::training::Training;
use crate::data::config::DataConfig;
use crate::image_text::data::list::PairList;
use crate::train::box_data::list;
use crate::train::image_data::Images;
use crate::train::pair_data::PairTables;
use crate::train::pairs::PairRun;

/// A training of a cell.
pub(super) struct Job {
    /// Its point of the grid.
    pub(super) settings: Vec<String>,
    /// What was set beside the grid.
    pub(super) set: Vec<String>,
    pub(super) seed: u64,
    /// A checksum of its configuration, and its folder.
    pub(super) config: u32,
    pub(super) out: PathBuf,
    pub(super) training: Training,
}

/// The key by which pairs are held out, and whether some are.
fn of_pairs(pairs: &PairTables<'_>) -> Result<(&'static str, bool), Error> {
    Ok(match &pairs.data.path {
        None => ("captions.val", pairs.captions.val > 0),
        Some(path) => ("data.val_fraction", !PairList::open(path, pairs.data)?.val.pairs.is_empty()),
    })
}

/// The same of text; a folder may have held-out shards.
fn of_text(data: &DataConfig) -> (&'static str, bool) {
    let is_folder = data.path.as_ref().is_some_and(|path| path.is_dir());
    ("data.val_fraction", data.val_fraction > 0.0 || is_folder)
}

/// Refuses a training that holds no rows out, by which cells could be compared.
pub(super) fn check_held_out(training: &Training) -> Result<(), Error> {
    let (key, holds_out) = match training {
        Training::Images(config) => match Images::of(config)? {
            Images::Files(list) => ("data.val_fraction", !list.val.is_empty()),
            Images::Shapes(_) => ("shapes.val", config.shapes.val > 0),
        },
        Training::Detector(config) if config.data.path.is_none() => ("detect.val_images", config.detect.val_images > 0),
        Training::Detector(config) => ("data.val_fraction", list(&config.data)?.1.is_some()),
        Training::Pairs(config) => of_pairs(&config.pairs())?,
        Training::Vilt(config) => of_pairs(&config.pairs())?,
        Training::Albef(config) => of_pairs(&config.pairs())?,
        Training::Text(config, _) => of_text(&config.data),
        Training::Masked(config) => of_text(&config.data),
    };
    if holds_out {
        return Ok(());
    }
    Err(Error::usage(format!("{key}: nothing is held out, and cells are compared by held-out rows: set {key} above 0")))
}
