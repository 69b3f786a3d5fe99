//! Training on pairs of completions, one preferred to the other: DPO and its relatives, with a loss by name.

use std::path::Path;

use samara_core::rl::pairs::{PairLoss, PairOutputs, Pairs, pair_losses};

use super::base::{Base, Frozen};
use super::completion::{Completion, shape_of, spread, sums};
use super::guard::guard;
use super::output::Output;
use super::reference::Reference;
use super::rows_loss::{Forward, Learner, Numbers, Part, RowsLoss};
use super::rowwise::RowsTraining;
use crate::lm::RunError;
use crate::lm::tokenwise::TokenBatch;
use crate::session::{BuildError, Device, Session, SetId};
use crate::train::config::TrainConfig;
use crate::train::error::TrainingError;
use crate::train::scalars::{Combine, Scalars};

/// A pair: the better completion and the worse.
pub type Pair = [Completion; 2];

/// What pairs are trained with.
pub struct PairsSpec {
    /// The policy; its first weights are the reference's.
    pub policy: Base,
    /// The loss.
    pub loss: Box<dyn PairLoss<f32> + Send>,
    /// β, by which log-ratios are multiplied where they are reported as rewards.
    pub beta: f64,
    /// Pairs to train on.
    pub pairs: Vec<Pair>,
    /// Pairs of the validation.
    pub held_out: Vec<Pair>,
    /// The optimizer; pairs of a micro-batch, micro-batches of a step.
    pub train: TrainConfig,
}

/// A loss of pairs.
pub struct PairRows {
    spec: PairsSpec,
    learner: Learner,
    rows: TokenBatch,
    /// Places of the rows.
    places: Vec<usize>,
    /// Tokens of the better completions and of the worse.
    lengths: [Vec<usize>; 2],
    output: Option<Output>,
    frozen: Frozen,
}

/// Training of a policy on pairs.
pub type PairTraining = RowsTraining<PairRows>;

/// What pairs of a micro-batch come to: each (n).
pub struct Found {
    policy: [Vec<f32>; 2],
    reference: [Vec<f32>; 2],
    losses: Vec<f32>,
}

impl PairTraining {
    /// A training of pairs.
    ///
    /// # Errors
    /// The registry cannot hold the parameters.
    pub fn new(spec: PairsSpec) -> Result<Self, BuildError> {
        let learner = Learner::policy(&spec.policy)?;
        let all = spec.pairs.iter().chain(&spec.held_out).flatten();
        let rows = TokenBatch::new(shape_of(2 * spec.train.batch_size, all));
        let reference = if spec.loss.reads_reference() { Reference::Computed } else { Reference::Absent };
        let (places, lengths) = (Vec::new(), Default::default());
        let loss = PairRows { spec, learner, rows, places, lengths, output: None, frozen: None };
        Ok(Self::of(loss, reference))
    }

    /// The same with the folder that it leaves.
    #[must_use]
    pub fn with_output(mut self, output: Output) -> Self {
        self.loss.output = Some(output);
        self
    }
}

impl PairRows {
    /// Losses of pairs, and their derivatives by sums of the policy's log-probs.
    fn of_sums(&self, policy: [Vec<f32>; 2], reference: [Vec<f32>; 2]) -> Result<(Found, [Vec<f32>; 2]), RunError> {
        let n = policy[0].len();
        let (mut losses, mut slopes) = (vec![0.0; n], [vec![0.0; n], vec![0.0; n]]);
        let pairs = Pairs {
            policy_chosen: &policy[0],
            policy_rejected: &policy[1],
            reference_chosen: &reference[0],
            reference_rejected: &reference[1],
            chosen_lengths: &self.lengths[0],
            rejected_lengths: &self.lengths[1],
        };
        let [by_chosen, by_rejected] = &mut slopes;
        pair_losses(&*self.spec.loss, &pairs, PairOutputs { losses: &mut losses, by_chosen, by_rejected }).map_err(guard)?;
        Ok((Found { policy, reference, losses }, slopes))
    }
}

impl RowsLoss for PairRows {
    type Found = Found;

