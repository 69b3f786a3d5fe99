//! Program files, as a device opens and runs them.

use core::hint::black_box;

use samara_core::decode::Sampling;
use samara_core::file::{FileError, ProgramFile, ProgramKind};
use samara_core::ops;
use samara_core::session::{Hyper, Session};

/// Not a program file, which the compiler does not know: whatever a file may hold must link.
static FILE: [u8; 64] = [0; 64];

/// Opens a file and does everything with it that a session can do.
pub fn run(memory: &mut [f32]) -> Option<()> {
    let kernels = ops::training();
    match ProgramFile::open(black_box(&FILE), &kernels) {
        Ok(file) => use_all(file, memory),
        Err(error) => (error == FileError::Magic).then_some(()),
    }
}

fn use_all(file: ProgramFile<'_>, memory: &mut [f32]) -> Option<()> {
    black_box((file.name(1), file.tokenizer()?.token(2, &mut [0; 4])));
    let mut session = Session::new(file, memory).ok()?;
    let tokens = [1; 4];
    let tokens = tokens.get(..session.tokens_of(ProgramKind::Train))?;
    session.train(tokens, tokens, &Hyper::adamw(0.01)).ok()?;
    black_box(session.evaluate(tokens, tokens).ok()?);
    black_box(session.feed(1).ok()?);
    black_box(session.choose(&Sampling::GREEDY, 1, &mut [0; 20]).ok()?);
    session.restart();
    Some(())
}
