//! Numbers of sequences at each of their tokens.

use super::error::Error;
use super::mask::Mask;
use super::number::same_len;
use crate::math::Real;

/// Gives every token that counts the number of its row: advantages (B) to (B, T); 0 outside of the mask.
///
/// # Errors
/// Arrays of other shapes than the mask.
pub fn broadcast<R: Real>(mask: &Mask<'_>, of_rows: &[R], to: &mut [R]) -> Result<(), Error> {
    mask.check("to", to)?;
    same_len("of_rows", of_rows, mask.rows())?;
    for ((live, &x), to) in mask.each_row().zip(of_rows).zip(mask.rows_of_mut(to)) {
        for (&live, to) in live.iter().zip(to) {
            *to = if live { x } else { R::ZERO };
        }
    }
    Ok(())
}
