//! Learning from rewards and preferences: plain functions on lent slices that compute a loss *and* its derivatives by log-probs, values or scores.
//!
//! A host runs a program forward, fetches log-probs, calls a function of this module, writes what it gets as upstream gradients, and runs the program
//! backward. No function knows a graph, so that each is compared with closed forms and with the published code by itself. All are generic over
//! `f32` and `f64`. Batches of completions are (B, T) as one slice with a [`Mask`]; what is outside of the mask is 0 in every output.
//!
//! | what | where |
//! |---|---|
//! | shapes and masks; means over tokens and sequences | [`Mask`], [`Aggregation`], [`token_weights`], [`aggregate`] |
//! | KL estimators; the coefficient of the penalty | [`kl`], [`sequence_k2`], [`KlController`] |
//! | rewards of tokens, returns, advantages, whitening | [`TokenRewards`], [`discounted_returns`], [`gae`], [`whiten`] |
//! | policy losses | [`ppo`], [`gspo`], [`cispo`], [`reinforce`]; [`entropy_bonus`], [`ptx`] |
//! | value loss | [`value_loss`] |
//! | advantages without a critic | [`groups`] |
//! | which of these a method by name is made of | [`Recipe`] |
//! | pairs; good and bad completions | [`pairs`], [`kto`] |
//! | losses of reward models | [`rewards`] |
//! | a row of logits | [`categorical`] |
//! | which convention a source follows | [`Conventions`] |

pub mod categorical;
pub mod groups;
pub mod pairs;
pub mod rewards;

mod aggregate;
mod broadcast;
mod cispo;
mod controller;
mod conventions;
mod entropy;
mod error;
mod gae;
mod gspo;
mod kl;
mod kto;
mod mask;
mod number;
mod ppo;
mod ptx;
mod ratio;
mod recipe;
mod reinforce;
mod token_rewards;
mod value;
mod whiten;

pub use aggregate::{Aggregation, Totals, aggregate, token_weights};
pub use broadcast::broadcast;
pub use cispo::{WeightLimits, cispo};
pub use controller::KlController;
pub use conventions::{AdamEpsilon, Conventions, WhitenScope};
pub use entropy::entropy_bonus;
pub use error::Error;
pub use gae::{Gae, Gaps, discounted_returns, gae};
pub use gspo::{SequenceRatio, gspo};
pub use kl::{Estimator, Limits, kl, sequence_k2};
pub use kto::{Kto, Unpaired, kto, kto_reference_point};
pub use mask::Mask;
pub use ppo::{Clip, ppo};
pub use ptx::{Ptx, ptx};
pub use ratio::{PolicyBatch, RatioStatistics};
pub use recipe::{Baseline, Recipe, Surrogate};
pub use reinforce::reinforce;
pub use token_rewards::{Completions, MissingEos, Penalised, ScoreAt, TokenRewards};
pub use value::{ValueBatch, ValueStatistics, value_loss};
pub use whiten::{Floor, Moments, Variance, Whitening, whiten};
