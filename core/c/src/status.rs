//! Return values.

use core::ffi::{CStr, c_char};

use samara_core::assignment;
use samara_core::file::{FileError, TextError};
use samara_core::session::SessionError;
use samara_core::tokenizer::EncodeError;

/// The result of a function: 0, or the kind of error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum SamaraStatus {
    /// All went well.
    Ok = 0,
    /// A pointer is NULL: give an address, or a length of 0.
    Null = 1,
    /// A pointer is not aligned: to the size of its elements, a session's memory to SAMARA_SESSION_ALIGN, a program and scratch to 8 bytes.
    Alignment = 2,
    /// Two buffers overlap, or a buffer overlaps the session's memory, RAM or program: lend memory of its own.
    Overlap = 3,
    /// A buffer is too short: query its size with the function for it.
    Room = 4,
    /// A value is outside of the range in its description.
    Argument = 5,
    /// This is no session: open one, and do not move or copy its memory.
    Session = 6,
    /// The session has no RAM yet: samara_start.
    NotStarted = 7,
    /// The program is not a file that `samara export` wrote.
    FileFormat = 8,
    /// The file has another format version: convert an older one with `samara export --convert FILE --out FILE`, or update this library.
    FileVersion = 9,
    /// The file is cut off or damaged: copy or export it again.
    FileDamaged = 10,
    /// The file holds an operation that was not linked: open it with samara_open_training, or export it with `--train none`.
    FileOperation = 11,
    /// The file contradicts itself, or its plan has too little memory for this library's kernels: export it again with this version of samara.
    FileInvalid = 12,
    /// The file has no program for this: export it with one (`--train` for training and evaluation).
    NoProgram = 13,
    /// Token ids or targets that are not in the vocabulary, or whose count differs from SamaraInfo's.
    Tokens = 14,
    /// The sequence has reached the model's context length: samara_restart.
    ContextFull = 15,
    /// No logits to sample from: call samara_feed before every samara_choose.
    NoLogits = 16,
    /// The file has no tokenizer: export a folder that has one.
    NoTokenizer = 17,
    /// A byte or character of the text is not in the vocabulary, or the text is not UTF-8.
    Text = 18,
    /// A cost is NaN or minus infinity.
    Costs = 19,
    /// Too many pairs are forbidden: not every row (or column, if there are fewer) can be matched.
    Infeasible = 20,
}

impl SamaraStatus {
    const fn text(status: i32) -> &'static CStr {
        match status {
            0 => c"ok",
            1 => c"a pointer is NULL: give an address, or a length of 0",
            2 => c"a pointer is not aligned: sessions, programs and scratch to 8 bytes, others to their elements",
            3 => c"buffers overlap each other or the session's memory: lend memory of its own",
            4 => c"a buffer is too short: query its size",
            5 => c"a value is outside its range: see samara.h",
            6 => c"not a session: open one, and do not move or copy its memory",
            7 => c"the session has no RAM yet: samara_start",
            8 => c"the program is not a file that samara export wrote",
            9 => c"the file has another format version: samara export --convert an older one, or update this library",
            10 => c"the file is cut off or damaged: copy or export it again",
            11 => c"the file holds an operation that was not linked: samara_open_training, or export it with --train none",
            12 => c"the file contradicts itself, or is of another version of samara: export it again with this one",
            13 => c"the file has no program for this: export it with one (--train)",
            14 => c"tokens or targets are not in the vocabulary, or their count differs from SamaraInfo",
            15 => c"the sequence has reached the context length: samara_restart",
            16 => c"no logits to sample from: samara_feed before every choice",
            17 => c"the file has no tokenizer: export a folder that has one",
            18 => c"a byte or character of the text is not in the vocabulary, or the text is not UTF-8",
            19 => c"a cost is NaN or minus infinity: correct it",
            20 => c"too many pairs are forbidden: not every row (or column, if there are fewer) can be matched",
            _ => c"not a status of this library",
        }
    }
}

/// Runs the body of a function.
pub(crate) fn status(work: impl FnOnce() -> Result<(), SamaraStatus>) -> SamaraStatus {
    match work() {
        Ok(()) => SamaraStatus::Ok,
        Err(status) => status,
    }
}

impl From<FileError> for SamaraStatus {
    fn from(error: FileError) -> Self {
        match error {
            FileError::Alignment => Self::Alignment,
            FileError::Magic => Self::FileFormat,
            FileError::Version { .. } => Self::FileVersion,
            FileError::Length { .. } | FileError::Checksum { .. } => Self::FileDamaged,
            FileError::NoKernel { .. } => Self::FileOperation,
            _ => Self::FileInvalid,
        }
    }
}

impl From<SessionError> for SamaraStatus {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Ram { .. } | SessionError::Order { .. } => Self::Room,
            SessionError::NoProgram(_) => Self::NoProgram,
            SessionError::Tokens(_) | SessionError::Pixels(_) | SessionError::Labels(_) => Self::Tokens,
            SessionError::ContextFull { .. } => Self::ContextFull,
            SessionError::NoLogits => Self::NoLogits,
        }
    }
}

impl From<TextError> for SamaraStatus {
    fn from(error: TextError) -> Self {
        match error {
            TextError::Bpe(EncodeError::Scratch { .. }) => Self::Room,
            TextError::Bpe(EncodeError::MissingByte { .. }) | TextError::Char(_) => Self::Text,
        }
    }
}

impl From<assignment::Error<f32>> for SamaraStatus {
    fn from(error: assignment::Error<f32>) -> Self {
        match error {
            assignment::Error::Invalid { .. } => Self::Costs,
            assignment::Error::Infeasible { .. } => Self::Infeasible,
            assignment::Error::Workspace { .. } | assignment::Error::Short { .. } => Self::Room,
            _ => Self::Argument,
        }
    }
}

/// The meaning of a status and what to do about it, in English; for any value.
#[unsafe(no_mangle)]
pub extern "C" fn samara_status_text(status: i32) -> *const c_char {
    SamaraStatus::text(status).as_ptr()
}

/// The version of this library, as "0.1.0".
#[unsafe(no_mangle)]
pub extern "C" fn samara_version() -> *const c_char {
    const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => c"",
    };
    VERSION.as_ptr()
}
