//! `[dpo]`, `[kto]`, `[reward]`: objectives on preferences.

use samara_core::math::Real;
use samara_core::rl::Kto;
use samara_core::rl::pairs::{CDpo, Cpo, Dpo, Hinge, IpoMean, IpoSum, Orpo, PairLoss, RobustDpo, SigmoidNorm, SimPo};
use samara_core::rl::rewards::RewardLoss;

use super::reward::RankingLoss;
use super::unpaired::Z0Scope;
use crate::config::{Choice, Unread, table};

table! {
    /// Learning from pairs of completions.
    pub DpoConfig {
        /// The loss: "dpo", "cdpo", "robust_dpo", "sigmoid_norm", "hinge", "ipo_sum", "ipo_mean", "orpo", "simpo" or "cpo".
        loss: PairObjective = PairObjective::Dpo;
        /// How much differences of log-probs count; absent: 0.1, in simpo 2.
        beta: Option<f64> = None, 1e-9..=1000;
        /// The share of labels that are taken to be wrong, in cdpo, robust_dpo, simpo and cpo; absent: 0.1 in cdpo and robust_dpo, else 0.
        label_smoothing: Option<f64> = None, 0..=0.499999;
        /// How much better per token the better completion is to be, in simpo.
        gamma: f64 = 1.0, 0..=1000;
        /// The weight of −ln p of the better completion, in orpo and cpo.
        nll_weight: f64 = 1.0, 0..=1000;
        /// Compute the log-probs of the reference once, and keep them in the run folder: its weights are then not in memory. The result does not depend
        /// on it.
        cache_reference: bool = false;
    }
    may change: cache_reference;
    unread: DpoConfig::unread;
}

table! {
    /// Learning from completions that are good or bad.
    pub KtoConfig {
        /// How much differences of log-probs count.
        beta: f64 = 0.1, 1e-9..=1000;
        /// The weight of desirable completions.
        desirable_weight: f64 = 1.0, 0..=1000000;
        /// The weight of undesirable completions.
        undesirable_weight: f64 = 1.0, 0..=1000000;
        /// The completions that the KL z0 is estimated from, each behind the prompt of another: those of a "micro_batch" (as TRL's batch of a device), or of
        /// a whole "step", which computes their log-probs twice.
        z0_scope: Z0Scope = Z0Scope::MicroBatch;
        /// Compute the log-probs of the reference once, and keep them in the run folder: its weights are then not in memory. The result does not depend
        /// on it.
        cache_reference: bool = false;
    }
    may change: cache_reference;
}

table! {
    /// Learning what people prefer.
    pub RewardConfig {
        /// The loss of the scores of a prompt's completions: "pairs" (of all), "plackett_luce" (of the whole order) or "best_of_n" (of the choice of the
        /// best). Completions of one rank are not compared in any of them.
        loss: RankingChoice = RankingChoice::Pairs;
        /// How much better the better completion of a pair is to score; a row's own "margin" is added.
        margin: f64 = 0.0, -1000..=1000;
        /// The weight of the square of a pair's summed scores, which keeps scores around 0.
        centring: f64 = 0.0, 0..=1000;
        /// The share of labels that are taken to be wrong.
        label_smoothing: f64 = 0.0, 0..=0.499999;
        /// Move the scores afterwards so that their mean over the preferred completions of the training is 0.
        zero_mean: bool = true;
    }
    unread: RewardConfig::unread;
}

impl Choice for Z0Scope {
    const WORDS: &'static [(&'static str, Self)] = &[("micro_batch", Self::MicroBatch), ("step", Self::Step)];
}

/// A loss of pairs by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PairObjective {
    /// Direct preference optimisation.
    Dpo,
    /// With labels that are wrong now and then.
    CDpo,
    /// Unbiased under such labels.
    RobustDpo,
    /// Log-probs per token.
    SigmoidNorm,
    /// SLiC's hinge.
    Hinge,
    /// IPO with sums.
    IpoSum,
    /// IPO with means.
    IpoMean,
    /// Odds ratios, without a reference.
    Orpo,
    /// Means without a reference.
    SimPo,
    /// Sums without a reference.
    Cpo,
}

impl Choice for PairObjective {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("dpo", Self::Dpo),
        ("cdpo", Self::CDpo),
        ("robust_dpo", Self::RobustDpo),
        ("sigmoid_norm", Self::SigmoidNorm),
        ("hinge", Self::Hinge),
        ("ipo_sum", Self::IpoSum),
        ("ipo_mean", Self::IpoMean),
        ("orpo", Self::Orpo),
        ("simpo", Self::SimPo),
        ("cpo", Self::Cpo),
    ];
}

