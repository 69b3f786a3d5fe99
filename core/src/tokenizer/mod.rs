//! Text to token ids and back, over tables that the caller lends.
//!
//! - Byte-level BPE: [`BpeTables`], with GPT-2's split pattern ([`pretokenize`]).
//! - Characters: [`CharTable`].
//! - Bytes need no table: the id of a byte is its value.
//!
//! Text is any sequence of bytes. Nothing here allocates; the caller can query scratch sizes before use.

pub mod bpe;
pub mod chars;
mod check;
mod classes;
mod hash;
pub mod pretokenize;
mod steps;
pub mod tables;
mod unicode;

pub use bpe::{BpeScratch, BpeTables, EncodeError, Symbol};
pub use chars::{CharError, CharTable};
pub use classes::{Class, Classes};
pub use pretokenize::{Split, Words};
pub use tables::TableError;
