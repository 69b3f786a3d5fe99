//! What in a file is not as COCO describes it, and what was done about it: counted, so that it can be told.

use std::collections::BTreeMap;

/// Something that a file has, and that is not an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Finding {
    /// An annotation of an image that is not listed: left out.
    AnnotationImage,
    /// An annotation of a category that is not listed: left out.
    AnnotationCategory,
    /// An annotation whose box has null or a number that is not finite: left out.
    AnnotationBox,
    /// A detection in an image that the annotations do not list: left out.
    DetectionImage,
    /// A detection of a category that the annotations do not list: left out.
    DetectionCategory,
    /// A detection whose box has null or a number that is not finite: left out.
    DetectionBox,
    /// A detection whose score is null or not finite: left out.
    DetectionScore,
    /// A detection beyond the surest 100 of its image and category.
    DetectionBeyond,
    /// An annotation without an area.
    NoArea,
    /// An annotation without `iscrowd`.
    NoCrowd,
    /// Annotations without a list of categories.
    NoCategories,
    /// An annotation with `ignore`.
    Ignore,
    /// A box of an annotation without an extent.
    EmptyAnnotation,
    /// A box of an annotation that reaches out of its image.
    Outside,
    /// An annotation with the id of another.
    SameAnnotation,
    /// An annotation with id 0.
    ZeroId,
    /// An image with the id of another.
    SameImage,
    /// A category with the id of another.
    SameCategory,
    /// A box of a detection without an extent.
    EmptyDetection,
}

impl Finding {
    /// Its name in JSON, and what it means.
    fn row(self) -> (&'static str, &'static str) {
        match self {
            Self::AnnotationImage => {
                ("annotations_of_unknown_images", "annotations are of images that \"images\" does not list: left out")
            }
            Self::AnnotationCategory => {
                ("annotations_of_unknown_categories", "annotations are of categories that \"categories\" does not list: left out")
            }
            Self::AnnotationBox => ("annotations_without_box", "annotations have a box with null, NaN or infinity: left out"),
            Self::DetectionImage => {
                ("detections_in_unknown_images", "detections are in images that the annotations do not list: left out")
            }
            Self::DetectionCategory => (
                "detections_of_unknown_categories",
                "detections are of categories that the annotations do not list: left out; is category_id an index instead of an id?",
            ),
            Self::DetectionBox => ("detections_without_box", "detections have a box with null, NaN or infinity: left out"),
            Self::DetectionScore => {
                ("detections_without_score", "detections have a score that is null, NaN or infinite: left out")
            }
            Self::DetectionBeyond => {
                ("detections_beyond_100", "detections are beyond the surest 100 of their image and category: they do not count")
            }
            Self::NoArea => ("annotations_without_area", "annotations have no area: width times height of their boxes is used"),
            Self::NoCrowd => ("annotations_without_iscrowd", "annotations have no iscrowd: each is one object"),
            Self::NoCategories => {
                ("no_categories", "list of categories is missing: those of the annotations are used, named by their ids")
            }
            Self::Ignore => ("annotations_with_ignore", "annotations have \"ignore\", which has no effect: only iscrowd has"),
            Self::EmptyAnnotation => {
                ("annotations_without_extent", "annotations have a box without width or height: they count, and cannot be found")
            }
            Self::Outside => ("annotations_outside", "annotations have a box that reaches out of its image: it is used as it is"),
            Self::SameAnnotation => (
                "annotations_with_the_same_id",
                "annotations have the id of another: each counts; with --compat the last one counts for all, as in pycocotools",
            ),
            Self::ZeroId => (
                "annotations_with_id_0",
                "annotations have id 0: they count as all others do; pycocotools takes them for not found, and so does --compat",
            ),
            Self::SameImage => ("images_with_the_same_id", "images have the id of another: the last one is used"),
            Self::SameCategory => ("categories_with_the_same_id", "categories have the id of another: the last one is used"),
            Self::EmptyDetection => {
                ("detections_without_extent", "detections have a box without width or height: they count, and find nothing")
            }
        }
    }

    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        self.row().0
    }

    /// What it means.
    pub fn meaning(self) -> &'static str {
        self.row().1
    }

    /// Whether the entry does not count at all.
    pub fn is_skipped(self) -> bool {
        self <= Self::DetectionBeyond
    }
}

/// How often something was found, and where first: the index of the entry, or the id that several have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// How often.
    pub count: u64,
    /// The first entry of its list, from 0.
    pub first: Option<u64>,
    /// The first id that several entries have.
    pub id: Option<i64>,
}

/// All findings of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings(BTreeMap<Finding, Found>);

impl Findings {
    /// Counts one, of the entry with this index.
    pub(super) fn entry(&mut self, finding: Finding, entry: u64) {
        let found = self.0.entry(finding).or_insert(Found { count: 0, first: Some(entry), id: None });
        found.count += 1;
    }

    /// Counts so many.
    pub fn add(&mut self, finding: Finding, count: u64) {
        if count > 0 {
            self.0.entry(finding).or_default().count += count;
        }
    }

    /// Counts ids that other entries have.
    pub(super) fn add_ids(&mut self, finding: Finding, ids: &[i64]) {
        if let Some(&first) = ids.first() {
            let found = self.0.entry(finding).or_default();
            (found.count, found.id) = (found.count + ids.len() as u64, Some(found.id.unwrap_or(first)));
        }
    }

    /// How often.
    pub fn count(&self, finding: Finding) -> u64 {
        self.0.get(&finding).map_or(0, |found| found.count)
    }

    /// Every finding with its count, entries that are left out first.
    pub fn iter(&self) -> impl Iterator<Item = (Finding, Found)> + '_ {
        self.0.iter().map(|(&finding, &found)| (finding, found))
    }

    /// A line for each.
    pub fn lines(&self) -> Vec<String> {
        let line = |(finding, Found { count, first, id }): (Finding, Found)| {
            let first = first.map(|first| format!(" (the first is entry {first})"));
            let first = first.or_else(|| id.map(|id| format!(" (the first is id {id})")));
            format!("{count} {}{}", finding.meaning(), first.unwrap_or_default())
        };
        self.iter().map(line).collect()
    }
}
