//! The check of images with captions before a training. Nothing is written.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::list::{Coco, Pair, PairList, Row, for_each_row};
use crate::data::DataError;
use crate::image_text::config::PairDataConfig;
use crate::vision::data::check::{ImageReport, check_files};
use crate::vision::data::list::Split;
use crate::vision::problems::{Problem, Problems};

/// Checks images with captions of all splits: every file is decoded.
///
/// # Errors
/// A folder or file that cannot be read at all.
pub fn check(path: &Path) -> Result<ImageReport, DataError> {
    let config = PairDataConfig { val_fraction: 0.0, ..PairDataConfig::default() };
    let (mut rows, mut problems) = (Vec::new(), Problems::default());
    let mut take = |row: Result<Row, DataError>| match row {
        Ok(row) => rows.push(row),
        Err(error) => problems.add(Problem::BadRow, || error.to_string()),
    };
    if path.is_dir() {
        let PairList { train, notes, .. } = PairList::open(path, &config)?;
        let row = |Pair { image, caption }: &Pair| Some((Split::Train, train.images.get(*image)?.clone(), vec![caption.clone()]));
        rows = train.pairs.iter().filter_map(row).collect();
        problems.notes = notes;
    } else if let Some(coco) = Coco::read(path)? {
        coco.rows(path, &config).for_each(take);
    } else {
        for_each_row(path, &config, &mut |row| {
            take(row);
            Ok(())
        })?;
    }
    let pairs =
        || rows.iter().flat_map(|(_, file, captions)| captions.iter().map(move |caption| (file.as_path(), caption.trim())));
    let (mut seen, mut images) = (HashSet::new(), HashMap::new());
    for (file, caption) in pairs() {
        if !seen.insert((file, caption)) {
            problems.add(Problem::SameRow, || format!("{} ({caption})", file.display()));
        } else if *images.entry(caption).or_insert(file) != file {
            problems.add(Problem::SameCaption, || format!("{} ({caption})", file.display()));
        }
    }
    let files: Vec<(Split, &Path)> = rows.iter().map(|(split, file, _)| (*split, file.as_path())).collect();
    let count = check_files(&files, &mut problems);
    Ok(ImageReport::new((count, Some(pairs().count()), serde_json::Map::new()), &problems))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::vision::image::Image;
    use crate::vision::image::write::png;

    #[test]
    fn empty_and_repeated_captions_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        for (name, level) in [("a.png", 1), ("b.png", 2)] {
            fs::write(folder.path().join(name), png(&Image::new([1, 1], vec![level; 3]).unwrap())).unwrap();
        }
        let rows = r#"{"image": "a.png", "caption": ["one", "two"]}
{"image": "b.png", "caption": "one"}
{"image": "b.png", "caption": "one "}
{"image": "b.png", "caption": " "}
{"image": "c.png", "caption": "three"}
"#;
        let file = folder.path().join("rows.jsonl");
        fs::write(&file, rows).unwrap();
        let report = check(&file).unwrap();
        let mut counts: Vec<(&str, u64)> =
            report.problems.iter().map(|(name, found)| (name.as_str(), found["count"].as_u64().unwrap())).collect();
        counts.sort_unstable();
        assert_eq!(counts, [("bad_rows", 1), ("missing_images", 1), ("repeated_captions", 1), ("repeated_rows", 1)]);
        assert_eq!((report.images, report.captions, report.errors), (3, Some(5), 2));
        fs::write(folder.path().join("a.txt"), "\n").unwrap();
        fs::write(folder.path().join("b.txt"), "x\ny\n").unwrap();
        let report = check(folder.path()).unwrap();
        assert!(report.lines()[1].contains("1 images with an empty .txt are left out"), "{:?}", report.lines());
        let coco = r#"{"images": [{"id": 7, "file_name": "a.png"}], "annotations": [{"image_id": 7, "caption": ""}, {"image_id": 8, "caption": "A"}]}"#;
        fs::write(folder.path().join("c.json"), coco).unwrap();
        assert_eq!(check(&folder.path().join("c.json")).unwrap().errors, 2);
    }
}
