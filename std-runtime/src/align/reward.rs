//! Training of reward models on completions in the order of people's preference.

use std::path::{Path, PathBuf};

use samara_core::rl::rewards::{RewardLoss, best_of_n, kway, plackett_luce};

use super::base::Frozen;
use super::completion::Completion;
use super::guard::guard;
use super::output::Output;
use super::reference::Reference;
use super::rows_loss::{Forward, Learner, Numbers, Part, RowsLoss};
use super::rowwise::RowsTraining;
use crate::lm::RunError;
use crate::lm::scored::Scored;
use crate::lm::tokenwise::{Number, TokenBatch, TokensShape};
use crate::session::{Device, Session, SetId};
use crate::train::config::TrainConfig;
use crate::train::error::TrainingError;
use crate::train::scalars::{Combine, Scalars};

/// Completions of one prompt.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ranking {
    /// The completions, best first.
    pub completions: Vec<Completion>,
    /// Their ranks, from 1; equal ranks are ties.
    pub ranks: Vec<u32>,
    /// How much better the better one of a pair is.
    pub margin: f32,
}

/// The loss of a prompt's scores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RankingLoss {
    /// The mean over all pairs of −log σ(r_w − r_l) (Ouyang et al. 2022).
    Pairs(RewardLoss<f32>),
    /// Plackett and Luce: the whole order. Ties are not compared.
    PlackettLuce,
    /// The choice of the best (Ziegler et al. 2019), or of each of several best ones.
    BestOfN,
}

/// What a reward model is trained with.
pub struct RewardSpec {
    /// The model.
    pub model: Scored,
    /// The folder of the language model below the score at first; none: random weights.
    pub init: Option<PathBuf>,
    /// The loss.
    pub loss: RankingLoss,
    /// Rankings to train on.
    pub rankings: Vec<Ranking>,
    /// Those of the validation.
    pub held_out: Vec<Ranking>,
    /// The optimizer; prompts of a micro-batch, micro-batches of a step.
    pub train: TrainConfig,
}

/// The loss of rankings.
pub struct RankingRows {
    spec: RewardSpec,
    learner: Learner,
    rows: TokenBatch,
    part: Part,
    /// Numbers of the rankings.
    numbers: Vec<usize>,
    output: Option<(Output, Option<u32>, bool)>,
    frozen: Frozen,
}

/// Training of a reward model.
pub type RewardTraining = RowsTraining<RankingRows>;

/// What the prompts of a micro-batch come to.
#[derive(Default)]
pub struct Found {
    prompts: usize,
    loss: f64,
    pairs: usize,
    right: usize,
    scores: Vec<f32>,
    /// Σ over pairs of r_w − r_l.
    margins: f64,
}

impl RewardTraining {
    /// A training of a reward model.
    pub fn new(spec: RewardSpec) -> Self {
        let all = || spec.rankings.iter().chain(&spec.held_out);
        let most = all().map(|ranking| ranking.completions.len()).max().unwrap_or(1);
        let len = all().flat_map(|ranking| &ranking.completions).map(|c| c.tokens.len()).max().unwrap_or(1);
        // All completions of a prompt are in one micro-batch.
        let rows = TokenBatch::new(TokensShape { rows: spec.train.batch_size * most, len, picks: 1 });
        let Scored { registry, layers, score, architecture, .. } = spec.model.clone();
        let (number, adapter_dropout) = (Number::Score(score), architecture.adapter_dropout());
        let learner = Learner { name: "reward", registry, layers, number, adapter_dropout };
        let loss = RankingRows { spec, learner, rows, part: Part::Train, numbers: Vec::new(), output: None, frozen: None };
        Self::of(loss, Reference::Absent)
    }

    /// The same with the folder that it leaves, its token for padding, and whether the preferred completions of the training have a mean score of 0 there.
    #[must_use]
    pub fn with_output(mut self, output: Output, pad: Option<u32>, zero_mean: bool) -> Self {
        self.loss.output = Some((output, pad, zero_mean));
        self
    }
}

impl RankingRows {
    /// The mean score of preferred completions of the training, of at most as many prompts as suffice for it.
    fn mean_of_preferred<D: Device>(&mut self, model: &mut Forward<'_, D>) -> Result<f64, RunError> {
        const PROMPTS: usize = 256;
        let every = self.spec.rankings.len().div_ceil(PROMPTS).max(1);
        let preferred: Vec<&Completion> =
            self.spec.rankings.iter().step_by(every).filter_map(|ranking| ranking.completions.first()).collect();
        let mut sum = 0.0;
        for chunk in preferred.chunks(self.rows.shape().rows) {
            self.rows.clear();
            chunk.iter().for_each(|completion| push(&mut self.rows, completion));
            sum += model.sums(&self.rows)?.iter().map(|&x| f64::from(x)).sum::<f64>();
        }
        Ok(sum / preferred.len().max(1) as f64)
    }

