//! A text by a Llama of 90 thousand parameters: grouped queries, rotary positions, a gated MLP, RMS norms; weights in blocks of 8 bits, keys and
//! values in half precision, a token for every byte. The hash is over all logits and tokens.

use core::hint::black_box;

use samara_core::decode::Sampling;
use samara_core::exec::Kernels;
use samara_core::ops;

use super::model;
use crate::board::{instructions, print};
use crate::{Hash, Program, figure};

static KERNELS: Kernels<f32> = ops::llama_inference();
static MODEL: &[u8] = samara_core::include_program!("../../models/generate-llama.samara");
const PROMPT: &[u8] = b"The baker ";
/// Tokens after the prompt.
const TOKENS: u32 = 48;
const SAMPLING: Sampling = Sampling { temperature: 0.7, top_k: 20, top_p: 1.0, min_p: 0.0 };
const SEED: u64 = 1;
/// What `samara export` says that a session of this file takes, in numbers of four bytes.
const RAM_LEN: usize = 4_660;

/// The memory of the session.
pub struct GenerateLlama {
    ram: [f32; RAM_LEN],
}

impl Program for GenerateLlama {
    const NEW: Self = Self { ram: [0.0; RAM_LEN] };

    fn run(&mut self) -> Option<Hash> {
        let mut session = model::open(black_box(MODEL), &KERNELS, &mut self.ram)?;
        let mut hash = Hash::default();
        print(b"text: ");
        print(PROMPT);
        for &byte in PROMPT {
            hash.reals(session.feed(byte.into()).ok()?);
        }
        let begun = instructions();
        for _ in 0..TOKENS {
            let token = session.choose(&SAMPLING, SEED, &mut []).ok()?;
            hash.bytes(&token.to_le_bytes());
            // Line breaks would begin a new line.
            print(&[if token == u32::from(b'\n') { b'/' } else { token as u8 }]);
            hash.reals(session.feed(token).ok()?);
        }
        print(b"\n");
        if let (Some(begun), Some(ended)) = (begun, instructions()) {
            figure("token", ended.wrapping_sub(begun) / u64::from(TOKENS));
        }
        Some(hash)
    }
}
