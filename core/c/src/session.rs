//! A program file on lent memory.
//!
//! A session stores its own address and a mark derived from it: a zeroed or copied session is refused, because two sessions must not share RAM. The
//! file is checked once, when it is opened; then its sizes can be queried, and RAM is lent. Two functions open files, with the kernels of inference
//! and of training: a program that calls only one of them does not link the other's kernels.

use core::ffi::c_void;

use samara_core::decode::Sampling;
use samara_core::exec::Kernels;
use samara_core::file::{Port, ProgramFile, ProgramKind};
use samara_core::ops;
use samara_core::session::{Hyper, Session};

use crate::SamaraStatus;
use crate::lend::{Place, Span, record, slice, slice_mut};
use crate::status::status;

/// The most bytes of a session, in units of pointers, so that its memory can be static; samara_session_bytes gives the exact size.
pub const SAMARA_SESSION_WORDS: usize = 128;

/// Alignment of a session's memory in bytes.
pub const SAMARA_SESSION_ALIGN: usize = 8;

const _: () = assert!(size_of::<SamaraSession>() <= SAMARA_SESSION_WORDS * size_of::<usize>());
const _: () = assert!(align_of::<SamaraSession>() <= SAMARA_SESSION_ALIGN);

/// A program file and its run-time state, in memory that the caller lends.
pub struct SamaraSession {
    /// [`MARK`] combined with the address: it detects zeroed memory and copies, which would share RAM with the original.
    mark: usize,
    state: State,
}

const MARK: usize = 0x6b1d_93c5;

static INFERENCE: Kernels<f32> = ops::inference();
static TRAINING: Kernels<f32> = ops::training();

/// The references live as long as the session, as the caller guarantees; the compiler sees them as static.
pub(crate) struct State {
    pub(crate) file: ProgramFile<'static>,
    session: Option<Session<'static, 'static>>,
    /// Whether logits wait to be chosen from.
    logits: bool,
    /// Memory of the session, program, RAM.
    pub(crate) lent: [Span; 3],
}

impl State {
    fn running(&mut self) -> Result<&mut Session<'static, 'static>, SamaraStatus> {
        self.session.as_mut().ok_or(SamaraStatus::NotStarted)
    }
}

/// How the next token is drawn; the filters apply in this order.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct SamaraSampling {
    /// Logits are divided by it; 0 takes the largest one. Not negative.
    pub temperature: f32,
    /// Keeps the k largest logits; 0 keeps all.
    pub top_k: u32,
    /// Keeps the most probable tokens up to this cumulative probability; 1 keeps all. 0 to 1.
    pub top_p: f32,
    /// Keeps tokens whose probability is at least this fraction of the largest; 0 keeps all. 0 to 1.
    pub min_p: f32,
}

/// The hyper-parameters of a training step, named as in PyTorch. Plain SGD reads only lr; set the others to 0.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct SamaraHyper {
    /// Learning rate.
    pub lr: f32,
    /// AdamW: 0.9 if in doubt; the momentum of SGD.
    pub beta1: f32,
    /// AdamW: 0.999 if in doubt.
    pub beta2: f32,
    /// AdamW: 1e-8 if in doubt.
    pub eps: f32,
    /// Weight decay.
    pub weight_decay: f32,
}

/// Properties of a program file.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct SamaraInfo {
    /// Token ids are smaller than this; it is also the number of logits.
    pub vocab_size: usize,
    /// Tokens that a sequence can have.
    pub context: usize,
    /// Tokens of a step of training, 0 when the file has no such program.
    pub train_tokens: usize,
    /// Tokens of an evaluation, 0 when the file has no such program.
    pub evaluate_tokens: usize,
    /// The end-of-text token, UINT32_MAX when there is none.
    pub end_of_text: u32,
}

/// Bytes of memory for a session, without its RAM.
#[unsafe(no_mangle)]
pub extern "C" fn samara_session_bytes() -> usize {
    size_of::<SamaraSession>()
}

/// Alignment of that memory: SAMARA_SESSION_ALIGN or less.
#[unsafe(no_mangle)]
pub extern "C" fn samara_session_align() -> usize {
    align_of::<SamaraSession>()
}

