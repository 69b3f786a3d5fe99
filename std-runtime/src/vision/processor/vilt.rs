//! What `ViltImageProcessor` does otherwise than others: both sides are multiples of a divisor, and the longer one has a limit.

use super::sizes::{LARGEST, side};
use super::{Kind, Processor, Resize};
use crate::model_folder::FolderError;
use crate::model_folder::keys::Keys;

/// Its default size.
pub(super) const USUAL: Resize = Resize::Multiples { shorter: 384, divisor: 32 };

impl Processor {
    /// A ViLT's for images with this shorter side, in patches of a side that divides it.
    pub fn vilt(shorter: usize, divisor: usize) -> Self {
        Self { resize: Some(Resize::Multiples { shorter, divisor }), ..Self::of_kind(Kind::Vilt) }
    }

    /// Height and width of an image's result, if they depend on nothing but its height and width as a ViLT's do.
    pub fn multiples(&self, image: [usize; 2]) -> Option<[usize; 2]> {
        match self.resize {
            Some(Resize::Multiples { shorter, divisor }) => Some(multiples(image, shorter, divisor)),
            _ => None,
        }
    }
}

/// Height and width with this shorter side, or with a longer side of 1333/800 of it if it would be longer, then rounded down to multiples of `divisor`, as
/// `get_resize_output_image_size` does; at least one multiple.
pub(super) fn multiples([height, width]: [usize; 2], shorter: usize, divisor: usize) -> [usize; 2] {
    let (longest, short) = ((1333.0 / 800.0 * shorter as f64) as usize as f64, shorter as f64);
    let scale = short / height.min(width).max(1) as f64;
    let sides = if height < width { [short, scale * width as f64] } else { [scale * height as f64, short] };
    let most = sides[0].max(sides[1]);
    let scale = if most > longest { longest / most } else { 1.0 };
    sides.map(|side| ((scale * side + 0.5) as usize / divisor.max(1)).max(1) * divisor)
}

/// `size` and `size_divisor`.
pub(super) fn size(keys: &Keys<'_>) -> Result<Resize, FolderError> {
    let Resize::Multiples { shorter: usual, divisor } = USUAL else { return Ok(USUAL) };
    keys.pass_over(&["do_pad"]);
    let number = |key: &str, usual: usize, expected: &str| match keys.not_null(key) {
        None => Ok(usual),
        Some(value) => {
            let edge = value.as_object().filter(|object| object.len() == 1).and_then(|object| object.get("shortest_edge"));
            side(edge.unwrap_or(value)).ok_or_else(|| keys.wrong(key, format!("{expected} up to {LARGEST}"), value))
        }
    };
    Ok(Resize::Multiples {
        shorter: number("size", usual, "a number of pixels, or {\"shortest_edge\"} of such,")?,
        divisor: number("size_divisor", divisor, "a number of pixels")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From `get_resize_output_image_size` of transformers 5.24.
    #[test]
    fn sizes_are_those_of_transformers() {
        for (image, found) in [
            ([480, 640], [384, 512]),
            ([640, 480], [512, 384]),
            ([384, 640], [352, 608]),
            ([640, 384], [608, 352]),
            ([300, 1000], [192, 608]),
            ([333, 333], [384, 384]),
            ([427, 640], [384, 576]),
        ] {
            assert_eq!(multiples(image, 384, 32), found, "{image:?}");
        }
        assert_eq!([multiples([48, 48], 48, 8), multiples([1, 900], 48, 8)], [[48, 48], [8, 72]]);
    }
}
