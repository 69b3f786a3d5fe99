//! The choice of the recomputation policy by the training's memory budget.

use samara_core::graph::Recompute;

use super::config::{RecomputeChoice, RunConfig, TrainConfig};
use super::shape::shape_of;
use crate::config::Invalid;
use crate::error::{Failure, Kind};
use crate::lm::plan::TrainingPlan;
use crate::lm::step::StepShape;
use crate::model::architecture::Architecture;
use crate::session::{BuildError, Engine};

/// Why no policy is possible: the programs cannot be built, or none fits the memory budget.
#[derive(Debug, thiserror::Error)]
pub enum BudgetError {
    /// A program cannot be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The budget is too small.
    #[error(transparent)]
    Budget(#[from] Invalid),
}

impl Failure for BudgetError {
    fn kind(&self) -> Kind {
        match self {
            Self::Build(error) => error.kind(),
            Self::Budget(error) => error.kind(),
        }
    }
}

/// The resources of a training under each recomputation policy, and the chosen policy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policies {
    /// Each with its plan, the fastest first.
    pub all: [(Recompute, TrainingPlan); 3],
    /// The shape of a step, with the chosen policy.
    pub shape: StepShape,
    /// The plan of that shape.
    pub plan: TrainingPlan,
}

impl Policies {
    /// Plans a training under every policy, and chooses the configured one, or the fastest that fits the budget.
    ///
    /// # Errors
    /// The program cannot be planned, or no way fits the budget.
    pub fn new(engine: &Engine, model: &dyn Architecture, config: &RunConfig) -> Result<Self, BudgetError> {
        Self::of(engine, model, shape_of(config), &config.train)
    }

    /// The same for a step whose shape differs from the configuration's.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn of(engine: &Engine, model: &dyn Architecture, shape: StepShape, train: &TrainConfig) -> Result<Self, BudgetError> {
        let averages = train.averages() as u8;
        let plan = |recompute| -> Result<_, BuildError> {
            Ok((recompute, TrainingPlan::new(engine, model, &StepShape { recompute, ..shape }, train.rule(), averages)?))
        };
        let [none, cheap, blocks] = Recompute::ALL.map(plan);
        let all = [none?, cheap?, blocks?];
        let (recompute, plan) = choose(&all, train)?;
        Ok(Self { all, shape: StepShape { recompute, ..shape }, plan })
    }

    /// The advice for reducing the training's memory to this many bytes.
    pub fn in_less(&self, bytes: u64) -> String {
        match self.all.iter().find(|(_, plan)| plan.total_bytes <= bytes) {
            Some((recompute, plan)) => {
                format!(
                    "set train.recompute={}, which takes {} MiB with the same results",
                    recompute.name(),
                    mib(plan.total_bytes)
                )
            }
            None => SMALLER.to_owned(),
        }
    }

    /// The choice and the memory of the alternatives, in one line.
    pub fn describe(&self) -> String {
        let of = |(recompute, plan): &(Recompute, TrainingPlan)| format!("{} {} MiB", recompute.name(), mib(plan.total_bytes));
        let others: Vec<String> = self.all.iter().filter(|(r, _)| *r != self.shape.recompute).map(of).collect();
        format!("recomputation: {} ({})", of(&(self.shape.recompute, self.plan)), others.join(", "))
    }
}

/// Changes that take less memory and give nearly the same training.
const SMALLER: &str =
    "lower train.batch_size and raise train.grad_accumulation as much, or lower train.block_size, or choose a smaller model";

/// Bytes in MiB, rounded up.
fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

