//! Errors of an objective's functions, where a run reports them.

use samara_core::rl::Error;

use super::reference::REFERENCE_FILE;
use crate::lm::RunError;

/// How far sums of log-probs of the same weights may be apart, as a share of them.
const ROUNDING: f32 = 1e-5;

/// As an error of a run.
pub fn guard(error: Error) -> RunError {
    RunError::Guard(error.to_string())
}

/// Refuses a policy that does not begin as its reference: before the first update both are the same weights, so that Δ = 0 in every loss of pairs (DPO
/// begins at ln 2). Both are sums of log-probs (n), in nats, from two programs in `f32`.
///
/// # Errors
/// A sum that differs by more than rounding.
pub fn begins_as_reference(policy: &[f32], reference: &[f32]) -> Result<(), RunError> {
    let differs = |(p, q): (&f32, &f32)| (p - q).is_nan() || (p - q).abs() > ROUNDING * q.abs().max(1.0);
    let Some(row) = policy.iter().zip(reference).position(differs) else { return Ok(()) };
    Err(RunError::Guard(format!(
        "the first step begins with log π = {} and log π_ref = {} for completion {row} of the micro-batch, expected equal ones: before anything is \
         learnt the policy is the reference; the log-probs of the reference are of other weights: remove {REFERENCE_FILE} from the run folder, \
         if it is there, and check train.init",
        policy[row], reference[row]
    )))
}

/// Refuses scores that nothing can be learnt from. A method that compares completions leaves out those without a score.
///
/// # Errors
/// No completion has a score that is a number; or some have none, and the method does not compare.
pub fn scored(scores: &[f32], compares: bool) -> Result<(), RunError> {
    let Some(row) = scores.iter().position(|score| !score.is_finite()) else { return Ok(()) };
    let (count, score) = (scores.len(), scores[row]);
    if !compares {
        return Err(RunError::Guard(format!(
            "episode {row} of the step has the score {score}, expected a number: this method cannot leave a completion unscored; mend the reward, or \
             take a method that compares the completions of a prompt (samara grpo)"
        )));
    }
    if scores.iter().any(|score| score.is_finite()) {
        return Ok(());
    }
    Err(RunError::Guard(format!(
        "none of the {count} completions of the step has a score that is a number: look at the reward (samara rollout prints scores)"
    )))
}

/// Refuses a minibatch in which no token counts.
///
/// # Errors
/// All of its completions were cut.
pub fn some_token(live: &[bool], completions: usize) -> Result<(), RunError> {
    if live.contains(&true) {
        return Ok(());
    }
    Err(RunError::Guard(format!(
        "no token of the minibatch counts: all {completions} completions were cut before a stop token, and grpo.mask_truncated leaves such out; raise \
         rollout.max_new_tokens, or train the model to end its answers (samara sft)"
    )))
}

/// What a person should know where no completion of a step ends with a stop token.
pub fn none_ends(ended: &[bool]) -> Option<String> {
    (!ended.contains(&true)).then(|| {
        format!(
            "warning: none of the {} completions of the first step ends with a stop token, so that scores are those of cut texts: raise \
             rollout.max_new_tokens, train the model to end its answers (samara sft), or say what such a completion is worth (missing_eos)",
            ended.len()
        )
    })
}

/// The mean; 0 of none.
pub fn mean(x: &[f32]) -> f64 {
    x.iter().map(|&x| f64::from(x)).sum::<f64>() / x.len().max(1) as f64
}
