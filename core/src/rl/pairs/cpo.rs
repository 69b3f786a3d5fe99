//! Contrastive preference optimisation without a reference: CPO on sums, SimPO on means.

use super::pair::{Pair, PairGradient, PairLoss};
use crate::math::Real;
use crate::rl::error::Error;
use crate::rl::number::{in_range, not_negative, positive, smoothed_logistic, smoothing};

/// −log σ(β (log π(y_w) − log π(y_l))) + α (−log π(y_w)/|y_w|). Xu et al. 2024, eq. 6.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cpo<R> {
    /// β; usually 0.1.
    pub beta: R,
    /// ε, the share of labels that are wrong.
    pub label_smoothing: R,
    /// α of the likelihood of the better completion, for each of its tokens; 1 in the paper. 0: the preference alone.
    pub nll_weight: R,
}

/// −log σ(β (log π(y_w)/|y_w| − log π(y_l)/|y_l|) − γ). Meng et al. 2024, eq. 6.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SimPo<R> {
    /// β; usually 2 to 2.5.
    pub beta: R,
    /// γ, the margin; usually 0.5 to 1.5.
    pub margin: R,
    /// ε, the share of labels that are wrong.
    pub label_smoothing: R,
}

impl<R: Real> PairLoss<R> for Cpo<R> {
    fn reads_reference(&self) -> bool {
        false
    }

    fn reads_lengths(&self) -> bool {
        self.nll_weight != R::ZERO
    }

    fn check(&self) -> Result<(), Error> {
        positive("beta", self.beta)?;
        not_negative("nll_weight", self.nll_weight)?;
        smoothing(self.label_smoothing)
    }

    fn of(&self, pair: &Pair<R>) -> PairGradient<R> {
        let difference = pair.policy_chosen - pair.policy_rejected;
        let (loss, slope) = smoothed_logistic(self.beta * difference, self.label_smoothing);
        let preference = PairGradient::of_difference((loss, self.beta * slope));
        let by_nll = self.nll_weight / pair.chosen_length;
        let (loss, by_chosen) = (preference.loss - by_nll * pair.policy_chosen, preference.by_chosen - by_nll);
        PairGradient { loss, by_chosen, ..preference }
    }
}

impl<R: Real> PairLoss<R> for SimPo<R> {
    fn reads_reference(&self) -> bool {
        false
    }

    fn reads_lengths(&self) -> bool {
        true
    }

    fn check(&self) -> Result<(), Error> {
        positive("beta", self.beta)?;
        in_range("margin", "a finite number", self.margin, true)?;
        smoothing(self.label_smoothing)
    }

    fn of(&self, pair: &Pair<R>) -> PairGradient<R> {
        let means = pair.per_token();
        let x = self.beta * (means.policy_chosen - means.policy_rejected) - self.margin;
        let (loss, slope) = smoothed_logistic(x, self.label_smoothing);
        PairGradient::of_difference((loss, self.beta * slope)).per_token(pair)
    }
}