    /// The loss of a prompt's scores, with their derivatives.
    fn of_prompt(&self, ranking: &Ranking, scores: &[f32], slopes: &mut [f32]) -> Result<f32, RunError> {
        let loss = match self.spec.loss {
            RankingLoss::Pairs(how) => {
                let how = RewardLoss { margin: how.margin + ranking.margin, ..how };
                kway(&how, scores, Some(&ranking.ranks), slopes)
            }
            RankingLoss::PlackettLuce => plackett_luce(scores, Some(&ranking.ranks), slopes),
            RankingLoss::BestOfN => best_of_n(scores, Some(&ranking.ranks), slopes),
        };
        loss.map_err(guard)
    }
}

/// Puts a completion into a row, the score at its last token.
fn push(rows: &mut TokenBatch, completion: &Completion) {
    rows.push(&completion.tokens, completion.tokens.len().checked_sub(1));
}

impl RowsLoss for RankingRows {
    type Found = Found;

    const SCALARS: &'static [(&'static str, Combine)] = &[
        ("loss", Combine::Mean),
        ("accuracy", Combine::Mean),
        ("margin", Combine::Mean),
        ("mean_reward", Combine::Mean),
        ("min_reward", Combine::Min),
        ("max_reward", Combine::Max),
    ];

    fn learner(&self) -> &Learner {
        &self.learner
    }

    fn train(&self) -> &TrainConfig {
        &self.spec.train
    }

    fn counts(&self) -> [usize; 2] {
        [self.spec.rankings.len(), self.spec.held_out.len()]
    }

    fn tokens_of_row(&self) -> u64 {
        let TokensShape { rows, len, .. } = self.rows.shape();
        (rows * len / self.spec.train.batch_size) as u64
    }

    fn fill(&mut self, part: Part, numbers: &[usize]) {
        let rankings = part.of([&self.spec.rankings, &self.spec.held_out]);
        self.rows.clear();
        for completion in numbers.iter().flat_map(|&number| &rankings[number].completions) {
            push(&mut self.rows, completion);
        }
        (self.part, self.numbers) = (part, numbers.to_vec());
    }

    fn rows(&self) -> &TokenBatch {
        &self.rows
    }

    fn losses(&self, numbers: &Numbers<'_>, upstream: &mut [f32]) -> Result<Found, RunError> {
        let rankings = self.part.of([&self.spec.rankings, &self.spec.held_out]);
        let mut found = Found { prompts: self.numbers.len(), ..Found::default() };
        upstream.fill(0.0);
        let (mut scores, mut slopes) = (numbers.own, upstream);
        for ranking in self.numbers.iter().map(|&number| &rankings[number]) {
            let (own, others) = scores.split_at(ranking.completions.len());
            let (of_own, of_others) = slopes.split_at_mut(own.len());
            found.loss += f64::from(self.of_prompt(ranking, own, of_own)?);
            found.add(ranking, own);
            (scores, slopes) = (others, of_others);
        }
        Ok(found)
    }

    fn report(&self, found: &Found, out: &mut Scalars) {
        let mut add = |name, combine, sum: f64, weight: f64| {
            let id = out.register(name, combine);
            out.add_sum(id, sum, weight);
        };
        let pairs = found.pairs as f64;
        let scores = || found.scores.iter().map(|&x| f64::from(x));
        add("loss", Combine::Mean, found.loss, found.prompts as f64);
        add("accuracy", Combine::Mean, found.right as f64, pairs);
        add("margin", Combine::Mean, found.margins, pairs);
        add("mean_reward", Combine::Mean, scores().sum(), found.scores.len() as f64);
        add("min_reward", Combine::Min, scores().fold(f64::INFINITY, f64::min), 1.0);
        add("max_reward", Combine::Max, scores().fold(f64::NEG_INFINITY, f64::max), 1.0);
    }

    fn begin<D: Device>(
        &mut self,
        session: &mut Session<D>,
        (set, _): (SetId, Option<SetId>),
        resumed: bool,
    ) -> Result<(), TrainingError> {
        self.frozen = self.spec.model.fill(session, set, (self.spec.init.as_deref(), self.spec.train.seed), resumed)?;
        Ok(())
    }

    fn frozen(&self) -> &Frozen {
        &self.frozen
    }

    fn save<D: Device>(&mut self, mut model: Forward<'_, D>, folder: &Path) -> Result<(), TrainingError> {
        let is_moved = self.spec.model.can_shift() && self.output.as_ref().is_some_and(|(_, _, zero_mean)| *zero_mean);
        let shift = if is_moved { -self.mean_of_preferred(&mut model)? } else { 0.0 };
        let Some((output, pad, _)) = &self.output else { return Ok(()) };
        output.save_scored(model.session, (model.set, &self.spec.model, &self.frozen), (*pad, shift), folder)
    }
}

impl Found {
    /// Counts the comparisons of a prompt.
    fn add(&mut self, ranking: &Ranking, scores: &[f32]) {
        for (&better, &rank) in scores.iter().zip(&ranking.ranks) {
            for (&worse, _) in scores.iter().zip(&ranking.ranks).filter(|(_, other)| rank < **other) {
                self.pairs += 1;
                // A tie of scores is wrong.
                self.right += usize::from(better > worse);
                self.margins += f64::from(better - worse);
            }
        }
        self.scores.extend_from_slice(scores);
    }
}
