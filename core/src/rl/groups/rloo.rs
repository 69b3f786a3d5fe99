//! REINFORCE with a leave-one-out baseline (Kool et al. 2019; Ahmadian et al. 2024, "Back to basics", eq. 8).

use super::advantages::{GroupOfOne, GroupStatistics, all_equal, check, for_scored, members};
use crate::math::Real;
use crate::rl::error::Error;
use crate::rl::number::sum;

/// A_i = R_i − mean of the other rewards of its group: an unbiased baseline, for it does not depend on completion i. `rewards`, `groups`, `advantages`: (B).
/// TRL and the paper put −β Σ_t k1 into R before; OpenRLHF adds the token-wise penalty after. A reward of NaN cannot be scored: it counts in no mean, and
/// its advantage is 0.
///
/// # Errors
/// Arrays of different lengths, an infinite reward, a group of one where that is refused.
pub fn rloo<R: Real>(
    group_of_one: GroupOfOne,
    rewards: &[R],
    groups: &[u32],
    advantages: &mut [R],
) -> Result<GroupStatistics, Error> {
    check(rewards, groups, advantages)?;
    for_scored(rewards, groups, advantages, |reward, id| {
        let members = || members(rewards, groups, id);
        let others = members().count().saturating_sub(1);
        if others == 0 {
            return if group_of_one == GroupOfOne::Keep { Ok(reward) } else { Err(Error::Group { id }) };
        }
        if all_equal(members()) {
            return Ok(R::ZERO);
        }
        Ok(reward - (sum(members()) - reward) / R::from_usize(others))
    })
}