/// The first that may be used and fits.
fn choose(all: &[(Recompute, TrainingPlan)], config: &TrainConfig) -> Result<(Recompute, TrainingPlan), Invalid> {
    let budget = config.memory_budget_mib;
    let allowed = |&&(recompute, _): &&(Recompute, TrainingPlan)| match config.recompute {
        RecomputeChoice::Auto => true,
        RecomputeChoice::Fixed(fixed) => fixed == recompute,
    };
    let candidates = || all.iter().filter(allowed);
    let fits = |plan: &TrainingPlan| budget == 0 || mib(plan.total_bytes) <= budget;
    candidates().find(|(_, plan)| fits(plan)).copied().ok_or_else(|| {
        let least = candidates().map(|(_, plan)| plan.total_bytes).min().unwrap_or(0);
        let takes: Vec<String> =
            all.iter().map(|(r, plan)| format!("\"{}\" takes {}", r.name(), mib(plan.total_bytes))).collect();
        let lasting = all
            .first()
            .map_or(0, |(_, plan)| plan.weights_bytes + plan.frozen_bytes + plan.gradients_bytes + plan.optimizer_bytes);
        let advice = match config.recompute {
            _ if mib(lasting) > budget => {
                format!("weights, gradients and moments alone take {}: raise it, or choose a smaller model", mib(lasting))
            }
            RecomputeChoice::Fixed(_) if all.iter().any(|(_, plan)| fits(plan)) => {
                "raise it, or set train.recompute=auto".to_owned()
            }
            RecomputeChoice::Auto | RecomputeChoice::Fixed(_) => {
                format!("raise it, or {SMALLER}")
            }
        };
        Invalid {
            key: "train.memory_budget_mib",
            expected: format!("at least {} (in MiB, train.recompute {}); {advice}", mib(least), takes.join(", ")),
            found: budget.to_string(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plans that take 100, 80 and 50 MiB, of which 40 are weights, gradients and moments.
    fn plans() -> [(Recompute, TrainingPlan); 3] {
        let plan = |mib: u64| TrainingPlan { total_bytes: mib << 20, weights_bytes: 40 << 20, ..TrainingPlan::default() };
        let [none, cheap, blocks] = Recompute::ALL;
        [(none, plan(100)), (cheap, plan(80)), (blocks, plan(50))]
    }

    fn chosen(recompute: RecomputeChoice, memory_budget_mib: u64) -> Result<Recompute, String> {
        let config = TrainConfig { recompute, memory_budget_mib, ..TrainConfig::default() };
        choose(&plans(), &config).map(|(recompute, _)| recompute).map_err(|error| error.to_string())
    }

    #[test]
    fn the_fastest_that_fits_is_chosen() {
        for (budget, expected) in [(0, Recompute::None), (100, Recompute::None), (99, Recompute::Cheap), (80, Recompute::Cheap)] {
            assert_eq!(chosen(RecomputeChoice::Auto, budget), Ok(expected), "{budget}");
        }
        assert_eq!(chosen(RecomputeChoice::Auto, 79), Ok(Recompute::Blocks));
        assert_eq!(chosen(RecomputeChoice::Auto, 50), Ok(Recompute::Blocks));
        assert_eq!(chosen(Recompute::Cheap.into(), 0), Ok(Recompute::Cheap));
        assert_eq!(chosen(Recompute::Cheap.into(), 100), Ok(Recompute::Cheap));
    }

    #[test]
    fn a_budget_that_is_too_small_says_what_to_do() {
        let takes = "(in MiB, train.recompute \"none\" takes 100, \"cheap\" takes 80, \"blocks\" takes 50)";
        for (recompute, budget, least, advice) in [
            (RecomputeChoice::Auto, 49, 50, "raise it, or lower train.batch_size"),
            (RecomputeChoice::Auto, 39, 50, "weights, gradients and moments alone take 40"),
            (Recompute::None.into(), 90, 100, "raise it, or set train.recompute=auto"),
            (Recompute::None.into(), 45, 100, "raise it, or lower train.batch_size"),
        ] {
            let error = chosen(recompute, budget).unwrap_err();
            let expected = format!("train.memory_budget_mib: expected at least {least} {takes}; {advice}");
            assert!(error.starts_with(&expected) && error.ends_with(&format!("found {budget}")), "{error}");
        }
    }
}
