//! Program files with damage that libFuzzer makes up, their checksum repaired: opening must refuse them, or running them must stay within their
//! memory, without a panic and without a hang.
//!
//! `cd tests/fuzz && cargo run --release --bin program_file -- -max_len=64 -max_total_time=300`. A failure leaves a file `crash-…` or `timeout-…`,
//! which is run again as `cargo run --release --bin program_file -- crash-…`.

#![no_main]

use std::hint::black_box;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use samara_core::cost::Cost;
use samara_core::decode::Sampling;
use samara_core::exec::Kernels;
use samara_core::file::layout::{Header, MAGIC, VERSION};
use samara_core::file::{FileTokenizer, ProgramFile, ProgramKind, checksum};
use samara_core::ops;
use samara_core::session::{Hyper, Session};
use samara_core::tokenizer::{BpeScratch, Symbol};

static SEEDS: &[&[u8]] = include!(concat!(env!("OUT_DIR"), "/seeds.rs"));
static TRAINING: LazyLock<Kernels<f32>> = LazyLock::new(ops::training);
static REFERENCE: LazyLock<Kernels<f32>> = LazyLock::new(ops::reference);

/// The most elements of memory, of four bytes, that a run is lent.
const MOST_RAM: usize = 1 << 20;
/// The most operations of a run.
const MOST_FLOPS: u64 = 20_000_000;
/// Numbers at which things tip over.
const TIPPING: [u32; 16] =
    [0, 1, 2, 3, 4, 7, 8, 255, 0x7fff, 0xffff, 0x1_0000, 0xff_ffff, i32::MAX as u32, 1 << 31, u32::MAX - 1, u32::MAX];

fuzz_target!(|bytes: &[u8]| {
    let Some((&[seed, how], edits)) = bytes.split_first_chunk::<2>() else { return };
    let mut file = match SEEDS.get(usize::from(seed)) {
        Some(seed) => Bytes::new(seed),
        None => Bytes::new(edits),
    };
    if usize::from(seed) < SEEDS.len() {
        edits.as_chunks().0.iter().for_each(|edit| file.edit(edit));
    }
    file.repair();
    let kernels = if how & 1 == 0 { &*TRAINING } else { &*REFERENCE };
    if let Ok(file) = ProgramFile::open(file.get(), kernels) {
        read(&file);
        run(file, how);
    }
});

/// A file where records can be read.
struct Bytes {
    words: Vec<u64>,
    len: usize,
}

impl Bytes {
    fn new(bytes: &[u8]) -> Self {
        let mut words = vec![0; bytes.len().div_ceil(8)];
        words.iter_mut().zip(bytes.chunks(8)).for_each(|(word, bytes)| {
            let mut eight = [0; 8];
            eight[..bytes.len()].copy_from_slice(bytes);
            *word = u64::from_ne_bytes(eight);
        });
        Self { words, len: bytes.len() }
    }

    fn get(&self) -> &[u8] {
        // SAFETY: the words are initialised memory of at least `len` bytes.
        unsafe { std::slice::from_raw_parts(self.words.as_ptr().cast(), self.len) }
    }

    fn get_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.words.as_mut_ptr().cast(), self.len) }
    }

    /// What an edit does: how, where (two bytes), with what (two bytes).
    fn edit(&mut self, &[how, low, high, a, b]: &[u8; 5]) {
        let place = usize::from(u16::from_le_bytes([low, high])) % self.len.max(1);
        let value = u16::from_le_bytes([a, b]);
        let write = |bytes: &mut [u8], place: usize, value: &[u8]| {
            bytes.iter_mut().skip(place).zip(value).for_each(|(to, &from)| *to = from);
        };
        let tipping = TIPPING[usize::from(a) % TIPPING.len()];
        let bytes = self.get_mut();
        match how % 8 {
            0 => bytes.iter_mut().skip(place).take(1).for_each(|byte| *byte ^= a),
            1 => write(bytes, place, &[a]),
            2 => write(bytes, place & !1, &value.to_le_bytes()),
            3 => write(bytes, place & !3, &tipping.to_le_bytes()),
            4 => {
                let old = bytes.iter().skip(place & !1).take(2).rev().fold(0_u16, |old, &byte| old << 8 | u16::from(byte));
                write(bytes, place & !1, &old.wrapping_add_signed(i16::from(a as i8)).to_le_bytes());
            }
            5 => {
                let part: Vec<u8> = bytes.iter().skip(usize::from(value)).take(1 + usize::from(how >> 3)).copied().collect();
                write(bytes, place & !1, &part);
            }
            6 => write(bytes, place & !7, &f64::from(if how & 8 == 0 { u32::from(value) } else { tipping }).to_le_bytes()),
            _ => self.len = place,
        }
    }

    /// Magic, version, length and checksum.
    fn repair(&mut self) {
        if self.len < size_of::<Header>() {
            return;
        }
        let len = self.len as u64;
        let bytes = self.get_mut();
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&len.to_le_bytes());
        let sum = checksum(bytes);
        bytes[12..16].copy_from_slice(&sum.to_le_bytes());
    }
}

/// Everything that is only read.
fn read(file: &ProgramFile<'_>) {
    (0..3).for_each(|param| _ = black_box(file.name(param)));
    let Some(tokenizer) = file.tokenizer() else { return };
    (0..300).for_each(|id| _ = black_box(tokenizer.token(id, &mut [0; 4])));
    if let FileTokenizer::Bpe(tables) = tokenizer {
        let (mut symbols, mut heap) = ([Symbol::default(); 40], [0; 80]);
        let _ = tables.encode(b"abcab eda", &mut BpeScratch { symbols: &mut symbols, heap: &mut heap }, &mut |_| ());
    }
}

/// Reads and writes some tokens, trains, evaluates.
fn run(file: ProgramFile<'_>, how: u8) {
    let len = Session::ram_len(&file);
    let flops = file.programs().flat_map(|(_, p)| {
        (0..p.program.nodes().len()).filter_map(move |i| Cost::of(&p.program, &p.plan, i, size_of::<f32>(), None))
    });
    if len > MOST_RAM || flops.fold(0_u64, |sum, cost| sum.saturating_add(cost.flops)) > MOST_FLOPS {
        return;
    }
    let mut ram = vec![0.0; len];
    let vocab = file.header().vocab_size;
    let mut session = Session::new(file, &mut ram).expect("as much memory as was asked for");
    let sampling = Sampling { temperature: 0.8, top_k: usize::from(how >> 4), top_p: 0.9, min_p: 0.05 };
    let mut order = vec![0; (vocab as usize).min(MOST_RAM)];
    let mut token = 0;
    for _ in 0..3 {
        if let Ok(logits) = session.feed(token) {
            assert_eq!(logits.len(), vocab as usize);
            token = session.choose(&sampling, 1, &mut order).unwrap_or(0);
            assert!(token < vocab);
        }
    }
    for kind in [ProgramKind::Train, ProgramKind::Evaluate] {
        let tokens: Vec<i32> = (0..session.tokens_of(kind)).map(|i| (i % 5) as i32).collect();
        match kind {
            ProgramKind::Train => (0..2).for_each(|_| _ = session.train(&tokens, &tokens, &Hyper::adamw(0.01))),
            _ => session.evaluate(&tokens, &tokens).map_or((), |losses| assert_eq!(losses.len(), tokens.len())),
        }
    }
}
