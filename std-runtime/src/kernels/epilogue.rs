//! Epilogues of products.
//!
//! Bias, activation and residual are applied to finished segments of a product while they are in the L2 cache. An epilogue may write a second matrix,
//! such as pre-activations. All product kernels (few rows, tiles, packed A, quantised, matrixmultiply) run the same epilogue.

use crate::tiles::Tile;

/// The epilogue for finished segments of rows of C: bias, activation, a copy.
pub struct Epilogue<'a> {
    /// Called as `finish(row, first_col, segment, second)`, once per element; the second segment is the same part of `second`.
    pub finish: Finish<'a>,
    /// A second row-major matrix (m, n) that is written with C; empty for none.
    pub second: &'a mut [f32],
}

/// The function of an [`Epilogue`].
pub type Finish<'a> = &'a (dyn Fn(usize, usize, &mut [f32], &mut [f32]) + Sync);

impl<'a> Epilogue<'a> {
    /// An epilogue that writes C only.
    pub fn new(finish: Finish<'a>) -> Self {
        Self { finish, second: &mut [] }
    }

    /// The function and the second matrix, if there is an epilogue.
    pub(super) fn parts(epilogue: Option<Self>) -> (Option<Finish<'a>>, &'a mut [f32]) {
        epilogue.map_or((None, &mut []), |epilogue| (Some(epilogue.finish), epilogue.second))
    }
}

/// Applies an epilogue to a finished tile and to the same tile of the second matrix.
pub(super) fn finish_tile(finish: Option<Finish<'_>>, tile: &mut Tile<'_, f32>, second: &mut Tile<'_, f32>) {
    let (first_row, first_col) = (tile.first_row, tile.first_col);
    if let Some(finish) = finish {
        (0..tile.rows()).for_each(|i| finish(first_row + i, first_col, tile.row(i), second.row(i)));
    }
}