/// Opens and checks a file that generates text, and creates the session in `memory`, whose old content is discarded. `program` must be aligned to 8
/// bytes. A file that also trains is refused: this function does not link the kernels of training.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn samara_open(
    memory: *mut c_void,
    memory_bytes: usize,
    program: *const c_void,
    program_bytes: usize,
    session: *mut *mut SamaraSession,
) -> SamaraStatus {
    // SAFETY: the caller's word, as `samara.h` says.
    status(|| unsafe { open(memory, memory_bytes, program, program_bytes, session, &INFERENCE) })
}

/// As samara_open, for files that also train and evaluate.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn samara_open_training(
    memory: *mut c_void,
    memory_bytes: usize,
    program: *const c_void,
    program_bytes: usize,
    session: *mut *mut SamaraSession,
) -> SamaraStatus {
    // SAFETY: the caller's word, as `samara.h` says.
    status(|| unsafe { open(memory, memory_bytes, program, program_bytes, session, &TRAINING) })
}

/// # Safety
/// Pointers must be valid as described; memory and program must not change while the session is used.
unsafe fn open(
    memory: *mut c_void,
    memory_bytes: usize,
    program: *const c_void,
    program_bytes: usize,
    session: *mut *mut SamaraSession,
    kernels: &'static Kernels<f32>,
) -> Result<(), SamaraStatus> {
    let handle = memory.cast::<SamaraSession>();
    let own = Span::of(handle, 1)?;
    if memory_bytes < size_of::<SamaraSession>() {
        return Err(SamaraStatus::Room);
    }
    if program_bytes > 0 && !program.cast::<u64>().is_aligned() {
        return Err(SamaraStatus::Alignment);
    }
    let flash = Span::of(program.cast::<u8>(), program_bytes)?;
    // SAFETY: the caller's word, for as long as the session is used.
    let bytes = unsafe { slice(program.cast::<u8>(), program_bytes, &[own]) }?;
    // SAFETY: the caller's word.
    let place = unsafe { Place::new(session, &[own, flash]) }?;
    // SAFETY: `handle` is not NULL, aligned, and has room for a session; nothing refers to its old content, which is discarded.
    unsafe { (&raw mut (*handle).mark).write(0) };
    let file = ProgramFile::open(bytes, kernels)?;
    let state = State { file, session: None, logits: false, lent: [own, flash, Span::default()] };
    // SAFETY: as above.
    unsafe { (&raw mut (*handle).state).write(state) };
    // SAFETY: as above.
    unsafe { (&raw mut (*handle).mark).write(handle.addr() ^ MARK) };
    place.set(handle);
    Ok(())
}

/// The state of a session.
///
/// # Safety
/// A pointer that is neither NULL nor unaligned must point to memory for a session, and no other borrow of its state may be in use.
pub(crate) unsafe fn state<'s>(session: *mut SamaraSession) -> Result<&'s mut State, SamaraStatus> {
    Span::of(session, 1)?;
    // SAFETY: not NULL and aligned; any bits are a valid integer.
    let mark = unsafe { (&raw const (*session).mark).read() };
    if mark != session.addr() ^ MARK {
        return Err(SamaraStatus::Session);
    }
    // SAFETY: the mark shows that `open` wrote the state here.
    Ok(unsafe { &mut (*session).state })
}

/// Bytes of RAM that the session's programs need.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn samara_ram_bytes(session: *mut SamaraSession, bytes: *mut usize) -> SamaraStatus {
    status(|| {
        // SAFETY: the caller's word.
        let state = unsafe { state(session) }?;
        // SAFETY: the caller's word.
        let place = unsafe { Place::new(bytes, &state.lent) }?;
        place.set(Session::ram_len(&state.file).saturating_mul(size_of::<f32>()));
        Ok(())
    })
}

