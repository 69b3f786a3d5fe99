//! What `DetrImageProcessor` does otherwise than others: sizes with two limits, padding below and to the right.

use super::file::{LARGEST, side, sides};
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
        match self.resize {
            None => image,
            Some(Resize::To(size)) => size,
            Some(Resize::Between { shorter, longer }) => between(image, shorter, longer),
            Some(Resize::Within(most)) => within(image, most),
            Some(Resize::Shorter(side)) => between(image, side, usize::MAX),
            Some(Resize::Cropped { side, .. }) => [side; 2],
        }
    }
}

/// Height and width with this shorter side, or with this longer side if it would be longer, as `get_size_with_aspect_ratio` rounds.
pub(super) fn between([height, width]: [usize; 2], shorter: usize, longer: usize) -> [usize; 2] {
    let (least, most) = (height.min(width) as f64, height.max(width) as f64);
    let limited = most / least * shorter as f64 > longer as f64;
    let raw = if limited { longer as f64 * least / most } else { shorter as f64 };
    let short = if limited { raw.round_ties_even() as usize } else { shorter };
    let long = |long: usize, of: usize| ((raw * long as f64 / of as f64) as usize).max(1);
    match () {
        () if height.min(width) == short => [height, width],
        () if width < height => [long(height, width), short.max(1)],
        () => [short.max(1), long(width, height)],
    }
}

/// The largest height and width in proportion within others, as `get_image_size_for_max_height_width` rounds.
pub(super) fn within([height, width]: [usize; 2], [most_high, most_wide]: [usize; 2]) -> [usize; 2] {
    let scale = (most_high as f64 / height as f64).min(most_wide as f64 / width as f64);
    [height, width].map(|side| ((side as f64 * scale) as usize).max(1))
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

#[cfg(test)]
mod tests {
    use super::*;

    /// From `get_size_with_aspect_ratio` and `get_image_size_for_max_height_width` of transformers 5.23.
    #[test]
    fn sizes_are_those_of_transformers() {
        for (image, found) in [
            ([480, 640], [800, 1066]),
            ([640, 480], [1066, 800]),
            ([300, 1000], [400, 1333]),
            ([800, 900], [800, 900]),
            ([427, 640], [800, 1199]),
        ] {
            assert_eq!(between(image, 800, 1333), found, "{image:?}");
        }
        assert_eq!(
            [between([480, 640], 64, 64), between([64, 64], 64, 64), between([1, 1000], 64, 64)],
            [[48, 64], [64, 64], [1, 64]]
        );
        assert_eq!([within([480, 640], [64, 96]), within([10, 10], [64, 96])], [[64, 85], [64, 64]]);
    }
}
