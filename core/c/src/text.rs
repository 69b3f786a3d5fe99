//! Text to tokens and back.

use core::ffi::{c_char, c_void};
use core::mem::MaybeUninit;

use samara_core::file::FileTokenizer;
use samara_core::tokenizer::{BpeScratch, Symbol};

use crate::lend::{Place, Span, slice, slice_mut};
use crate::session::{State, state};
use crate::status::status;
use crate::{SamaraSession, SamaraStatus};

impl State {
    fn tokenizer(&self) -> Result<FileTokenizer<'static>, SamaraStatus> {
        self.file.tokenizer().ok_or(SamaraStatus::NoTokenizer)
    }
}

/// Bytes of scratch for a word: the heap, and behind it the symbols.
fn scratch_bytes(word: usize) -> usize {
    let heap = BpeScratch::heap_len(word).saturating_mul(size_of::<u64>());
    heap.saturating_add(word.saturating_mul(size_of::<Symbol>()))
}

/// Bytes of scratch that samara_encode needs for this text: 0 for byte and character tokenizers; for byte-level BPE about 16 per byte of the longest
/// word (32 for words of more than 32 bytes).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn samara_encode_scratch_bytes(
    session: *mut SamaraSession,
    text: *const c_char,
    text_bytes: usize,
    bytes: *mut usize,
) -> SamaraStatus {
    status(|| {
        // SAFETY: the caller's word.
        let state = unsafe { state(session) }?;
        // SAFETY: the caller's word.
        let text = unsafe { slice(text.cast::<u8>(), text_bytes, &state.lent) }?;
        // SAFETY: the caller's word.
        let place = unsafe { Place::new(bytes, &state.lent) }?;
        place.set(scratch_bytes(state.tokenizer()?.scratch_word(text)));
        Ok(())
    })
}

/// Encodes a text, which need not be zero-terminated. Writes the number of tokens, at most one per byte, to `count`. When `tokens` is too short for
/// all (it may be NULL with `tokens_len` 0), the status is SAMARA_STATUS_ROOM, and `count` and the first tokens are still written. `scratch` must be
/// aligned to 8 bytes and have samara_encode_scratch_bytes bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn samara_encode(
    session: *mut SamaraSession,
    text: *const c_char,
    text_bytes: usize,
    scratch: *mut c_void,
    scratch_bytes: usize,
    tokens: *mut u32,
    tokens_len: usize,
    count: *mut usize,
) -> SamaraStatus {
    status(|| {
        // SAFETY: the caller's word.
        let state = unsafe { state(session) }?;
        let [memory, program, ram] = state.lent;
        // SAFETY: the caller's word.
        let text = unsafe { slice(text.cast::<u8>(), text_bytes, &state.lent) }?;
        let input = Span::of(text.as_ptr(), text.len())?;
        let room = tokens_len.min(text_bytes);
        let output = Span::of(tokens, room)?;
        // SAFETY: the caller's word.
        let tokens = unsafe { slice_mut(tokens, room, &[memory, program, ram, input]) }?;
        // SAFETY: the caller's word.
        let place = unsafe { Place::new(count, &[memory, program, ram]) }?;
        let taken = [memory, program, ram, input, output];
        let tokenizer = state.tokenizer()?;
        let word = tokenizer.scratch_word(text);
        if scratch_bytes < self::scratch_bytes(word) {
            return Err(SamaraStatus::Room);
        }
        let span = Span::of(scratch.cast::<u64>(), self::scratch_bytes(word) / size_of::<u64>())?;
        span.apart(&taken)?;
        let heap_len = BpeScratch::heap_len(word);
        // SAFETY: the caller's word; the heap is the first part of the scratch.
        let heap = unsafe { slice_mut(scratch.cast::<u64>(), heap_len, &taken) }?;
        let rest = scratch.cast::<u64>().wrapping_add(heap_len).cast::<MaybeUninit<Symbol>>();
        let symbols: &mut [MaybeUninit<Symbol>] = if word == 0 {
            &mut []
        } else {
            // SAFETY: the second part of the scratch, whose length and alignment were checked, and which is not NULL because it is not empty.
            unsafe { core::slice::from_raw_parts_mut(rest, word) }
        };
        symbols.fill(MaybeUninit::new(Symbol::default()));
        // SAFETY: all of them were just written.
        let symbols = unsafe { symbols.assume_init_mut() };
        let (mut found, mut free) = (0_usize, tokens.iter_mut());
        tokenizer.encode(text, &mut BpeScratch { symbols, heap }, &mut |token| {
            found = found.wrapping_add(1);
            if let Some(to) = free.next() {
                *to = token;
            }
        })?;
        place.set(found);
        if found > tokens_len { Err(SamaraStatus::Room) } else { Ok(()) }
    })
}

/// The bytes of a token, not zero-terminated; none for an id without text. They are in the program or in `room`, 4 bytes that the caller lends.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn samara_token_bytes(
    session: *mut SamaraSession,
    token: u32,
    room: *mut u8,
    bytes: *mut *const u8,
    count: *mut usize,
) -> SamaraStatus {
    status(|| {
        // SAFETY: the caller's word.
        let state = unsafe { state(session) }?;
        // SAFETY: the caller's word.
        let room = unsafe { slice_mut(room, 4, &state.lent) }?;
        // SAFETY: the caller's word.
        let place = unsafe { Place::new(bytes, &state.lent) }?;
        // SAFETY: the caller's word.
        let count = unsafe { Place::new(count, &state.lent) }?;
        let found = state.tokenizer()?.token(token, room.try_into().map_err(|_| SamaraStatus::Room)?);
        let (at, len) = (found.as_ptr(), found.len());
        count.set(len);
        place.set(at);
        Ok(())
    })
}