/// The properties of the session's file.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn samara_info(session: *mut SamaraSession, info: *mut SamaraInfo) -> SamaraStatus {
    status(|| {
        // SAFETY: the caller's word.
        let state = unsafe { state(session) }?;
        // SAFETY: the caller's word.
        let place = unsafe { Place::new(info, &state.lent) }?;
        let tokens = |kind| state.file.program(kind).map_or(0, |p| p.program.shape(p.port(Port::Tokens)).len());
        let header = state.file.header();
        place.set(SamaraInfo {
            vocab_size: header.vocab_size as usize,
            context: header.context as usize,
            train_tokens: tokens(ProgramKind::Train),
            evaluate_tokens: tokens(ProgramKind::Evaluate),
            end_of_text: header.end_of_text,
        });
        Ok(())
    })
}

/// Lends RAM to the session, aligned to 4 bytes, and clears it. Trainable parameters start with the values in the file. A second call starts over.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn samara_start(session: *mut SamaraSession, ram: *mut c_void, ram_bytes: usize) -> SamaraStatus {
    status(|| {
        // SAFETY: the caller's word.
        let state = unsafe { state(session) }?;
        let len = Session::ram_len(&state.file);
        if ram_bytes / size_of::<f32>() < len {
            return Err(SamaraStatus::Room);
        }
        let [own, flash, _] = state.lent;
        let ram = ram.cast::<f32>();
        let span = Span::of(ram, len)?;
        span.apart(&[own, flash])?;
        state.session = None;
        // SAFETY: guaranteed by the caller while the session is used; the session that used the RAM before is gone.
        let ram = unsafe { slice_mut(ram, len, &[own, flash]) }?;
        state.session = Some(Session::new(state.file, ram)?);
        state.logits = false;
        state.lent = [own, flash, span];
        Ok(())
    })
}

/// Runs the next token of the sequence through the model. Returns the logits of its successor, SamaraInfo's vocab_size of them; `logits` and `count`
/// may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn samara_feed(
    session: *mut SamaraSession,
    token: u32,
    logits: *mut *mut f32,
    count: *mut usize,
) -> SamaraStatus {
    status(|| {
        // SAFETY: the caller's word.
        let state = unsafe { state(session) }?;
        // SAFETY: the caller's word.
        let logits = unsafe { Place::optional(logits, &state.lent) }?;
        // SAFETY: the caller's word.
        let count = unsafe { Place::optional(count, &state.lent) }?;
        let found = state.running()?.feed(token)?;
        count.set(found.len());
        logits.set(found.as_mut_ptr());
        state.logits = true;
        Ok(())
    })
}

/// Samples a token from the logits of the last samara_feed, which are consumed. With NULL for `sampling`: the most probable token. The same seed
/// gives the same sequence as `samara generate`. `order` is scratch of vocab_size elements when top_p is below 1; otherwise it may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn samara_choose(
    session: *mut SamaraSession,
    sampling: *const SamaraSampling,
    seed: u64,
    order: *mut u32,
    order_len: usize,
    token: *mut u32,
) -> SamaraStatus {
    status(|| {
        // SAFETY: the caller's word.
        let state = unsafe { state(session) }?;
        let mut how = Sampling::GREEDY;
        if !sampling.is_null() {
            // SAFETY: the caller's word.
            let SamaraSampling { temperature, top_k, top_p, min_p } = unsafe { record(sampling) }?;
            how = Sampling { temperature, top_k: top_k as usize, top_p, min_p };
        }
        let share = |x: f32| (0.0..=1.0).contains(&x);
        if !(how.temperature >= 0.0 && how.temperature.is_finite() && share(how.top_p) && share(how.min_p)) {
            return Err(SamaraStatus::Argument);
        }
        let scratch = if how.top_p < 1.0 { state.file.header().vocab_size as usize } else { 0 };
        if order_len < scratch {
            return Err(SamaraStatus::Room);
        }
        // SAFETY: the caller's word.
        let order = unsafe { slice_mut(order, scratch, &state.lent) }?;
        // SAFETY: the caller's word.
        let token = unsafe { Place::new(token, &state.lent) }?;
        let logits = state.logits;
        let running = state.running()?;
        if !logits {
            return Err(SamaraStatus::NoLogits);
        }
        token.set(running.choose(&how, seed, order)?);
        state.logits = false;
        Ok(())
    })
}

/// Starts a new sequence.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn samara_restart(session: *mut SamaraSession) -> SamaraStatus {
    status(|| {
        // SAFETY: the caller's word.
        let state = unsafe { state(session) }?;
        state.running()?.restart();
        state.logits = false;
        Ok(())
    })
}

