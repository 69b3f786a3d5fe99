//! Text from any language model, several rows at a time.
//!
//! One program with B slots appends a token to every row; a prompt goes through a program of one row, whose keys and values are copied into a slot.
//! The length of that program follows from the prompt alone, and every kernel computes a row from this row alone, so a row has the same bits
//! alone, in any batch, and in a slot that another row has left.

pub mod generator;
pub mod logprobs;
pub mod prefill;
pub mod row;
pub mod slots;
pub mod stop_strings;
pub mod texts;
