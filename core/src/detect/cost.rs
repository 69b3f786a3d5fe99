//! The cost of a match.

use super::boxes::{giou, l1};
use super::error::Error;
use super::{Prediction, check_box, normaliser};
use crate::math::Real;

/// The weights of the terms of a match's cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MatchCosts<R> {
    /// Of −p, p the probability of the object's class.
    pub class: R,
    /// Of the L1 distance of the boxes.
    pub l1: R,
    /// Of −GIoU.
    pub giou: R,
}

impl<R: Real> Default for MatchCosts<R> {
    /// Those of DETR.
    fn default() -> Self {
        Self { class: R::ONE, l1: R::from_f64(5.0), giou: R::from_f64(2.0) }
    }
}

/// −class · p(class of t) + l1 · ‖box of q − box of t‖₁ − giou · GIoU for every object t and query q. Carion et al. 2020, eq. 1. `matrix` (T, Q).
///
/// # Errors
/// Arrays of contradictory lengths, classes that the model does not have, values that are not finite, degenerate boxes.
pub fn cost_matrix<R: Real>(prediction: &Prediction<'_, R>, costs: &MatchCosts<R>, matrix: &mut [R]) -> Result<(), Error> {
    prediction.check()?;
    let queries = prediction.queries();
    Error::length("matrix", prediction.classes.len() * queries, matrix.len())?;
    for (q, (logits, found)) in prediction.rows().enumerate() {
        check_box(found, q)?;
        let (largest, sum) = normaliser(logits, q)?;
        let column = matrix.iter_mut().skip(q).step_by(queries.max(1));
        for (to, (class, object)) in column.zip(prediction.targets()) {
            let p = (logits.get(class).copied().unwrap_or(R::NEG_INFINITY) - largest).exp() / sum;
            *to = costs.l1 * l1(found, object) - costs.class * p - costs.giou * giou(found, object);
        }
    }
    Ok(())
}