    const SCALARS: &'static [(&'static str, Combine)] = &[
        ("loss", Combine::Mean),
        ("rewards/chosen", Combine::Mean),
        ("rewards/rejected", Combine::Mean),
        ("rewards/margins", Combine::Mean),
        ("rewards/accuracies", Combine::Mean),
        ("logps/chosen", Combine::Mean),
        ("logps/rejected", Combine::Mean),
    ];

    fn learner(&self) -> &Learner {
        &self.learner
    }

    fn train(&self) -> &TrainConfig {
        &self.spec.train
    }

    fn counts(&self) -> [usize; 2] {
        [self.spec.pairs.len(), self.spec.held_out.len()]
    }

    fn tokens_of_row(&self) -> u64 {
        2 * self.rows.shape().picks as u64
    }

    /// Rows are chosen, rejected, chosen, …
    fn fill(&mut self, part: Part, numbers: &[usize]) {
        let pairs = part.of([&self.spec.pairs, &self.spec.held_out]);
        let first = part.of([0, self.spec.pairs.len()]);
        self.rows.clear();
        numbers.iter().flat_map(|&number| &pairs[number]).for_each(|completion| completion.push_to(&mut self.rows));
        self.places = numbers.iter().flat_map(|number| [0, 1].map(|side| 2 * (first + number) + side)).collect();
        self.lengths = [0, 1].map(|side| numbers.iter().map(|&number| pairs[number][side].picks.len()).collect());
    }

    fn rows(&self) -> &TokenBatch {
        &self.rows
    }

    fn compared(&self) -> Vec<(&TokenBatch, Vec<usize>)> {
        vec![(&self.rows, self.places.clone())]
    }

    fn losses(&self, numbers: &Numbers<'_>, upstream: &mut [f32]) -> Result<Found, RunError> {
        let policy = sides(&sums(&self.rows, numbers.own));
        // A loss without a reference reads no log-prob of one.
        let reference =
            if numbers.reference.is_empty() { policy.each_ref().map(|x| vec![0.0; x.len()]) } else { sides(numbers.reference) };
        let (found, [by_chosen, by_rejected]) = self.of_sums(policy, reference)?;
        let of_rows: Vec<f32> = by_chosen.iter().zip(&by_rejected).flat_map(|(&a, &b)| [a, b]).collect();
        spread(&self.rows, &of_rows, upstream);
        Ok(found)
    }

    fn report(&self, found: &Found, out: &mut Scalars) {
        let n = found.losses.len() as f64;
        let reward = |side: usize| -> Vec<f64> {
            let rows = found.policy[side].iter().zip(&found.reference[side]);
            rows.map(|(policy, reference)| self.spec.beta * f64::from(policy - reference)).collect()
        };
        let (chosen, rejected) = (reward(0), reward(1));
        let right = chosen.iter().zip(&rejected).filter(|(chosen, rejected)| chosen > rejected).count() as f64;
        let sum = |x: &[f32]| x.iter().map(|&x| f64::from(x)).sum::<f64>();
        let (chosen, rejected) = (chosen.iter().sum::<f64>(), rejected.iter().sum::<f64>());
        let values =
            [sum(&found.losses), chosen, rejected, chosen - rejected, right, sum(&found.policy[0]), sum(&found.policy[1])];
        for (&(name, combine), value) in Self::SCALARS.iter().zip(values) {
            let id = out.register(name, combine);
            out.add_sum(id, value, n);
        }
    }

    fn begin<D: Device>(
        &mut self,
        session: &mut Session<D>,
        (policy, reference): (SetId, Option<SetId>),
        resumed: bool,
    ) -> Result<(), TrainingError> {
        self.frozen = self.spec.policy.fill(session, (policy, reference), self.spec.train.seed, resumed)?;
        Ok(())
    }

    fn frozen(&self) -> &Frozen {
        &self.frozen
    }

    fn save<D: Device>(&mut self, model: Forward<'_, D>, folder: &Path) -> Result<(), TrainingError> {
        let Some(output) = &self.output else { return Ok(()) };
        output.save(model.session, model.set, (&*self.spec.policy.architecture, &self.frozen), folder)
    }
}

/// The sums of chosen and rejected completions, which stand in turns.
fn sides(of_rows: &[f32]) -> [Vec<f32>; 2] {
    [0, 1].map(|side| of_rows.iter().skip(side).step_by(2).copied().collect())
}
