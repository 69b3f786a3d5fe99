//! Tokenizers, sampling and the learning-rate schedule on lent memory.

use core::hint::black_box;

use samara_core::decode::{Sampling, sample};
use samara_core::schedule::{Decay, Schedule};
use samara_core::tokenizer::tables::{fill_pairs, fill_words};
use samara_core::tokenizer::{BpeScratch, BpeTables, CharTable, Split, Symbol, Classes};

const TEXT: &[u8] = "the theme, 1234 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa \u{e9}".as_bytes();

/// Bytes and one merge, "th": text in = text out.
pub(crate) fn tokenize() -> Option<()> {
    let (mut byte_tokens, mut offsets, mut bytes) = ([0u32; 256], [0u32; 258], [0u8; 258]);
    for (i, token) in byte_tokens.iter_mut().enumerate() {
        *token = i as u32;
    }
    for (i, (offset, byte)) in offsets.iter_mut().zip(bytes.iter_mut()).enumerate() {
        *offset = i as u32;
        *byte = i as u8;
    }
    *offsets.last_mut()? = 258;
    let [.., t, h] = &mut bytes;
    (*t, *h) = (b't', b'h');
    let (mut pairs, mut words) = ([0u64; 4], [0u64; 1024]);
    fill_pairs([(u32::from(b't'), u32::from(b'h'))].into_iter(), &mut pairs).ok()?;
    let (mut symbols, mut heap) = ([Symbol::default(); 128], [0u64; 256]);
    let mut scratch = BpeScratch { symbols: &mut symbols, heap: &mut heap };
    let tables = BpeTables {
        split: black_box(Split::Gpt2),
        classes: Classes::UNICODE,
        byte_tokens: &byte_tokens,
        token_offsets: &offsets,
        token_bytes: &bytes,
        merged: &[256],
        pairs: &pairs,
        words: &[],
    };
    let tables = tables.open().ok()?;
    fill_words(&tables, |_| false, &mut scratch, &mut words).ok()?;
    let tables = BpeTables { words: &words, ..tables };
    let mut back = TEXT.iter();
    let mut same = true;
    let mut merged = 0;
    let mut emit = |id: u32| {
        merged += u32::from(id == 256);
        same &= tables.token(id).is_some_and(|token| token.iter().all(|b| back.next() == Some(b)));
    };
    tables.encode(black_box(TEXT), &mut scratch, &mut emit).ok()?;
    (same && merged == 2 && back.next().is_none()).then_some(())
}

/// Characters by their places in the alphabet.
pub(crate) fn characters() -> Option<()> {
    let table = CharTable::open(&['a', 'b', 'c']).ok()?;
    let mut sum = 0;
    table.encode(black_box(b"abcab"), &mut |id| sum += id).ok()?;
    (sum == 4 && table.encode(black_box(b"abd"), &mut |_| ()).is_err()).then_some(())
}

/// Draws a token with every filter, and asks for a learning rate.
pub(crate) fn choose(logits: &mut [f32], order: &mut [u32]) -> Option<()> {
    let sampling = black_box(Sampling { temperature: 0.8, top_k: 3, top_p: 0.9, min_p: 0.01 });
    let chosen = sample(logits, order, &sampling, black_box(1 << 62));
    let schedule = black_box(Schedule { lr: 1.0, min_lr: 0.1, warmup_steps: 2, steps: 10, decay: Decay::Cosine, drop_step: 0 });
    (chosen < logits.len() && schedule.at(black_box(5)) < 1.0).then_some(())
}
