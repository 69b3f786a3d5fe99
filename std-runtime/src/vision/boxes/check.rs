//! The check of images with boxes before a training. Nothing is written.

use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value};

use super::open::{Boxes, Part};
use crate::data::DataError;
use crate::vision::problems::Problems;

/// What a data set has, and what is wrong with it.
#[derive(Clone, Debug, Serialize)]
pub struct BoxReport {
    /// The version of this object.
    pub schema: u32,
    /// Images.
    pub images: usize,
    /// Objects, those that are wrong included.
    pub objects: usize,
    /// Objects of every category.
    pub categories: Map<String, Value>,
    /// The number of errors.
    pub errors: u64,
    /// By kind: how often, whether it is an error, and the first places.
    pub problems: Map<String, Value>,
    #[serde(skip)]
    lines: Vec<String>,
}

/// Checks all parts of a data set, reading the first bytes of every image.
///
/// # Errors
/// Files that cannot be read, or are not JSON, YAML or labels at all.
pub fn check(path: &Path, images: Option<&Path>) -> Result<BoxReport, DataError> {
    let boxes = Boxes::open(path, images)?;
    let mut report = BoxReport {
        schema: 1,
        images: 0,
        objects: 0,
        categories: Map::new(),
        errors: 0,
        problems: Map::new(),
        lines: Vec::new(),
    };
    let mut problems = Problems::default();
    for part in Part::ALL {
        let Some(mut list) = boxes.list(part)? else { continue };
        list.checked();
        report.images += list.images.len();
        report.objects += list.annotations.len();
        for (number, category) in list.categories.iter().enumerate() {
            let count = list.annotations.iter().filter(|object| object.category as usize == number).count() as u64;
            let before = report.categories.get(&category.name).and_then(Value::as_u64).unwrap_or(0);
            report.categories.insert(category.name.clone(), (before + count).into());
        }
        problems.extend(list.problems);
    }
    report.errors = problems.errors();
    report.lines = problems.lines();
    report.problems = problems.to_json();
    Ok(report)
}

impl BoxReport {
    /// The report for people.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("{} images, {} objects, {} categories", self.images, self.objects, self.categories.len())];
        lines.extend(self.categories.iter().map(|(name, count)| format!("  {name}: {count}")));
        lines.extend(self.lines.iter().cloned());
        lines.push(if self.errors == 0 { "no errors".to_owned() } else { format!("{} errors", self.errors) });
        lines
    }
}
