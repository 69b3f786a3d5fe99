//! What an objective on pairs is: numbers of one pair in, its loss and derivatives out.

use crate::math::Real;
use crate::rl::error::Error;
use crate::rl::number::same_len;

/// One pair. Log-probs are sums over the tokens of a completion, in nats.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair<R> {
    /// log π of the better completion.
    pub policy_chosen: R,
    /// log π of the worse.
    pub policy_rejected: R,
    /// log π_ref of the better; 0 where the objective reads none.
    pub reference_chosen: R,
    /// log π_ref of the worse; 0 where the objective reads none.
    pub reference_rejected: R,
    /// Tokens of the better; 1 where the objective reads none.
    pub chosen_length: R,
    /// Tokens of the worse; 1 where the objective reads none.
    pub rejected_length: R,
}

impl<R: Real> Pair<R> {
    /// log π − log π_ref of both.
    pub(super) fn log_ratios(&self) -> (R, R) {
        (self.policy_chosen - self.reference_chosen, self.policy_rejected - self.reference_rejected)
    }

    /// Δ, the difference of the log-ratios.
    pub(super) fn delta(&self) -> R {
        let (chosen, rejected) = self.log_ratios();
        chosen - rejected
    }

    /// The same with every log-prob divided by its tokens.
    pub(super) fn per_token(&self) -> Self {
        Self {
            policy_chosen: self.policy_chosen / self.chosen_length,
            policy_rejected: self.policy_rejected / self.rejected_length,
            reference_chosen: self.reference_chosen / self.chosen_length,
            reference_rejected: self.reference_rejected / self.rejected_length,
            ..*self
        }
    }
}

/// The loss of a pair and its derivatives by the policy's two sums of log-probs, hence by each log-prob of these completions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PairGradient<R> {
    /// The loss, in nats where it is a likelihood.
    pub loss: R,
    /// By log π of the better completion.
    pub by_chosen: R,
    /// By log π of the worse.
    pub by_rejected: R,
}

impl<R: Real> PairGradient<R> {
    /// A loss of the difference of two quantities, chosen less rejected, and its derivative by that.
    pub(super) fn of_difference((loss, slope): (R, R)) -> Self {
        Self { loss, by_chosen: slope, by_rejected: -slope }
    }

    /// Derivatives by sums, of derivatives by means over tokens.
    pub(super) fn per_token(self, pair: &Pair<R>) -> Self {
        let (by_chosen, by_rejected) = (self.by_chosen / pair.chosen_length, self.by_rejected / pair.rejected_length);
        Self { by_chosen, by_rejected, ..self }
    }
}

/// An objective on pairs.
pub trait PairLoss<R: Real> {
    /// Whether it reads log-probs of a reference.
    fn reads_reference(&self) -> bool {
        true
    }

    /// Whether it reads how many tokens the completions have.
    fn reads_lengths(&self) -> bool {
        false
    }

    /// Refuses parameters out of range.
    ///
    /// # Errors
    /// The first parameter out of range.
    fn check(&self) -> Result<(), Error>;

    /// Loss and derivatives of one pair.
    fn of(&self, pair: &Pair<R>) -> PairGradient<R>;
}

/// Pairs (n). What the objective does not read may be empty.
#[derive(Clone, Copy, Debug)]
pub struct Pairs<'a, R> {
    /// log π of the better completions.
    pub policy_chosen: &'a [R],
    /// log π of the worse.
    pub policy_rejected: &'a [R],
    /// log π_ref of the better.
    pub reference_chosen: &'a [R],
    /// log π_ref of the worse.
    pub reference_rejected: &'a [R],
    /// Tokens of the better.
    pub chosen_lengths: &'a [usize],
    /// Tokens of the worse.
    pub rejected_lengths: &'a [usize],
}

/// What comes out (n): losses, and derivatives by the policy's sums of log-probs.
#[derive(Debug)]
pub struct PairOutputs<'a, R> {
    /// Losses.
    pub losses: &'a mut [R],
    /// By log π of the better completions.
    pub by_chosen: &'a mut [R],
    /// By log π of the worse.
    pub by_rejected: &'a mut [R],
}

impl<R: Real> Pairs<'_, R> {
    fn check(&self, reference: bool, lengths: bool) -> Result<(), Error> {
        let n = self.policy_chosen.len();
        same_len("policy_rejected", self.policy_rejected, n)?;
        if reference {
            same_len("reference_chosen", self.reference_chosen, n)?;
            same_len("reference_rejected", self.reference_rejected, n)?;
        }
        for (name, of) in [("chosen_lengths", self.chosen_lengths), ("rejected_lengths", self.rejected_lengths)] {
            if lengths {
                same_len(name, of, n)?;
            }
            if lengths && of.contains(&0) {
                return Err(Error::Parameter { name, expected: "at least one token in every completion", found: 0.0 });
            }
        }
        Ok(())
    }

    fn pair(&self, i: usize, policy_chosen: R, policy_rejected: R) -> Pair<R> {
        let number = |of: &[R]| of.get(i).copied().unwrap_or(R::ZERO);
        let length = |of: &[usize]| of.get(i).map_or(R::ONE, |&n| R::from_usize(n));
        Pair {
            policy_chosen,
            policy_rejected,
            reference_chosen: number(self.reference_chosen),
            reference_rejected: number(self.reference_rejected),
            chosen_length: length(self.chosen_lengths),
            rejected_length: length(self.rejected_lengths),
        }
    }
}

/// Losses of pairs (n) and derivatives by the policy's sums of log-probs. The loss of a batch is the mean of its losses.
///
/// # Errors
/// Arrays that the objective reads and that are missing or of another length, completions without tokens, parameters out of range.
pub fn pair_losses<R: Real>(
    objective: &(impl PairLoss<R> + ?Sized),
    pairs: &Pairs<'_, R>,
    outputs: PairOutputs<'_, R>,
) -> Result<(), Error> {
    objective.check()?;
    pairs.check(objective.reads_reference(), objective.reads_lengths())?;
    let PairOutputs { losses, by_chosen, by_rejected } = outputs;
    for (name, output) in [("losses", &*losses), ("by_chosen", &*by_chosen), ("by_rejected", &*by_rejected)] {
        same_len(name, output, pairs.policy_chosen.len())?;
    }
    let policy = pairs.policy_chosen.iter().zip(pairs.policy_rejected);
    let outputs = losses.iter_mut().zip(by_chosen.iter_mut().zip(by_rejected));
    for (i, ((&chosen, &rejected), (loss, (by_chosen, by_rejected)))) in policy.zip(outputs).enumerate() {
        let found = objective.of(&pairs.pair(i, chosen, rejected));
        (*loss, *by_chosen, *by_rejected) = (found.loss, found.by_chosen, found.by_rejected);
    }
    Ok(())
}
