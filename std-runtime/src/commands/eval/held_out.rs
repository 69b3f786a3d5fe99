//! The share of its data that the run of a model held out.

use std::path::Path;

use super::super::task_args::table_of;
use crate::train::folder::CONFIG_FILE;

/// The default of `data.val_fraction`.
const USUAL: f64 = 0.1;

/// What `--val-fraction` gives, or else `data.val_fraction` of the run in the model's folder, or in the folder above `best/`, or the default.
pub(super) fn val_fraction(given: Option<f64>, model: &Path) -> f64 {
    let of_run = |folder: &Path| table_of(&folder.join(CONFIG_FILE)).get("data")?.get("val_fraction")?.as_float();
    given.or_else(|| of_run(model)).or_else(|| of_run(model.parent()?)).unwrap_or(USUAL)
}
