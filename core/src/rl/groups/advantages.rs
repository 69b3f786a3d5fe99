//! Rewards less the mean of their group, scaled or not: GRPO, Dr. GRPO, and the baseline of REINFORCE++.

use crate::math::Real;
use crate::rl::error::Error;
use crate::rl::number::{not_negative, same_len};
use crate::rl::whiten::{Moments, Variance};

/// What differences from the group's mean are divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Scale {
    /// Nothing (Dr. GRPO, Liu et al. 2025).
    None,
    /// The standard deviation of the group, plus ε (GRPO, Shao et al. 2024, section 4.1.2).
    #[default]
    Group,
    /// That of the whole batch, plus ε (TRL's `scale_rewards = "batch"`).
    Batch,
}

/// What becomes of a group with a single row that can be scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum GroupOfOne {
    /// An error (TRL).
    #[default]
    Refuse,
    /// Its mean counts as 0 and its standard deviation as 1 (verl).
    Keep,
}

/// How advantages are made of rewards.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GroupAdvantages<R> {
    /// What differences are divided by.
    pub scale: Scale,
    /// ε beside the standard deviation: 10⁻⁴ in TRL, 10⁻⁶ in verl, 10⁻⁹ in OpenRLHF.
    pub std_epsilon: R,
    /// The divisor of the variance; unbiased in all three.
    pub variance: Variance,
    /// Groups of one row.
    pub group_of_one: GroupOfOne,
}

impl<R: Real> Default for GroupAdvantages<R> {
    fn default() -> Self {
        let std_epsilon = R::from_f64(1e-4);
        Self { scale: Scale::Group, std_epsilon, variance: Variance::Unbiased, group_of_one: GroupOfOne::Refuse }
    }
}

/// Statistics of groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct GroupStatistics {
    /// Groups.
    pub groups: usize,
    /// Groups whose rewards are all equal, from which nothing is learnt (TRL's `frac_reward_zero_std`, as a count).
    pub equal: usize,
    /// Rows that could not be scored.
    pub unscorable: usize,
}

/// The rewards of a group that are numbers.
pub(super) fn members<'a, R: Real>(rewards: &'a [R], groups: &'a [u32], id: u32) -> impl Iterator<Item = R> + Clone + use<'a, R> {
    rewards.iter().zip(groups).filter(move |(reward, group)| **group == id && reward.is_finite()).map(|(&reward, _)| reward)
}

/// Whether all are equal.
pub(super) fn all_equal<R: Real>(mut rewards: impl Iterator<Item = R>) -> bool {
    let first = rewards.next();
    rewards.all(|reward| Some(reward) == first)
}

/// Refuses arrays that do not fit, and infinite rewards: one that cannot be scored is NaN.
pub(super) fn check<R: Real>(rewards: &[R], groups: &[u32], advantages: &[R]) -> Result<(), Error> {
    same_len("group", groups, rewards.len())?;
    same_len("advantages", advantages, rewards.len())?;
    let infinite = rewards.iter().position(|reward| reward.abs() == R::INFINITY);
    infinite.map_or(Ok(()), |index| Err(Error::NotFinite { name: "rewards", index }))
}

/// Calls `of` for every row with a reward, and writes what it says; 0 for the others.
pub(super) fn for_scored<R: Real>(
    rewards: &[R],
    groups: &[u32],
    advantages: &mut [R],
    mut of: impl FnMut(R, u32) -> Result<R, Error>,
) -> Result<GroupStatistics, Error> {
    let mut statistics = GroupStatistics::default();
    for (i, ((&reward, &id), advantage)) in rewards.iter().zip(groups).zip(advantages).enumerate() {
        if !groups.iter().take(i).any(|&before| before == id) {
            statistics.groups = statistics.groups.saturating_add(1);
            let equal = all_equal(members(rewards, groups, id));
            statistics.equal = statistics.equal.saturating_add(usize::from(equal));
        }
        if reward.is_finite() {
            *advantage = of(reward, id)?;
        } else {
            *advantage = R::ZERO;
            statistics.unscorable = statistics.unscorable.saturating_add(1);
        }
    }
    Ok(statistics)
}

/// A = (R − mean of the group) / (standard deviation + ε), as `how` says. `rewards`, `groups` (the id of each row's prompt, in any order), `advantages`: (B).
/// A reward of NaN cannot be scored: it counts in no mean, and its advantage is 0. Equal rewards of a group give exactly 0.
///
/// # Errors
/// Arrays of different lengths, an infinite reward, a group of one where that is refused, a negative ε.
pub fn group_advantages<R: Real>(
    how: &GroupAdvantages<R>,
    rewards: &[R],
    groups: &[u32],
    advantages: &mut [R],
) -> Result<GroupStatistics, Error> {
    check(rewards, groups, advantages)?;
    not_negative("std_epsilon", how.std_epsilon)?;
    let scorable = rewards.iter().copied().filter(|reward| reward.is_finite());
    let batch_std = match how.scale {
        Scale::Batch => Moments::of("rewards", how.variance, scorable)?.variance.sqrt(),
        Scale::None | Scale::Group => R::ONE,
    };
    for_scored(rewards, groups, advantages, |reward, id| {
        let members = || members(rewards, groups, id);
        let alone = members().nth(1).is_none();
        if alone && how.group_of_one == GroupOfOne::Refuse {
            return Err(Error::Group { id });
        }
        if !alone && all_equal(members()) {
            return Ok(R::ZERO);
        }
        let mean = if alone { R::ZERO } else { Moments::of("group", Variance::Biased, members())?.mean };
        let divisor = match how.scale {
            Scale::None => R::ONE,
            Scale::Batch => batch_std + how.std_epsilon,
            Scale::Group if alone => R::ONE + how.std_epsilon,
            Scale::Group => Moments::of("group", how.variance, members())?.variance.sqrt() + how.std_epsilon,
        };
        Ok(if divisor > R::ZERO { (reward - mean) / divisor } else { R::ZERO })
    })
}
