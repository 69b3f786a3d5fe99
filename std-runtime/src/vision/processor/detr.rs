//! What `DetrImageProcessor` does otherwise than others: sizes with two limits, padding below and to the right.

use super::sizes::{LARGEST, side, sides};
use super::{Kind, Processor, Resize};
use crate::model_folder::FolderError;
use crate::model_folder::keys::Keys;

/// Its default size.
pub(super) const USUAL: Resize = Resize::Between { shorter: 800, longer: 1333 };

impl Processor {
    /// A detector's for images in squares of this side: each in proportion as large as fits, in the left upper corner.
    pub fn square(side: usize, normalize: Option<[[f64; 3]; 2]>) -> Self {
        let usual = Self::of_kind(Kind::Detr);
        let resize = Some(Resize::Between { shorter: side, longer: side });
        Self { resize, pad: Some([side; 2]), normalize: normalize.or(usual.normalize), ..usual }
    }

    /// Height and width of an image without its padding.
    pub fn unpadded(&self, image: [usize; 2]) -> [usize; 2] {
        self.resize.map_or(image, |to| self.resized(image, to))
    }
}

/// `size`, with the `max_size` of old files beside a number.
pub(super) fn size(keys: &Keys<'_>) -> Result<Resize, FolderError> {
    const FORMS: &str = "{\"shortest_edge\", \"longest_edge\"}, {\"height\", \"width\"} or {\"max_height\", \"max_width\"}";
    keys.pass_over(&["max_size"]);
    let Some(value) = keys.not_null("size") else { return Ok(USUAL) };
    let Resize::Between { longer: usual, .. } = USUAL else { return Ok(USUAL) };
    let longest = keys.peek("max_size").and_then(side).unwrap_or(usual);
    let of_object = || {
        let object = value.as_object()?;
        let at = |key: &str| object.get(key).and_then(side);
        match (at("shortest_edge"), at("longest_edge")) {
            (Some(shorter), longer) => Some(Resize::Between { shorter, longer: longer.unwrap_or(longest) }),
            _ => sides(value).map(Resize::To).or_else(|| Some(Resize::Within([at("max_height")?, at("max_width")?]))),
        }
    };
    let found = side(value).map(|shorter| Resize::Between { shorter, longer: longest }).or_else(of_object);
    found.ok_or_else(|| keys.wrong("size", format!("a number of pixels up to {LARGEST}, or {FORMS} of such"), value))
}

/// `pad_size`.
pub(super) fn pad(keys: &Keys<'_>) -> Result<Option<[usize; 2]>, FolderError> {
    keys.pass_over(&["do_pad"]);
    let Some(value) = keys.not_null("pad_size") else { return Ok(None) };
    sides(value).map(Some).ok_or_else(|| keys.wrong("pad_size", "{\"height\", \"width\"} in pixels", value))
}