/// Tokens of the sequence so far.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn samara_position(session: *mut SamaraSession, position: *mut usize) -> SamaraStatus {
    status(|| {
        // SAFETY: the caller's word.
        let state = unsafe { state(session) }?;
        // SAFETY: the caller's word.
        let place = unsafe { Place::new(position, &state.lent) }?;
        place.set(state.running()?.position());
        Ok(())
    })
}

/// A training step on `count` tokens, SamaraInfo's train_tokens, with the successor of each (negative: none). Returns the mean loss before the step,
/// in nats. A sequence in progress would continue with keys and values of the old parameters: call samara_restart.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn samara_train(
    session: *mut SamaraSession,
    tokens: *const i32,
    targets: *const i32,
    count: usize,
    hyper: *const SamaraHyper,
    loss: *mut f32,
) -> SamaraStatus {
    status(|| {
        // SAFETY: the caller's word.
        let state = unsafe { state(session) }?;
        // SAFETY: the caller's word.
        let tokens = unsafe { slice(tokens, count, &state.lent) }?;
        // SAFETY: the caller's word.
        let targets = unsafe { slice(targets, count, &state.lent) }?;
        // SAFETY: the caller's word.
        let SamaraHyper { lr, beta1, beta2, eps, weight_decay } = unsafe { record(hyper) }?;
        // SAFETY: the caller's word.
        let place = unsafe { Place::new(loss, &state.lent) }?;
        state.logits = false;
        place.set(state.running()?.train(tokens, targets, &Hyper { lr, beta1, beta2, eps, weight_decay })?);
        Ok(())
    })
}

/// The loss of the successor of each of `count` tokens, SamaraInfo's evaluate_tokens, in nats; 0 where the target is negative. Writes `count` losses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn samara_evaluate(
    session: *mut SamaraSession,
    tokens: *const i32,
    targets: *const i32,
    count: usize,
    losses: *mut *const f32,
) -> SamaraStatus {
    status(|| {
        // SAFETY: the caller's word.
        let state = unsafe { state(session) }?;
        // SAFETY: the caller's word.
        let tokens = unsafe { slice(tokens, count, &state.lent) }?;
        // SAFETY: the caller's word.
        let targets = unsafe { slice(targets, count, &state.lent) }?;
        // SAFETY: the caller's word.
        let place = unsafe { Place::new(losses, &state.lent) }?;
        state.logits = false;
        place.set(state.running()?.evaluate(tokens, targets)?.as_ptr());
        Ok(())
    })
}

/// The trainable parameters: save them to keep what was learnt, and write them back after samara_start.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn samara_trainable(session: *mut SamaraSession, values: *mut *mut f32, count: *mut usize) -> SamaraStatus {
    status(|| {
        // SAFETY: the caller's word.
        let state = unsafe { state(session) }?;
        // SAFETY: the caller's word.
        let values = unsafe { Place::new(values, &state.lent) }?;
        // SAFETY: the caller's word.
        let count = unsafe { Place::new(count, &state.lent) }?;
        let trainable = state.running()?.trainable_mut();
        count.set(trainable.len());
        values.set(trainable.as_mut_ptr());
        Ok(())
    })
}

/// The optimizer's moments and its number of steps: if they are saved and written back as well, training resumes as if it had not been interrupted.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn samara_optimizer(
    session: *mut SamaraSession,
    moments: *mut *mut f32,
    count: *mut usize,
    steps: *mut *mut u32,
) -> SamaraStatus {
    status(|| {
        // SAFETY: the caller's word.
        let state = unsafe { state(session) }?;
        // SAFETY: the caller's word.
        let place = unsafe { Place::new(moments, &state.lent) }?;
        // SAFETY: the caller's word.
        let count = unsafe { Place::new(count, &state.lent) }?;
        // SAFETY: the caller's word.
        let steps = unsafe { Place::new(steps, &state.lent) }?;
        let (moments, number) = state.running()?.optimizer_mut();
        count.set(moments.len());
        place.set(moments.as_mut_ptr());
        steps.set(number);
        Ok(())
    })
}
