//! Training of reward models on completions in the order of people's preference.

use std::path::{Path, PathBuf};

use samara_core::exec::Gradients;
use samara_core::graph::Recompute;
use samara_core::rl::rewards::{RewardLoss, best_of_n, kway, plackett_luce};
use serde_json::Value;

use super::base::{Frozen, check_state, state_of};
use super::completion::{Completion, rows_of};
use super::guard::guard;
use super::output::Output;
use super::source::numbered;
use crate::data::dataset::HostBatch;
use crate::lm::RunError;
use crate::lm::scored::Scored;
use crate::lm::tokenwise::{Number, TokenBatch, TokensShape, Tokenwise};
use crate::session::{BuildError, Device, Session, SetId};
use crate::train::config::TrainConfig;
use crate::train::error::TrainingError;
use crate::train::objective::{Direction, Objective, SetRole, SetSpec, Source, StepBatch};
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
    /// Plackett and Luce: the whole order.
    PlackettLuce,
    /// The choice of the best (Ziegler et al. 2019).
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

struct Built {
    set: SetId,
    average: Option<SetId>,
    program: Tokenwise,
    forward: Tokenwise,
}

/// Training of a reward model.
pub struct RewardTraining {
    spec: RewardSpec,
    built: Option<Built>,
    rows: TokenBatch,
    found: Vec<Found>,
    output: Option<(Output, Option<u32>, bool)>,
    frozen: Frozen,
}

/// What the prompts of a micro-batch come to.
#[derive(Default)]
struct Found {
    prompts: usize,
    loss: f64,
    pairs: usize,
    right: usize,
    scores: Vec<f32>,
    slopes: Vec<f32>,
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
        let shape = TokensShape { rows: spec.train.batch_size * most, len, picks: 1 };
        Self { spec, built: None, rows: TokenBatch::new(shape), found: Vec::new(), output: None, frozen: None }
    }

    /// The same with the folder that it leaves, its token for padding, and whether the preferred completions of the training have a mean score of 0 there.
    #[must_use]
    pub fn with_output(self, output: Output, pad: Option<u32>, zero_mean: bool) -> Self {
        Self { output: Some((output, pad, zero_mean)), ..self }
    }

    /// The mean score of preferred completions of the training, of at most as many prompts as suffice for it.
    fn mean_of_preferred<D: Device>(&mut self, session: &mut Session<D>, set: SetId) -> Result<f64, RunError> {
        const PROMPTS: usize = 256;
        let every = self.spec.rankings.len().div_ceil(PROMPTS).max(1);
        let preferred: Vec<&Completion> =
            self.spec.rankings.iter().step_by(every).filter_map(|ranking| ranking.completions.first()).collect();
        let Some(Built { forward, .. }) = &mut self.built else { return Ok(0.0) };
        let (mut sum, shape) = (0.0, forward.shape());
        for chunk in preferred.chunks(shape.rows) {
            self.rows.clear();
            chunk.iter().for_each(|completion| self.rows.push(&completion.tokens, completion.tokens.len().checked_sub(1)));
            let scores = forward.forward(session, set, &self.rows)?;
            sum += scores[..chunk.len()].iter().map(|&x| f64::from(x)).sum::<f64>();
        }
        Ok(sum / preferred.len().max(1) as f64)
    }

    /// Puts the completions of a micro-batch into rows, the score at their last token.
    fn fill(&mut self, held_out: bool, batch: &HostBatch) -> Vec<usize> {
        self.rows.clear();
        let rankings = rows_of(if held_out { &self.spec.held_out } else { &self.spec.rankings }, batch);
        for completion in rankings.iter().flat_map(|ranking| &ranking.completions) {
            self.rows.push(&completion.tokens, completion.tokens.len().checked_sub(1));
        }
        crate::data::dataset::RowNumbers::of(batch).collect()
    }

    /// Losses and derivatives of the scores of rankings.
    fn losses(&self, held_out: bool, numbers: &[usize], scores: &[f32]) -> Result<Found, RunError> {
        let all = if held_out { &self.spec.held_out } else { &self.spec.rankings };
        let mut found = Found { prompts: numbers.len(), ..Found::default() };
        let mut rest = scores;
        for ranking in numbers.iter().filter_map(|&number| all.get(number)) {
            let (scores, others) = rest.split_at(ranking.completions.len());
            rest = others;
            let mut slopes = vec![0.0; scores.len()];
            let loss = match self.spec.loss {
                RankingLoss::Pairs(how) => {
                    let how = RewardLoss { margin: how.margin + ranking.margin, ..how };
                    kway(&how, scores, Some(&ranking.ranks), &mut slopes)
                }
                RankingLoss::PlackettLuce => plackett_luce(scores, scores.len() - 1, &mut slopes),
                RankingLoss::BestOfN => best_of_n(scores, 0, &mut slopes),
            };
            found.loss += f64::from(loss.map_err(guard)?);
            for (i, &better) in scores.iter().enumerate() {
                for (j, &worse) in scores.iter().enumerate().filter(|(j, _)| ranking.ranks[i] < ranking.ranks[*j]) {
                    let _ = j;
                    found.pairs += 1;
                    // A tie of scores is wrong.
                    found.right += usize::from(better > worse);
                    found.margins += f64::from(better - worse);
                }
            }
            found.scores.extend_from_slice(scores);
            found.slopes.extend(slopes);
        }
        Ok(found)
    }

    fn report(found: &Found, out: &mut Scalars) {
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
}