/// The loss of a ranking by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RankingChoice {
    /// All pairs.
    Pairs,
    /// The order.
    PlackettLuce,
    /// The best.
    BestOfN,
}

impl Choice for RankingChoice {
    const WORDS: &'static [(&'static str, Self)] =
        &[("pairs", Self::Pairs), ("plackett_luce", Self::PlackettLuce), ("best_of_n", Self::BestOfN)];
}

impl DpoConfig {
    /// β of the loss.
    pub fn beta(&self) -> f64 {
        self.beta.unwrap_or(if self.loss == PairObjective::SimPo { 2.0 } else { 0.1 })
    }

    /// The loss.
    pub fn loss<R: Real>(&self) -> Box<dyn PairLoss<R> + Send> {
        let beta = R::from_f64(self.beta());
        let smoothing = |default: f64| R::from_f64(self.label_smoothing.unwrap_or(default));
        let nll_weight = R::from_f64(self.nll_weight);
        match self.loss {
            PairObjective::Dpo => Box::new(Dpo { beta }),
            PairObjective::CDpo => Box::new(CDpo { beta, label_smoothing: smoothing(0.1) }),
            PairObjective::RobustDpo => Box::new(RobustDpo { beta, label_smoothing: smoothing(0.1) }),
            PairObjective::SigmoidNorm => Box::new(SigmoidNorm { beta }),
            PairObjective::Hinge => Box::new(Hinge { beta }),
            PairObjective::IpoSum => Box::new(IpoSum { beta }),
            PairObjective::IpoMean => Box::new(IpoMean { beta }),
            PairObjective::Orpo => Box::new(Orpo { beta, nll_weight }),
            PairObjective::SimPo => Box::new(SimPo { beta, margin: R::from_f64(self.gamma), label_smoothing: smoothing(0.0) }),
            PairObjective::Cpo => Box::new(Cpo { beta, label_smoothing: smoothing(0.0), nll_weight }),
        }
    }

    /// Gives keys that are absent their values.
    pub fn resolve(&mut self) {
        self.beta = Some(self.beta());
        let default = if matches!(self.loss, PairObjective::CDpo | PairObjective::RobustDpo) { 0.1 } else { 0.0 };
        self.label_smoothing.get_or_insert(default);
    }

    fn unread(&self) -> Vec<Unread> {
        use PairObjective::{CDpo, Cpo, Orpo, RobustDpo, SimPo};
        let read: [(&str, &[PairObjective], &str); 3] = [
            (
                "label_smoothing",
                &[CDpo, RobustDpo, SimPo, Cpo],
                "dpo.loss = \"cdpo\", \"robust_dpo\", \"simpo\" or \"cpo\" reads it",
            ),
            ("gamma", &[SimPo], "dpo.loss = \"simpo\" reads it"),
            ("nll_weight", &[Orpo, Cpo], "dpo.loss = \"orpo\" or \"cpo\" reads it"),
        ];
        let idle = read.into_iter().filter(|(_, losses, _)| !losses.contains(&self.loss));
        let idle = idle.map(|(key, _, instead)| Unread { key, instead });
        let has_reference = self.loss::<f64>().reads_reference();
        let cache = Unread { key: "cache_reference", instead: "a loss that reads a reference reads it, as dpo.loss = \"dpo\"" };
        idle.chain((!has_reference).then_some(cache)).collect()
    }
}

impl KtoConfig {
    /// The loss.
    pub fn loss(&self) -> Kto<f32> {
        let [beta, desirable_weight, undesirable_weight] =
            [self.beta, self.desirable_weight, self.undesirable_weight].map(|x| x as f32);
        Kto { beta, desirable_weight, undesirable_weight }
    }
}

impl RewardConfig {
    /// The loss.
    pub fn loss(&self) -> RankingLoss {
        let [margin, centring, label_smoothing] = [self.margin, self.centring, self.label_smoothing].map(|x| x as f32);
        match self.loss {
            RankingChoice::Pairs => RankingLoss::Pairs(RewardLoss { margin, centring, label_smoothing }),
            RankingChoice::PlackettLuce => RankingLoss::PlackettLuce,
            RankingChoice::BestOfN => RankingLoss::BestOfN,
        }
    }

    fn unread(&self) -> Vec<Unread> {
        let idle: &[&'static str] =
            if self.loss == RankingChoice::Pairs { &[] } else { &["margin", "centring", "label_smoothing"] };
        idle.iter().map(|&key| Unread { key, instead: "reward.loss = \"pairs\" reads it" }).collect()
    }
}
