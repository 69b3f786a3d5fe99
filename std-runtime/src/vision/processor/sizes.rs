//! Sizes of images: how a file gives them, and those of resized images.

use serde_json::Value;

/// The largest side of a processed image.
pub(super) const LARGEST: u64 = 8192;

pub(super) fn side(value: &Value) -> Option<usize> {
    value.as_u64().filter(|side| (1..=LARGEST).contains(side)).map(|side| side as usize)
}

/// `height` and `width` of an object.
pub(super) fn sides(value: &Value) -> Option<[usize; 2]> {
    let object = value.as_object().filter(|object| object.len() == 2)?;
    Some([side(object.get("height")?)?, side(object.get("width")?)?])
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
