//! What a device does with a program file: ask how much memory it takes, lend that, run.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn core::error::Error>> {
//! use samara_core::{decode::Sampling, file::ProgramFile, ops, session::Session};
//! # static MODEL: &[u8] = &[];
//! # let mut ram = [0.0; 0]; let mut order = [0; 0]; let prompt = [1];
//! let kernels = ops::inference();
//! let file = ProgramFile::open(MODEL, &kernels)?;
//! assert!(Session::ram_len(&file) <= ram.len());
//! let mut session = Session::new(file, &mut ram)?;
//! for token in prompt {
//!     session.feed(token)?;
//! }
//! let next = session.choose(&Sampling::GREEDY, 0, &mut order)?;
//! # Ok(()) }
//! ```

mod error;
mod images;
mod lent;
mod text;

pub use error::SessionError;
pub use images::ImageSession;
pub use lent::Hyper;
pub use text::Session;