impl<D: Device> Objective<D> for RewardTraining {
    fn sets(&self) -> Vec<SetSpec> {
        let own = |name, role| SetSpec { name, registry: self.spec.model.registry.clone(), role };
        let average = (self.spec.train.ema_decay > 0.0).then(|| own("ema", SetRole::Average { of: 0 }));
        [own("reward", SetRole::Trained)].into_iter().chain(average).collect()
    }

    fn build(&mut self, session: &mut Session<D>, sets: &[SetId]) -> Result<(), BuildError> {
        let Some(&set) = sets.first() else { return Ok(()) };
        let (model, shape) = (&self.spec.model, self.rows.shape());
        let number = Number::Score(model.score);
        let program = Tokenwise::new(session, set, &model.layers, shape, (number, Some(Recompute::None)))?;
        let forward = Tokenwise::new(session, set, &model.layers, shape, (number, None))?;
        self.built = Some(Built { set, average: sets.get(1).copied(), program, forward });
        Ok(())
    }

    fn scalars(&mut self, scalars: &mut Scalars) {
        for (name, combine) in [
            ("loss", Combine::Mean),
            ("accuracy", Combine::Mean),
            ("margin", Combine::Mean),
            ("mean_reward", Combine::Mean),
            ("min_reward", Combine::Min),
            ("max_reward", Combine::Max),
        ] {
            scalars.register(name, combine);
        }
    }

    fn sources(&mut self) -> Vec<Source> {
        let TokensShape { rows, len, .. } = self.rows.shape();
        let tokens = (rows * len / self.spec.train.batch_size) as u64;
        numbered(self.spec.rankings.len(), self.spec.held_out.len(), tokens, &self.spec.train)
    }

    fn initialise(&mut self, session: &mut Session<D>, resumed: bool) -> Result<(), TrainingError> {
        let Some(&Built { set, .. }) = self.built.as_ref() else { return Ok(()) };
        self.frozen = self.spec.model.fill(session, set, (self.spec.init.as_deref(), self.spec.train.seed), resumed)?;
        Ok(())
    }

    fn gradients(&mut self, session: &mut Session<D>, _: u32, step: &StepBatch) -> Result<(), RunError> {
        self.found.clear();
        let prompts: usize = step.micro_batches(0).iter().map(|batch| rows_of(&self.spec.rankings, batch).len()).sum();
        for (micro, batch) in step.micro_batches(0).iter().enumerate() {
            step.stop.check()?;
            let numbers = self.fill(false, batch);
            let Built { set, program, .. } = self.built.as_mut().expect("built before");
            let set = *set;
            let scores = program.forward(session, set, &self.rows)?[..self.rows.rows()].to_vec();
            let found = self.losses(false, &numbers, &scores)?;
            let mut upstream: Vec<f32> = found.slopes.iter().map(|x| x / prompts as f32).collect(); // (B, 1)
            upstream.resize(self.rows.shape().rows, 0.0);
            let gradients = if micro == 0 { Gradients::Overwrite } else { Gradients::Add };
            let Built { program, .. } = self.built.as_mut().expect("built before");
            program.backward(session, set, &upstream, gradients)?;
            self.found.push(found);
        }
        Ok(())
    }

    fn collect(&mut self, _: &Session<D>, _: u32, out: &mut Scalars) {
        self.found.iter().for_each(|found| Self::report(found, out));
    }

    fn evaluate(
        &mut self,
        session: &mut Session<D>,
        averaged: bool,
        batch: &HostBatch,
        out: &mut Scalars,
    ) -> Result<(), RunError> {
        let numbers = self.fill(true, batch);
        let Built { set, average, forward, .. } = self.built.as_mut().expect("built before");
        let set = average.filter(|_| averaged).unwrap_or(*set);
        let scores = forward.forward(session, set, &self.rows)?[..self.rows.rows()].to_vec();
        let found = self.losses(true, &numbers, &scores)?;
        Self::report(&found, out);
        Ok(())
    }

    fn best(&self) -> (&'static str, Direction) {
        ("loss", Direction::Smaller)
    }

    fn export(&mut self, session: &mut Session<D>, averaged: bool, folder: &Path) -> Result<(), TrainingError> {
        let Some(built) = &self.built else { return Ok(()) };
        let set = built.average.filter(|_| averaged).unwrap_or(built.set);
        let is_moved = self.spec.model.can_shift() && self.output.as_ref().is_some_and(|(_, _, zero_mean)| *zero_mean);
        let shift = if is_moved { -self.mean_of_preferred(session, set)? } else { 0.0 };
        let Some((output, pad, _)) = &self.output else { return Ok(()) };
        output.save_scored(session, (set, &self.spec.model, &self.frozen), (*pad, shift), folder)
    }

    fn save(&self) -> Value {
        state_of(&self.frozen)
    }

    fn load(&mut self, state: &Value) -> Result<(), String> {
        check_state(&self.frozen, state)
    }
}
