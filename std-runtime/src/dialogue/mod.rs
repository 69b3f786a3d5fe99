//! Dialogues and judgements of them: rows of files, chat templates, token ids with a mask of what is to be learnt, and what is wrong with a data set.

mod cells;
pub mod config;
pub mod doctor;
pub mod encode;
pub mod examples;
mod formats;
mod hh;
pub mod jinja;
pub mod packing;
pub mod read;
pub mod row;
pub mod template;
pub mod tokens;
pub mod turn;
