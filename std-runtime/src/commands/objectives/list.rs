//! The objectives, in the order in which they are listed.

use serde_json::Value;

use super::arrays::Arrays;
use super::entry::{Entry, Input, Key, key, may_take, takes};
use super::settings::Settings;
use super::{Refused, groups, pairs, policy, scores, tokens};
use crate::commands::Error;
use crate::config::hint;

/// The arrays that every pairwise objective accepts, even if it does not read them.
const WITH_REFERENCE: &[Input] = &[
    takes("policy_chosen"),
    takes("policy_rejected"),
    takes("reference_chosen"),
    takes("reference_rejected"),
    may_take("chosen_lengths"),
    may_take("rejected_lengths"),
];
const WITH_ALL: &[Input] = &[
    takes("policy_chosen"),
    takes("policy_rejected"),
    takes("reference_chosen"),
    takes("reference_rejected"),
    takes("chosen_lengths"),
    takes("rejected_lengths"),
];
const WITH_LENGTHS: &[Input] = &[
    takes("policy_chosen"),
    takes("policy_rejected"),
    takes("chosen_lengths"),
    takes("rejected_lengths"),
    may_take("reference_chosen"),
    may_take("reference_rejected"),
];
const POLICY_ONLY: &[Input] = &[
    takes("policy_chosen"),
    takes("policy_rejected"),
    may_take("chosen_lengths"),
    may_take("rejected_lengths"),
    may_take("reference_chosen"),
    may_take("reference_rejected"),
];
const TOKENS: &[Input] = &[takes("logprobs"), takes("old_logprobs"), takes("advantages"), takes("mask")];
const GROUPS: &[Input] = &[takes("rewards"), takes("group"), may_take("logprobs"), may_take("old_logprobs"), may_take("mask")];

const BETA: &[Key] = &[key("beta", "0.1")];
const SMOOTHED: &[Key] = &[key("beta", "0.1"), key("label_smoothing", "0.1")];
const SCORES: &[Key] = &[key("margin", "0"), key("centring", "0"), key("label_smoothing", "0")];

/// Keys of a clipped surrogate, after those before it.
macro_rules! clipped {
    ($low:literal, $high:literal, $mean:literal $(, $key:literal = $default:literal)*) => {
        &[
            $( key($key, $default), )*
            key("clip", $low), key("clip_high", $high), key("dual_clip", "none"), key("log_ratio_limit", "none"),
            key("aggregation", $mean), key("length", "that of a row"),
        ]
    };
}

/// Evaluates an objective on arrays.
type Evaluate = fn(&Entry, &Arrays, &Settings) -> Result<Value, Refused>;

/// An objective and the function that evaluates it.
pub(super) struct Objective {
    /// Its description and inputs.
    pub(super) entry: Entry,
    /// Its results, as JSON.
    pub(super) evaluate: Evaluate,
}

macro_rules! objectives {
    ($( $name:literal: $about:literal, $command:literal, $inputs:expr, $keys:expr, $evaluate:path; )+) => {
        &[ $( Objective {
            entry: Entry { name: $name, about: $about, command: $command, inputs: $inputs, keys: $keys },
            evaluate: $evaluate,
        }, )+ ]
    };
}

