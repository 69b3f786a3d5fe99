//! Reinforcement learning on the device: a GPT of 35 thousand parameters writes texts, four at a time, and learns to write the letter that it is rewarded
//! for. REINFORCE with a leave-one-out baseline trains its last block by SGD, from completions that the device has drawn itself. The hash is over all
//! tokens, the losses of all steps and the parameters at the end.

use core::hint::black_box;

use samara_core::decode::Sampling;
use samara_core::exec::Kernels;
use samara_core::ops::{self, elementwise::GeluTanh};
use samara_core::rl::groups::{GroupOfOne, rloo};
use samara_core::rl::{Mask, broadcast};
use samara_core::session::{Hyper, Session};

use super::model;
use crate::{Hash, Program, decimals, figure};

static KERNELS: Kernels<f32> = ops::training_with::<_, GeluTanh>();
/// What `samara export` says that a session takes, in numbers of four bytes.
const RAM_LEN: usize = 56_944;
const STEPS: usize = 20;
const LR: f32 = 1.0;
/// Texts of a step, and tokens of each.
const TEXTS: usize = 4;
const TOKENS: usize = 16;
const LEN: usize = TEXTS * TOKENS;
/// What every text begins after.
const PROMPT: u8 = b'\n';
/// What a text is rewarded for: 1 each time.
const LETTER: u8 = b'e';
/// The policy's own distribution.
const SAMPLING: Sampling = Sampling { temperature: 1.0, ..Sampling::GREEDY };
/// Batches that a policy is judged by.
const JUDGED: u64 = 4;

/// The memory of the session, and a step's texts.
pub struct Reinforce {
    ram: [f32; RAM_LEN],
    batch: Batch,
}

impl Program for Reinforce {
    const NEW: Self = Self { ram: [0.0; RAM_LEN], batch: Batch::NEW };

    fn run(&mut self) -> Option<Hash> {
        static MODEL: &[u8] = samara_core::include_program!("../../models/reinforce.samara");
        let mut session = model::open(black_box(MODEL), &KERNELS, &mut self.ram)?;
        let mut hash = Hash::default();
        let batch = &mut self.batch;
        judge("before", &mut session, batch)?;
        for step in 0..black_box(STEPS) as u64 {
            batch.draw(&mut session, JUDGED + step)?;
            batch.targets.iter().for_each(|token| hash.bytes(&token.to_le_bytes()));
            batch.compare()?;
            let Batch { tokens, targets, upstream, .. } = &*batch;
            hash.reals(session.train_weighted(tokens, targets, upstream, &Hyper::sgd(LR)).ok()?);
        }
        judge("after", &mut session, batch)?;
        hash.reals(session.trainable());
        figure("steps", STEPS as u64);
        Some(hash)
    }
}

/// Texts that the policy has drawn, (TEXTS, TOKENS): tokens, what follows each, what each text is worth, and weights of the losses of tokens.
struct Batch {
    tokens: [i32; LEN],
    targets: [i32; LEN],
    rewards: [f32; TEXTS],
    upstream: [f32; LEN],
}

impl Batch {
    const NEW: Self = Self { tokens: [0; LEN], targets: [0; LEN], rewards: [0.0; TEXTS], upstream: [0.0; LEN] };

    /// Draws the texts of this number.
    fn draw(&mut self, session: &mut Session<'_, '_>, number: u64) -> Option<()> {
        let texts = self.tokens.chunks_exact_mut(TOKENS).zip(self.targets.chunks_exact_mut(TOKENS)).zip(&mut self.rewards);
        for (seed, ((tokens, targets), reward)) in (number * TEXTS as u64..).zip(texts) {
            session.restart();
            *reward = 0.0;
            let mut last = u32::from(PROMPT);
            for (token, target) in tokens.iter_mut().zip(targets) {
                session.feed(last).ok()?;
                *token = last as i32;
                last = session.choose(&SAMPLING, seed, &mut []).ok()?;
                *target = last as i32;
                *reward += if last == u32::from(LETTER) { 1.0 } else { 0.0 };
            }
        }
        Some(())
    }

    /// The derivative of −Σ A ln p / (TEXTS · TOKENS) by the loss −ln p of every token, A = what its text is worth more than the others.
    fn compare(&mut self) -> Option<()> {
        static LIVE: [bool; LEN] = [true; LEN];
        let mut of_texts = [0.0; TEXTS];
        rloo(GroupOfOne::Refuse, &self.rewards, &[0; TEXTS], &mut of_texts).ok()?;
        broadcast(&Mask::new(&LIVE, TOKENS).ok()?, &of_texts, &mut self.upstream).ok()?;
        self.upstream.iter_mut().for_each(|x| *x /= LEN as f32);
        Some(())
    }
}

/// Reports the mean reward of a text.
fn judge(name: &str, session: &mut Session<'_, '_>, batch: &mut Batch) -> Option<()> {
    let mut sum = 0.0;
    for number in 0..JUDGED {
        batch.draw(session, number)?;
        sum += batch.rewards.iter().sum::<f32>();
    }
    decimals(name, sum as u64, JUDGED * TEXTS as u64);
    Some(())
}
