//! Where the patches of images are: grids of any size, positions resized from the table's grid, and padding.

use samara_core::exec::WriteError;
use samara_core::model::vilt::{TAPS, ViltExtents, ViltInputs};

use crate::session::{Device, OwnedProgram, Session};

/// The patches of an image that a model sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// Rows and columns of the whole image.
    pub grid: [usize; 2],
    /// Patches of it, row by row; the rest is not seen.
    pub seen: Vec<usize>,
}

impl Places {
    /// All patches of a grid.
    pub fn all(grid: [usize; 2]) -> Self {
        Self { grid, seen: (0..grid[0] * grid[1]).collect() }
    }
}

/// Rows of a table of positions with their weights.
pub type Taps = [(usize, f32); TAPS];

/// The position of patch (y, x) of a grid from a table of `side` × `side` rows, by bilinear interpolation with corners aligned, as PyTorch computes it in f32.
/// The table's first row is that of the class token.
pub fn taps(side: usize, grid: [usize; 2], at: [usize; 2]) -> Taps {
    let along = |to: usize, i: usize| {
        let last = side.saturating_sub(1);
        let scale = if to > 1 { last as f32 / (to - 1) as f32 } else { 0.0 };
        let place = scale * i as f32;
        let low = (place as usize).min(last);
        let high = (low + 1).min(last);
        let share = place - low as f32;
        [(low, 1.0 - share), (high, share)]
    };
    let [rows, columns] = [along(grid[0], at[0]), along(grid[1], at[1])];
    std::array::from_fn(|tap| {
        let ((y, of_y), (x, of_x)) = (rows[tap / 2], columns[tap % 2]);
        (1 + y * side + x, of_y * of_x)
    })
}

/// Writes the positions and the padding of a batch. `texts` (B, T): whether a token is no padding. A batch with fewer images than rows is padded.
///
/// # Errors
/// The program is over another batch.
pub fn write_places<D: Device>(
    session: &mut Session<D>,
    program: &OwnedProgram,
    (inputs, of, side): (&ViltInputs, &ViltExtents, usize),
    images: &[Places],
    texts: &[bool],
) -> Result<(), WriteError> {
    if let Some(positions) = inputs.positions {
        let mut rows = [(); TAPS].map(|()| vec![1; of.batch * of.patches]);
        let mut weights = [(); TAPS].map(|()| vec![0.0; of.batch * of.patches]);
        for (image, places) in images.iter().enumerate() {
            let columns = places.grid[1].max(1);
            for (n, &patch) in places.seen.iter().take(of.patches).enumerate() {
                let taps = taps(side, places.grid, [patch / columns, patch % columns]);
                for (tap, (row, weight)) in taps.into_iter().enumerate() {
                    rows[tap][image * of.patches + n] = row as i32;
                    weights[tap][image * of.patches + n] = weight;
                }
            }
        }
        for tap in 0..TAPS {
            session.write_ints(program, positions.rows[tap], &rows[tap])?;
            session.write(program, positions.weights[tap], &weights[tap])?;
        }
    }
    let Some(to) = inputs.segments else { return Ok(()) };
    session.write_ints(program, to, &segments(of, images, texts))
}

/// Segments (B, T+1+N): 0 for tokens, the class token and patches, −1 for padding.
pub fn segments(of: &ViltExtents, images: &[Places], texts: &[bool]) -> Vec<i32> {
    let row = of.tokens + 1 + of.patches;
    let mut segments = vec![-1; of.batch * row];
    for (image, to) in segments.chunks_mut(row).enumerate() {
        let live = texts.iter().skip(image * of.tokens).take(of.tokens);
        to.iter_mut().zip(live).filter(|(_, live)| **live).for_each(|(to, _)| *to = 0);
        let seen = images.get(image).map_or(0, |places| 1 + places.seen.len());
        to.iter_mut().skip(of.tokens).take(seen).for_each(|to| *to = 0);
    }
    segments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corners_are_aligned_and_weights_are_shares() {
        assert_eq!(taps(3, [3, 3], [1, 2]).map(|(row, weight)| (row, weight)), [(6, 1.0), (6, 0.0), (9, 0.0), (9, 0.0)]);
        // A grid of 5 x 2 from 3 x 3: half rows, and the outer columns.
        assert_eq!(taps(3, [5, 2], [1, 1]), [(3, 0.5), (3, 0.0), (6, 0.5), (6, 0.0)]);
        assert_eq!(taps(3, [1, 1], [0, 0])[0], (1, 1.0), "a single patch is the first corner");
        for (grid, at) in [([7, 4], [5, 2]), ([2, 9], [1, 7]), ([3, 4], [2, 3])] {
            let sum: f32 = taps(3, grid, at).iter().map(|(_, weight)| weight).sum();
            assert!((sum - 1.0).abs() < 1e-6);
        }
    }

    #[test]
    fn what_is_not_there_is_padding() {
        let of = ViltExtents { batch: 2, tokens: 3, patches: 4, resized: true, padded: true };
        let images = [Places::all([1, 3]), Places { grid: [2, 4], seen: vec![0, 1, 5, 7] }];
        let texts = [true, true, false, true, true, true];
        assert_eq!(segments(&of, &images, &texts), [0, 0, -1, 0, 0, 0, 0, -1, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
}
