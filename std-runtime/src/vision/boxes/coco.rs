//! COCO's annotations with their images as a list.

use std::path::{Path, PathBuf};

use super::list::{BoxList, Listed, Unit};
use crate::detect::coco::{CocoError, Dataset, Finding, Findings};
use crate::vision::problems::{Problem, Problems};

/// Reads a file of annotations. `images` is the folder that `file_name` refers to; without one it is looked for beside the file and where COCO and
/// others have it.
///
/// # Errors
/// The file cannot be used.
pub fn open(path: &Path, images: Option<&Path>) -> Result<BoxList, CocoError> {
    let Dataset { images: listed, categories, annotations, findings } = Dataset::open(path)?;
    let first = listed.iter().find_map(|image| image.file.as_deref());
    let folder = images.map_or_else(|| folder_of(path, first), Path::to_path_buf);
    let mut problems = Problems::default();
    take(&findings, &mut problems);
    let whole = |size: f64| (size >= 1.0 && size.fract() == 0.0).then_some(size as usize);
    let of = |image: crate::detect::coco::Image| {
        // An image without a name is looked for by its id, as COCO 2017 names files.
        let file = image.file.unwrap_or_else(|| format!("{:012}.jpg", image.id));
        let size = image.size.and_then(|(width, height)| Some([whole(height)?, whole(width)?]));
        Listed { id: image.id, path: folder.join(file), size }
    };
    let images = listed.into_iter().map(of).collect();
    Ok(BoxList { path: path.to_owned(), categories, images, annotations, unit: Unit::Pixels, problems })
}

/// The folder in which the first image is.
fn folder_of(path: &Path, first: Option<&str>) -> PathBuf {
    let beside = path.parent().unwrap_or(Path::new("")).to_path_buf();
    let stem = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let stem = stem.split('.').next().unwrap_or_default().to_owned();
    let split = stem.strip_prefix("instances_").unwrap_or(&stem).to_owned();
    let above = beside.join("..");
    let places = [
        beside.clone(),
        beside.join("images"),
        beside.join(&split),
        above.join(&split),
        above.join("images"),
        above.join("images").join(&split),
    ];
    let has = |folder: &&PathBuf| first.is_some_and(|first| folder.join(first).is_file());
    places.iter().find(has).cloned().unwrap_or(beside)
}

/// What the reader has found.
fn take(findings: &Findings, problems: &mut Problems) {
    for (finding, found) in findings.iter() {
        let problem = match finding {
            Finding::AnnotationImage => Problem::UnknownImage,
            Finding::AnnotationCategory => Problem::UnknownCategory,
            Finding::AnnotationBox => Problem::NotFinite,
            Finding::SameAnnotation => Problem::SameObject,
            Finding::SameImage => Problem::SameImage,
            Finding::SameCategory => Problem::SameCategory,
            // These are checked against the images.
            Finding::EmptyAnnotation | Finding::Outside => continue,
            _ => {
                problems.notes.push(format!("{} {}", found.count, finding.meaning()));
                continue;
            }
        };
        let first = found.first.map(|first| format!("annotations[{first}]")).or_else(|| found.id.map(|id| format!("id {id}")));
        problems.add_all(problem, found.count, || first.unwrap_or_else(|| "in the list".to_owned()));
    }
}
