//! Object detection as set prediction (Carion et al. 2020): matching of queries to objects, losses of the matched set with their gradients, and
//! positions in feature maps; plain functions on slices, usable without the engine.
//!
//! Boxes are (center x, center y, width, height), relative to the image. Shapes: Q queries, T objects of an image, C classes; class C means no object.

mod boxes;
mod cost;
mod error;
mod losses;
mod matcher;
mod positions;

pub use boxes::{corners, giou, giou_gradient, l1, l1_gradient};
pub use cost::{MatchCosts, cost_matrix};
pub use error::Error;
pub use losses::{LossWeights, SetLosses, Totals, set_losses};
pub use matcher::{MatchMemory, UNMATCHED, matched_queries};
pub use positions::{nearest_mask, sine_positions};

use crate::math::Real;

/// What a model predicts for an image, and the objects in it.
#[derive(Clone, Copy, Debug)]
pub struct Prediction<'p, R> {
    /// (Q, C + 1).
    pub logits: &'p [R],
    /// (Q, 4).
    pub boxes: &'p [R],
    /// The class of every object (T).
    pub classes: &'p [u32],
    /// The box of every object (T, 4).
    pub objects: &'p [R],
}

impl<'p, R: Real> Prediction<'p, R> {
    /// Q.
    pub fn queries(&self) -> usize {
        self.boxes.len() / 4
    }

    /// C + 1.
    fn columns(&self) -> usize {
        self.logits.len().checked_div(self.queries()).unwrap_or(0)
    }

    /// The logits and the box of every query.
    fn rows(&self) -> impl Iterator<Item = (&'p [R], [R; 4])> + use<'p, R> {
        self.logits.chunks_exact(self.columns().max(1)).zip(self.boxes.as_chunks().0.iter().copied())
    }

    /// The class and the box of every object.
    fn targets(&self) -> impl Iterator<Item = (usize, [R; 4])> + use<'p, R> {
        self.classes.iter().map(|&class| class as usize).zip(self.objects.as_chunks().0.iter().copied())
    }

    /// Refuses arrays of contradictory lengths, classes that the model does not have, and boxes without an area.
    fn check(&self) -> Result<(), Error> {
        let (queries, columns) = (self.queries(), self.columns());
        Error::length("boxes", queries * 4, self.boxes.len())?;
        Error::length("logits", queries * columns, self.logits.len())?;
        Error::length("objects", self.classes.len() * 4, self.objects.len())?;
        for (index, (class, object)) in self.targets().enumerate() {
            if class >= columns.saturating_sub(1) {
                return Err(Error::Class { index, found: class, classes: columns.saturating_sub(1) });
            }
            let [.., width, height] = object;
            if object.iter().any(|x| !x.is_finite()) {
                return Err(Error::NotFinite { name: "box of object", index });
            }
            if !(width > R::ZERO && height > R::ZERO && width * height > R::ZERO) {
                return Err(Error::Degenerate { name: "object", index, width: width.to_f64(), height: height.to_f64() });
            }
        }
        Ok(())
    }
}

/// The largest of the logits of query `index` and the sum of their exponentials relative to it.
fn normaliser<R: Real>(logits: &[R], index: usize) -> Result<(R, R), Error> {
    let largest = logits.iter().fold(R::NEG_INFINITY, |a, &b| a.max(b));
    let sum = logits.iter().fold(R::ZERO, |sum, &z| sum + (z - largest).exp());
    if sum.is_finite() { Ok((largest, sum)) } else { Err(Error::NotFinite { name: "logits of query", index }) }
}

/// Refuses the box of query `index` if it is not finite or has a negative extent.
fn check_box<R: Real>(found: [R; 4], index: usize) -> Result<(), Error> {
    let [.., width, height] = found;
    if found.iter().any(|x| !x.is_finite()) {
        return Err(Error::NotFinite { name: "box of query", index });
    }
    if width < R::ZERO || height < R::ZERO {
        return Err(Error::Degenerate { name: "query", index, width: width.to_f64(), height: height.to_f64() });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
