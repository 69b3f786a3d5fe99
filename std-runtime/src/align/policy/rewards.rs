//! Where the scores of completions come from: reward models on sets of the session, and scorers, each with a weight.

use std::path::Path;
use std::sync::Arc;

use super::episodes::Episode;
use super::scorer::Scorer;
use crate::lm::RunError;
use crate::lm::open::OpenError;
use crate::lm::score_kind::{ScoreKind, has_score};
use crate::lm::scored::Scored;
use crate::lm::tokenwise::{Number, TokenBatch, TokensShape, Tokenwise};
use crate::model::adapters::SCORE;
use crate::model::tune::peft::Source;
use crate::model_folder::is_model_folder;
use crate::session::{BuildError, Device, OwnedParams, Session, SetId};
use crate::train::error::TrainingError;

/// A reward model in a folder.
pub struct RewardFolder {
    /// The model.
    pub model: Scored,
    /// Where its weights are: a whole model, or an adapter and its base.
    pub source: Source,
}

impl RewardFolder {
    /// The reward model of a folder, which messages call by `name`, as in `--model`.
    ///
    /// # Errors
    /// A folder that cannot be read, or one of [`refuse_other`].
    pub fn open(name: &str, source: Source) -> Result<Self, TrainingError> {
        refuse_other(name, &source)?;
        Ok(Self { model: Scored::of_source(&source)?, source })
    }

    /// Where it is, for people.
    fn folder(&self) -> &Path {
        self.source.adapter.as_deref().unwrap_or(&self.source.base)
    }
}

/// Refuses a folder that is no reward model's.
///
/// # Errors
/// A folder that cannot be read, has no score, or is a value function.
pub fn refuse_other(name: &str, source: &Source) -> Result<(), TrainingError> {
    let found = if !has_score(source).map_err(OpenError::from)? {
        let is_model = source.adapter.is_some() || is_model_folder(&source.base);
        format!("{}: no {SCORE}", if is_model { "a language model" } else { "no model" })
    } else if ScoreKind::of(source)? == ScoreKind::Value {
        "the value function of samara ppo, whose scores are those of unfinished completions".to_owned()
    } else {
        return Ok(());
    };
    let folder = source.adapter.as_deref().unwrap_or(&source.base).display();
    Err(TrainingError::Usage(format!(
        "{name} {folder}: expected the folder of a reward model, as samara reward leaves it, found {found}"
    )))
}

/// A source of scores.
pub enum RewardSource {
    /// A reward model: the score of the last token of a completion.
    Model(Box<RewardFolder>),
    /// Anything else.
    Scorer(Box<dyn Scorer>),
}

/// All sources of scores with their weights.
pub struct Rewards {
    sources: Vec<(RewardSource, f32)>,
    /// One for each source; none for scorers.
    programs: Vec<Option<Program>>,
}

/// A reward model on a set.
struct Program {
    set: SetId,
    tokens: Tokenwise,
    batch: TokenBatch,
}

impl Rewards {
    /// Sources with their weights.
    pub fn new(sources: Vec<(RewardSource, f32)>) -> Self {
        Self { sources, programs: Vec::new() }
    }

    /// What they are, for people.
    pub fn describe(&self) -> String {
        let name = |source: &RewardSource| match source {
            RewardSource::Model(reward) => reward.folder().display().to_string(),
            RewardSource::Scorer(scorer) => scorer.name(),
        };
        self.sources.iter().map(|(source, weight)| format!("{weight} · {}", name(source))).collect::<Vec<_>>().join(" + ")
    }

    /// The registries of the reward models, in order.
    pub fn registries(&self) -> impl Iterator<Item = &Arc<OwnedParams>> {
        self.sources.iter().filter_map(|(source, _)| match source {
            RewardSource::Model(reward) => Some(&reward.model.registry),
            RewardSource::Scorer(_) => None,
        })
    }

    /// Adds the reward models to a session, for batches of `rows` rows of at most `len` tokens.
    ///
    /// # Errors
    /// A model cannot be planned, or a folder cannot be read.
    pub fn admit<D: Device>(&mut self, session: &mut Session<D>, shape: (usize, usize)) -> Result<(), TrainingError> {
        let sets = self.registries().map(|registry| session.add_set("reward", registry)).collect::<Result<Vec<_>, _>>()?;
        let mut sets = sets.into_iter();
        let mut next = || sets.next().ok_or_else(|| BuildError::Unsupported("a reward without a set".to_owned()));
        self.build(session, shape, &mut next)?;
        self.fill(session)
    }

    /// Builds the programs for batches of `rows` rows of at most `len` tokens. `next` gives the set of each reward model.
    ///
    /// # Errors
    /// A model cannot be planned.
    pub fn build<D: Device>(
        &mut self,
        session: &mut Session<D>,
        (rows, len): (usize, usize),
        next: &mut dyn FnMut() -> Result<SetId, BuildError>,
    ) -> Result<(), BuildError> {
        let shape = TokensShape { rows, len, picks: 1 };
        self.programs.clear();
        for (source, _) in &self.sources {
            let RewardSource::Model(reward) = source else {
                self.programs.push(None);
                continue;
            };
            let set = next()?;
            let tokens = Tokenwise::new(session, set, &reward.model.layers, shape, (Number::Score(reward.model.score), None))?;
            self.programs.push(Some(Program { set, tokens, batch: TokenBatch::new(shape) }));
        }
        Ok(())
    }

    /// Fills the sets of the reward models.
    ///
    /// # Errors
    /// A folder cannot be read.
    pub fn fill<D: Device>(&self, session: &mut Session<D>) -> Result<(), TrainingError> {
        for ((source, _), program) in self.sources.iter().zip(&self.programs) {
            let (RewardSource::Model(reward), Some(program)) = (source, program) else { continue };
            let (set, device) = session.set_mut(program.set);
            let mut loaded = Ok(());
            let load = &mut |values: &mut [f32]| loaded = reward.model.load(&reward.source, values).map(drop);
            device.lend_mut(&mut set.weights, load).map_err(RunError::from)?;
            loaded?;
        }
        Ok(())
    }

    /// Weighted sums of all sources' scores; NaN for an episode that one of them cannot score.
    ///
    /// # Errors
    /// A source failed.
    pub fn score<D: Device>(&mut self, session: &mut Session<D>, episodes: &[Episode]) -> Result<Vec<f32>, RunError> {
        let mut total = vec![0.0; episodes.len()];
        for ((source, weight), program) in self.sources.iter_mut().zip(&mut self.programs) {
            let scores = match (source, program) {
                (RewardSource::Scorer(scorer), _) => scorer.score(episodes)?,
                (RewardSource::Model(_), Some(program)) => program.score(session, episodes)?,
                (RewardSource::Model(_), None) => continue,
            };
            total.iter_mut().zip(scores).for_each(|(total, score)| *total += *weight * score);
        }
        Ok(total)
    }
}

impl Program {
    /// The score of the last token of every episode.
    fn score<D: Device>(&mut self, session: &mut Session<D>, episodes: &[Episode]) -> Result<Vec<f32>, RunError> {
        let mut scores = Vec::with_capacity(episodes.len());
        for chunk in episodes.chunks(self.batch.shape().rows) {
            self.batch.clear();
            chunk.iter().for_each(|episode| self.batch.push(&episode.tokens, episode.tokens.len().checked_sub(1)));
            let found = self.tokens.forward(session, self.set, &self.batch)?;
            scores.extend_from_slice(&found[..chunk.len()]);
        }
        Ok(scores)
    }
}
