//! Text generation with any language model, several rows at a time.
//!
//! One program with B slots appends a token to every row; a prompt is processed by a program of one row, whose keys and values are copied into a
//! slot. The length of that program depends on the prompt alone, and every kernel computes a row from that row alone, so a row has the same bits
//! alone, in any batch, and in a reused slot.

pub mod generator;
pub mod logprobs;
pub mod prefill;
pub mod row;
pub mod slots;
pub mod stop_strings;
pub mod texts;
