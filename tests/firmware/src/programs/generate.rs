//! A text that goes on: a GPT of 262 thousand parameters in blocks of 8 bits, keys and values in blocks too, with its tokenizer, out of flash. The
//! hash is over all logits and tokens.

use core::hint::black_box;

use samara_core::decode::Sampling;
use samara_core::exec::Kernels;
use samara_core::file::FileTokenizer;
use samara_core::ops::{self, elementwise::GeluTanh};
use samara_core::tokenizer::{BpeScratch, Symbol};

use super::model;
use crate::board::{instructions, print};
use crate::{Hash, Program, figure};

static KERNELS: Kernels<f32> = ops::inference_with::<_, GeluTanh>();
static MODEL: &[u8] = samara_core::include_program!("../../models/generate.samara");
const PROMPT: &[u8] = b"KING RICHARD:\n";
/// Tokens after the prompt.
const TOKENS: u32 = 48;
const SAMPLING: Sampling = Sampling { temperature: 0.8, top_k: 40, top_p: 1.0, min_p: 0.0 };
const SEED: u64 = 1;
/// What `samara export` says that a session of this file takes, in numbers of four bytes.
const RAM_LEN: usize = 18_548;
/// The longest word of the prompt in bytes, and its most tokens.
const WORD: usize = 16;

/// The memory of the session.
pub struct Generate {
    ram: [f32; RAM_LEN],
}

impl Program for Generate {
    const NEW: Self = Self { ram: [0.0; RAM_LEN] };

    fn run(&mut self) -> Option<Hash> {
        let mut session = model::open(black_box(MODEL), &KERNELS, &mut self.ram)?;
        let tokenizer = session.file().tokenizer()?;
        let mut hash = Hash::default();
        let mut prompt = [0; WORD];
        print(b"text: ");
        for &id in encode(&tokenizer, &mut prompt)? {
            show(&tokenizer, id);
            hash.reals(session.feed(id).ok()?);
        }
        let begun = instructions();
        for _ in 0..TOKENS {
            let token = session.choose(&SAMPLING, SEED, &mut []).ok()?;
            hash.bytes(&token.to_le_bytes());
            show(&tokenizer, token);
            hash.reals(session.feed(token).ok()?);
        }
        print(b"\n");
        if let (Some(begun), Some(ended)) = (begun, instructions()) {
            figure("token", ended.wrapping_sub(begun) / u64::from(TOKENS));
        }
        Some(hash)
    }
}

/// The tokens of the prompt.
fn encode<'r>(tokenizer: &FileTokenizer<'_>, room: &'r mut [u32; WORD]) -> Option<&'r [u32]> {
    let FileTokenizer::Bpe(tables) = tokenizer else { return None };
    let mut symbols = [Symbol::default(); WORD];
    let mut count = 0;
    let mut push = |id: u32| {
        if let Some(to) = room.get_mut(count) {
            *to = id;
            count += 1;
        }
    };
    tables.encode(PROMPT, &mut BpeScratch { symbols: &mut symbols, heap: &mut [] }, &mut push).ok()?;
    room.get(..count)
}

/// Shows a token in a line of text: line breaks would begin a new one.
fn show(tokenizer: &FileTokenizer<'_>, token: u32) {
    for byte in tokenizer.token(token, &mut [0; 4]) {
        print(if *byte == b'\n' { b"/" } else { core::slice::from_ref(byte) });
    }
}
