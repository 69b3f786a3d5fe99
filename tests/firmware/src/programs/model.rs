//! A program file in flash, and the memory that its session is lent.

use samara_core::exec::Kernels;
use samara_core::file::ProgramFile;
use samara_core::session::Session;

use crate::figure;

/// Opens a file on exactly as much memory as it asks for, and reports both.
pub(super) fn open<'a>(bytes: &'a [u8], kernels: &'a Kernels<f32>, ram: &'a mut [f32]) -> Option<Session<'a, 'a>> {
    let file = ProgramFile::open(bytes, kernels).ok()?;
    let sizes = file.sizes();
    figure("file", bytes.len() as u64);
    figure("arena", 4 * sizes.arena_len as u64);
    figure("session", 4 * sizes.total_len() as u64);
    if Session::ram_len(&file) != ram.len() {
        return None;
    }
    Session::new(file, ram).ok()
}