/// All objectives.
pub(super) const OBJECTIVES: &[Objective] = objectives! {
    "dpo": "−log σ(βΔ) of log-ratios to a reference", "samara dpo --loss dpo", WITH_REFERENCE, BETA, pairs::pairs;
    "cdpo": "DPO for labels that are wrong with probability label_smoothing", "samara dpo --loss cdpo", WITH_REFERENCE, SMOOTHED, pairs::pairs;
    "robust_dpo": "DPO whose expectation over wrong labels is that of right ones", "samara dpo --loss robust_dpo", WITH_REFERENCE, SMOOTHED, pairs::pairs;
    "sigmoid_norm": "DPO of means over tokens", "samara dpo --loss sigmoid_norm", WITH_ALL, BETA, pairs::pairs;
    "hinge": "max(0, 1 − βΔ), SLiC's calibration", "samara dpo --loss hinge", WITH_REFERENCE, BETA, pairs::pairs;
    "ipo_sum": "(Δ − 1/(2β))² of sums over tokens", "samara dpo --loss ipo_sum", WITH_REFERENCE, BETA, pairs::pairs;
    "ipo_mean": "(Δ − 1/(2β))² of means over tokens, TRL's ipo", "samara dpo --loss ipo_mean", WITH_ALL, BETA, pairs::pairs;
    "orpo": "the odds ratio of mean log-probs, without a reference", "samara dpo --loss orpo", WITH_LENGTHS, &[key("beta", "0.1"), key("nll_weight", "0")], pairs::pairs;
    "cpo": "−log σ(βΔ) without a reference", "samara dpo --loss cpo", POLICY_ONLY, &[key("beta", "0.1"), key("label_smoothing", "0"), key("nll_weight", "0")], pairs::pairs;
    "simpo": "−log σ(βΔ − γ) of means over tokens, without a reference", "samara dpo --loss simpo", WITH_LENGTHS, &[key("beta", "2"), key("gamma", "1"), key("label_smoothing", "0")], pairs::pairs;
    "kto": "completions that are good or bad, against a reference point kl", "samara kto", &[takes("policy"), takes("reference"), takes("label"), takes("kl")], &[key("beta", "0.1"), key("desirable_weight", "1"), key("undesirable_weight", "1")], pairs::unpaired;
    "reward_pairs": "−log σ(r_w − r_l) of a better and a worse score", "samara reward", &[takes("chosen"), takes("rejected"), may_take("margins")], SCORES, scores::two;
    "reward_kway": "the mean over all pairs of a prompt's scores, best first or by rank", "samara reward", &[takes("scores"), may_take("ranks")], SCORES, scores::all_pairs;
    "plackett_luce": "the likelihood of a ranking of scores, best first or by rank", "samara reward --loss plackett_luce", &[takes("scores"), may_take("ranks")], &[key("ranked", "all")], scores::ranking;
    "best_of_n": "the likelihood of the choice of the best score", "samara reward --loss best_of_n", &[takes("scores"), may_take("ranks")], &[key("best", "0")], scores::choice;
    "kl": "estimators of KL(π‖π_ref) by token, and of a sequence", "samara ppo", &[takes("logprobs"), takes("reference"), may_take("mask")], &[key("difference_limit", "none"), key("value_limit", "none")], tokens::kl;
    "gae": "generalised advantage estimation", "samara ppo", &[takes("rewards"), takes("values"), may_take("mask")], &[key("gamma", "1"), key("lambda", "0.95"), key("gaps", "zero")], tokens::gae;
    "whiten": "values with mean 0 and variance 1 over a mask", "samara ppo", &[takes("values"), takes("mask")], &[key("variance", "unbiased"), key("shift_mean", "true"), key("epsilon", "1e-8"), key("floor", "added")], tokens::whiten;
    "value": "the value function's loss, clipped around old values", "samara ppo", &[takes("values"), takes("old_values"), takes("returns"), takes("mask")], &[key("clip", "0.2"), key("aggregation", "token_mean"), key("length", "that of a row")], tokens::value;
    "ppo": "the clipped surrogate of each token", "samara ppo", TOKENS, clipped!("0.2", "0.2", "token_mean"), policy::of_advantages;
    "gspo": "the clipped surrogate of each sequence", "samara grpo --loss gspo", TOKENS, clipped!("3e-4", "4e-4", "seq_mean_token_mean"), policy::of_advantages;
    "cispo": "log-probs with clipped importance weights", "samara grpo --loss cispo", TOKENS, clipped!("1", "0.2", "token_mean"), policy::of_advantages;
    "grpo": "rewards less their group's mean, over its standard deviation", "samara grpo --loss grpo", GROUPS, clipped!("0.2", "0.2", "seq_mean_token_mean", "std_epsilon" = "1e-4", "variance" = "unbiased", "group_of_one" = "refuse"), groups::method;
    "dr_grpo": "rewards less their group's mean, and a constant divisor", "samara grpo --loss dr_grpo", GROUPS, clipped!("0.2", "0.2", "constant", "group_of_one" = "refuse"), groups::method;
    "bnpo": "GRPO with the mean over the tokens of a micro-batch", "samara grpo --loss bnpo", GROUPS, clipped!("0.2", "0.2", "token_mean", "std_epsilon" = "1e-4", "variance" = "unbiased", "group_of_one" = "refuse"), groups::method;
    "dapo": "GRPO with a higher upper clip and the mean over all tokens", "samara grpo --loss dapo", GROUPS, clipped!("0.2", "0.28", "token_mean", "std_epsilon" = "1e-4", "variance" = "unbiased", "group_of_one" = "refuse"), groups::method;
    "rloo": "rewards less the mean of the others of their group", "samara grpo --loss rloo", GROUPS, clipped!("0.2", "0.2", "seq_mean_token_mean", "group_of_one" = "refuse"), groups::method;
    "reinforce++": "returns whitened over the whole batch; groups are ignored", "samara grpo --loss reinforce++", &[takes("rewards"), may_take("group"), may_take("logprobs"), may_take("old_logprobs"), may_take("mask")], clipped!("0.2", "0.2", "token_mean", "gamma" = "1", "variance" = "unbiased", "shift_mean" = "true", "epsilon" = "1e-8", "floor" = "added"), groups::method;
    "reinforce++-baseline": "rewards less their group's mean, whitened over the whole batch", "samara grpo --loss reinforce++-baseline", GROUPS, clipped!("0.2", "0.2", "token_mean", "gamma" = "1", "variance" = "unbiased", "shift_mean" = "true", "epsilon" = "1e-8", "floor" = "added"), groups::method;
    "remax": "returns less the reward of the greedy completion", "samara grpo --loss remax", &[takes("rewards"), takes("greedy"), may_take("logprobs"), may_take("old_logprobs"), may_take("mask")], clipped!("0.2", "0.2", "token_mean", "gamma" = "1"), groups::method;
};

/// Whether some objective has this key, so that `--set` is at fault.
pub(super) fn is_key(name: &str) -> bool {
    OBJECTIVES.iter().any(|objective| objective.entry.keys.iter().any(|key| key.name == name))
}

/// The objective of that name.
///
/// # Errors
/// There is none; the message names the nearest.
pub(super) fn find(name: &str) -> Result<&'static Objective, Error> {
    OBJECTIVES.iter().find(|objective| objective.entry.name == name).ok_or_else(|| {
        let nearest = hint(name, OBJECTIVES.iter().map(|objective| objective.entry.name));
        Error::usage(format!("unknown objective `{name}`{nearest}; samara objectives lists them all"))
    })
}
